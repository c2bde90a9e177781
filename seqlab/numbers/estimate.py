"""A number between the ends of its 95% interval."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from seqlab.numbers.learning import wilson_interval
from seqlab.numbers.statistics import bootstrap_t, median, median_interval


class Estimate(NamedTuple):
    """A number between the ends of its 95% interval, which are nan where there is none."""

    value: float
    low: float
    high: float


def exactly(value: float) -> Estimate:
    """A number that has no spread."""
    return Estimate(value, value, value)


def of_median(sample: NDArray) -> Estimate:
    """The median of a sample (n,), infinities included."""
    return Estimate(float(median(sample)), *(median_interval(sample) or (math.nan, math.nan)))


def of_mean(sample: NDArray) -> Estimate:
    """The mean of a sample (n,), with its bootstrap-t interval."""
    with np.errstate(invalid="ignore"):
        mean = float(sample.mean())
    return Estimate(mean, *(bootstrap_t(sample) or (math.nan, math.nan)))


def of_share(sample: NDArray) -> Estimate:
    """The share of a sample (n,) of truths, with Wilson's interval."""
    share = wilson_interval(int(sample.sum()), sample.size)
    return Estimate(float(sample.mean()), *share)


def of_variance(sample: NDArray) -> Estimate:
    """The variance of a normal law that a sample (n,) is of: (n - 1) s^2 has a chi-square law."""
    free = sample.size - 1
    total = float(np.square(sample - sample.mean()).sum())
    low, high = (total / float(chdtri(free, tail)) for tail in (0.025, 0.975))  # of the upper tail
    return Estimate(total / free, low, high)
