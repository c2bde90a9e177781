"""Cells whose state is linear in itself, unit by unit, on the CPU: one loop over time forward, one
back.

No step asks for a matrix product with the state, so that all that a chunk of CHUNK steps takes from
its input is made at once. A cell of many states for each output keeps the state before every chunk,
and computes a chunk's states again from there on the way back, into scratch that fits the L2 cache.
Gradients that want the states at every step are summed on the way, in log scale. A cell gives the
rest, compiled functions of which its kernels are made; diagonal_units.py has them for cells of one
state a unit, which is their output.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu.chain import (
    TaskRows,
    asks_for_inputs,
    finish_step,
    flat_rows,
    inject_losses,
    is_zero,
    keep_gradient,
    power_of_two,
    record_inputs,
)
from seqlab.kernels.cpu.linalg import copy, fill
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.layout import EMPTY, Bundle, Clip, Emitted, Losses, Span, Trace
from seqlab.kernels.memory import aligned

CHUNK = SHAPES.chunk


class Scratch(NamedTuple):
    """For the way back: `total` (P, H) what some steps add to the gradient that is summed on the
    way; `squares` (P,); and the cell's own for a chunk."""

    total: NDArray
    squares: NDArray
    chunk: Any


def kept_shape(lead: tuple[int, int, int], parts: int, units: int) -> tuple[int, ...]:
    """(M, S/CHUNK, B, P, H): the state before every chunk of a segment of (networks, steps,
    sequences)."""
    networks, steps, sequences = lead
    return (networks, -(-steps // CHUNK), sequences, parts, units)


def kept_width(parts: int, units: int) -> int:
    """Numbers of it for a step of one sequence."""
    return -(-parts * units // CHUNK)


@inlined
def copy_state(source, target):
    """target = source, (P, H) each."""
    for p in range(target.shape[0]):
        copy(source[p], target[p])


@inlined
def _move_total(emitted, m, b, exponent, total):
    """Move what some steps, all at one exponent, have added to `total` (P, H) to the sum over all
    steps, which is kept in float64 at the largest exponent met so far."""
    if exponent == EMPTY:
        return
    carried, common = emitted.carried[m, b], emitted.carried_exponent[m, b]
    if exponent > common:
        shrink = power_of_two(common - exponent)
        for p in range(carried.shape[0]):
            for j in range(carried.shape[1]):
                carried[p, j] *= shrink
        emitted.carried_exponent[m, b] = common = exponent
    factor = power_of_two(exponent - common)
    for p in range(carried.shape[0]):
        for j in range(carried.shape[1]):
            carried[p, j] += total[p, j] * factor
            total[p, j] = 0


def _make_forward(run: Callable[..., None]) -> Any:
    @compiled
    def forward(weights, x, state, saved, chunk, begin, end):
        steps, sequences = x.shape[1:3]
        for index in range(begin, end):
            m, b = index // sequences, index % sequences
            h = state[m, b]
            for first in range(0, steps, CHUNK):
                run(weights, x, h, saved, chunk, m, b, first, min(CHUNK, steps - first))

    return forward


@inlined
def _all_is_ready(weights, saved, chunk, m, b, first, count):
    """The way back wants no more than what was saved."""


@inlined
def _no_total(adjoint, chunk, k, total):
    """No gradient wants the states at every step."""


@inlined
def _no_parameters(weights, gradient, factor, chunk, m, k, row):
    """The output is made of the state alone."""


@inlined
def _keep_dz(emitted, m, step, b, exponent, chunk):
    """All gradients follow from those of the input's projection."""
    keep_gradient(emitted, m, step, b, exponent, chunk.dz[0], 0)


class StepsBack(NamedTuple):
    """What a cell does on the way back, functions that go into the kernel.

    `chunk` is the cell's scratch, k the step's place in it, m and b the network and the sequence.
    """

    # (state, gradient, factor, weights, chunk, m, k): see `inject_losses`.
    add_output_gradient: Callable[..., None]
    # (weights, saved, adjoint, chunk, m, b, s, k, row): one row's adjoint (P, H) to the step
    # before; what it gives to all else stays in `chunk`.
    step_back: Callable[..., None]
    # (weights, chunk, m, live, recorded): from there to the input's projection, all rows at once,
    # and, if they are recorded, to the input, in `chunk.dx` (live, I).
    project_back: Callable[..., None]
    # (weights, saved, chunk, m, b, first, count): make ready what the way back over a chunk wants,
    # which begins with step `first` and of which `count` steps are gone back over at most.
    enter_chunk: Callable[..., None] = _all_is_ready
    # (adjoint, chunk, k, total): add a step's share to the gradient that is summed on the way,
    # (P, H) each.
    add_to_total: Callable[..., None] = _no_total
    # (weights, gradient, factor, chunk, m, k, row): add what a loss with `factor` times this
    # gradient of the output gives to all but the state.
    readout_back: Callable[..., None] = _no_parameters
    # (emitted, m, step, b, exponent, chunk): keep row 0's gradients for the sums over time.
    keep_gradients: Callable[..., None] = _keep_dz


def _make_backward(steps_back: StepsBack) -> Any:
    (
        add_output_gradient,
        step_back,
        project_back,
        enter_chunk,
        add_to_total,
        readout_back,
        keep_gradients,
    ) = steps_back

    @compiled
    def backward(
        weights, saved, bundle, rows, losses, span, clip, trace, emitted, live, scratch, begin, end
    ):
        total, squares, chunk = scratch
        sequences = bundle.exponent.shape[1]
        summed, recorded = emitted.values.shape[3] > 0, asks_for_inputs(trace)
        grad, given = losses
        for index in range(begin, end):
            m, b = index // sequences, index % sequences
            head = b * rows.lag.shape[0]
            task = TaskRows(m, head, 0, live, b, 0)
            current, common = -1, np.int64(EMPTY)
            for p in range(total.shape[0]):
                fill(total[p], 0)
            for s in range(span.hi - 1, span.lo - 1, -1):
                k, i = s % CHUNK, s - (span.hi - grad.shape[1])
                if s // CHUNK != current:
                    current = s // CHUNK
                    _move_total(emitted, m, b, common, total)
                    enter_chunk(weights, saved, chunk, m, b, current * CHUNK, k + 1)
                to_state = add_output_gradient
                inject_losses(
                    rows, losses, span, s, trace, squares, task, to_state, weights, chunk, m, k
                )
                exponent = rows.exponent[m, head]
                if summed:
                    if exponent != common:
                        _move_total(emitted, m, b, common, total)
                        common = exponent
                    if common != EMPTY:
                        add_to_total(bundle.adjoint[m, b, 0], chunk, k, total)
                for row in range(live):
                    step_back(weights, saved, bundle.adjoint[m, b, row], chunk, m, b, s, k, row)
                    if i >= 0 and not is_zero(grad[m, i, head + row]):
                        at = given[m, i, head + row] - rows.exponent[m, head + row]
                        factor = power_of_two(at)
                        factor = bundle.adjoint.dtype.type(factor)
                        readout_back(weights, grad[m, i, head + row], factor, chunk, m, k, row)
                project_back(weights, chunk, m, live, recorded)
                if summed:
                    keep_gradients(emitted, m, s - span.lo, b, exponent, chunk)
                if recorded:
                    record_inputs(rows, span, s, trace, chunk.dx, 0, task)
                finish_step(rows, span, s, clip, trace, squares, task)
            _move_total(emitted, m, b, common, total)

    return backward


class Diagonal:
    """The kernels of one such cell.

    `run(weights, x, h, saved, chunk, m, b, first, count)` takes h (P, H) through the steps of a
    chunk and leaves in `saved` what the way back wants.
    `forward_chunk(weights, dtype)` and `backward_chunk(weights, live, dtype)` make the cell's
    scratch for a chunk.
    """

    def __init__(
        self,
        run: Callable[..., None],
        steps_back: StepsBack,
        forward_chunk: Callable[..., Any],
        backward_chunk: Callable[..., Any],
    ) -> None:
        self._forward, self._backward = _make_forward(run), _make_backward(steps_back)
        self._forward_chunk, self._backward_chunk = forward_chunk, backward_chunk

    def forward(self, weights: Any, x: NDArray, state: NDArray, saved: Any) -> None:
        """Run x (M, S, B, I) from `state` (M, B, P, H), which is left at the segment's end."""

        def scratch() -> Any:
            return self._forward_chunk(weights, x.dtype)

        share(self._forward, x.shape[0] * x.shape[2], scratch, weights, x, state, saved)

    def backward(
        self,
        weights: Any,
        saved: Any,
        bundle: Bundle,
        losses: Losses,
        span: Span,
        clip: Clip,
        live: int,
        trace: Trace,
        emitted: Emitted,
    ) -> None:
        """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
        networks, sequences, _, parts, units = bundle.adjoint.shape
        dtype = bundle.adjoint.dtype

        def scratch() -> Scratch:
            return Scratch(
                aligned((parts, units), dtype),
                np.empty(parts),
                self._backward_chunk(weights, live, dtype),
            )

        rows, given = flat_rows(bundle, losses)
        arrays = (weights, saved, bundle, rows, given, span, clip, trace, emitted)
        share(self._backward, networks * sequences, scratch, *arrays, live)
