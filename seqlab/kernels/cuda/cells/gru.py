"""The GRU on a GPU: one segment of time forward, one segment back.

Pre-activations are r, z, m, x_n: the recurrent part m of the candidate has no input weights, its
input part x_n no recurrent ones, so that the kernels need not know of the reset gate.
"""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import gru as algebra
from seqlab.kernels.cuda import recurrent
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Saved, Weights, input_gradient
from seqlab.kernels.cuda.target import Array, device
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

__all__ = ["input_gradient"]

_unit_step = algebra.make_step(device, sigmoid_pair, tanh)
_adjoint = device(algebra.adjoint)


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    units = params["weight_hh"].shape[2]
    weight, ours, theirs = params["weight_ih"], params["bias_ih"], params["bias_hh"]
    gates, candidate = slice(2 * units), slice(2 * units, None)
    no_input = np.zeros_like(weight[:, :units])
    return recurrent.weights(
        params["weight_hh"],
        np.concatenate([weight[:, gates], no_input, weight[:, candidate]], axis=1),
        np.concatenate(
            [ours[:, gates] + theirs[:, gates], theirs[:, candidate], ours[:, candidate]], axis=1
        ),
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return recurrent.save(lead, sizes, dtype, coefficients=len(algebra.COEFFICIENTS))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return recurrent.saved_width(sizes, coefficients=len(algebra.COEFFICIENTS))


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: dz_r, dz_z, dm, dx_n."""
    return (algebra.GATES + 1) * sizes.hidden


@device
def _step(z, k, state, j, code):
    """See `recurrent.forward`."""
    n = k.shape[1]
    z_r, z_z, m = z[j] + k[0, j], z[n + j] + k[1, j], z[2 * n + j] + k[2, j]
    state[0, j], factors = _unit_step(z_r, z_z, k[3, j], m, state[0, j])
    k[0, j], k[1, j], k[2, j] = factors[0], factors[1], factors[2]
    k[3, j], k[4, j] = factors[3], factors[4]


@device
def _back(state, k, dz, j):
    """See `recurrent.backward`."""
    n = k.shape[1]
    dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[0, j] = _adjoint(
        state[0, j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j]
    )


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


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest factor of one sequence's step back among those that no finite state makes zero:
    where it is all but zero, a gradient may have left the dtype's range."""
    del weights
    return recurrent.faintest(saved, algebra.NEVER_ZERO, m, step, b)


def add_gradients(
    weights: Weights,
    saved: Saved,
    x: Array,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the parameter gradients in `out`.

    factor (M, n*B + B) brings each emitted step, then each carried sum, to the sums' scale.
    """
    units = weights.recurrent.shape[1]
    rows = np.delete(np.arange((algebra.GATES + 1) * units), np.s_[2 * units : 3 * units])
    recurrent.add_gradients(weights, saved, x, span, emitted, factor, out, rows)
