"""The recurrent cells on the CPU: one loop over time forward, one back, for whatever a unit does.

A cell gives its step over units forward and back, each a compiled function, and how its parameters
are laid out; a kernel is made of each. PyTorch's Q gates are one matrix product each way. In some
gates, the last ones, the two products of a step do not simply add (the GRU's candidate, whose reset
gate multiplies the recurrent one alone): their input part is kept apart, so that E = Q + `apart`
pre-activations of a unit have gradients of their own.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu.chain import (
    TaskRows,
    finish_step,
    flat_rows,
    inject_losses,
    keep_gradient,
    loss_of,
    record_inputs,
    sequence_of,
)
from seqlab.kernels.cpu.linalg import (
    Strip,
    accumulate,
    add_product,
    add_strips,
    both_ways,
    columns_of,
    copy,
    fill,
    project_columns,
    project_strips,
    rows_of_steps,
)
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.team import (
    APART,
    Job,
    Pass,
    board_for,
    helpers_for,
    make_team,
    strips_of,
)
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.cpu.tile import prefetch
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace
from seqlab.kernels.memory import LINE, aligned, cleared

BLOCK = 16  # steps whose input is projected together
AHEAD = 4  # steps by which the coefficients are asked for on the way back
PANEL = 4  # rows that share one pass over the weights, at most


class Weights(NamedTuple):
    """`recurrent` (M, H, Q H) and `input` (M, I, Q H) for the way forward, `recurrent_back`
    (M, Q H, H) and `input_back` (M, Q H, I) for the way back. `bias` (M, Q H) joins both biases
    where they add; where the input part is apart it has that part's, and `apart_bias`
    (M, apart * H) the recurrent one's. `code` is the rnn's activation."""

    recurrent: NDArray
    input: NDArray
    recurrent_back: NDArray
    input_back: NDArray
    bias: NDArray
    apart_bias: NDArray
    code: int


class Saved(NamedTuple):
    """What a forward segment leaves: `hidden` (M, S+1, B, H), before its first step and after
    each, and the adjoint's `coefficients` (M, S, B, C, H)."""

    hidden: NDArray
    coefficients: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S+1, B, H), after one that comes before it."""
        return self.hidden


class ForwardScratch(NamedTuple):
    """`gathered` (BLOCK * g, I) and `z` (BLOCK * g, Q H) for a block of g sequences, `z_input`
    (g, apart * H) for one step's input part where it is apart; `board` is the team's."""

    gathered: NDArray
    z: NDArray
    z_input: NDArray
    board: NDArray


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
def _gather(x, m, step, first, count, gathered):
    """The input of up to BLOCK steps of `count` sequences from the first on, row by row.

    Always room for whole blocks: a row's bits must not depend on how many steps follow.
    """
    for s in range(min(BLOCK, x.shape[1] - step)):
        for b in range(count):
            copy(x[m, step + s, first + b], gathered[s * count + b])


@inlined_apart
def _set_apart(z, z_input, bias):
    """What a step's pre-activations z (J,) have of the input goes to z_input, and they begin with
    the recurrent bias."""
    for j in range(z.shape[0]):
        z_input[j] = z[j]
        z[j] = bias[j]


@inlined
def _add_recurrent(left, row, weight, out, to, job, begin, end):
    """A step's recurrent product, columns of strips `begin` to `end`: the job's rows of `left`
    (flat, of rows (K,)) from `row` on times weight (K, J) to those of `out` from `to` on."""
    depth = weight.shape[0]
    at, backwards = row * depth, job.step & 1
    add_strips(left, at, depth, 1, job.rows, weight, 0, depth, out, to, begin, end, backwards)


class Forward(NamedTuple):
    """What a forward step works on; `states` is `hidden` flat, which would take time at each."""

    weights: Weights
    state: NDArray
    hidden: NDArray
    coefficients: NDArray
    states: NDArray
    scratch: ForwardScratch


@inlined
def _forward(weights, state, saved, scratch):
    hidden, coefficients = saved
    return Forward(weights, state, hidden, coefficients, hidden.reshape(hidden.size), scratch)


def _make_forward(step: Callable[..., None], apart: int) -> Pass:
    @inlined
    def columns(on, job, part, parts):
        """Pre-activations of one step; of their input part a block's, at its first step."""
        gathered, z, z_input, _ = on.scratch
        m, weight = job.network, on.weights.recurrent[job.network]
        units, width = weight.shape
        begin, end = strips_of(weight, part, parts)
        if job.at == 0:
            count, bias = BLOCK * job.rows, on.weights.bias[m]
            project_columns(gathered, count, on.weights.input[m], bias, z, begin, end)
        if apart:
            joined = width - apart * units
            first, last = max(columns_of(weight, begin), joined), columns_of(weight, end)
            bias = on.weights.apart_bias[m, first - joined :]
            for r in range(job.rows):
                own = z_input[r, first - joined : last - joined]
                _set_apart(z[job.at + r, first:last], own, bias)
        steps, sequences = on.hidden.shape[1:3]
        before = (m * steps + job.step) * sequences + job.sequence
        _add_recurrent(on.states, before, weight, z, job.at, job, begin, end)

    @inlined
    def rows(on, job, begin, end, part):
        """States and coefficients."""
        m, s = job.network, job.step
        for r in range(begin, end):
            b = job.sequence + r
            before, after = on.hidden[m, s, b], on.hidden[m, s + 1, b]
            rest, k = on.state[m, b, 1:], on.coefficients[m, s, b]
            z, z_input = on.scratch.z[job.at + r], on.scratch.z_input[r]
            step(on.weights.code, z, z_input, before, after, rest, k)

    def kernel(do: Any) -> Any:
        @compiled
        def forward(weights, x, state, saved, size, scratch, begin, end):
            on = _forward(weights, state, saved, scratch)
            steps, sequences = x.shape[1:3]
            groups = -(-sequences // size)
            for index in range(begin, end):
                m, first = index // groups, index % groups * size
                group = min(size, sequences - first)
                for b in range(first, first + group):
                    copy(state[m, b, 0], on.hidden[m, 0, b])
                for s in range(steps):
                    at = s % BLOCK * group
                    if at == 0:
                        _gather(x, m, s, first, group, scratch.gathered)
                    do(on, scratch.board, Job(m, first, group, s, at, 0))
                for b in range(first, first + group):
                    copy(on.hidden[m, steps, b], state[m, b, 0])

        return forward

    alone, together, help_out = make_team(columns, rows)

    @compiled
    def help_forward(weights, x, state, saved, size, scratch):
        help_out(_forward(weights, state, saved, scratch), scratch.board)

    return Pass(kernel(alone), kernel(together), help_forward)


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
    if trace.exponent.shape[2] == 0:
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
    grad: NDArray
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
def _backward(weights, saved, rows, grad, span, clip, trace, emitted, scratch):
    dz, dz_input, units = scratch.dz, scratch.dz_input, saved.hidden.shape[3]
    shape = (dz.shape[0], dz.shape[1] // units, units)
    adjoints = rows.adjoint.reshape(rows.exponent.size, rows.adjoint.shape[2])
    return Backward(
        weights.recurrent_back,
        saved.coefficients,
        rows,
        adjoints,
        grad,
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


def _make_backward(step_back: Callable[..., None], apart: int) -> Pass:
    # A job's step is the one that ends there; the one before it begins.

    @inlined
    def columns(on, job, part, parts):
        """The way of a step's gradients back through the recurrent weights."""
        if job.step < on.span.hi:
            weight, losses = on.weight[job.network], on.rows.lag.shape[0]
            begin, end = strips_of(weight, part, parts)
            to = job.network * on.rows.adjoint.shape[1] + job.sequence * losses
            _add_recurrent(on.dz, job.at, weight, on.adjoints, to, job, begin, end)

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
        inject_losses(adjoints, on.grad, span, s, trace, squares, task, _add_to_hidden)
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
            weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch, begin, end
        ):
            on = _backward(weights, saved, rows, grad, span, clip, trace, emitted, scratch)
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
    def help_backward(weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch):
        on = _backward(weights, saved, rows, grad, span, clip, trace, emitted, scratch)
        help_out(on, scratch.board)

    return Pass(kernel(alone), kernel(together), help_backward)


def _group_size(sequences: int, weights: Weights) -> int:
    """Sequences a task takes: few are better spread over threads, unless the weights then come to
    each from beyond its L2 cache."""
    spread = sequences if weights.recurrent[0].nbytes >= SHAPES.large else sequences // 2
    return max(1, min(PANEL, spread))


class Recurrent:
    """The kernels of one recurrent cell, see any backend's cells.

    `gates` is Q and `coefficients` C, of which those in `never_zero` no finite state makes zero; of
    the last `apart` gates the input part is kept apart. Two functions that go into the kernels take
    one sequence's, or one row's, units through a step:

    `step(code, z, z_input, before, after, rest, k)` from z (Q H,), with z_input (apart * H,),
    h_{t-1} in `before` (H,) and the further parts of the state `rest` (P-1, H): writes h_t to
    `after` (H,), the further parts in place, and the adjoint's coefficients k (C, H);

    `step_back(dh, rest, k, dz, dz_input)` from the adjoint dh (H,) of h_t and that of the further
    parts, `rest` ((P-1) H,): leaves in both what goes back without the recurrent weights; writes
    dz (Q, H) of the recurrent product and, if any are apart, dz_input (Q, H) of the input's.
    """

    def __init__(
        self,
        gates: int,
        coefficients: int,
        never_zero: Sequence[int],
        step: Callable[..., None],
        step_back: Callable[..., None],
        apart: int = 0,
    ) -> None:
        self._gates, self._coefficients, self._never_zero = gates, coefficients, list(never_zero)
        self._apart = apart
        self._forward, self._backward = _make_forward(step, apart), _make_backward(step_back, apart)

    def prepare(self, params: dict[str, NDArray], activation: str | None) -> Weights:
        """Lay one ensemble's parameters out for the kernels."""
        del activation
        joined = (self._gates - self._apart) * params["weight_hh"].shape[2]
        bias, recurrent_bias = params["bias_ih"].copy(), params["bias_hh"]
        bias[:, :joined] += recurrent_bias[:, :joined]
        ways = both_ways(params["weight_hh"], params["weight_ih"])
        apart_bias = np.ascontiguousarray(recurrent_bias[:, joined:])
        return Weights._make([*ways, bias, apart_bias, 0])

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, steps, sequences)."""
        networks, steps, sequences = lead
        return Saved(
            aligned((networks, steps + 1, sequences, sizes.hidden), dtype),
            aligned((networks, steps, sequences, self._coefficients, sizes.hidden), dtype),
        )

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a forward step of one sequence saves."""
        return (self._coefficients + 1) * sizes.hidden

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a backward step leaves for the sums over time, E H."""
        return (self._gates + self._apart) * sizes.hidden

    def forward(self, weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
        """Run x (M, S, B, I) from `state` (M, B, P, H), which is left at the segment's end."""
        networks, _, sequences, inputs = x.shape
        units, width = weights.recurrent.shape[1:]
        size = _group_size(sequences, weights)
        tasks = networks * -(-sequences // size)
        helpers = helpers_for(weights.recurrent, size, tasks)

        def scratch() -> ForwardScratch:
            return ForwardScratch(
                cleared((BLOCK * size, inputs), x.dtype),  # rows past the end count for nothing
                aligned((BLOCK * size, width), x.dtype),
                aligned((size, self._apart * units), x.dtype),
                board_for(helpers),
            )

        share(self._forward.by(helpers), tasks, scratch, weights, x, state, saved, size)

    def backward(
        self,
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
        networks, sequences, losses, _, _ = bundle.adjoint.shape
        # The rows of a task share each pass over the weights: one sequence's losses, or, where each
        # has one loss, some sequences.
        size = _group_size(sequences, weights) if losses == 1 else 1
        width, inputs = weights.recurrent.shape[2], weights.input.shape[1]
        most, dtype = max(size * live, PANEL), bundle.adjoint.dtype
        rows, gradient = flat_rows(bundle, grad)
        tasks = networks * -(-sequences // size)
        helpers = helpers_for(weights.recurrent_back, size * live, tasks)

        def scratch() -> BackwardScratch:
            dz = aligned((most, width), dtype)
            return BackwardScratch(
                dz,
                aligned((most, width), dtype) if self._apart else dz,
                aligned((most, inputs), dtype),
                np.empty(APART * (1 + helpers)),
                board_for(helpers),
            )

        arrays = (weights, saved, rows, gradient, span, clip, trace, emitted)
        share(self._backward.by(helpers), tasks, scratch, *arrays, live, size)

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
        """The smallest factor of one sequence's step back among those that no finite state makes
        zero: where it is all but zero, a gradient may have left the dtype's range."""
        del weights
        return float(saved.coefficients[m, step, b, self._never_zero].min())

    def _input_strips(self, units: int) -> tuple[Strip, ...]:
        """Where a step's emitted numbers have the gradients of W_ih x + b_ih."""
        width, apart = self._gates * units, self._apart * units
        joined = Strip(0, 0, width - apart)
        return (joined, Strip(width, width - apart, apart)) if apart else (joined,)

    def add_gradients(
        self,
        weights: Weights,
        saved: Saved,
        x: NDArray,
        span: Span,
        emitted: Emitted,
        factor: NDArray,
        out: dict[str, NDArray],
    ) -> None:
        """Add one call's share to the four parameter gradients in `out`.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
        carried sum, to the sums' scale.
        """
        units, width = weights.recurrent.shape[1:]
        dz, sequences = rows_of_steps(emitted.values), x.shape[2]
        sides = (
            ("hh", (Strip(0, 0, width),), saved.hidden, span.lo),
            ("ih", self._input_strips(units), x, span.start + span.lo),
        )
        for side, strips, y, first in sides:
            weight, bias = out[f"weight_{side}"], out[f"bias_{side}"]
            for strip in strips:
                accumulate(dz, strip, factor, rows_of_steps(y), first * sequences, weight, bias)

    def input_gradient(self, weights: Weights, emitted: Emitted, out: NDArray) -> None:
        """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
        strips = self._input_strips(weights.recurrent.shape[1])
        project_strips(rows_of_steps(emitted.values), strips, weights.input_back, out)
