"""The states of the selective layer on a GPU, parallel over channels and chunks of time.

Forward in three passes: every chunk from a state of zeros; its true beginning, from chunk to chunk;
every chunk again from there. What every chunk begins with is kept, so that on the way back any
chunks' states are computed again side by side.
Source: the blocked parallel prefix of Blelloch 1990, with chunks in place of single steps.
"""

import math
from functools import cache
from typing import Any, NamedTuple

from seqlab.cells import ssm as algebra
from seqlab.kernels.cuda.linalg import real_type
from seqlab.kernels.cuda.math import sigmoid, softplus
from seqlab.kernels.cuda.target import Array, block_size, cuda, device, empty, kernel, launch

CHUNK = 64  # steps between kept states

_state = device(algebra.state)


class Inside(NamedTuple):
    """What the recurrence is made of, on the device: `u`, `delta` and its `slope` by the raw step
    (M, S, B, H), `mixed` (M, S, B, R+2N) = (dt, B, C), `a` (M, N, H) and `skip` (M, H)."""

    u: Array
    delta: Array
    slope: Array
    mixed: Array
    a: Array
    skip: Array


@device
def _place(index, kept, chunk, steps):
    """(network, chunk, sequence, first step, end) of a chunk by its number among all of `kept`."""
    chunks, sequences = kept.shape[1], kept.shape[2]
    m, k, b = index // (chunks * sequences), index // sequences % chunks, index % sequences
    return m, k, b, k * chunk, min((k + 1) * chunk, steps)


@device
def _next(inside, m, s, b, d, n, h):
    """Channel d's state n after step s, from the one before."""
    delta, low = inside.delta[m, s, b, d], inside.mixed.shape[3] - 2 * inside.a.shape[1]
    decay = math.exp(delta * inside.a[m, n, d])
    return _state(decay, h, delta * inside.u[m, s, b, d], inside.mixed[m, s, b, low + n])


@cache
def _ends(real: type, chunk: int) -> Any:
    zero = real(0)

    @kernel
    def ends(inside, kept, passed):
        """Each chunk from a state of zeros: where it ends, to `kept`, and its sum of steps."""
        m, k, b, first, last = _place(cuda.blockIdx.x, kept, chunk, inside.u.shape[1])
        for d in range(cuda.threadIdx.x, kept.shape[4], cuda.blockDim.x):
            total = zero
            for n in range(kept.shape[3]):
                kept[m, k, b, n, d] = zero
            for s in range(first, last):
                raw = inside.delta[m, s, b, d]
                delta = softplus(raw)
                inside.delta[m, s, b, d] = delta
                inside.slope[m, s, b, d] = sigmoid(raw)
                total += delta
                for n in range(kept.shape[3]):
                    kept[m, k, b, n, d] = _next(inside, m, s, b, d, n, kept[m, k, b, n, d])
            passed[m, k, b, d] = total

    return ends


@cache
def _join() -> Any:
    @kernel
    def join(inside, kept, passed, state):
        """From each chunk's own end to what it truly begins with; `state` at the segment's end."""
        m, b = cuda.blockIdx.x // kept.shape[2], cuda.blockIdx.x % kept.shape[2]
        units = kept.shape[4]
        for i in range(cuda.threadIdx.x, kept.shape[3] * units, cuda.blockDim.x):
            n, d = i // units, i % units
            carried = state[m, b, n, d]
            for k in range(kept.shape[1]):
                own = kept[m, k, b, n, d]
                kept[m, k, b, n, d] = carried
                carried = math.exp(passed[m, k, b, d] * inside.a[m, n, d]) * carried + own
            state[m, b, n, d] = carried

    return join


@cache
def _outputs(chunk: int) -> Any:
    @kernel
    def outputs(inside, kept, running, y):
        """Each chunk from its true beginning: the outputs; `running` is scratch like `kept`."""
        m, k, b, first, last = _place(cuda.blockIdx.x, kept, chunk, y.shape[1])
        states = kept.shape[3]
        shown = inside.mixed.shape[3] - states
        for d in range(cuda.threadIdx.x, y.shape[3], cuda.blockDim.x):
            for n in range(states):
                running[m, k, b, n, d] = kept[m, k, b, n, d]
            for s in range(first, last):
                total = inside.skip[m, d] * inside.u[m, s, b, d]
                for n in range(states):
                    h = _next(inside, m, s, b, d, n, running[m, k, b, n, d])
                    running[m, k, b, n, d] = h
                    total += inside.mixed[m, s, b, shown + n] * h
                y[m, s, b, d] = total

    return outputs


def run(inside: Inside, state: Array, y: Array, kept: Array) -> None:
    """Outputs y (M, S, B, H) from `state` (M, B, N, H), which is left at the segment's end.

    `inside.delta` has the raw steps and is left with the true ones; `kept` (M, S/CHUNK, B, N, H)
    is the state before every CHUNK steps.
    """
    networks, chunks, sequences, states, units = kept.shape
    real, blocks, threads = real_type(y), networks * chunks * sequences, block_size(units)
    passed = empty((networks, chunks, sequences, units), real)
    launch(_ends(real, CHUNK), blocks, threads, inside, kept, passed)
    join = (inside, kept, passed, state)
    launch(_join(), networks * sequences, block_size(states * units), *join)
    launch(_outputs(CHUNK), blocks, threads, inside, kept, empty(kept.shape, real), y)


@cache
def _again(chunk: int) -> Any:
    @kernel
    def again(inside, kept, chunks, first, path):
        """The states before each of the steps from `first` on, and after the last one."""
        group, k = cuda.blockIdx.x // chunks, cuda.blockIdx.x % chunks
        m, b = group // kept.shape[2], group % kept.shape[2]
        steps = path.shape[1] - 1
        for d in range(cuda.threadIdx.x, kept.shape[4], cuda.blockDim.x):
            for n in range(kept.shape[3]):
                h = kept[m, first // chunk + k, b, n, d]
                for i in range(k * chunk, min((k + 1) * chunk, steps)):
                    path[group, i, n, d] = h
                    h = _next(inside, m, first + i, b, d, n, h)
                if k == chunks - 1:
                    path[group, steps, n, d] = h

    return again


def again(inside: Inside, kept: Array, first: int, last: int) -> Array:
    """The states before steps `first` (a multiple of CHUNK) to `last`, (M B, steps + 1, N, H)."""
    networks, _, sequences, states, units = kept.shape
    groups, chunks = networks * sequences, -(-(last - first) // CHUNK)
    path = empty((groups, last - first + 1, states, units), real_type(kept))
    threads = block_size(units)
    launch(_again(CHUNK), groups * chunks, threads, inside, kept, chunks, first, path)
    return path
