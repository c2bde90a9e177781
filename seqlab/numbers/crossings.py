"""Where the median of several smooth curves crosses zero, and how well a few of them know that."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from scipy.optimize import brentq

LARGEST = 1e9  # in place of infinities, from which no line can be drawn
CLOSE, NEAR = 1e-11, 1e-4  # how close to a crossing, and to the end of its interval


class Middle(NamedTuple):
    """A median at one place and the ends of its interval, nan where there are none."""

    value: float
    low: float
    high: float


class Crossing(NamedTuple):
    """A place where the median crosses zero, `rising` or falling there. The interval from `low` to
    `high` has all places around it at which zero is within the median's own interval; None for an
    end beyond the range, or in a gap without numbers."""

    at: float
    low: float | None
    high: float | None
    rising: bool


def crossings(middle: Callable[[float], Middle], places: Sequence[float]) -> list[Crossing]:
    """The crossings between places (in rising order), by Brent's method where the signs of two
    neighbours differ (Brent 1973, chapter 4).

    Two crossings between neighbours are not seen. `middle` is asked for a place several times. A
    median that is nan tells nothing, nor of a crossing beside it; infinities are large numbers.
    """
    found = []
    for left, right in pairwise(places):
        a, b = (_within_range(middle(place).value) for place in (left, right))
        if not (a < 0 <= b or b <= 0 < a):  # a zero belongs to the one on its left
            continue
        at = right if b == 0 else _root(lambda place: middle(place).value, left, right, CLOSE)
        if at is None:
            continue
        low = _end(middle, [at, *reversed([place for place in places if place < at])])
        high = _end(middle, [at, *(place for place in places if place > at)])
        found.append(Crossing(at, low, high, rising=a < b))
    return found


def _end(middle: Callable[[float], Middle], outwards: Sequence[float]) -> float | None:
    """Where zero leaves the median's interval, on the way from the crossing to an end."""
    for inner, outer in pairwise(outwards):
        there = middle(outer)
        if there.low > 0:
            return _left(lambda place: middle(place).low, inner, outer)
        if there.high < 0:
            return _left(lambda place: -middle(place).high, inner, outer)
        if not there.low <= there.high:
            return None
    return None


def _left(excess: Callable[[float], float], inner: float, outer: float) -> float | None:
    """Where an excess that is above 0 at `outer` begins; where the median jumps, at the jump."""
    return inner if excess(inner) > 0 else _root(excess, inner, outer, NEAR)


class _Gap(Exception):
    """A place without a number."""


def _root(curve: Callable[[float], float], left: float, right: float, near: float) -> float | None:
    """None where the way to it leads into a gap without numbers, at which SciPy gives up."""

    def known(place: float) -> float:
        value = _within_range(curve(place))
        if math.isnan(value):
            raise _Gap
        return value

    try:
        return float(brentq(known, left, right, xtol=near))
    except _Gap:
        return None


def _within_range(value: float) -> float:
    return value if math.isnan(value) else min(max(value, -LARGEST), LARGEST)
