"""The passes of a recurrence that is linear and diagonal in its state, parallel over channels and
chunks of time; and its adjoint's way back, step by step, as rescaling and clip rules want it.

What comes after a chunk depends on it by where it ends from a state of zeros, and by a decay for
each channel and state. Three passes, forward and back alike: each chunk from zero (`ends`), the
chunks joined one after the other (`join`), each chunk again from its true beginning (`replay`). A
thread has one channel of one chunk, with all its states in registers.

Chunks are numbered with time outermost: chunk k of sequence b of network m is (k M + m) B + b, so
that any stretch of time is a range of numbers.
Source: the blocked parallel prefix of Blelloch 1990, with chunks in place of single steps.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from seqlab.kernels.cuda.call import Call, Kept, Piece
from seqlab.kernels.cuda.chain import Row, chain, task_row
from seqlab.kernels.cuda.linalg import real_type
from seqlab.kernels.cuda.target import (
    LANES,
    Array,
    block_size,
    cuda,
    device,
    empty,
    kernel,
    launch,
)
from seqlab.kernels.cuda.team import block

CHUNK = 64  # steps that a thread goes through one after the other, between kept states


@device
def _sum(first, second):
    return first + second


@device
def no_rate(given, m, n, d):
    """Of a cell of whose units nothing is the same at all steps."""
    return 0


class Law(NamedTuple):
    """What a cell says of its recurrence, as device functions that one thread calls by itself.

    `given` is the cell's own tuple of arrays, s the step and d the channel of sequence b of network
    m. `rate(given, m, n, d)` is what of state n is the same at all steps: (N,) of them go to
    registers. `time(given, m, s, b, d)` is how long a step lasts, in whatever measure; `decay(rate,
    time)` is what is left of a state after such a time; `then(time, time)` are two times, one after
    the other, and `no_time` lasts nothing. `step(given, rates, m, s, b, d, state)` takes the
    channel's state (N,) over a step, in place.
    """

    rate: Callable[..., Any]
    time: Callable[..., Any]
    decay: Callable[..., Any]
    step: Callable[..., Any]
    then: Callable[..., Any] = _sum
    no_time: float = 0.0


def pieces(count: int, wide: int) -> tuple[int, int]:
    """Blocks and threads for `count` things of `wide` entries, a thread for each entry: few things
    then fill all multiprocessors."""
    threads = block_size(wide)
    return count * -(-wide // threads), threads


@device
def piece_of(wide):
    """(thing, entry) of a thread of `pieces`; past the last entry a thread has none."""
    blocks = -(-wide // cuda.blockDim.x)
    return cuda.blockIdx.x // blocks, cuda.blockIdx.x % blocks * cuda.blockDim.x + cuda.threadIdx.x


@device
def place(number, starts, chunk, steps):
    """(network, chunk, sequence, first step, end) of a chunk of `starts` (M, K, B, N, H) by its
    number. One thread."""
    sequences = starts.shape[2]
    groups = starts.shape[0] * sequences
    # None is negative: said to the compiler, it saves a quarter of the registers.
    k, group = max(number // groups, 0), max(number % groups, 0)
    m, b = max(group // sequences, 0), max(group % sequences, 0)
    return m, k, b, k * chunk, min((k + 1) * chunk, steps)


@cache
def _ends(law: Law, real: type, states: int, chunk: int, backwards: bool) -> Any:
    rate, time, then, step = law.rate, law.time, law.then, law.step
    zero, no_time = real(0), real(law.no_time)

    @kernel
    def ends(given, steps, starts, passed):
        """Each chunk from a state of zeros: where it ends, to `starts`, and how long it lasts. A
        block has some channels of one chunk."""
        number, d = piece_of(starts.shape[4])
        m, k, b, first, last = place(number, starts, chunk, steps)
        if d < starts.shape[4]:
            state, rates = cuda.local.array(states, real), cuda.local.array(states, real)
            for n in range(states):
                state[n], rates[n] = zero, rate(given, m, n, d)
            total = no_time
            for i in range(last - first):
                total = then(total, time(given, m, first + i, b, d))  # the same on both ways
                s = last - 1 - i if backwards else first + i
                step(given, rates, m, s, b, d, state)
            for n in range(states):
                starts[m, k, b, n, d] = state[n]
            passed[m, k, b, d] = total

    return ends


@cache
def _join(law: Law, backwards: bool) -> Any:
    rate, decay = law.rate, law.decay

    @kernel
    def join(given, starts, passed, state):
        """From each chunk's own end to what it truly begins with, in place, from `state` on, which
        is left at the other end of time. A block has some states of one sequence."""
        _, chunks, sequences, states, units = starts.shape
        number, i = piece_of(states * units)
        m, b = number // sequences, number % sequences
        if i < states * units:
            n, d = i // units, i % units
            carried, a = state[m, b, n, d], rate(given, m, n, d)
            for step in range(chunks):
                k = chunks - 1 - step if backwards else step
                own = starts[m, k, b, n, d]
                starts[m, k, b, n, d] = carried
                carried = decay(a, passed[m, k, b, d]) * carried + own
            state[m, b, n, d] = carried

    return join


@cache
def _replay(
    rate: Callable[..., Any], record: Callable[..., Any], real: type, states: int, chunk: int
) -> Any:
    @kernel
    def replay(given, steps, starts, begin, out):
        """Each chunk from its true beginning, see the function `replay`. A block has some channels
        of one chunk."""
        slot, d = piece_of(starts.shape[4])
        m, k, b, first, last = place(begin + slot, starts, chunk, steps)
        if d < starts.shape[4]:
            state, rates = cuda.local.array(states, real), cuda.local.array(states, real)
            for n in range(states):
                state[n], rates[n] = starts[m, k, b, n, d], rate(given, m, n, d)
            for s in range(first, last):
                record(given, rates, out, slot, s - first, m, s, b, d, state)

    return replay


def join(
    law: Law, given: Any, steps: int, state: Array, starts: Array, backwards: bool = False
) -> None:
    """The first two passes: what each chunk of `steps` begins with, to `starts` (M, K, B, N, H).

    From `state` (M, B, N, H) on, which is left at the other end of time; `backwards` from the last
    step to the first.
    """
    networks, chunks, sequences, states, units = starts.shape
    real = real_type(starts)
    passed = empty((networks, chunks, sequences, units), real)
    ends = _ends(law, real, states, CHUNK, backwards)
    arrays = (given, steps, starts, passed)
    launch(ends, *pieces(networks * chunks * sequences, units), *arrays)
    shape = pieces(networks * sequences, states * units)
    launch(_join(law, backwards), *shape, given, starts, passed, state)


def replay(
    rate: Callable[..., Any],
    record: Callable[..., Any],
    given: Any,
    steps: int,
    starts: Array,
    numbers: range,
    out: Any,
) -> None:
    """The third pass, over the chunks of some numbers: `record` goes from step to step; `rate` as
    in Law.

    `record(given, rates, out, slot, i, m, s, b, d, state)` takes the channel's state (N,) over step
    s, the i-th of its chunk, which is the slot-th of `numbers`, and writes to `out` what it wants;
    one thread calls it by itself.
    """
    states, units = starts.shape[3:]
    function = _replay(rate, record, real_type(starts), states, CHUNK)
    arrays = (given, steps, starts, numbers.start, out)
    launch(function, *pieces(len(numbers), units), *arrays)


class Back(NamedTuple):
    """What a cell says of its adjoint's step back, as device functions that one thread calls by
    itself: `shared(given, m, s, b, d, state)` is what all entries of a channel's adjoint `state`
    (N, H) share, before any goes back; `carry(given, m, s, b, n, d, g, seen)` takes entry n back,
    g, with what was seen; and `loss_share`, see `chain`."""

    shared: Callable[..., Any]
    carry: Callable[..., Any]
    loss_share: Callable[..., Any]


@cache
def _back(cell: Back, real: type, named: int, states: int, threads: int) -> Any:
    team, warps = block(threads), threads // LANES
    rank, shared, carry = team.rank, cell.shared, cell.carry
    inject_losses, finish_step = chain(Row(team, named, real), cell.loss_share)

    @kernel
    def back(given, sequences, rows, loss, rule, piece, live, path, kept):
        """A block carries one row back through a piece's steps."""
        units = rows.adjoint.shape[2]
        each = max(sequences * live, 1)  # as in `place`: what is known of numbers saves registers
        m, index = max(cuda.blockIdx.x // each, 0), max(cuda.blockIdx.x % each, 0)
        at = task_row(m, index, sequences, live, kept.rows)
        scratch = cuda.shared.array(warps, real)
        state, exponent, fired = rows.adjoint[at.task], rows.exponent[at.task], 0
        lag = rows.lag[at.task]
        for s in range(piece.hi - 1, piece.lo - 1, -1):
            exponent = inject_losses(state, exponent, loss, given, s, at, path, scratch)
            if at.slot >= 0 and rank() == 0:
                kept.exponent[at.slot, s - piece.lo] = exponent
            for d in range(rank(), units, threads):
                seen = shared(given, m, s, at.sequence, d, state)
                for n in range(states):
                    g = state[n, d]
                    if at.slot >= 0:
                        kept.values[at.slot, s - piece.lo, n, d] = g
                    state[n, d] = carry(given, m, s, at.sequence, n, d, g, seen)
            exponent, acted = finish_step(state, exponent, lag, rule, s, at, path, scratch)
            fired += acted
        if rank() == 0:
            rows.exponent[at.task] = exponent
            rows.fired[at.task] += fired

    return back


def back(cell: Back, given: Any, call: Call, piece: Piece) -> Kept:
    """Carry a call's rows back through a piece's steps; their adjoints (N, H) at every step, before
    it is gone back over, where gradients are asked for."""
    networks, sequences, live = call.lead
    states, units = call.rows.adjoint.shape[1:]
    threads, kept = block_size(units), call.room(piece, states, units)
    function = _back(cell, real_type(call.rows.adjoint), call.named, states, threads)
    arrays = (given, sequences, call.rows, call.loss, call.rule, piece, live, call.path, kept)
    launch(function, networks * sequences * live, threads, *arrays)
    return kept
