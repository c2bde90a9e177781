"""Is a decay exponential or a power law? Both are tried on the log curve."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

POINTS = 64
FEWEST = 8


@dataclass(frozen=True)
class Fit:
    """Two least-squares laws for one log curve; `kind` names the one with the smaller residual.

    ln norm = a + rate * lag (nat/step) and ln norm = b + exponent * ln lag, each with its
    root-mean-square residual (nat). Negative slopes vanish.
    """

    kind: Literal["exponential", "power"]
    exponential_rms: float
    power_rms: float
    rate: float
    exponent: float


def fit_lags(steps: int) -> NDArray[np.int64]:
    """At most 64 lags, evenly spaced in log from min(10, steps/10) to steps, rounded, from 1 up."""
    first = max(1.0, min(10.0, steps / 10))
    return np.unique(np.rint(np.geomspace(first, steps, POINTS)).astype(np.int64))


def fit_decay(lags: ArrayLike, curve: ArrayLike) -> Fit | None:
    """Fit both laws to a natural-log curve at its lags (both (n,), lags from 1 up).

    Lags at which the curve is not finite are left out; None if under 8 are left.
    """
    lag = np.asarray(lags, dtype=np.float64)
    value = np.asarray(curve, dtype=np.float64)
    finite = np.isfinite(value)
    if np.count_nonzero(finite) < FEWEST:
        return None
    rate, exponential_rms = _line(lag[finite], value[finite])
    exponent, power_rms = _line(np.log(lag[finite]), value[finite])
    kind: Literal["exponential", "power"] = (
        "exponential" if exponential_rms <= power_rms else "power"
    )
    return Fit(kind, exponential_rms, power_rms, rate, exponent)


def _line(x: NDArray, y: NDArray) -> tuple[float, float]:
    """Slope and rms residual of the least-squares line through (x, y)."""
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    return float(slope), float(np.sqrt(np.mean((dy - slope * dx) ** 2)))
