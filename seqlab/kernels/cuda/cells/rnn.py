"""The vanilla network on a GPU: one segment of time forward, one segment back."""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import ACTIVATIONS, Sizes
from seqlab.cells import rnn as algebra
from seqlab.kernels.cuda import recurrent
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Saved, Weights, add_gradients, input_gradient
from seqlab.kernels.cuda.target import Array, device
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

__all__ = ["add_gradients", "input_gradient"]

TANH, RELU, SIGMOID, _ = range(len(ACTIVATIONS))
_tanh, _relu, _sigmoid, _identity = algebra.make_activations(device, sigmoid_pair, tanh)


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    bias = params["bias_ih"] + params["bias_hh"]
    code = ACTIVATIONS.index(activation or "tanh")
    return recurrent.weights(params["weight_hh"], params["weight_ih"], bias, code)


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return recurrent.save(lead, sizes, dtype, coefficients=1)


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return recurrent.saved_width(sizes, coefficients=1)


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time."""
    return sizes.hidden


@device
def _step(z, k, state, j, activation):
    """See `recurrent.forward`."""
    total = z[j] + k[0, j]
    if activation == TANH:
        h, slope = _tanh(total)
    elif activation == RELU:
        h, slope = _relu(total)
    elif activation == SIGMOID:
        h, slope = _sigmoid(total)
    else:
        h, slope = _identity(total)
    state[0, j], k[0, j] = h, slope


@device
def _back(state, k, dz, j):
    """See `recurrent.backward`."""
    dz[j] = state[0, j] * k[0, j]
    state[0, j] = state.dtype.type(0)


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, 1, H), left at the segment's end."""
    recurrent.forward(_step, weights, x, state, saved)


def backward(
    weights: Weights,
    saved: Saved,
    bundle: Bundle,
    grad: NDArray,
    span: Span,
    clip: Clip,
    live: int,
    trace: Trace,
    emitted: Emitted,
) -> None:
    """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
    recurrent.backward(_back, weights, saved, bundle, grad, span, clip, live, trace, emitted)


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
    """The smallest slope of one sequence's step, which no finite state makes zero: where it is all
    but zero, a gradient may have left the dtype's range. None for relu, whose zeros are true."""
    if weights.code == RELU:
        return None
    return recurrent.faintest(saved, [0], m, step, b)
