"""Order statistics that know infinities, and an interval for a mean over few networks."""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 1 << 20  # most values drawn at once by the bootstrap: 8 MiB
ROUNDING = 1e-14  # of a variance by difference, against the mean square


def quantile(values: ArrayLike, q: float, axis: int = 0) -> NDArray[np.float64]:
    """Quantile along an axis by linear interpolation, which then is gone from the shape.

    Infinities are values: strictly between -inf and a finite number lies -inf, between a finite
    number and inf lies inf, between equal infinities the same infinity; between -inf and inf
    nothing can be said (nan). A nan among the values gives nan.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=axis)
    count = ordered.shape[axis]
    position = q * (count - 1)
    below = int(position)
    fraction = position - below
    low = ordered.take(below, axis)
    high = ordered.take(min(below + 1, count - 1), axis)
    last = ordered.take(-1, axis)  # nan if there is one: sorting puts it here
    with np.errstate(invalid="ignore"):
        between = (1 - fraction) * low + fraction * high
    result = np.where((low == high) | (fraction == 0), low, between)
    return np.where(np.isnan(last), np.nan, result)


def median(values: ArrayLike, axis: int = 0) -> NDArray[np.float64]:
    """The middle quantile, with the same care for infinities."""
    return quantile(values, 0.5, axis)


def median_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """An interval for the median, from one of the values (n,) to another: free of any distribution
    (David & Nagaraja 2003, section 7.1), it covers at least `level`.

    None under 6 values for 95%, of which even the extremes cover less.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    count = ordered.size
    tail, rank = 0.5**count, 0  # of `count` fair coins, at most `rank` heads
    if 2 * tail > 1 - level:
        return None
    while 2 * (more := tail + math.comb(count, rank + 1) * 0.5**count) <= 1 - level:
        tail, rank = more, rank + 1
    return float(ordered[rank]), float(ordered[count - 1 - rank])


def first_below(curve: ArrayLike, threshold: float) -> int:
    """First index at which a curve (lags,) is under a threshold, -1 if it never is; nan is not."""
    hits = np.flatnonzero(np.asarray(curve) < threshold)
    return int(hits[0]) if hits.size else -1


def bootstrap_t(
    values: ArrayLike, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float] | None:
    """Bootstrap-t interval of the mean of values (n,) (Efron & Tibshirani 1993, section 12.5).

    The same values give the same interval. None under 4 values, and when one is not finite or too
    large to be summed. Resamples of one repeated value have no spread to be studentised by and are
    left out.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size < 4:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sample.mean()
        deviations = sample - mean
    scale = np.abs(deviations).max()
    if not np.isfinite(scale):
        return None
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    deviations /= scale
    t = [
        _studentised(counts, deviations)
        for counts in resampled_counts(sample.size, resamples, seed)
    ]
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(t), [tail, 1 - tail])
    error = scale * deviations.std() / np.sqrt(sample.size)
    return float(mean - high * error), float(mean - low * error)


def resampled_counts(size: int, count: int, seed: int) -> Iterator[NDArray]:
    """How often each of `size` values is drawn (some, size), `count` draws in all."""
    rows = max(1, BLOCK // size)
    for block, start in enumerate(range(0, count, rows)):
        yield _drawn(size, min(rows, count - start), seed, block)


@lru_cache(maxsize=1)  # many samples of one size, one after the other, share their draws
def _drawn(size: int, rows: int, seed: int, block: int) -> NDArray:
    drawn = np.random.default_rng([seed, block]).integers(size, size=(rows, size))
    flat = (drawn + size * np.arange(rows)[:, np.newaxis]).ravel()
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(np.float64)


def _studentised(counts: NDArray, deviations: NDArray) -> NDArray:
    """(mean of resample - mean of sample) / standard error of resample, for each usable row."""
    size = deviations.size
    shift, square = counts @ deviations / size, counts @ deviations**2 / size
    variance = square - shift**2
    usable = variance > ROUNDING * square
    return shift[usable] / np.sqrt(variance[usable] / size)
