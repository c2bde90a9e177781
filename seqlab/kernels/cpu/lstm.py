"""The LSTM on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import lstm as algebra
from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu import gated
from seqlab.kernels.cpu.chain import arrive, emit, leave
from seqlab.kernels.cpu.gated import BLOCK, Saved, both_ways, flat, project_block, task_rows
from seqlab.kernels.cpu.linalg import add_product, copy, fill, project_back
from seqlab.kernels.cpu.math import sigmoid, tanh
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

_cell_state = inlined(algebra.cell_state)
_coefficients = inlined(algebra.coefficients)
_adjoint = inlined(algebra.adjoint)


class Weights(NamedTuple):
    """`recurrent` (M, H, 4H) and `input` (M, I, 4H) for the way forward, `recurrent_back`
    (M, 4H, H) and `input_back` (M, 4H, I) for the way back, `bias` (M, 4H) the two together."""

    recurrent: NDArray
    input: NDArray
    recurrent_back: NDArray
    input_back: NDArray
    bias: NDArray


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    return Weights(
        *both_ways(params),
        params["bias_ih"] + params["bias_hh"],
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return gated.save(lead, sizes, dtype, coefficients=len(algebra.COEFFICIENTS))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return gated.saved_width(sizes, coefficients=len(algebra.COEFFICIENTS))


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time."""
    return algebra.GATES * sizes.hidden


@inlined
def _gates(z, c, h, coefficients):
    """One sequence's step: c (H) in place, h (H) and the coefficients (6, H) written."""
    one = z.dtype.type(1)
    n = h.shape[0]
    for j in range(n):
        i, f = sigmoid(z[j]), sigmoid(z[n + j])
        g, o = tanh(z[2 * n + j]), sigmoid(z[3 * n + j])
        before = c[j]
        c[j] = _cell_state(i, f, g, before)
        squashed = tanh(c[j])
        h[j] = o * squashed
        factors = _coefficients(i, f, g, o, before, squashed, one)
        coefficients[0, j], coefficients[1, j], coefficients[2, j] = factors[:3]
        coefficients[3, j], coefficients[4, j], coefficients[5, j] = factors[3:]


@inlined
def _step_back(state, k, dz):
    """One row's elementwise step: `state` (2H) -> dz (4H).

    What stays in `state` is the direct way back: nothing to h, the carry to c.
    """
    n = state.shape[0] // 2
    for j in range(n):
        dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[n + j] = _adjoint(
            state[j], state[n + j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]
        )
        state[j] = 0


@compiled
def _forward(weights, x, state, saved, start, size, scratch, begin, end):
    sequences = x.shape[2]
    groups = -(-sequences // size)
    recurrent, weight, bias = weights.recurrent, weights.input, weights.bias
    hidden, coefficients = saved
    steps = x.shape[1]
    units = recurrent.shape[1]
    gathered, z, _ = scratch
    for task in range(begin, end):
        m, first = task // groups, task % groups * size
        last = min(first + size, sequences)
        group = last - first
        for b in range(first, last):
            copy(state[m, b, 0], hidden[m, 0, b])
        for s in range(steps):
            if s % BLOCK == 0:
                project_block(x, m, s, first, last, weight[m], bias[m], gathered, z)
            here = s % BLOCK * group
            flip = (start + s) & 1
            add_product(
                hidden[m, s], first * units, units, 1, group, recurrent[m], 0, units, z, here, flip
            )
            for b in range(group):
                after, k = hidden[m, s + 1, first + b], coefficients[m, s, first + b]
                _gates(z[here + b], state[m, first + b, 1], after, k)
        for b in range(first, last):
            copy(hidden[m, steps, b], state[m, b, 0])


def forward(weights: Weights, x: NDArray, state: NDArray, saved: Saved, start: int) -> None:
    """Run x (M, S, B, I) from `state` (M, B, 2, H), which is left at the segment's end.

    `start` is the segment's first absolute step: its parity sets the order of the products.
    """
    gated.forward(_forward, weights, x, state, saved, start)


@compiled
def _backward(
    weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch, begin, end
):
    recurrent, weight = weights.recurrent_back, weights.input_back
    width = recurrent.shape[1]
    coefficients = saved.coefficients
    dz, _, dx, _, squares, readout = scratch
    sequences, losses = saved.hidden.shape[2], rows.lag.shape[0]
    for task in range(begin, end):
        m, first, count = task_rows(task, rows, live, size, sequences)
        for s in range(span.hi - 1, span.lo - 1, -1):
            arrive(rows, grad, readout, span, s, trace, squares, m, first, count)
            for r in range(count):
                b = (first + r) // losses
                _step_back(rows.adjoint[m, first + r], coefficients[m, s, b], dz[r])
                if (first + r) % losses == 0:
                    emit(emitted, m, s - span.lo, b, rows.exponent[m, first + r], dz[r])
            flip = (span.start + s) & 1
            add_product(
                dz, 0, width, 1, count, recurrent[m], 0, width, rows.adjoint[m], first, flip
            )
            if trace.exponent.shape[2] > 0:
                for r in range(count):
                    fill(dx[r], 0)
                add_product(dz, 0, width, 1, count, weight[m], 0, width, dx, 0, False)
            leave(rows, span, s, clip, trace, dx, squares, m, first, count)


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
    gated.backward(_backward, weights, saved, bundle, grad, span, clip, live, trace, emitted)


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
    gated.add_gradients(emitted.values, emitted.values, factor, saved, x, span, out)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    project_back(flat(emitted.values), weights.input_back, out)
