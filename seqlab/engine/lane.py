"""One level's share of the way back over a tape."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.sums import Sums
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import memory
from seqlab.kernels.contract import Array, Saved
from seqlab.kernels.layout import (
    EMPTY,
    TRUNCATE,
    Bundle,
    Clip,
    Emitted,
    Losses,
    Span,
    Trace,
)

REUSED_POINTS = 1 << 19  # of records; kept for later, long ones would be most of what a run holds


def faint(dtype: np.dtype) -> float:
    """A factor under which products with a direction's entries and usual weights may underflow."""
    return float(np.finfo(dtype).smallest_normal * 2.0**60)


def _room_for_records(
    lead: tuple[int, int, int], points: NDArray, parts: int, dtype: np.dtype
) -> Trace:
    """A trace of (networks, sequences, losses) that has `points` (L,) and as many named parts, and
    keeps no dL/dx, which would be of that dtype: with another one kernels were compiled twice."""
    recorded = (*lead[:2], int(points.sum()))
    full = memory.full if math.prod(recorded) < REUSED_POINTS else np.full
    networks, sequences, losses = lead
    return Trace(
        full((*lead[:2], parts, recorded[2]), 0.0, np.float64),
        full(recorded, np.nan, np.float64),
        full(recorded, 0, np.int64),
        np.cumsum(points) - points,
        np.zeros(lead, np.int64),
        np.zeros((networks, 0, sequences, losses, 0), dtype),
        np.zeros((networks, 0, sequences, losses), np.int64),
    )


def _emitted(values: Any, parts: tuple[int, ...]) -> Emitted:
    """Room for what a call leaves in `values` (M, n, B, E) and for a sum of as many parts."""
    lead = values.shape[:3]
    carried = np.zeros((lead[0], lead[2], *parts))
    return Emitted(values, np.full(lead, EMPTY), carried, np.full((lead[0], lead[2]), EMPTY))


class Lane:
    """One level's rows of a bundle, at exponents of their own: where a level fades faster than the
    next one, both keep all their digits.

    `adjoint` (M, B, L, P, H), `exponent` and `lost` (M, B, L) and `trace` as of `Sweep`;
    `input_exponent` is that of `trace.inputs`. With `hands_on` a call leaves dL/dx at each step,
    for the level below or, of the lowest one, because its exponents are not those of the state:
    what the level above gives comes in between.
    """

    def __init__(
        self,
        tape: Tape,
        level: Level,
        lengths: NDArray,
        record: bool,
        gradients: bool,
        hands_on: bool,
    ) -> None:
        self.level, self.lengths, self.gradients = level, lengths, gradients
        self.hands_on, self.top = hands_on, level is tape.levels[-1]
        lead, dtype = (tape.networks, tape.sequences, len(lengths)), tape.x.dtype
        self._shape = level.cell.adjoint_shape(level.sizes)
        self.adjoint = np.zeros((*lead, *self._shape), dtype)
        self.exponent = np.full(lead, EMPTY)
        self._dead, self.lost = np.zeros(lead, bool), np.zeros(lead, bool)
        points = lengths + 1 if record else np.zeros_like(lengths)
        self.trace = _room_for_records(lead, points, len(level.cell.parts), dtype)
        self.input_exponent = (
            np.full_like(self.trace.exponent, EMPTY) if hands_on else self.trace.exponent
        )
        width = level.kernels.emitted_width(level.sizes) if gradients else 0
        longest = min(tape.segment_steps, int(lengths[0]))
        shape = (tape.networks, longest, tape.sequences, width)
        self._width = width
        self._values = tape.arrays.room((math.prod(shape),), dtype)
        self._nothing = _emitted(self._values[:0].reshape((*shape[:1], 0, *shape[2:3], 0)), (0, 0))

    def back(
        self, saved: Saved, losses: Losses, span: Span, clip: Clip, live: int
    ) -> tuple[Emitted, Losses]:
        """One kernel call: the live rows from step span.hi back to span.lo. What row 0 leaves, and
        what the rows give to the level's input."""
        level, begin = self.level, self.lengths - (span.start + span.hi)
        emitted, trace = self.room_for_emitted(span), self._trace_of(span)
        bundle = Bundle(self.adjoint, self.exponent, begin)
        level.kernels.backward(
            level.weights, saved, bundle, losses, span, clip, live, trace, emitted
        )
        if trace.exponent.size:
            if self.hands_on:
                self._record_exponents(trace, begin[:live])
            self._find_lost(saved, span, clip, live)
        return emitted, Losses(trace.dx, trace.dx_exponent)

    def add(self, saved: Saved, x: Array, span: Span, emitted: Emitted, sums: Sums) -> None:
        """Add one call's share to the sums over time; x as the kernels' `add_gradients` has it."""
        networks, level = len(emitted.exponent), self.level
        exponent = np.concatenate(
            [emitted.exponent.reshape(networks, -1), emitted.carried_exponent], axis=1
        )
        factor = sums.share(exponent).astype(self.adjoint.dtype)
        own = {n: sums.values[f"{n}{level.suffix}"] for n in level.cell.shapes(level.sizes)}
        level.kernels.add_gradients(level.weights, saved, x, span, emitted, factor, own)

    def room_for_emitted(self, span: Span) -> Emitted:
        """Where a call leaves gradients: the same memory for all calls."""
        if not self.gradients:
            return self._nothing
        networks, sequences = self.exponent.shape[:2]
        shape = (networks, span.hi - span.lo, sequences, self._width)
        whole = math.prod(shape) == self._values.size
        values = self._values if whole else self._values[: math.prod(shape)]
        return _emitted(values.reshape(shape), self._shape)

    def limit(self, factor: NDArray, shift: NDArray[np.int64], lags: NDArray[np.int64]) -> None:
        """Multiply the live rows by `factor` 2^`shift` (M, B, live), where they have just come to
        `lags` (live,)."""
        live, trace = len(lags), self.trace
        self.adjoint[:, :, :live] *= factor[..., None, None].astype(self.adjoint.dtype)
        exponent = self.exponent[:, :, :live]
        exponent[exponent > EMPTY] += shift[exponent > EMPTY]
        if trace.exponent.size:
            points = trace.offset[:live] + lags
            trace.exponent[:, :, points] = exponent
            trace.squares[..., points] *= np.square(factor)[:, :, None]

    def _trace_of(self, span: Span) -> Trace:
        """The trace with room for a call's dL/dx where that is wanted."""
        if not self.hands_on:
            return self.trace
        networks, sequences, losses = self.exponent.shape
        lead = (networks, span.hi - span.lo, sequences, losses)
        dx = np.zeros((*lead, self.level.sizes.inputs), self.adjoint.dtype)
        return self.trace._replace(dx=dx, dx_exponent=np.full(lead, EMPTY))

    def _record_exponents(self, trace: Trace, begin: NDArray) -> None:
        """Of a call's dL/dx by lag; and below the top the last state itself gives nothing, since
        the output of the last step reaches the loss through the level above at that very step."""
        for row, lag in enumerate(begin.tolist()):
            first = int(trace.offset[row]) + lag
            points = slice(first, first + trace.dx_exponent.shape[1])
            latest_first = trace.dx_exponent[:, ::-1, :, row]
            self.input_exponent[:, :, points] = latest_first.swapaxes(1, 2)
            if lag == 0 and not self.top:
                trace.exponent[:, :, first] = EMPTY
                trace.squares[..., first] = 0

    def _find_lost(self, saved: Saved, span: Span, clip: Clip, live: int) -> None:
        """Look at the step at which each row became zero, if it did so in this call."""
        zero = self.exponent[:, :, :live] == EMPTY
        if not zero.any():
            return
        cut = clip.steps if clip.code == TRUNCATE else 0
        begin = 0 if self.top else 1  # before a level below the top has been reached
        for m, b, row in np.argwhere(zero & ~self._dead[:, :, :live]):
            first, length = int(self.trace.offset[row]), int(self.lengths[row])
            path = self.trace.exponent[m, b, first + begin : first + length + 1]
            lag = begin + int(np.argmax(path == EMPTY))
            if lag == 0 or (cut and lag > 1 and (lag - 1) % cut == 0):
                continue  # a loss of zero, or the rule's own cut
            step = length - lag - span.start
            factor = self.level.kernels.faintest(self.level.weights, saved, m, step, b)
            self.lost[m, b, row] = factor is not None and factor < faint(self.adjoint.dtype)
        self._dead[:, :, :live] |= zero
