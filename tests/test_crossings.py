"""Where a median crosses zero, and its interval."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from seqlab.numbers.crossings import Crossing, Middle, crossings
from seqlab.numbers.statistics import median_interval

PLACES = [float(place) for place in range(-5, 6)]
# How near Brent's method comes: its own tolerance, and 4 units of the last place.
CLOSE, END = 1.1e-11, 1.1e-4

pytestmark = pytest.mark.tiny


def band(curve: Callable[[float], float], width: float = 0.5) -> Callable[[float], Middle]:
    return lambda u: Middle(curve(u), curve(u) - width, curve(u) + width)


def lone(curve: Callable[[float], float]) -> Callable[[float], Middle]:
    """Of too few curves for an interval."""
    return lambda u: Middle(curve(u), math.nan, math.nan)


def test_one_crossing_and_its_interval() -> None:
    """u^3 = 2; of which u^3 +- 1/2 is 2 at the cube roots of 3/2 and 5/2."""
    (found,) = crossings(band(lambda u: u**3 - 2), PLACES)
    assert found.at == pytest.approx(2 ** (1 / 3), abs=CLOSE)
    assert (found.low, found.high) == pytest.approx((1.5 ** (1 / 3), 2.5 ** (1 / 3)), abs=END)
    assert found.rising


def test_several_crossings() -> None:
    """Of cos u, at +-pi/2 and +-3 pi/2; by 1/2 about pi/6 to each side."""
    found = crossings(band(math.cos), PLACES)
    assert [one.rising for one in found] == [False, True, False, True]
    for one, at in zip(found, np.array([-1.5, -0.5, 0.5, 1.5]) * math.pi, strict=True):
        assert one.at == pytest.approx(at, abs=CLOSE)
        assert one.low == pytest.approx(at - math.pi / 6, abs=END) or one.low is None
        assert one.high == pytest.approx(at + math.pi / 6, abs=END) or one.high is None
    assert found[0].low is None  # -3 pi/2 - pi/6 is beyond -5
    assert found[1].low is not None
    assert found[3].high is None


def test_an_interval_over_places() -> None:
    """It is as wide as it is, whatever lies between."""
    (found,) = crossings(band(lambda u: u / 4 - 0.1), PLACES)
    assert (found.low, found.high) == pytest.approx((0.4 - 2, 0.4 + 2), abs=END)


def test_none() -> None:
    assert crossings(band(lambda u: u**2 + 1), PLACES) == []
    assert crossings(band(lambda u: math.nan), PLACES) == []
    assert crossings(band(lambda u: u), [3.0]) == []


def test_a_zero_at_a_place_is_met_once() -> None:
    (found,) = crossings(band(lambda u: u - 1), PLACES)
    assert found == Crossing(1.0, pytest.approx(0.5, abs=END), pytest.approx(1.5, abs=END), True)


def test_too_few_curves_have_no_interval() -> None:
    assert crossings(lone(lambda u: u - 1.5), PLACES) == [
        Crossing(pytest.approx(1.5, abs=CLOSE), None, None, True)
    ]


def test_infinities_are_large_and_nan_says_nothing() -> None:
    """Zero on the left of -2, overflow on the right of 3."""

    def curve(u: float) -> float:
        return -math.inf if u < -2 else math.nan if u > 3 else u - 0.25

    (found,) = crossings(band(curve), PLACES)
    assert found.at == pytest.approx(0.25, abs=CLOSE)
    (jump,) = crossings(band(lambda u: math.copysign(math.inf, u - 0.3)), PLACES)
    assert jump.at == pytest.approx(0.3, abs=CLOSE)
    assert (jump.low, jump.high) == pytest.approx((0.3, 0.3), abs=END)


def test_a_gap_without_a_number_is_no_crossing() -> None:
    """Around 1/2 nothing is known of a curve that has another sign on either side."""
    gap = band(lambda u: math.nan if abs(u - 0.5) < 0.4 else math.copysign(1, u - 0.5))
    assert crossings(gap, PLACES) == []


@pytest.mark.parametrize(
    ("count", "ranks"),
    [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (16, (4, 13)), (64, (24, 41))],
)
def test_ranks_of_a_median(count: int, ranks: Any) -> None:
    """As in tables of the sign test; numbered from 1."""
    values = np.random.default_rng(count).permutation(count) + 1.0
    assert median_interval(values) == ranks


@pytest.mark.parametrize("count", [6, 11, 16, 40, 64])
def test_they_cover_what_they_say(count: int) -> None:
    """And one rank nearer to the middle they would not."""
    low, _ = median_interval(np.arange(1.0, count + 1)) or (0, 0)
    assert 2 * stats.binom.cdf(low - 1, count, 0.5) <= 0.05 < 2 * stats.binom.cdf(low, count, 0.5)
