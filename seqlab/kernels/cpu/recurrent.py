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
from seqlab.kernels._jit import compiled, inlined
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
    both_ways,
    copy,
    fill,
    project,
    project_strips,
    rows_of_steps,
)
from seqlab.kernels.cpu.team import (
    Product,
    add_recurrent,
    helpers_for,
    recurrent_product,
    with_helpers,
)
from seqlab.kernels.cpu.threads import group_size, groups, share
from seqlab.kernels.cpu.tile import prefetch
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace
from seqlab.kernels.memory import LINE, aligned, cleared

BLOCK = 16  # steps whose input is projected together
AHEAD = 4  # steps by which the coefficients are asked for on the way back
PANEL = 4  # rows that share one pass over the weights


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
    (g, apart * H) for one step's input part where it is apart; `product` adds W_hh h to z."""

    gathered: NDArray
    z: NDArray
    z_input: NDArray
    product: Product


class BackwardScratch(NamedTuple):
    """For R rows, of one step or a few: `dz` and `dz_input` (R, Q H) of W_hh h and of W_ih x where
    they differ, `dx` (R, I). Besides, `squares` (P,); `product` adds dz W_hh to the adjoint."""

    dz: NDArray
    dz_input: NDArray
    dx: NDArray
    squares: NDArray
    product: Product


@inlined
def _project_block(x, m, step, first, last, weight, bias, gathered, out):
    """Project the input of up to BLOCK steps of sequences first..last: out (BLOCK * g, J).

    Always whole blocks: a row's bits must not depend on how many steps follow.
    """
    steps = min(BLOCK, x.shape[1] - step)
    group = last - first
    for s in range(steps):
        for b in range(group):
            copy(x[m, step + s, first + b], gathered[s * group + b])
    project(gathered, BLOCK * group, weight, bias, out)


def _make_forward(step: Callable[..., None], apart: int) -> Any:
    @compiled
    def forward(weights, x, state, saved, size, scratch, begin, end):
        steps, sequences = x.shape[1:3]
        groups = -(-sequences // size)
        weight, bias = weights.input, weights.bias
        hidden, coefficients = saved
        units = hidden.shape[3]
        gathered, z, z_input, product = scratch
        joined = z.shape[1] - apart * units  # columns of z where both products add
        for index in range(begin, end):
            m, first = index // groups, index % groups * size
            last = min(first + size, sequences)
            group = last - first
            for b in range(first, last):
                copy(state[m, b, 0], hidden[m, 0, b])
            for s in range(steps):
                if s % BLOCK == 0:
                    _project_block(x, m, s, first, last, weight[m], bias[m], gathered, z)
                row = s % BLOCK * group
                if apart:
                    for b in range(group):
                        copy(z[row + b, joined:], z_input[b])
                        copy(weights.apart_bias[m], z[row + b, joined:])
                left = ((m * (steps + 1) + s) * sequences + first) * units
                add_recurrent(product, m, left, group, row, s & 1)
                for b in range(group):
                    before, after = hidden[m, s, first + b], hidden[m, s + 1, first + b]
                    rest, k = state[m, first + b, 1:], coefficients[m, s, first + b]
                    step(weights.code, z[row + b], z_input[b], before, after, rest, k)
            for b in range(first, last):
                copy(hidden[m, steps, b], state[m, b, 0])

    return forward


@inlined
def _task_rows(index, rows, live, size, sequences):
    """A task's rows: `live` losses each of `size` sequences."""
    losses = rows.lag.shape[0]
    groups = -(-sequences // size)
    sequence = index % groups * size
    count = min(size, sequences - sequence) * live
    return TaskRows(index // groups, sequence * losses, count, sequence, int(losses == 1))


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
def _steps_together(task):
    """Steps whose input is projected back together when a task has few rows: one pass over the
    weights then serves them all."""
    return max(1, PANEL // task.size)


@inlined
def _record_inputs(weight, dz, rows, span, step, steps, trace, dx, task):
    """Record the norms of dL/dx of the last `steps` steps, down to `step`.

    dz (steps * count, Q H) and dx (.., I) have the latest of them first.
    """
    if trace.exponent.shape[2] == 0:
        return
    width = dz.shape[1]
    for r in range(steps * task.size):
        fill(dx[r], 0)
    add_product(dz, 0, width, 1, steps * task.size, weight, 0, width, dx, 0)
    for i in range(steps):
        record_inputs(rows, span, step + steps - 1 - i, trace, dx, i * task.size, task)


def _make_backward(step_back: Callable[..., None], apart: int) -> Any:
    @compiled
    def backward(
        weights, saved, rows, grad, span, clip, trace, emitted, live, size, scratch, begin, end
    ):
        weight = weights.input_back
        width = weight.shape[1]
        coefficients = saved.coefficients
        sequences, units = saved.hidden.shape[2:]
        dz, dz_input, dx, squares, product = scratch
        gates = dz.reshape(dz.shape[0], width // units, units)
        gates_input = dz_input.reshape(dz.shape[0], width // units, units)
        for index in range(begin, end):
            task = _task_rows(index, rows, live, size, sequences)
            m, first, count = task.network, task.first, task.size
            at, together = 0, _steps_together(task) * count
            for s in range(span.hi - 1, span.lo - 1, -1):
                inject_losses(rows, grad, span, s, trace, squares, task, _add_to_hidden)
                for r in range(count):
                    b, state = sequence_of(task, r), rows.adjoint[m, first + r]
                    hidden, rest, k = state[:units], state[units:], coefficients[m, s, b]
                    step_back(hidden, rest, k, gates[at + r], gates_input[at + r])
                    if loss_of(task, r) == 0:
                        _prefetch_coefficients(coefficients, m, s, b)
                        i, exponent = s - span.lo, rows.exponent[m, first + r]
                        keep_gradient(emitted, m, i, b, exponent, dz[at + r], 0)
                        if apart:
                            tail = dz_input[at + r, width - apart * units :]
                            keep_gradient(emitted, m, i, b, exponent, tail, width)
                out = m * rows.adjoint.shape[1] + first
                add_recurrent(product, m, at * width, count, out, s & 1)
                finish_step(rows, span, s, clip, trace, squares, task)
                at += count
                if at == together or s == span.lo:
                    of_input = dz_input if apart else dz
                    steps = at // count
                    _record_inputs(weight[m], of_input, rows, span, s, steps, trace, dx, task)
                    at = 0

    return backward


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
        size = group_size(sequences)
        tasks = networks * groups(sequences)
        helpers = helpers_for(weights.recurrent, size, tasks)

        def scratch() -> ForwardScratch:
            z = aligned((BLOCK * size, width), x.dtype)
            return ForwardScratch(
                cleared((BLOCK * size, inputs), x.dtype),  # rows past the end count for nothing
                z,
                aligned((size, self._apart * units), x.dtype),
                recurrent_product(saved.hidden, weights.recurrent, z, helpers),
            )

        kernel = with_helpers(self._forward, helpers)
        share(kernel, tasks, scratch, weights, x, state, saved, size)

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
        networks, sequences, losses, parts, _ = bundle.adjoint.shape
        # The rows of a task share each pass over the weights: one sequence's losses, or, where each
        # has one loss, some sequences.
        size = group_size(sequences) if losses == 1 else 1
        width, inputs = weights.recurrent.shape[2], weights.input.shape[1]
        most, dtype = max(size * live, PANEL), bundle.adjoint.dtype
        rows, gradient = flat_rows(bundle, grad)
        tasks = networks * -(-sequences // size)
        helpers = helpers_for(weights.recurrent_back, size * live, tasks)

        def scratch() -> BackwardScratch:
            dz = aligned((most, width), dtype)
            return BackwardScratch(
                dz,
                aligned((most, width), dtype),
                aligned((most, inputs), dtype),
                np.empty(parts),
                recurrent_product(dz, weights.recurrent_back, rows.adjoint, helpers),
            )

        arrays = (weights, saved, rows, gradient, span, clip, trace, emitted)
        share(with_helpers(self._backward, helpers), tasks, scratch, *arrays, live, size)

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
