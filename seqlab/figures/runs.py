"""What figures are made of: one clip rule of one result, of one part or one length of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import HORIZON, THRESHOLDS
from seqlab.numbers.statistics import median
from seqlab.report.points import Data


@dataclass(frozen=True)
class Run:
    """One clip rule of one result, or of one part of its state, or of one length of training:
    `values` (networks, points), and their coordinates in `points` (points,) each.

    `lengths` are all that were measured; `theory` is in nats per step, nan for none; `horizon` in
    steps. `levels` are numbers that the values are held to.
    """

    fields: Mapping[str, Any]
    points: Mapping[str, NDArray]
    values: NDArray
    lengths: NDArray
    theory: float
    horizon: float
    levels: Mapping[str, float] = field(default_factory=dict)


def ruled_horizons(data: Data) -> NDArray:
    """(rules,) in steps those of the networks as they are drawn, inf for never."""
    return lags(one_along(data["horizon"], data, HORIZON))


def horizon_of(log_norm: NDArray, lag: NDArray) -> float:
    """First kept lag at which the median of curves (networks, lags) is under the threshold.

    Where a gradient reaches a part only after some lags, these do not count. inf for never.
    """
    under = median(log_norm) < math.log(THRESHOLDS[HORIZON])
    first = under.argmin()  # that is not; 0 where all are
    gone = np.flatnonzero(under[first:])
    return float(lag[first + gone[0]]) if gone.size else math.inf


def one_along(stored: NDArray, data: Data, threshold: str) -> NDArray:
    """What is stored (..., thresholds) for one of them."""
    return stored[..., np.isclose(data["threshold"], THRESHOLDS[threshold])][..., 0]


def lags(stored: NDArray) -> NDArray:
    """Lags as figures have them: inf for never."""
    return np.where(stored < 0, math.inf, stored)
