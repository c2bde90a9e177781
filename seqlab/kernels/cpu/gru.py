"""The GRU on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import gru as algebra
from seqlab.kernels._jit import device, kernel
from seqlab.kernels.cpu import gated
from seqlab.kernels.cpu.chain import arrive, emit, group_size, hidden_shown, leave
from seqlab.kernels.cpu.gated import BLOCK, Saved, flat, project_block, transposed
from seqlab.kernels.cpu.linalg import add_product, dot_product, project_back
from seqlab.kernels.cpu.math import sigmoid, tanh
from seqlab.kernels.layout import Emitted, Span

_hidden_state = device(algebra.hidden_state)
_coefficients = device(algebra.coefficients)
_adjoint = device(algebra.adjoint)


class Weights(NamedTuple):
    """`recurrent` (M, H, 3H) and `input` (M, I, 3H) transposed; `bias` (M, 3H) joins both biases
    where they add, `candidate_bias` (M, H) is b_hn, which the reset gate multiplies."""

    recurrent: NDArray
    input: NDArray
    bias: NDArray
    candidate_bias: NDArray


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    units = params["weight_hh"].shape[-1]
    bias = params["bias_ih"].copy()
    bias[:, : 2 * units] += params["bias_hh"][:, : 2 * units]
    return Weights(
        transposed(params["weight_hh"]),
        transposed(params["weight_ih"]),
        bias,
        np.ascontiguousarray(params["bias_hh"][:, 2 * units :]),
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return gated.save(lead, sizes, dtype, coefficients=len(algebra.COEFFICIENTS))


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: dz_r, dz_z, dm, dx_n."""
    return (algebra.GATES + 1) * sizes.hidden


@device
def _gates(z, xn, before, h, coefficients):
    """One sequence's step: z (3H) with m last, xn (H), h_{t-1} -> h (H), coefficients (5, H)."""
    one = z.dtype.type(1)
    n = h.shape[0]
    for j in range(n):
        reset, update, m = sigmoid(z[j]), sigmoid(z[n + j]), z[2 * n + j]
        candidate = tanh(xn[j] + reset * m)
        h[j] = _hidden_state(update, candidate, before[j], one)
        factors = _coefficients(reset, update, candidate, m, before[j], one)
        coefficients[0, j], coefficients[1, j], coefficients[2, j] = factors[:3]
        coefficients[3, j], coefficients[4, j] = factors[3:]


@device
def _step_back(state, k, dz_hidden, dz_input):
    """One row's elementwise step: `state` (H) -> dz (3H) of both products; `state` keeps the
    direct part of dL/dh_{t-1}."""
    n = state.shape[0]
    for j in range(n):
        reset, update, m, x, state[j] = _adjoint(
            state[j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j]
        )
        dz_hidden[j], dz_hidden[n + j], dz_hidden[2 * n + j] = reset, update, m
        dz_input[j], dz_input[n + j], dz_input[2 * n + j] = reset, update, x


@device
def _forward_task(weights, x, state, saved, start, m, first, last):
    recurrent, weight, bias, candidate_bias = weights
    hidden, coefficients = saved
    steps, inputs = x.shape[1], x.shape[3]
    units, width = recurrent.shape[1:]
    group = last - first
    gathered = np.empty((BLOCK * group, inputs), x.dtype)
    z = np.empty((BLOCK * group, width), x.dtype)
    xn = np.empty((group, units), x.dtype)
    hidden[m, 0, first:last] = state[m, first:last, 0]
    for s in range(steps):
        if s % BLOCK == 0:
            project_block(x, m, s, first, last, weight[m], bias[m], gathered, z)
        here = z[s % BLOCK * group :]
        for b in range(group):
            xn[b, :] = here[b, 2 * units :]
            here[b, 2 * units :] = candidate_bias[m]
        add_product(hidden[m, s, first:last], group, recurrent[m], here, (start + s) & 1)
        for b in range(group):
            before, after = hidden[m, s, first + b], hidden[m, s + 1, first + b]
            _gates(here[b], xn[b], before, after, coefficients[m, s, first + b])
    state[m, first:last, 0] = hidden[m, steps, first:last]


@kernel
def forward(weights, x, state, saved, start):
    """Run x (M, S, B, I) from `state` (M, B, 1, H), which is left at the segment's end.

    `start` is the segment's first absolute step: its parity sets the order of the products.
    """
    networks, sequences = x.shape[0], x.shape[2]
    size = group_size(sequences)
    groups = -(-sequences // size)
    for task in prange(networks * groups):
        m, first = task // groups, task % groups * size
        last = min(first + size, sequences)
        _forward_task(weights, x, state, saved, start, m, first, last)


@device
def _backward_task(weights, saved, bundle, grad, span, clip, live, trace, emitted, m, first, last):
    recurrent, weight = weights.recurrent, weights.input
    coefficients = saved.coefficients
    units, width = recurrent.shape[1:]
    inputs = weight.shape[1]
    rows = (last - first) * live
    readout = hidden_shown(bundle.adjoint.shape[3])
    dz_hidden = np.empty((rows, width), coefficients.dtype)
    dz_input = np.empty((rows, width), coefficients.dtype)
    both = np.empty(width + units, coefficients.dtype)
    dh = np.empty((rows, units), coefficients.dtype)
    dx = np.empty((rows, inputs), coefficients.dtype)
    for s in range(span.hi - 1, span.lo - 1, -1):
        arrive(bundle, grad, readout, span, s, trace, m, first, last, live)
        for r in range(rows):
            b, row = first + r // live, r % live
            k = coefficients[m, s, b]
            _step_back(bundle.adjoint[m, b, row, 0], k, dz_hidden[r], dz_input[r])
            if row == 0:
                both[:width] = dz_hidden[r]
                both[width:] = dz_input[r, 2 * units :]
                emit(emitted, m, s - span.lo, b, bundle.exponent[m, b, 0], both)
        dot_product(dz_hidden, rows, recurrent[m], dh, (span.start + s) & 1)
        for r in range(rows):
            bundle.adjoint[m, first + r // live, r % live, 0] += dh[r]
        if trace.exponent.shape[2] > 0:
            dot_product(dz_input, rows, weight[m], dx, False)
        leave(bundle, span, s, clip, trace, dx, m, first, last, live)


@kernel
def backward(weights, saved, bundle, grad, span, clip, live, trace, emitted):
    """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
    networks, sequences = bundle.exponent.shape[0], bundle.exponent.shape[1]
    size = group_size(sequences)
    groups = -(-sequences // size)
    for task in prange(networks * groups):
        m, first = task // groups, task % groups * size
        last = min(first + size, sequences)
        _backward_task(
            weights, saved, bundle, grad, span, clip, live, trace, emitted, m, first, last
        )


def _split(values: NDArray) -> tuple[NDArray, NDArray]:
    """Emitted (M, n, B, 4H) -> the gradients of W_hh h + b_hh and of W_ih x + b_ih, 3H each."""
    units = values.shape[-1] // (algebra.GATES + 1)
    dz_hidden = np.ascontiguousarray(values[..., : algebra.GATES * units])
    dz_input = dz_hidden.copy()
    dz_input[..., 2 * units :] = values[..., algebra.GATES * units :]
    return dz_hidden, dz_input


def add_gradients(
    weights: Weights,
    saved: Saved,
    x: NDArray,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the parameter gradients in `out`.

    factor (M, n*B + B) brings each emitted step, then each carried sum, to the sums' scale.
    """
    gated.add_gradients(*_split(emitted.values), factor, saved, x, span, out)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    project_back(flat(_split(emitted.values)[1]), weights.input, out)
