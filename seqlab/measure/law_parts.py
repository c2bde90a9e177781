"""Parts of a stack's block whose weights are never drawn: exact in law, O(n) a layer.

A layer with Gaussian or Haar weights W is seen by one input and one adjoint alone. W h is a normal
vector, and given W h, W' delta is known along h and a normal vector across it.

A value is an array (M, n), one row a network, and a power of two (M, 1) that it is to be multiplied
by, so that a homogeneous stack may fade or grow without end. Every part gives its output and its
way back, which takes dL/d(output) to dL/d(input) and is linear.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from seqlab.numbers.activations import Activation


class Value(NamedTuple):
    """An array (M, n) and the power of two (M, 1) that scales it."""

    array: NDArray
    exponent: NDArray


class Met(NamedTuple):
    """What a layer's weights met on the way back: |dL/d(W a)|, and ln |a| of what they multiply;
    (M,) each."""

    delta: NDArray
    log_input: NDArray


# The adjoint and a layer's normal numbers (M, n) for the way back; what the weights met, if any.
Back = Callable[[NDArray, NDArray], tuple[NDArray, Met | None]]
Part = Callable[[Value], tuple[Value, Back]]

_FAINT = 1e-140  # a norm under which squares may have been lost


def norms(x: NDArray) -> NDArray:
    """|x| of every row, (M, 1); no square leaves the range of floats."""
    size = np.sqrt(dots(x, x))
    lost = np.flatnonzero(
        (size < _FAINT) | np.isinf(size)
    )  # those rows alone: the others' bits stay
    if lost.size:
        most = np.abs(x[lost]).max(axis=1, keepdims=True)
        scaled = x[lost] / np.where(most > 0, most, 1)
        size[lost] = most * np.sqrt(dots(scaled, scaled))
    return size


def dots(x: NDArray, y: NDArray) -> NDArray:
    """x . y row by row, (M, 1)."""
    return np.einsum("mn,mn->m", x, y)[:, None]


def logs(positive: NDArray, exponent: NDArray) -> NDArray:
    """ln(positive 2^exponent), -inf at zero, (M,) from (M, 1) each."""
    with np.errstate(divide="ignore"):
        return (np.log(positive) + exponent * math.log(2))[:, 0]


def rescaled(value: Value) -> Value:
    """The same, the largest entry of every row between a half and one."""
    _, more = np.frexp(np.abs(value.array).max(axis=1, keepdims=True))
    return Value(np.ldexp(value.array, -more), value.exponent + more)


def true_scale(value: Value) -> NDArray:
    """The array itself."""
    return np.ldexp(value.array, value.exponent)


class Weights(NamedTuple):
    """The law of a layer's weights, and of its biases: `sw2` = n Var W, or orthogonal with
    sw2 = gain^2; biases of a standard deviation, normal or uniform."""

    sw2: float
    bias: float
    orthogonal: bool
    uniform_bias: bool

    @property
    def rows(self) -> int:
        """Normal numbers that a layer takes for each of its units."""
        return 2 if self.bias else 1


def linear(value: Value, weights: Weights, drawn: NDArray) -> tuple[Value, Back]:
    """W h + b from normal numbers (M, rows, n)."""
    a, exponent = value
    units = a.shape[1]
    size = norms(a)
    along = a / np.where(size > 0, size, 1)  # nothing is known of W where h is zero
    if weights.orthogonal:
        of_along = math.sqrt(weights.sw2) * drawn[:, 0] / norms(drawn[:, 0])
    else:
        of_along = math.sqrt(weights.sw2 / units) * drawn[:, 0]  # W h / |h|
    z = size * of_along
    if weights.bias:
        b = drawn[:, 1]
        b = math.sqrt(3) * (2 * ndtr(b) - 1) if weights.uniform_bias else b
        # A layer that is dead hands on no scale.
        exponent = np.where(size > 0, exponent, 0)
        z = z + np.ldexp(weights.bias * b, -exponent)

    def back(g: NDArray, drawn: NDArray) -> tuple[NDArray, Met | None]:
        delta = norms(g)
        met = Met(delta[:, 0], logs(size, exponent))
        known = dots(of_along, g)
        if weights.orthogonal:
            # Of length sqrt(sw2) |delta across W h|, and in no direction but across h.
            lost = g - of_along * (known / weights.sw2) if weights.sw2 else g
            across = drawn - along * dots(along, drawn)
            length = norms(across)
            across = across / np.where(length > 0, length, 1)
            return along * known + math.sqrt(weights.sw2) * norms(lost) * across, met
        fresh = math.sqrt(weights.sw2 / units) * delta
        return along * (known - fresh * dots(along, drawn)) + fresh * drawn, met

    return Value(z, exponent), back


def activation(value: Value, phi: Activation) -> tuple[Value, Back]:
    """phi(z); a homogeneous one leaves the scale as it is."""
    z = value.array if phi.homogeneous else true_scale(value)
    exponent = value.exponent if phi.homogeneous else np.zeros_like(value.exponent)
    slope = phi.slope(z)
    return Value(phi.value(z), exponent), lambda g, _: (slope * g, None)


def layer_norm(value: Value) -> tuple[Value, Back]:
    """(z - mean)/sqrt(variance) over units, zero where all are alike."""
    centred = value.array - value.array.mean(axis=1, keepdims=True)
    size = norms(centred) / math.sqrt(centred.shape[1])
    inverse = np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)
    out = centred * inverse
    inverse = np.ldexp(inverse, -value.exponent)

    def back(g: NDArray, _: NDArray) -> tuple[NDArray, Met | None]:
        left = g - g.mean(axis=1, keepdims=True) - out * (dots(out, g) / out.shape[1])
        return left * inverse, None

    return Value(out, np.zeros_like(value.exponent)), back


def chain(value: Value, *parts: Part) -> tuple[Value, Back]:
    """One part after the other; one of them has weights."""
    backs = []
    for part in parts:
        value, back = part(value)
        backs.append(back)

    def whole(g: NDArray, drawn: NDArray) -> tuple[NDArray, Met | None]:
        met = None
        for back in reversed(backs):
            g, found = back(g, drawn)
            met = met if found is None else found
        return g, met

    return value, whole


def residual(value: Value, alpha: float, *branch: Part) -> tuple[Value, Back]:
    """h + alpha F(h)."""
    (added, exponent), branch_back = chain(value, *branch)
    most = np.maximum(value.exponent, exponent)
    total = np.ldexp(value.array, value.exponent - most)
    total = total + alpha * np.ldexp(added, exponent - most)

    def back(g: NDArray, drawn: NDArray) -> tuple[NDArray, Met | None]:
        through, met = branch_back(alpha * g, drawn)
        return g + through, met

    return Value(total, most), back
