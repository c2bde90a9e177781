"""What every cell's backward step shares on the device: injection, clip rules, rescaling.

A team of threads works on one row of the bundle, the adjoint `state` (P, H); each thread takes
every so-many-th unit, with all its parts. The numbers are those of kernels/cpu/chain.py, but
everything stays in the kernel's own precision: exponents are integers, thresholds come as
mantissa and exponent, and the host widens the squares.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from seqlab.kernels.cuda.target import LANES, cuda, device, ldexp
from seqlab.kernels.layout import EMPTY, NONE, STEP_NORM, TRUNCATE, Clip


class Team(NamedTuple):
    """Threads that share a row. `rank()` is a thread's place among `size`; `total` and
    `largest` (scratch, value) combine a number of each thread, in an order that gives all of them
    the same bits. A block's scratch is shared memory, one number a warp; a warp needs none."""

    size: int
    rank: Callable[..., Any]
    total: Callable[..., Any]
    largest: Callable[..., Any]


def rule(clip: Clip, real: type) -> Clip:
    """The rule in the kernel's precision."""
    return clip._replace(mantissa=real(clip.mantissa))


@device
def _add(a, b):
    return a + b


@device
def _larger(a, b):
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
            distance = LANES // 2
            while distance > 0:
                value = join(value, cuda.shfl_xor_sync(WHOLE_WARP, value, distance))
                distance //= 2
            return value

        return combined

    return Team(LANES, rank, combining(_add), combining(_larger))


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
            scratch[cuda.threadIdx.x // LANES] = of_warp(scratch, value)
            cuda.syncthreads()
            result = scratch[0]
            for other in range(1, warps):
                result = join(result, scratch[other])
            cuda.syncthreads()
            return result

        return combined

    one = warp()
    return Team(threads, rank, combining(_add, one.total), combining(_larger, one.largest))


class Chain(NamedTuple):
    """Device functions on one row, see `chain`."""

    inject: Callable[..., Any]
    normalise: Callable[..., Any]
    heard: Callable[..., Any]
    settle: Callable[..., Any]
    write: Callable[..., Any]


@cache
def chain(team: Team, head: int, real: type) -> Chain:
    """The functions for a team; squares are summed over parts before `head` and from it on.

    LOW and HIGH as on the CPU: wide enough to make rescaling rare, narrow enough that float32
    squares of what matters do not underflow.
    """
    zero, one, low, high = real(0), real(1), real(2.0**-60), real(2.0**60)
    rank, size, total, largest = team.rank, team.size, team.total, team.largest

    @device
    def squares(state, scratch):
        first, rest = zero, zero
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                square = state[p, j] * state[p, j]
                if p < head:
                    first += square
                else:
                    rest += square
        return total(scratch, first), total(scratch, rest)

    @device
    def shift(state, exponent):
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] = ldexp(state[p, j], exponent)

    @device
    def normalise(state, exponent, scratch):
        """Rescale a row if need be; returns its exponent and the squares of both halves."""
        first, rest = squares(state, scratch)
        if low < first + rest < high or math.isnan(first + rest):
            return exponent, first, rest
        peak = zero
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                peak = _larger(peak, abs(state[p, j]))
        peak = largest(scratch, peak)
        if peak == zero:
            return EMPTY, first, rest
        if not math.isfinite(peak):
            return exponent, first, rest
        up = math.frexp(peak)[1]
        shift(state, -up)
        first, rest = squares(state, scratch)
        return exponent + up, first, rest

    @device
    def inject(state, exponent, gradient, readout, scratch):
        """Add the loss's gradient of the output (H,) to a row.

        Returns the exponent, and whether there was anything to add.
        """
        peak = zero
        for j in range(rank(), state.shape[1], size):
            peak = _larger(peak, abs(gradient[j]))
        if largest(scratch, peak) == zero:
            return exponent, False
        if exponent < 0:
            shift(state, exponent)
            exponent = 0
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] += ldexp(gradient[j], -exponent) * readout[p]
        return exponent, True

    @device
    def heard(exponent, loud):
        """The exponent of a step's gradients: a loss that the state does not see may still reach
        the input."""
        return 0 if loud and exponent == EMPTY else exponent

    @device
    def clip_norm(state, exponent, first, rest, rule):
        norm = math.sqrt(first + rest)
        if not ldexp(norm, exponent - rule.exponent) > rule.mantissa:
            return exponent, first, rest, 0
        factor = rule.mantissa / norm
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] *= factor
        square = factor * factor
        return rule.exponent, first * square, rest * square, 1

    @device
    def clip_value(state, exponent, rule, scratch):
        if exponent > rule.exponent:  # what then overflows is above the limit
            shift(state, exponent - rule.exponent)
            exponent = rule.exponent
        limit, fired = ldexp(rule.mantissa, rule.exponent - exponent), zero
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                if state[p, j] > limit:
                    state[p, j], fired = limit, one
                elif state[p, j] < -limit:
                    state[p, j], fired = -limit, one
        acted = 1 if largest(scratch, fired) > zero else 0
        first, rest = squares(state, scratch)
        return exponent, first, rest, acted

    @device
    def settle(state, exponent, lag, rule, scratch):
        """Finish a row's step back to `lag`: rescale, apply the rule, sum the squares.

        Returns the exponent, the squares of both halves, and whether the rule acted (0 or 1).
        """
        exponent, first, rest = normalise(state, exponent, scratch)
        if rule.code == NONE or exponent == EMPTY:
            return exponent, first, rest, 0
        if rule.code == STEP_NORM:
            return clip_norm(state, exponent, first, rest, rule)
        if rule.code != TRUNCATE:
            return clip_value(state, exponent, rule, scratch)
        if lag < 2 or (lag - 1) % rule.steps != 0:
            return exponent, first, rest, 0
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] = zero
        return EMPTY, zero, zero, 1

    @device
    def write(path, task, at, exponent, first, rest):
        """Write a row down, by one thread of the team."""
        if rank() == 0:
            path.exponent[task, at] = exponent
            path.squares[task, at, 0] = first
            path.squares[task, at, 1] = rest

    return Chain(inject, normalise, heard, settle, write)
