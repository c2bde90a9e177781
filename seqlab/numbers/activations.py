"""Activations of deep stacks and their slopes, as functions of arrays.

Sources: PReLU He et al. 2015; ELU Clevert, Unterthiner & Hochreiter 2016; SELU Klambauer et al.
2017; GELU Hendrycks & Gimpel 2016; SiLU Elfwing, Uchibe & Doya 2018. Slopes come from z, never from
phi(z): GELU and SiLU are not monotone, and 1 - tanh^2 is zero where the true slope is small. At a
kink the slope is PyTorch's, that of the left side.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit, ndtr

from seqlab.numbers.gaussian import normal_mean
from seqlab.numbers.spellings import taken_apart

Function = Callable[[NDArray], NDArray]

# Klambauer et al. 2017, eq. 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


class Activation(NamedTuple):
    """phi(z), phi'(z), and the largest |phi'|; `homogeneous` says that phi(c z) = c phi(z) for all
    c > 0."""

    value: Function
    slope: Function
    steepest: float
    homogeneous: bool = False


def _leaky(a: float) -> Activation:
    """z above zero, a z below."""

    def value(z: NDArray) -> NDArray:
        return np.where(z > 0, z, a * z)

    def slope(z: NDArray) -> NDArray:
        return np.where(z > 0, 1.0, a)

    return Activation(value, slope, max(1.0, abs(a)), homogeneous=True)


def _elu(alpha: float, scale: float = 1.0) -> Activation:
    """scale z above zero, scale alpha (e^z - 1) below."""

    def value(z: NDArray) -> NDArray:
        return scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))

    def slope(z: NDArray) -> NDArray:
        return scale * np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0)))

    return Activation(value, slope, scale * max(1.0, abs(alpha)))


def _tanh_slope(z: NDArray) -> NDArray:
    e = np.exp(-2 * np.abs(z))
    return 4 * e / np.square(1 + e)


def _erf_slope(z: NDArray) -> NDArray:
    return 2 / math.sqrt(math.pi) * np.exp(-np.square(z))


def _gelu_slope(z: NDArray) -> NDArray:
    return ndtr(z) + z * np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)


def _silu_slope(z: NDArray) -> NDArray:
    return expit(z) * (1 + z * expit(-z))


_PLAIN = {
    "identity": Activation(lambda z: z, np.ones_like, 1.0, homogeneous=True),
    "sigmoid": Activation(expit, lambda z: expit(z) * expit(-z), 0.25),
    "tanh": Activation(np.tanh, _tanh_slope, 1.0),
    "erf": Activation(erf, _erf_slope, 2 / math.sqrt(math.pi)),
    "relu": _leaky(0.0),
    "selu": _elu(SELU_ALPHA, SELU_SCALE),
    # Steepest at sqrt 2 and where z tanh(z/2) = 2.
    "gelu": Activation(lambda z: z * ndtr(z), _gelu_slope, float(_gelu_slope(np.sqrt(2.0)))),
    "silu": Activation(lambda z: z * expit(z), _silu_slope, 1.0998393194985),
    "softplus": Activation(lambda z: np.logaddexp(0, z), expit, 1.0),
}
_WITH_NUMBER: dict[str, Callable[[float], Activation]] = {
    "leaky": _leaky,
    "prelu": _leaky,
    "elu": _elu,
}
NAMES = (*_PLAIN, *_WITH_NUMBER)


def find_activation(name: str) -> Activation:
    """The activation of a name: one of NAMES, the last three with `:number` if need be.

    Raises InputError.
    """
    kind, number = taken_apart(name)
    return _PLAIN[kind] if number is None else _WITH_NUMBER[kind](number)


def mean(phi: Activation, q: float) -> float:
    """E[phi(sqrt(q) z)]."""
    return normal_mean(phi.value, q)


def mean_square(phi: Activation, q: float) -> float:
    """E[phi(sqrt(q) z)^2]."""
    return normal_mean(lambda z: np.square(phi.value(z)), q)


def slope_square(phi: Activation, q: float) -> float:
    """E[phi'(sqrt(q) z)^2]."""
    return normal_mean(lambda z: np.square(phi.slope(z)), q)


def kurtosis(phi: Activation, q: float) -> float:
    """kappa = E phi'^4 / (E phi'^2)^2 at q."""
    fourth = normal_mean(lambda z: np.square(np.square(phi.slope(z))), q)
    return fourth / slope_square(phi, q) ** 2
