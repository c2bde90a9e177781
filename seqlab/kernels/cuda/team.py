"""Threads that share one row, and how they combine a number of each.

All threads of a team must reach its `total` and `largest`: they exchange numbers there.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from seqlab.kernels.cuda.target import LANES, cuda, device


class Team(NamedTuple):
    """Threads that share a row. `rank()` is a thread's place among `size`; `total` and
    `largest` (scratch, value) combine a number of each thread, in an order that gives all of them
    the same bits. A block's scratch is shared memory, one number a warp; a warp needs none."""

    size: int
    rank: Callable[..., Any]
    total: Callable[..., Any]
    largest: Callable[..., Any]


@device
def _add(a, b):
    """One thread."""
    return a + b


@device
def larger(a, b):
    """The larger of two numbers; `a` if `b` is NaN. One thread."""
    return b if b > a else a


WHOLE_WARP = 0xFFFFFFFF


@cache
def warp() -> Team:
    """The threads of one warp."""

    @device
    def rank():
        return cuda.threadIdx.x % LANES

    def combining(join):
        @device
        def combined(scratch, value):
            """All threads of the warp."""
            distance = LANES // 2
            while distance > 0:
                value = join(value, cuda.shfl_xor_sync(WHOLE_WARP, value, distance))
                distance //= 2
            return value

        return combined

    return Team(LANES, rank, combining(_add), combining(larger))


@cache
def block(threads: int) -> Team:
    """The threads of one block."""
    warps = threads // LANES

    @device
    def rank():
        return cuda.threadIdx.x

    def combining(join, of_warp):
        @device
        def combined(scratch, value):
            """All threads of the block."""
            scratch[cuda.threadIdx.x // LANES] = of_warp(scratch, value)
            cuda.syncthreads()
            result = scratch[0]
            for other in range(1, warps):
                result = join(result, scratch[other])
            cuda.syncthreads()
            return result

        return combined

    one = warp()
    return Team(threads, rank, combining(_add, one.total), combining(larger, one.largest))
