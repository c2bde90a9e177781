"""Statistics of learning curves, against textbook formulas, SciPy's and published values."""

import math
from typing import Any

import naive_learn_statistics as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import CensoredData, binomtest, ecdf

from seqlab.errors import InputError
from seqlab.numbers.learning import (
    SHALLOWEST,
    LearnableLength,
    learnable_length,
    median_updates,
    wilson_interval,
)

pytestmark = pytest.mark.tiny

# Weeks in remission of the children of Freireich et al. 1963: of those with 6-mercaptopurine, and
# whether it ended; and of those without, where it always did.
TREATED = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]

LENGTHS = (10, 20, 40, 80, 160)


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    [
        (0, 10, (0, 0.2775)),
        (10, 10, (0.7225, 1)),
        (81, 263, (0.2553, 0.3662)),  # these three: Newcombe 1998, table I
        (15, 148, (0.0624, 0.1605)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_has_the_published_values(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("trials", [1, 2, 8, 16, 1000])
def test_wilson_is_scipys_and_where_the_score_is_z(trials, level):
    """The roots of the naive one are those of a difference of squares: 1e-8, half the digits, where
    they are close to the share; SciPy's has the same formula."""
    for successes in {0, 1, trials // 2, trials - 1, trials}:
        found = wilson_interval(successes, trials, level)
        want = binomtest(successes, trials).proportion_ci(level, method="wilson")
        assert found == pytest.approx((want.low, want.high), rel=1e-12, abs=1e-15)
        assert found == pytest.approx(naive.wilson(successes, trials, level), rel=1e-8)
        assert found[0] <= successes / trials <= found[1]
    assert wilson_interval(0, trials, level)[0] == 0
    assert wilson_interval(trials, trials, level)[1] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((0, 0), "trials: 0 is not allowed; a number from 1 up"),
        ((3, 2), "successes: 3 is not allowed; from 0 to 2"),
        ((-1, 2), "successes: -1 is not allowed; from 0 to 2"),
    ],
)
def test_wilson_of_no_such_count_is_refused(given, message):
    with pytest.raises(InputError) as refused:
        wilson_interval(*given)
    assert str(refused.value) == message


def test_median_has_the_published_values():
    """23 and 8 weeks; the intervals are those of R's survfit with conf.type log-log."""
    assert median_updates(TREATED, RELAPSED) == (23, 13, None)
    assert median_updates(PLACEBO, np.ones(21)) == (8, 4, 11)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=20),
    st.sampled_from([0.5, 0.9, 0.95]),
)
def test_median_is_the_textbooks(networks, level):
    """Integers from a small range, so that updates are often the same."""
    updates, solved = zip(*networks, strict=True)
    assert median_updates(updates, solved, level) == naive.median(updates, solved, level)


@pytest.mark.filterwarnings("ignore:The confidence interval is undefined:RuntimeWarning")
@pytest.mark.parametrize("seed", range(20))
def test_median_is_where_scipys_bands_are_at_a_half(seed):
    rng = np.random.default_rng(seed)
    updates, limit = rng.geometric(0.01, size=16), rng.integers(60, 400)
    solved = updates < limit
    updates = np.minimum(updates, limit)
    survival = ecdf(CensoredData(updates[solved], right=updates[~solved])).sf
    with np.errstate(all="ignore"):
        band = survival.confidence_interval(method="log-log")
    curves = (survival.probabilities, band.low.probabilities, band.high.probabilities)
    want = []
    for curve in curves:  # SciPy's bands are nan where nobody is left
        under = np.flatnonzero(curve <= 0.5 + 1e-12)
        want.append(survival.quantiles[under[0]] if under.size else None)
    assert median_updates(updates, solved) == tuple(want)


@pytest.mark.parametrize(
    ("updates", "solved", "expected"),
    [
        ([], [], (None, None, None)),
        ([5, 9], [False, False], (None, None, None)),
        ([5], [True], (5, 5, None)),
        ([7] * 8, [True] * 8, (7, 7, None)),  # all at once
        ([1, 2, 3, 4], [True, True, False, False], (2, 1, None)),  # a half is enough
        ([1, 3, 3, 9], [True, True, False, False], (3, 1, None)),  # who gives up was still there
        ([1, 2, 3, 9], [True, False, True, False], (3, 1, None)),
    ],
)
def test_median_of_few(updates, solved, expected):
    assert median_updates(updates, solved) == expected
    assert median_updates(updates[::-1], solved[::-1]) == expected


def test_median_does_not_miss_a_half_by_rounding():
    """Every even number of networks, half of which solve it."""
    for half in range(1, 60):
        updates = range(1, 2 * half + 1)
        assert median_updates(updates, np.arange(2 * half) < half).median == half


@pytest.mark.parametrize(
    ("updates", "solved", "message"),
    [
        ([1, 2], [True], "solved: (1,) is not allowed; one for each of updates (2,)"),
        ([[1]], [[True]], "solved: (1, 1) is not allowed; one for each of updates (1, 1)"),
        ([-1.0], [True], "updates: [-1.0] is not allowed; finite numbers from 0 up"),
        ([math.nan], [False], "updates: [nan] is not allowed; finite numbers from 0 up"),
    ],
)
def test_median_of_no_such_updates_is_refused(updates, solved, message):
    with pytest.raises(InputError) as refused:
        median_updates(updates, solved)
    assert str(refused.value) == message


def networks(*won: int, of: int = 8) -> np.ndarray:
    """Of which so many solve each length, the same ones first."""
    return np.arange(of)[:, np.newaxis] < np.array(won)


MIXED = [
    (8, 7, 5, 2, 0),
    (8, 8, 6, 1, 1),
    (7, 6, 6, 3, 2),
    (8, 4, 1, 0, 0),
    (5, 3, 0, 0, 0),
]


@pytest.mark.parametrize("won", MIXED)
def test_the_fit_has_the_greatest_likelihood(won):
    """Both equations of the likelihood: it makes as many successes, and with the same mean ln
    length, as there are. Bisection leaves 1e-12 of the slope, and so of them some 1e-10."""
    solved = networks(*won)
    found = learnable_length(LENGTHS, solved)
    x = np.log(LENGTHS)
    expected = 8 / (1 + np.exp(-found.slope * (x - math.log(found.length))))
    assert expected.sum() == pytest.approx(sum(won), abs=1e-9)
    assert expected @ x == pytest.approx(np.dot(won, x), abs=1e-9)


STEEP = [(8, 8, 1, 0, 0), (8, 8, 7, 0, 0), (8, 0, 0, 0, 0), (8, 8, 8, 8, 3), (8, 8, 8, 0, 0)]


@pytest.mark.parametrize("lengths", [LENGTHS, (3, 10, 30, 40, 1000)])
@pytest.mark.parametrize("won", MIXED + STEEP)
def test_the_fit_is_the_naive_one(won, lengths):
    """Which minimises, and so has half the digits: 1e-5."""
    solved = networks(*won)
    found = learnable_length(lengths, solved)
    length, slope = naive.fit(lengths, solved)
    assert lengths[0] < length < lengths[-1]
    assert found.length == pytest.approx(length, rel=1e-5)
    assert -found.slope == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("of", [1, 4, 16])
@pytest.mark.parametrize("cut", [1, 2, 4])
@pytest.mark.parametrize("lengths", [LENGTHS, (3, 10, 30, 40, 1000)])
def test_a_clean_cut_is_at_the_geometric_mean_and_the_interval_is_its_two_lengths(lengths, cut, of):
    """Further lengths pull by what the fit leaves them, 5%^3 beside 5%: 1%. Firth's penalty says
    the same where the lengths are evenly spaced."""
    solved = networks(*([of] * cut + [0] * (5 - cut)), of=of)
    found = learnable_length(lengths, solved)
    middle = math.sqrt(lengths[cut - 1] * lengths[cut])
    assert found.length == pytest.approx(middle, rel=0.01)
    ends = (lengths[cut - 1], lengths[cut]) if of >= 4 else (None, None)
    assert (found.low, found.high) == ends
    if lengths == LENGTHS and of >= 4:
        assert found.length == pytest.approx(naive.firth(lengths, solved), rel=0.01)


def test_the_length_moves_on_with_every_network():
    """From one clean cut to the next, without a jump: evenly on the scale of log odds."""
    found = [learnable_length(LENGTHS, networks(8, 8, k, 0, 0)).length for k in range(9)]
    assert (np.diff(found) > 0).all()
    assert max(np.diff(np.log(found))) < math.log(2) / 4
    assert found[4] == pytest.approx(40, rel=1e-9)


def test_all_or_none_solved_bound_the_length_on_one_side():
    most, none = (learnable_length(LENGTHS, networks(*[k] * 5)) for k in (8, 0))
    assert most == LearnableLength(None, 160.0, None, None)
    assert none == LearnableLength(None, None, 10.0, None)


def test_a_length_out_of_those_tried_is_none():
    """Three quarters solve the longest, or a quarter the shortest; resamples of half of them are
    rare, at the first 4 of 8 draws at most from 6 of 8, 0.11, and so are within the interval."""
    long, short = (
        learnable_length(LENGTHS, networks(*w)) for w in ((8, 8, 8, 8, 6), (2, 0, 0, 0, 0))
    )
    assert (long.length, long.high, short.length, short.low) == (None,) * 4
    assert 80 < long.low < 160
    assert 10 < short.high < 20
    assert long.slope < 0
    assert short.slope < 0


def test_an_interval_does_not_end_beyond_the_lengths():
    """Half solve the outermost length but for one network of sixteen: in a fifth of all resamples
    it is half or more, and never all."""
    long = learnable_length(LENGTHS, networks(16, 16, 16, 14, 7, of=16))
    short = learnable_length(LENGTHS, networks(9, 2, 0, 0, 0, of=16))
    assert 80 < long.low < long.length < 160
    assert 10 < short.length < short.high < 20
    assert long.high is short.low is None


def test_half_of_the_networks_at_the_first_or_last_length_is_that_length():
    for won, length in (((4, 0), 10), ((8, 4), 20)):
        assert learnable_length((10, 20), networks(*won)).length == length


def test_success_that_grows_with_length_has_no_slope():
    found = learnable_length(LENGTHS, networks(2, 8, 8, 8, 8))
    assert found.slope == pytest.approx(-SHALLOWEST)
    assert found.length is None


def test_the_interval_is_that_of_all_resamples():
    """Of four networks, 256 resamples. The level is one whose tails are not near a jump of their
    law: by six standard errors of the share of 40,000 draws, 0.0016."""
    solved = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 1, 0, 0]], bool)
    level = 0.63
    tail = naive.expanded_tail(level, 4)
    law = naive.bootstrap(LENGTHS, solved)

    def quantile(side: int) -> float:
        sign, total = (1, -1)[side], 0.0
        for value in sorted({ends[side] for ends in law}, key=lambda end: sign * end):
            before = total
            total += sum(n for ends, n in law.items() if ends[side] == value) / 256
            if total >= tail:
                assert min(total - tail, tail - before) > 0.01
                return value
        raise AssertionError

    found = learnable_length(LENGTHS, solved, level=level, resamples=40_000, seed=3)
    assert (found.low, found.high) == pytest.approx((quantile(0), quantile(1)), rel=1e-5)
    assert found.low < found.length < found.high


def test_the_interval_is_the_same_for_one_seed_and_drawn_anew_for_another():
    rng = np.random.default_rng(0)
    solved = rng.normal(np.log(45), 0.5, (16, 1)) > np.log(LENGTHS)
    solved ^= rng.random(solved.shape) < 0.1
    one, two = (learnable_length(LENGTHS, solved, resamples=200, seed=s) for s in (0, 1))
    assert learnable_length(LENGTHS, solved, resamples=200, seed=0) == one
    assert one.length == two.length
    assert (one.low, one.high) != (two.low, two.high)


def test_networks_are_resampled_whole():
    """The same counts, by networks that differ in all lengths or in none: only the first make an
    interval that is wide."""
    order = networks(8, 7, 5, 2, 0)
    shuffled = np.stack([np.roll(order[:, k], 3 * k) for k in range(5)], axis=1)
    assert (order.sum(axis=0) == shuffled.sum(axis=0)).all()
    wide, narrow = (learnable_length(LENGTHS, one) for one in (order, shuffled))
    assert wide.length == pytest.approx(narrow.length, rel=1e-12)
    assert math.log(wide.high / wide.low) > 1.2 * math.log(narrow.high / narrow.low)


@pytest.mark.slow
def test_the_interval_covers_the_length():
    """Networks whose own lengths are logistic in ln T: 300 trials at 95%, standard error 0.013;
    plain percentiles cover 0.89. A clean cut covers more."""
    rng, hits = np.random.default_rng(5), 0
    for k in range(300):
        true = rng.uniform(np.log(25), np.log(70))
        solved = rng.logistic(true, 0.3, (8, 1)) > np.log(LENGTHS)
        found = learnable_length(LENGTHS, solved, resamples=199, seed=k)
        hits += (found.low or 0) <= np.exp(true) <= (found.high or np.inf)
    assert hits / 300 > 0.92


@pytest.mark.parametrize(
    ("lengths", "solved", "message"),
    [
        ([10], np.ones((3, 1)), "lengths: [10] is not allowed; two or more above 0, each longer"),
        ([20, 10], np.ones((3, 2)), "lengths: [20, 10] is not allowed; two or more above 0, each"),
        ([0, 10], np.ones((3, 2)), "lengths: [0, 10] is not allowed; two or more above 0, each"),
        ([10, 20], np.ones((3, 3)), "solved: (3, 3) is not allowed; (networks, 2), of one netw"),
        ([10, 20], np.ones((0, 2)), "solved: (0, 2) is not allowed; (networks, 2), of one netw"),
        ([10, 20], np.ones(2), "solved: (2,) is not allowed; (networks, 2), of one network"),
    ],
)
def test_arrays_of_no_such_shape_are_refused(lengths, solved, message: Any):
    with pytest.raises(InputError) as refused:
        learnable_length(lengths, solved)
    assert str(refused.value).startswith(message)
