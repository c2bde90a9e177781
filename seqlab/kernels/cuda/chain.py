"""What every cell's backward step shares on the device: injection, clip rules, rescaling.

A team of threads works on one row of the bundle, the adjoint `state` (P, H); each thread takes
every so-many-th unit, with all its parts. The numbers are those of kernels/cpu/chain.py, but
everything stays in the kernel's own precision: exponents are integers, thresholds come as
mantissa and exponent, and the host widens the squares.

All threads of a row's team must reach each function here that does not say otherwise: they exchange
numbers, and all of them are given the same answer. `scratch` is the team's. `squares` (named,) is
where its first thread writes down the sum of squares of each part of the state that has a name, of
which the last takes all that follow.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from seqlab.kernels.cuda.target import cuda, device, ldexp
from seqlab.kernels.cuda.team import Team, larger
from seqlab.kernels.layout import EMPTY, NONE, STEP_NORM, STEP_VALUE, TRUNCATE, Clip

# As on the CPU: wide enough to make rescaling rare, narrow enough that float32 squares of what
# matters do not underflow.
LOW, HIGH = 2.0**-60, 2.0**60


def rule(clip: Clip, real: type) -> Clip:
    """The rule in the kernel's precision."""
    return clip._replace(mantissa=real(clip.mantissa))


class Row(NamedTuple):
    """What the functions on a row are compiled for: the threads that share it, how many parts of
    its state have a name, and the precision."""

    team: Team
    named: int
    real: type


class TaskRow(NamedTuple):
    """Which row a team has: its `task` number among all live rows, its network and sequence, and
    the `slot` where its gradients are kept, -1 if they are not."""

    task: int
    network: int
    sequence: int
    slot: int


@device
def task_row(network, index, sequences, live, kept):
    """Row `index` of a network's `sequences` times `live` rows, of which the first `kept` of each
    sequence keep their gradients. One thread."""
    sequence, row = index // live, index % live
    group = network * sequences + sequence
    slot = group * kept + row if row < kept else -1
    return TaskRow(group * live + row, network, sequence, slot)


@cache
def _fill(row: Row) -> Any:
    rank, size = row.team.rank, row.team.size

    @device
    def fill(state, squares, value):
        """Make every entry of `state` zero or NaN, and each part's sum of squares with it."""
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] = value
        if rank() == 0:
            for q in range(squares.shape[0]):
                squares[q] = value

    return fill


@cache
def _shift(row: Row) -> Any:
    rank, size = row.team.rank, row.team.size

    @device
    def shift(state, exponent):
        """state *= 2^exponent."""
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] = ldexp(state[p, j], exponent)

    return shift


@cache
def _measure(row: Row) -> Any:
    rank, size, total = row.team.rank, row.team.size, row.team.total
    named, zero, real = row.named, row.real(0), row.real

    @device
    def measure(state, squares, scratch):
        """Write down each named part's sum of squares; returns that of all parts."""
        sums = cuda.local.array(named, real)  # stays in registers: no index depends on data
        for q in range(named):
            sums[q] = zero
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                for q in range(named):
                    if p == q or (p > q and q == named - 1):
                        sums[q] += state[p, j] * state[p, j]
        whole = zero
        for q in range(named):
            sums[q] = total(scratch, sums[q])
            whole += sums[q]
        if rank() == 0:
            for q in range(named):
                squares[q] = sums[q]
        return whole

    return measure


@cache
def _rescale(row: Row) -> Any:
    rank, size, largest = row.team.rank, row.team.size, row.team.largest
    shift, zero = _shift(row), row.real(0)

    @device
    def rescale(state, exponent, scratch):
        """Bring the largest entry of `state`, which has no NaN, into [1/2, 1); returns the new
        exponent."""
        peak = zero
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                peak = larger(peak, abs(state[p, j]))
        peak = largest(scratch, peak)
        if peak == zero:
            return EMPTY
        if not math.isfinite(peak):
            return exponent
        up = math.frexp(peak)[1]
        shift(state, -up)
        return exponent + up

    return rescale


@cache
def _normalise(row: Row) -> Any:
    measure, rescale = _measure(row), _rescale(row)
    low, high = row.real(LOW), row.real(HIGH)

    @device
    def normalise(state, exponent, squares, scratch):
        """Rescale `state` if need be, write down its parts' sums of squares.

        Returns the exponent, EMPTY for the zero vector, and the sum of squares of all parts. NaN
        stays where it is.
        """
        whole = measure(state, squares, scratch)
        if low < whole < high or math.isnan(whole):
            return exponent, whole
        exponent = rescale(state, exponent, scratch)
        return exponent, measure(state, squares, scratch)

    return normalise


@cache
def _is_zero(row: Row) -> Any:
    rank, size, largest = row.team.rank, row.team.size, row.team.largest
    zero, one = row.real(0), row.real(1)

    @device
    def is_zero(gradient, scratch):
        """Whether a loss gradient is all zero: then nothing is injected and no scale is lost."""
        other = zero
        for j in range(rank(), gradient.shape[0], size):
            if gradient[j] != zero:
                other = one
        return largest(scratch, other) == zero

    return is_zero


@cache
def _inject(row: Row, loss_share: Callable[..., Any]) -> Any:
    rank, size, shift = row.team.rank, row.team.size, _shift(row)

    @device
    def inject(state, exponent, gradient, least, given, step, at):
        """Add the loss's gradient of the output, times 2^least, to `state`; returns the
        exponent."""
        if exponent < least:
            shift(state, exponent - least)
            exponent = least
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] += loss_share(p, j, gradient, exponent - least, given, step, at)
        return exponent

    return inject


@cache
def _clip_norm(row: Row) -> Any:
    rank, size = row.team.rank, row.team.size

    @device
    def clip_norm(state, exponent, rule, squares, whole):
        norm = math.sqrt(whole)
        if not ldexp(norm, exponent - rule.exponent) > rule.mantissa:
            return exponent, 0
        factor = rule.mantissa / norm
        for j in range(rank(), state.shape[1], size):
            for p in range(state.shape[0]):
                state[p, j] *= factor
        if rank() == 0:
            for q in range(squares.shape[0]):
                squares[q] *= factor * factor
        return rule.exponent, 1

    return clip_norm


@cache
def _clip_value(row: Row) -> Any:
    rank, size, largest = row.team.rank, row.team.size, row.team.largest
    shift, measure = _shift(row), _measure(row)
    zero, one = row.real(0), row.real(1)

    @device
    def clip_value(state, exponent, rule, squares, scratch):
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
        measure(state, squares, scratch)
        return exponent, acted

    return clip_value


@cache
def _rescale_and_clip(row: Row) -> Any:
    normalise, fill = _normalise(row), _fill(row)
    clip_norm, clip_value = _clip_norm(row), _clip_value(row)
    zero, nan = row.real(0), row.real(math.nan)

    @device
    def rescale_and_clip(state, exponent, lag, rule, squares, scratch):
        """Finish a row's step back to `lag`: rescale, apply the rule, write down the squares.

        Returns the exponent and whether the rule acted (0 or 1). The row then has the threshold's
        own exponent: in another one it might underflow.
        """
        exponent, whole = normalise(state, exponent, squares, scratch)
        if rule.code == NONE or exponent == EMPTY:
            return exponent, 0
        if rule.code == STEP_NORM:
            return clip_norm(state, exponent, rule, squares, whole)
        if rule.code == STEP_VALUE:
            return clip_value(state, exponent, rule, squares, scratch)
        if rule.code == TRUNCATE:
            if lag < 2 or (lag - 1) % rule.steps != 0:
                return exponent, 0
            fill(state, squares, zero)
            return EMPTY, 1
        fill(state, squares, nan)  # a code that no branch knows must be seen
        return exponent, 0

    return rescale_and_clip


class Chain(NamedTuple):
    """What a kernel calls before and after each step back of a row, see `chain`."""

    inject_losses: Callable[..., Any]
    finish_step: Callable[..., Any]


@cache
def chain(row: Row, loss_share: Callable[..., Any]) -> Chain:
    """A row's functions before and after a step back.

    `loss_share(p, j, gradient, exponent, given, step, at)` is the cell's own: what the gradient of
    the output at `step`, (H,), gives to part p of unit j of the state, times 2^-exponent; `given`
    is what the kernel has of the cell, `at` the row's TaskRow. One thread calls it, a different one
    for each unit.
    """
    is_zero, inject, normalise = _is_zero(row), _inject(row, loss_share), _normalise(row)
    rescale_and_clip, rank = _rescale_and_clip(row), row.team.rank

    @device
    def inject_losses(state, exponent, loss, given, step, at, path, scratch):
        """Before a step back, add what the loss gives at it to a row; returns its exponent.

        What a call begins with is written down here, every later lag by `finish_step`.
        """
        done = path.top - step
        if step < loss.first and done > 1:
            return exponent
        has_loss = False
        if step >= loss.first:
            gradient = loss.gradient[at.task, step - loss.first]
            has_loss = not is_zero(gradient, scratch)
            if has_loss:
                least = loss.exponent[at.task, step - loss.first]
                exponent = inject(state, exponent, gradient, least, given, step, at)
        # Of a later one this goes where `finish_step` writes soon; a branch would cost registers.
        lag = done * min(done - 1, 1)
        exponent, _ = normalise(state, exponent, path.squares[at.task, lag], scratch)
        if has_loss and exponent == EMPTY:
            # A loss that the state does not see may still reach the input.
            exponent = loss.exponent[at.task, step - loss.first]
        if rank() == 0:
            path.exponent[at.task, lag] = exponent
        return exponent

    @device
    def finish_step(state, exponent, lag, rule, step, at, path, scratch):
        """After a step back, rescale, clip and write down a row, whose call began at `lag`.

        Returns its exponent and whether the rule acted (0 or 1).
        """
        done = path.top - step
        squares = path.squares[at.task, done]
        exponent, acted = rescale_and_clip(state, exponent, lag + done, rule, squares, scratch)
        if rank() == 0:
            path.exponent[at.task, done] = exponent
        return exponent, acted

    return Chain(inject_losses, finish_step)
