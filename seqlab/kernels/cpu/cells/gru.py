"""The GRU on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import gru as algebra
from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu import gated
from seqlab.kernels.cpu.chain import arrive, emit, leave, loss_of, sequence_of
from seqlab.kernels.cpu.gated import (
    BLOCK,
    Saved,
    announce,
    both_ways,
    input_norms,
    project_block,
    rows_of,
    steps_together,
)
from seqlab.kernels.cpu.linalg import Strip, copy
from seqlab.kernels.cpu.math import sigmoid_pair, tanh
from seqlab.kernels.cpu.team import add_recurrent
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

_step = algebra.make_step(inlined, sigmoid_pair, tanh)
_adjoint = inlined(algebra.adjoint)


class Weights(NamedTuple):
    """`recurrent` (M, H, 3H) and `input` (M, I, 3H) for the way forward, `recurrent_back`
    (M, 3H, H) and `input_back` (M, 3H, I) for the way back; `bias` (M, 3H) joins both biases where
    they add, `candidate_bias` (M, H) is b_hn, which the reset gate multiplies."""

    recurrent: NDArray
    input: NDArray
    recurrent_back: NDArray
    input_back: NDArray
    bias: NDArray
    candidate_bias: NDArray


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    units = params["weight_hh"].shape[-1]
    bias = params["bias_ih"].copy()
    bias[:, : 2 * units] += params["bias_hh"][:, : 2 * units]
    return Weights._make(
        [
            *both_ways(params["weight_hh"], params["weight_ih"]),
            bias,
            np.ascontiguousarray(params["bias_hh"][:, 2 * units :]),
        ]
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return gated.save(lead, sizes, dtype, coefficients=len(algebra.COEFFICIENTS))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return gated.saved_width(sizes, coefficients=len(algebra.COEFFICIENTS))


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: dz_r, dz_z, dm, dx_n."""
    return (algebra.GATES + 1) * sizes.hidden


@inlined_apart
def _gates(z, xn, before, h, coefficients):
    """One sequence's step: z (3H) with m last, xn (H), h_{t-1} -> h (H), coefficients (5, H)."""
    n = h.shape[0]
    for j in range(n):
        h[j], factors = _step(z[j], z[n + j], xn[j], z[2 * n + j], before[j])
        coefficients[0, j], coefficients[1, j], coefficients[2, j] = factors[:3]
        coefficients[3, j], coefficients[4, j] = factors[3:]


@inlined_apart
def _step_back(state, k, dz_hidden, dz_input):
    """One row's elementwise step: `state` (H) -> dz (3, H) of both products.

    What stays in `state` is the direct way back, through the update gate.
    """
    for j in range(state.shape[0]):
        reset, update, m, x, state[j] = _adjoint(
            state[j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j]
        )
        dz_hidden[0, j], dz_hidden[1, j], dz_hidden[2, j] = reset, update, m
        dz_input[0, j], dz_input[1, j], dz_input[2, j] = reset, update, x


@compiled
def _forward(weights, x, state, saved, size, scratch, begin, end):
    sequences = x.shape[2]
    groups = -(-sequences // size)
    weight, bias = weights.input, weights.bias
    hidden, coefficients = saved
    steps = x.shape[1]
    units = hidden.shape[3]
    gathered, z, xn, product = scratch
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
            for b in range(group):
                copy(z[here + b, 2 * units :], xn[b])
                copy(weights.candidate_bias[m], z[here + b, 2 * units :])
            left = ((m * (steps + 1) + s) * sequences + first) * units
            add_recurrent(product, m, left, group, here, s & 1)
            for b in range(group):
                before, after = hidden[m, s, first + b], hidden[m, s + 1, first + b]
                _gates(z[here + b], xn[b], before, after, coefficients[m, s, first + b])
        for b in range(first, last):
            copy(hidden[m, steps, b], state[m, b, 0])


def forward(weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
    """Run x (M, S, B, I) from `state` (M, B, 1, H), which is left at the segment's end."""
    gated.forward(_forward, weights, x, state, saved)


@compiled
def _backward(
    weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch, begin, end
):
    weight = weights.input_back
    width = weight.shape[1]
    coefficients = saved.coefficients
    units = saved.hidden.shape[3]
    dz, dz_input, dx, left, squares, readout, product = scratch
    gates = dz.reshape(dz.shape[0], algebra.GATES, units)
    gates_input = dz_input.reshape(dz.shape[0], algebra.GATES, units)
    sequences = saved.hidden.shape[2]
    for task in range(begin, end):
        here = rows_of(task, rows, live, size, sequences)
        m, first, count = here.network, here.first, here.many
        at, together = 0, steps_together(here) * count
        for s in range(span.hi - 1, span.lo - 1, -1):
            arrive(rows, grad, readout, span, s, trace, squares, here)
            for r in range(count):
                b = sequence_of(here, r)
                k, state = coefficients[m, s, b], rows.adjoint[m, first + r]
                _step_back(state, k, gates[at + r], gates_input[at + r])
                if loss_of(here, r) == 0:
                    announce(coefficients, m, s, b)
                    if left.shape[0] > 0:
                        copy(dz[at + r], left[:width])
                        copy(dz_input[at + r, 2 * units :], left[width:])
                    emit(emitted, m, s - span.lo, b, rows.exponent[m, first + r], left)
            out = m * rows.adjoint.shape[1] + first
            add_recurrent(product, m, at * width, count, out, s & 1)
            leave(rows, span, s, clip, trace, squares, here)
            at += count
            if at == together or s == span.lo:
                steps = at // count
                input_norms(weight[m], dz_input, rows, span, s, steps, trace, dx, here)
                at = 0


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


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest factor of one sequence's step back among those that no finite state makes zero:
    where it is all but zero, a gradient may have left the dtype's range."""
    del weights
    return gated.faintest(saved, algebra.NEVER_ZERO, m, step, b)


def _strips(weights: Weights) -> tuple[tuple[Strip, ...], tuple[Strip, ...]]:
    """Where a step's emitted numbers have the gradients of W_hh h + b_hh, and of W_ih x + b_ih."""
    units = weights.candidate_bias.shape[1]
    gates, last = algebra.GATES * units, (algebra.GATES - 1) * units
    return (Strip(0, 0, gates),), (Strip(0, 0, last), Strip(gates, last, units))


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

    x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
    carried sum, to the sums' scale.
    """
    hidden, inputs = _strips(weights)
    gated.add_strips(hidden, inputs, saved, x, span, emitted, factor, out)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    gated.project_strips(_strips(weights)[1], weights.input_back, emitted, out)
