"""The recurrent cells' pass forward: pre-activations by products, states by whatever a unit does.

In a team each thread has some columns of the products, then some rows of all else.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu.linalg import add_strips, columns_of, copy, project_columns
from seqlab.kernels.cpu.team import Job, Pass, make_team, strips_of

BLOCK = 16  # steps whose input is projected together


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
def add_recurrent(left, row, weight, out, to, job, begin, end):
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


def make_forward(step: Callable[..., None], apart: int) -> Pass:
    """The kernels of a cell's `step`, see `Recurrent`."""

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
        add_recurrent(on.states, before, weight, z, job.at, job, begin, end)

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
