"""The LSTM on a GPU: one segment of time forward, one segment back."""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import lstm as algebra
from seqlab.kernels.cuda import recurrent
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Saved, Weights, add_gradients, input_gradient
from seqlab.kernels.cuda.target import Array, device
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

__all__ = ["add_gradients", "input_gradient"]

_unit_step = algebra.make_step(device, sigmoid_pair, tanh)
_adjoint = device(algebra.adjoint)


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    bias = params["bias_ih"] + params["bias_hh"]
    return recurrent.weights(params["weight_hh"], params["weight_ih"], bias)


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return recurrent.save(lead, sizes, dtype, coefficients=len(algebra.COEFFICIENTS))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return recurrent.saved_width(sizes, coefficients=len(algebra.COEFFICIENTS))


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time."""
    return algebra.GATES * sizes.hidden


@device
def _step(z, k, state, j, code):
    """See `recurrent.forward`."""
    n = k.shape[1]
    z_i, z_f = z[j] + k[0, j], z[n + j] + k[1, j]
    z_g, z_o = z[2 * n + j] + k[2, j], z[3 * n + j] + k[3, j]
    state[0, j], state[1, j], factors = _unit_step(z_i, z_f, z_g, z_o, state[1, j])
    k[0, j], k[1, j], k[2, j] = factors[0], factors[1], factors[2]
    k[3, j], k[4, j], k[5, j] = factors[3], factors[4], factors[5]


@device
def _back(state, k, dz, j):
    """See `recurrent.backward`."""
    n = k.shape[1]
    dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[1, j] = _adjoint(
        state[0, j], state[1, j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]
    )
    state[0, j] = state.dtype.type(0)


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, 2, H), left at the segment's end."""
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


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest factor of one sequence's step back among those that no finite state makes zero:
    where it is all but zero, a gradient may have left the dtype's range."""
    del weights
    return recurrent.faintest(saved, algebra.NEVER_ZERO, m, step, b)
