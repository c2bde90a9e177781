"""The vanilla network on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import ACTIVATIONS, Sizes
from seqlab.cells import rnn as algebra
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

TANH, RELU, SIGMOID, IDENTITY = range(len(ACTIVATIONS))
_tanh, _relu, _sigmoid, _identity = algebra.make_activations(inlined, sigmoid_pair, tanh)


class Weights(NamedTuple):
    """`recurrent` (M, H, H) and `input` (M, I, H) for the way forward, `recurrent_back`
    (M, H, H) and `input_back` (M, H, I) for the way back, `bias` (M, H) the two together."""

    recurrent: NDArray
    input: NDArray
    recurrent_back: NDArray
    input_back: NDArray
    bias: NDArray
    activation: int


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    return Weights._make(
        [
            *both_ways(params["weight_hh"], params["weight_ih"]),
            params["bias_ih"] + params["bias_hh"],
            ACTIVATIONS.index(activation or "tanh"),
        ]
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    return gated.save(lead, sizes, dtype, coefficients=1)


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return gated.saved_width(sizes, coefficients=1)


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time."""
    return sizes.hidden


@inlined_apart
def _activate(activation, z, h, slope):
    """h = phi(z) and phi'(z), unit by unit."""
    if activation == TANH:
        for j in range(h.shape[0]):
            h[j], slope[j] = _tanh(z[j])
    elif activation == RELU:
        for j in range(h.shape[0]):
            h[j], slope[j] = _relu(z[j])
    elif activation == SIGMOID:
        for j in range(h.shape[0]):
            h[j], slope[j] = _sigmoid(z[j])
    else:
        for j in range(h.shape[0]):
            h[j], slope[j] = _identity(z[j])


@inlined_apart
def _step_back(state, slope, dz):
    """One row's elementwise step: `state` (H) -> dz (H); nothing goes to h but through it."""
    for j in range(state.shape[0]):
        dz[j] = state[j] * slope[j]
        state[j] = 0


@compiled
def _forward(weights, x, state, saved, size, scratch, begin, end):
    sequences = x.shape[2]
    groups = -(-sequences // size)
    weight, bias = weights.input, weights.bias
    hidden, slopes = saved
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
                after = hidden[m, s + 1, first + b]
                _activate(weights.activation, z[here + b], after, slopes[m, s, first + b, 0])
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
    slopes = saved.coefficients
    dz, _, dx, _, squares, readout, product = scratch
    sequences = saved.hidden.shape[2]
    for task in range(begin, end):
        here = rows_of(task, rows, live, size, sequences)
        m, first, count = here.network, here.first, here.many
        at, together = 0, steps_together(here) * count
        for s in range(span.hi - 1, span.lo - 1, -1):
            arrive(rows, grad, readout, span, s, trace, squares, here)
            for r in range(count):
                b = sequence_of(here, r)
                _step_back(rows.adjoint[m, first + r], slopes[m, s, b, 0], dz[at + r])
                if loss_of(here, r) == 0:
                    announce(slopes, m, s, b)
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


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
    """The smallest slope of one sequence's step, which no finite state makes zero: where it is all
    but zero, a gradient may have left the dtype's range. None for relu, whose zeros are true."""
    if weights.activation == RELU:
        return None
    return gated.faintest(saved, [0], m, step, b)
