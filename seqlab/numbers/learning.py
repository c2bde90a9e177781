"""Statistics of learning curves: how many networks solve a task, how soon, and up to what length.

Few networks are the rule, and extremes: all solved, none, or a clean cut between two lengths.
Nothing here is finer than the lengths and updates that were tried.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit, ndtr, ndtri, stdtrit

from seqlab.numbers.statistics import quantile, resampled_counts
from seqlab.wording import refuse

FEWEST = 4  # networks for an interval over them
RESAMPLES = 1999
STEEPEST = 2 * math.log(19)  # between the two closest lengths: from 95% to 5%
SHALLOWEST = 1e-3  # per nat of length
_HALF = 0.5 + 1e-12  # a survival of one half, which is a product of rounded factors
_AT = 0.005  # of a length, within which a fit is at it: the others pull a half there by less
_FLAT = 1e-11  # a rise of the likelihood that is rounding
_ROUNDS = 50  # of bisection


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a probability, from `successes` of `trials` (Wilson 1927).

    With p = k/n and the normal quantile z: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2))/(1 + z^2/n).
    Raises InputError unless 0 <= successes <= trials and trials is from 1 up.
    """
    if trials < 1:
        raise refuse("trials", trials, "a number from 1 up")
    if not 0 <= successes <= trials:
        raise refuse("successes", successes, f"from 0 to {trials}")
    z = float(ndtri((1 + level) / 2))
    middle = successes + z**2 / 2
    half = z * math.sqrt(successes * (trials - successes) / trials + z**2 / 4)
    total = trials + z**2
    high = 1.0 if successes == trials else (middle + half) / total  # it rounds to less
    return (middle - half) / total, high


class Median(NamedTuple):
    """A median and the ends of its interval, in updates; None for what is not reached."""

    median: float | None
    low: float | None
    high: float | None


def median_updates(updates: ArrayLike, solved: ArrayLike, level: float = 0.95) -> Median:
    """The Kaplan-Meier median of updates to solve: the first at which the share of networks that
    are unsolved is a half or less (Kaplan & Meier 1958).

    `updates` (M,) are those at which a network has solved its task, or, where `solved` (M,) is
    false, the last that it made; a network that gives up at an update was still there to solve at
    it. The interval is that of Brookmeyer & Crowley (1982), by Greenwood's variance on the scale of
    ln(-ln S): the updates at which the band of S holds a half, from the first whose lower end is a
    half or less up to the first whose upper end is. Once all are solved S = 0 has no variance, and
    its band no upper end. Raises InputError for arrays of other shapes or an update that is none.
    """
    time, event = np.asarray(updates, dtype=np.float64), np.asarray(solved, dtype=bool)
    if time.ndim != 1 or time.shape != event.shape:
        raise refuse("solved", event.shape, f"one for each of updates {time.shape}")
    if not (np.isfinite(time).all() and (time >= 0).all()):
        raise refuse("updates", updates, "finite numbers from 0 up")
    times, deaths = np.unique(time[event], return_counts=True)
    at_risk = time.size - np.searchsorted(np.sort(time), times)
    survival = np.cumprod(1 - deaths / at_risk)
    z = float(ndtri((1 + level) / 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(deaths / (at_risk * (at_risk - deaths)))
        spread = np.exp(z * np.sqrt(greenwood) / np.abs(np.log(survival)))
    none_left = survival == 0
    lower = np.where(none_left, 0, survival**spread)
    upper = np.where(none_left, 1, survival ** (1 / spread))

    def reached(curve: NDArray) -> float | None:
        hits = np.flatnonzero(curve <= _HALF)
        return float(times[hits[0]]) if hits.size else None

    return Median(reached(survival), reached(lower), reached(upper))


class LearnableLength(NamedTuple):
    """The length that half of the networks learn, the ends of its interval, and the slope of the
    log odds of success against ln length, a nat, from 0 down.

    `length` is None where it is not between the shortest and the longest length; `low` is None
    where the interval begins before the shortest, `high` where it ends beyond the longest, and both
    for under 4 networks. Where all are solved `low` is the longest, where none are `high` is the
    shortest, and there is no `slope`.
    """

    length: float | None
    low: float | None
    high: float | None
    slope: float | None


def learnable_length(
    lengths: ArrayLike,
    solved: ArrayLike,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> LearnableLength:
    """Fit success of networks (M, L) at increasing lengths (L,): log odds = -slope' ln(T/length).

    By maximum likelihood with the slope' in bounds. Under a clean cut between two lengths, or with
    one length alone between all and none, the likelihood grows with the slope' without end, and any
    length between the two is as likely as another. No steeper than from 95% to 5% between the two
    closest lengths, a clean cut is at the geometric mean of its two, where Firth's (1993) penalised
    likelihood has it too, and the length moves on as one network after the other solves the next.
    Success that grows with length counts as success that stays the same (SHALLOWEST).

    The interval is the bootstrap's over networks, each with all its lengths: percentiles (Efron &
    Tibshirani 1993, chapter 13), expanded for few networks (Hesterberg 2015). A resample with a
    clean cut says no more than that the length is between two, and counts as the one for `low` and
    as the other for `high`; an estimate beyond the lengths counts as unbounded. The same values and
    seed give the same interval.

    Raises InputError for under two lengths, lengths that do not increase, or other shapes.
    """
    tried, won = np.asarray(lengths, dtype=np.float64), np.asarray(solved, dtype=bool)
    if tried.ndim != 1 or tried.size < 2 or not (tried[0] > 0 and (np.diff(tried) > 0).all()):
        raise refuse("lengths", lengths, "two or more above 0, each longer than the one before")
    if won.ndim != 2 or not len(won) or won.shape[1] != tried.size:
        raise refuse("solved", won.shape, f"(networks, {tried.size}), of one network or more")
    fit = _fit(tried, won.sum(axis=0, keepdims=True), len(won))
    length, slope = fit.length[0], fit.slope[0]
    inside = tried[0] <= length <= tried[-1]
    low = high = None
    if len(won) >= FEWEST:
        drawn = [
            counts @ won.astype(np.float64)
            for counts in resampled_counts(len(won), resamples, seed)
        ]
        many, times = np.unique(np.concatenate(drawn), axis=0, return_counts=True)
        ends = _fit(tried, many, len(won))
        tail = _expanded_tail(level, len(won))
        first = float(quantile(np.repeat(ends.low, times), tail))
        last = float(quantile(np.repeat(ends.high, times), 1 - tail))
        low, high = (end if np.isfinite(end) else None for end in (first, last))
    return LearnableLength(
        float(length) if inside else None, low, high, -float(slope) if np.isfinite(slope) else None
    )


def _expanded_tail(level: float, size: int) -> float:
    """That a percentile interval over so few is to leave out on each side: it would be too narrow,
    as one that takes a sample's spread, without Bessel's correction, and the normal law."""
    t = stdtrit(size - 1, (1 + level) / 2)
    return float(ndtr(-t * math.sqrt(size / (size - 1))))


class _Fit(NamedTuple):
    """Of R sets of networks, (R,) each: the length, infinite where all are solved, 0 where none
    are; what is known of it, -inf and inf for beyond the lengths; the slope', nan without one."""

    length: NDArray
    low: NDArray
    high: NDArray
    slope: NDArray


def _fit(lengths: NDArray, solved: NDArray, networks: int) -> _Fit:
    """From the networks (R, L) of so many that solve each length."""
    x = np.log(lengths)
    x = x - x.mean()
    total = solved.sum(axis=1)
    mixed = (total > 0) & (total < networks * len(x))
    share = total / (networks * len(x))

    def intercept(slope: NDArray) -> NDArray:
        """That makes as many successes as there are: the likelihood's best for a slope'."""
        middle = logit(np.where(mixed, share, 0.5))
        reach = slope * np.abs(x).max()

        def excess(a: NDArray) -> NDArray:
            return share - expit(a[:, np.newaxis] - slope[:, np.newaxis] * x).mean(axis=1)

        return _root(excess, middle - reach, middle + reach)

    def rise(slope: NDArray) -> NDArray:
        """Of the likelihood with the slope', which falls along it; where the likelihood does not
        tell one slope' from another, the steeper it is."""
        expected = expit(intercept(slope)[:, np.newaxis] - slope[:, np.newaxis] * x)
        return ((expected - solved / networks) * x).sum(axis=1) + _FLAT

    ones = np.ones(len(solved))
    slope = _root(rise, SHALLOWEST * ones, STEEPEST / np.diff(x).min() * ones)
    with np.errstate(over="ignore"):
        length = np.exp(intercept(slope) / slope + np.log(lengths).mean())
    for edge in (lengths[0], lengths[-1]):  # at which half may be solved
        length = np.where(np.abs(length / edge - 1) < _AT, edge, length)
    length = np.where(mixed, length, np.where(total > 0, np.inf, 0))
    # Where a clean cut is, or an estimate beyond the lengths: between two, one of them infinite.
    edges = np.concatenate(([-np.inf], lengths, [np.inf]))
    place = np.searchsorted(lengths, length)
    steps = np.arange(len(x))
    cut = (solved == np.where(steps < place[:, np.newaxis], networks, 0)).all(axis=1)
    loose = cut | (length < lengths[0]) | (length > lengths[-1])
    low, high = (np.where(loose, edges[place + side], length) for side in (0, 1))
    return _Fit(length, low, high, np.where(mixed, slope, np.nan))


def _root(falling: Callable[[NDArray], NDArray], low: NDArray, high: NDArray) -> NDArray:
    """Where falling functions (R,) change sign, by bisection; an end where they do not."""
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        above = falling(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2
