"""What the gradient's rate should be, in closed form or by mean field.

Rates are slopes of the log norm of the adjoint against lag, in nats per step. `carry` is the share
of a memory cell's adjoint that is left after a number of steps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPAN = 9.0  # standard deviations kept on each side of a Gaussian: 1e-18 lies beyond
NODES = 513
MAMBA_DELTA = (0.001, 0.1)  # Mamba's log-uniform draw of Delta at initialisation


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
    q = _fixed_point(lambda q: sw2 * _tanh_squared(q) + s02, low, sw2 + s02)
    return MeanField(q, sw2 * _sech_fourth(q))


def _sigmoid_field(sw2: float, s02: float) -> MeanField:
    # sigmoid(x) = (1 + tanh(x/2))/2
    q = _fixed_point(lambda q: sw2 * (1 + _tanh_squared(q / 4)) / 4 + s02, sw2 / 4 + s02, sw2 + s02)
    return MeanField(q, sw2 * _sech_fourth(q / 4) / 16)


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


def _tanh_squared(q: float) -> float:
    return _gaussian_mean(lambda x: np.tanh(x) ** 2, q)


def _sech_fourth(q: float) -> float:
    return _gaussian_mean(lambda x: (1 - np.tanh(x) ** 2) ** 2, q)


def _gaussian_mean(f: Callable[[NDArray], NDArray], q: float) -> float:
    """E[f(sqrt(q) z)] for a standard normal z and an f that is analytic near the real line.

    Trapezoids in u, x = sinh(u): they converge exponentially (Trefethen & Weideman 2014), and the
    substitution resolves both f's width of 1 and the Gaussian's of sqrt(q), however far apart.
    """
    if q == 0:
        return float(f(np.zeros(1))[0])
    u, step = np.linspace(-1, 1, NODES, retstep=True)
    scale = math.sqrt(q)
    reach = math.asinh(SPAN * scale)
    x = np.sinh(reach * u)
    weight = np.cosh(reach * u) * np.exp(-((x / scale) ** 2) / 2) * (step * reach)
    return float(f(x) @ weight / (math.sqrt(2 * math.pi) * scale))


def linear_rate(weight_hh: NDArray) -> float:
    """Mean over networks of ln of the spectral radius of weight_hh (M, H, H): a linear RNN."""
    radius = np.abs(np.linalg.eigvals(weight_hh)).max(axis=-1)
    with np.errstate(divide="ignore"):
        return float(np.log(radius).mean())


def lstm_rate(mean_f: float, su: float, mean_ig: float, mean_otanh: float) -> float:
    """ln(<f> + su <i g'> <o tanh'(c)>): means over units and time, su^2 = H Var(U)."""
    return math.log(mean_f + su * mean_ig * mean_otanh)


def gru_rate(mean_z: float, su: float, mean_nr: float) -> float:
    """ln(<z> + su <(1 - z) n' r>): means over units and time, su^2 = H Var(U)."""
    return math.log(mean_z + su * mean_nr)


def chrono_carry(lag: ArrayLike, steps: int) -> NDArray[np.float64]:
    """Mean carry of an LSTM cell under chrono forget biases drawn for `steps` (from 3 up).

    b = ln U(1, M), M = steps - 1, makes the forget gate m/(m + 1), whose power `lag` is close to
    exp(-lag/m); the mean over m is (M E2(lag/M) - E2(lag))/(M - 1), within 0.005
    (Tallec & Ollivier 2018, section 2). The RMS carry is the root of the mean at twice the lag.
    """
    from scipy.special import expn

    lags = np.asarray(lag, dtype=np.float64)
    longest = steps - 1
    return np.asarray((longest * expn(2, lags / longest) - expn(2, lags)) / (longest - 1))


def ssm_carry(lag: ArrayLike) -> NDArray[np.float64]:
    """Mean carry exp(-lag Delta) of the state n = 1 at Mamba's initialisation.

    Delta is log-uniform in [0.001, 0.1], as in the reference code of Gu & Dao 2023:
    [E1(0.001 lag) - E1(0.1 lag)] / ln 100, and 1 at lag 0.
    """
    from scipy.special import exp1

    lags = np.asarray(lag, dtype=np.float64)
    low, high = MAMBA_DELTA
    later = np.maximum(lags, 1e-300)  # at lag 0 both integrals are infinite
    return np.asarray((exp1(low * later) - exp1(high * later)) / math.log(high / low))


def untied_gaussian_rate(size: int, gain: float) -> tuple[float, float]:
    """Mean and variance per step of the log norm of a product of independent Gaussian matrices.

    Entries have variance gain^2/size (Newman 1986; a chi-squared of `size` degrees each step).
    It does not describe a recurrent network, whose matrix is the same at every step.
    """
    from scipy.special import polygamma, psi

    mean = math.log(gain) + (psi(size / 2) + math.log(2 / size)) / 2
    return float(mean), float(polygamma(1, size / 2) / 4)
