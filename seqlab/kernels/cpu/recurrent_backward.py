"""The recurrent cells' way back: a step's gradients through the recurrent weights, then, row by
row, the end of that step and the beginning of the one before it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu.chain import (
    TaskRows,
    asks_for_inputs,
    finish_step,
    inject_losses,
    keep_gradient,
    loss_of,
    record_inputs,
    sequence_of,
)
from seqlab.kernels.cpu.linalg import add_product, fill
from seqlab.kernels.cpu.recurrent_forward import add_recurrent
from seqlab.kernels.cpu.team import APART, Job, Pass, make_team, strips_of
from seqlab.kernels.cpu.tile import prefetch
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace
from seqlab.kernels.memory import LINE

AHEAD = 4  # steps by which the coefficients are asked for
PANEL = 4  # rows that share one pass over the weights, at most


class BackwardScratch(NamedTuple):
    """For R rows, of one step or a few: `dz` and `dz_input` (R, Q H) of W_hh h and of W_ih x, one
    array where they do not differ, `dx` (R, I). Besides, `squares` (P,) for each of a team, on
    lines of their own; `board` is the team's."""

    dz: NDArray
    dz_input: NDArray
    dx: NDArray
    squares: NDArray
    board: NDArray


@inlined
def _add_to_hidden(state, gradient, factor):
    """The output is the first part of the state."""
    for j in range(gradient.shape[0]):
        state[j] += gradient[j] * factor


@inlined
def _prefetch_coefficients(coefficients, m, s, b):
    """Ask for the coefficients of a step soon to come: no hardware foresees the way back."""
    coming = coefficients[m, max(s - AHEAD, 0), b]
    for i in range(0, coming.size, LINE // coming.itemsize):
        prefetch(coming, i)


@inlined
def _steps_together(rows):
    """Steps whose input is projected back together when a task has few rows: one pass over the
    weights then serves them all."""
    return max(1, PANEL // rows)


@inlined
def _record_inputs(weight, dz, rows, span, step, steps, trace, dx, task):
    """Record the norms of dL/dx of the last `steps` steps, down to `step`.

    dz (steps * count, Q H) and dx (.., I) have the latest of them first.
    """
    if not asks_for_inputs(trace):
        return
    width, count = dz.shape[1], task.end
    for r in range(steps * count):
        fill(dx[r], 0)
    add_product(dz, 0, width, 1, steps * count, weight, 0, width, dx, 0)
    for i in range(steps):
        record_inputs(rows, span, step + steps - 1 - i, trace, dx, i * count, task)


@inlined
def _task_rows(rows, job, begin, end):
    """Rows `begin` to `end` of a job's."""
    losses = rows.lag.shape[0]
    return TaskRows(job.network, job.sequence * losses, begin, end, job.sequence, int(losses == 1))


class Backward(NamedTuple):
    """What a step back works on. Besides what the kernel is given: `adjoints` (M * R, P*H), `dz`
    flat, `gates` and `gates_input` (R, Q, H), other shapes that would take time at each, and P."""

    weight: NDArray
    coefficients: NDArray
    rows: Bundle
    adjoints: NDArray
    losses: Losses
    span: Span
    clip: Clip
    trace: Trace
    emitted: Emitted
    scratch: BackwardScratch
    dz: NDArray
    gates: NDArray
    gates_input: NDArray
    parts: int


@inlined
def _backward(weights, saved, rows, losses, span, clip, trace, emitted, scratch):
    dz, dz_input, units = scratch.dz, scratch.dz_input, saved.hidden.shape[3]
    shape = (dz.shape[0], dz.shape[1] // units, units)
    adjoints = rows.adjoint.reshape(rows.exponent.size, rows.adjoint.shape[2])
    return Backward(
        weights.recurrent_back,
        saved.coefficients,
        rows,
        adjoints,
        losses,
        span,
        clip,
        trace,
        emitted,
        scratch,
        dz.reshape(dz.size),
        dz.reshape(shape),
        dz_input.reshape(shape),
        adjoints.shape[1] // units,
    )


def make_backward(step_back: Callable[..., None], apart: int) -> Pass:
    """The kernels of a cell's `step_back`, see `Recurrent`."""

    # A job's step is the one that ends there; the one before it begins.

    @inlined
    def columns(on, job, part, parts):
        """The way of a step's gradients back through the recurrent weights."""
        if job.step < on.span.hi:
            weight, losses = on.weight[job.network], on.rows.lag.shape[0]
            begin, end = strips_of(weight, part, parts)
            to = job.network * on.rows.adjoint.shape[1] + job.sequence * losses
            add_recurrent(on.dz, job.at, weight, on.adjoints, to, job, begin, end)

    @inlined
    def rows(on, job, begin, end, part):
        """All else."""
        adjoints, trace, span, scratch = on.rows, on.trace, on.span, on.scratch
        task = _task_rows(adjoints, job, begin, end)
        squares = scratch.squares[part * APART : part * APART + on.parts]
        if job.step < span.hi:
            finish_step(adjoints, span, job.step, on.clip, trace, squares, task)
        if job.step == span.lo:
            return
        s, units, width = job.step - 1, on.gates.shape[2], scratch.dz.shape[1]
        inject_losses(adjoints, on.losses, span, s, trace, squares, task, _add_to_hidden)
        for r in range(begin, end):
            m, b, at = job.network, sequence_of(task, r), job.then + r
            state, k = adjoints.adjoint[m, task.first + r], on.coefficients[m, s, b]
            step_back(state[:units], state[units:], k, on.gates[at], on.gates_input[at])
            if loss_of(task, r) == 0:
                _prefetch_coefficients(on.coefficients, m, s, b)
                i, exponent = s - span.lo, adjoints.exponent[m, task.first + r]
                keep_gradient(on.emitted, m, i, b, exponent, scratch.dz[at], 0)
                if apart:
                    tail = scratch.dz_input[at, width - apart * units :]
                    keep_gradient(on.emitted, m, i, b, exponent, tail, width)

    def kernel(do: Any) -> Any:
        @compiled
        def backward(
            weights,
            saved,
            rows,
            losses,
            span,
            clip,
            trace,
            emitted,
            live,
            size,
            scratch,
            begin,
            end,
        ):
            on = _backward(weights, saved, rows, losses, span, clip, trace, emitted, scratch)
            sequences = saved.hidden.shape[2]
            groups = -(-sequences // size)
            of_input = scratch.dz_input if apart else scratch.dz
            for index in range(begin, end):
                m, sequence = index // groups, index % groups * size
                count = min(size, sequences - sequence) * live
                at, then, full = 0, 0, _steps_together(count) * count
                for s in range(span.hi, span.lo - 1, -1):
                    job = Job(m, sequence, count, s, at, then)
                    do(on, scratch.board, job)
                    at, then = then, then + count
                    if s > span.lo and (then == full or s == span.lo + 1):
                        weight, task = weights.input_back[m], _task_rows(rows, job, 0, count)
                        dx, steps = scratch.dx, then // count
                        _record_inputs(weight, of_input, rows, span, s - 1, steps, trace, dx, task)
                        then = 0

        return backward

    alone, together, help_out = make_team(columns, rows)

    @compiled
    def help_backward(
        weights, saved, rows, losses, span, clip, trace, emitted, live, size, scratch
    ):
        on = _backward(weights, saved, rows, losses, span, clip, trace, emitted, scratch)
        help_out(on, scratch.board)

    return Pass(kernel(alone), kernel(together), help_backward)
