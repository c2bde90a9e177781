"""What the gradient's rate should be, in closed form or by mean field.

Rates are slopes of the log norm of the adjoint against lag, in nats per step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MeanField:
    """Fixed point of a wide random network's pre-activation variance, and its gradient's growth.

    q: variance of a pre-activation; chi: factor on the squared norm of the adjoint in one step.
    """

    q: float
    chi: float

    @property
    def rate(self) -> float:
        """ln(chi)/2, nats per step."""
        return math.log(self.chi) / 2 if self.chi > 0 else -math.inf


def mean_field(activation: str, sw2: float, s02: float) -> MeanField | None:
    """Mean field of h' = phi(W h + noise), W with variance sw2/H and noise with variance s02.

    q = sw2 E[phi(sqrt(q) z)^2] + s02 and chi = sw2 E[phi'(sqrt(q) z)^2], z a standard normal
    (Poole et al. 2016, eq. 3 and 5; Schoenholz et al. 2017; Chen, Pennington & Schoenholz 2018).
    The largest fixed point is returned, the one that any start but zero reaches; None where the
    variance grows for ever (identity and relu).
    """
    return _FIELDS[activation](sw2, s02)


def _tanh_field(sw2: float, s02: float) -> MeanField:
    if s02 == 0 and sw2 <= 1:
        return MeanField(0.0, sw2)  # ordered: activity dies out, where phi' = 1
    # E[tanh^2] >= q - 2 q^2, so that without input q* is above (sw2 - 1)/(2 sw2): start at half.
    low = max(s02, (sw2 - 1) / (4 * sw2)) if sw2 > 1 else s02
    return _field("tanh", sw2, s02, low)


def _sigmoid_field(sw2: float, s02: float) -> MeanField:
    return _field("sigmoid", sw2, s02, sw2 / 4 + s02)


def _field(activation: str, sw2: float, s02: float, low: float) -> MeanField:
    """The fixed point between `low` and what units that are all at one would make."""
    from seqlab.numbers.activations import find_activation, mean_square, slope_square

    phi = find_activation(activation)
    q = _fixed_point(lambda q: sw2 * mean_square(phi, q) + s02, low, sw2 + s02)
    return MeanField(q, sw2 * slope_square(phi, q))


def _relu_field(sw2: float, s02: float) -> MeanField | None:
    return _identity_field(sw2 / 2, s02)  # half of the units are on


def _identity_field(sw2: float, s02: float) -> MeanField | None:
    return MeanField(s02 / (1 - sw2), sw2) if sw2 < 1 else None


_FIELDS: dict[str, Callable[[float, float], MeanField | None]] = {
    "tanh": _tanh_field,
    "sigmoid": _sigmoid_field,
    "relu": _relu_field,
    "identity": _identity_field,
}


def _fixed_point(step: Callable[[float], float], low: float, high: float) -> float:
    """The q = step(q) between low, where step(q) >= q, and high, where step(q) <= q."""
    from scipy.optimize import brentq

    def beyond(q: float) -> float:
        return step(q) - q

    # Rounding may turn the signs at both ends.
    high = high * (1 + 1e-9) + 1
    if beyond(low) <= 0:
        return low
    return high if beyond(high) >= 0 else float(brentq(beyond, low, high, xtol=1e-15, rtol=1e-14))


def spectral_rate(jacobian: NDArray) -> float:
    """ln of the spectral radius of a step's Jacobian (S, S) that is the same at every step.

    That of a linear network, or of one that rests at a fixed point (Gelfand's formula). A
    transient adds O(1/T) to what is measured over T steps. nan beyond the range of floats.
    """
    if not np.isfinite(jacobian).all():
        return math.nan
    radius = np.abs(np.linalg.eigvals(jacobian)).max()
    with np.errstate(divide="ignore"):
        return float(np.log(radius))


def diagonal_rate(start: NDArray, exponent: NDArray, steps: int) -> float:
    """(ln ||start e^exponent|| - ln ||start||)/steps of an adjoint whose entries do not mix.

    Exact for a diagonal Jacobian, `exponent` the sum of its logarithms over all steps, entry by
    entry. nan for a start of zero.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        first = 2 * np.log(np.abs(start))
        last = np.logaddexp.reduce(first + 2 * exponent, axis=None)
        return float(last - np.logaddexp.reduce(first, axis=None)) / 2 / steps


def lstm_rate(mean_f: float, su: float, mean_ig: float, mean_otanh: float) -> float:
    """ln(<f> + su <i g'> <o tanh'(c)>): means over units and time, su^2 = H Var(U)."""
    return math.log(mean_f + su * mean_ig * mean_otanh)


def gru_rate(mean_z: float, su: float, mean_nr: float) -> float:
    """ln(<z> + su <(1 - z) n' r>): means over units and time, su^2 = H Var(U)."""
    return math.log(mean_z + su * mean_nr)
