"""Elementwise functions of the naive reference with their slopes; what its arrays are called."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Params = dict[str, Array]
State = tuple[Array, ...]


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), without overflow and with full relative precision in both tails."""
    positive = a.real >= 0
    e: Array = np.exp(np.where(positive, -a, a))
    value: Array = np.where(positive, 1, e) / (1 + e)
    return value


def sigmoid_slope(a: Array) -> Array:
    return sigmoid(a) * sigmoid(-a)


def tanh_slope(a: Array) -> Array:
    """1 - tanh(a)^2, which is four sigmoid slopes at 2a: no cancellation in a saturated unit."""
    return 4 * sigmoid_slope(2 * a)


def softplus(a: Array) -> Array:
    """ln(1 + exp(a))."""
    positive = a.real >= 0
    return np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))


def silu(a: Array) -> Array:
    return a * sigmoid(a)


def silu_slope(a: Array) -> Array:
    slope: Array = sigmoid(a) * (1 + a * sigmoid(-a))
    return slope


def positive_part(a: Array) -> Array:
    return np.where(a.real <= 0, 0, a)  # NaN stays NaN


def positive_part_slope(a: Array) -> Array:
    return np.where(a.real > 0, 1.0, np.where(a.real <= 0, 0.0, np.nan))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, tanh_slope),
    "relu": (positive_part, positive_part_slope),
    "sigmoid": (sigmoid, sigmoid_slope),
    "identity": (np.positive, np.ones_like),
}
