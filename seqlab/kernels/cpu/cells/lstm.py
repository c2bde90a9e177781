"""The LSTM on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import lstm as algebra
from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu import gated
from seqlab.kernels.cpu.chain import arrive, emit, leave, loss_of, sequence_of
from seqlab.kernels.cpu.gated import (
    BLOCK,
    Saved,
    add_gradients,
    announce,
    both_ways,
    input_gradient,
    input_norms,
    project_block,
    rows_of,
    steps_together,
)
from seqlab.kernels.cpu.linalg import copy
from seqlab.kernels.cpu.math import sigmoid_pair, tanh
from seqlab.kernels.cpu.team import add_recurrent
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

__all__ = ["add_gradients", "input_gradient"]

_step = algebra.make_step(inlined, sigmoid_pair, tanh)
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
    return Weights._make(
        [
            *both_ways(params["weight_hh"], params["weight_ih"]),
            params["bias_ih"] + params["bias_hh"],
        ]
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


@inlined_apart
def _gates(z, c, h, coefficients):
    """One sequence's step: c (H) in place, h (H) and the coefficients (6, H) written."""
    n = h.shape[0]
    for j in range(n):
        h[j], c[j], factors = _step(z[j], z[n + j], z[2 * n + j], z[3 * n + j], c[j])
        coefficients[0, j], coefficients[1, j], coefficients[2, j] = factors[:3]
        coefficients[3, j], coefficients[4, j], coefficients[5, j] = factors[3:]


@inlined_apart
def _step_back(dh, dc, k, dz):
    """One row's elementwise step: dL/dh_t and dL/dc_t (H) -> dz (4, H).

    What stays in dh and dc is the direct way back: nothing to h, the carry to c.
    """
    for j in range(dh.shape[0]):
        dz[0, j], dz[1, j], dz[2, j], dz[3, j], dc[j] = _adjoint(
            dh[j], dc[j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]
        )
        dh[j] = 0


@compiled
def _forward(weights, x, state, saved, size, scratch, begin, end):
    sequences = x.shape[2]
    groups = -(-sequences // size)
    weight, bias = weights.input, weights.bias
    hidden, coefficients = saved
    steps = x.shape[1]
    units = hidden.shape[3]
    gathered, z, _, product = scratch
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
            left = ((m * (steps + 1) + s) * sequences + first) * units
            add_recurrent(product, m, left, group, here, s & 1)
            for b in range(group):
                after, k = hidden[m, s + 1, first + b], coefficients[m, s, first + b]
                _gates(z[here + b], state[m, first + b, 1], after, k)
        for b in range(first, last):
            copy(hidden[m, steps, b], state[m, b, 0])


def forward(weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
    """Run x (M, S, B, I) from `state` (M, B, 2, H), which is left at the segment's end."""
    gated.forward(_forward, weights, x, state, saved)


@compiled
def _backward(
    weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch, begin, end
):
    weight = weights.input_back
    width = weight.shape[1]
    coefficients = saved.coefficients
    units = saved.hidden.shape[3]
    dz, _, dx, _, squares, readout, product = scratch
    gates = dz.reshape(dz.shape[0], algebra.GATES, units)
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
                _step_back(state[:units], state[units:], k, gates[at + r])
                if loss_of(here, r) == 0:
                    announce(coefficients, m, s, b)
                    emit(emitted, m, s - span.lo, b, rows.exponent[m, first + r], dz[at + r])
            out = m * rows.adjoint.shape[1] + first
            add_recurrent(product, m, at * width, count, out, s & 1)
            leave(rows, span, s, clip, trace, squares, here)
            at += count
            if at == together or s == span.lo:
                steps = at // count
                input_norms(weight[m], dz, rows, span, s, steps, trace, dx, here)
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
