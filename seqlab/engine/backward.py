"""The way back over a tape, with a bundle of losses."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape, Tick, no_tick
from seqlab.kernels import memory
from seqlab.kernels.contract import Array, Saved
from seqlab.kernels.layout import EMPTY, TRUNCATE, Bundle, Clip, Emitted, Span, Trace
from seqlab.rules import Rule

REUSED_POINTS = 1 << 19  # of records; kept for later, long ones would be most of what a run holds


def faint(dtype: np.dtype) -> float:
    """A factor under which products with a direction's entries and usual weights may underflow."""
    return float(np.finfo(dtype).smallest_normal * 2.0**60)


def _room_for_records(lead: tuple[int, int, int], points: NDArray, parts: int) -> Trace:
    """A trace of (networks, sequences, losses) that has `points` (L,) and as many named parts."""
    recorded = (*lead[:2], int(points.sum()))
    full = memory.full if math.prod(recorded) < REUSED_POINTS else np.full
    return Trace(
        full((*lead[:2], parts, recorded[2]), 0.0, np.float64),
        full(recorded, np.nan, np.float64),
        full(recorded, 0, np.int64),
        np.cumsum(points) - points,
        np.zeros(lead, np.int64),
    )


def _emitted(values: Any, parts: tuple[int, ...]) -> Emitted:
    """Room for what a call leaves in `values` (M, n, B, E) and for a sum of as many parts."""
    lead = values.shape[:3]
    carried = np.zeros((lead[0], lead[2], *parts))
    return Emitted(values, np.full(lead, EMPTY), carried, np.full((lead[0], lead[2]), EMPTY))


class Sweep:
    """One way back over a tape: a bundle of losses, one at the end of each of `lengths`.

    `lengths` fall. With `record` the trace holds every row's norms at every lag, and `lost`
    (M, B, L) says which rows became zero because a factor left the dtype's range; with `gradients`
    the sums hold the parameter gradients of the longest row.
    """

    def __init__(
        self, tape: Tape, lengths: Sequence[int], rule: Rule, record: bool, gradients: bool
    ) -> None:
        self.tape, self.lengths, self.gradients = tape, np.asarray(lengths, np.int64), gradients
        networks, sequences, rows = tape.networks, tape.sequences, len(lengths)
        parts = tape.cell.adjoint_shape(tape.sizes)
        dtype = tape.x.dtype
        self.adjoint = np.zeros((networks, sequences, rows, *parts), dtype)
        self.exponent = np.full((networks, sequences, rows), EMPTY)
        self.clip = Clip.of(rule)
        self._cut = self.clip.steps if self.clip.code == TRUNCATE else 0
        self._dead = np.zeros((networks, sequences, rows), bool)
        self.lost = np.zeros_like(self._dead)
        points = self.lengths + 1 if record else np.zeros_like(self.lengths)
        self.trace = _room_for_records((networks, sequences, rows), points, len(tape.cell.parts))
        self.sums = Sums.zeros(tape.cell.shapes(tape.sizes), networks)
        self._width = tape.kernels.emitted_width(tape.sizes) if gradients else 0
        longest = min(tape.segment_steps, int(self.lengths[0]))
        self._values = tape.arrays.room((networks * longest * sequences * self._width,), dtype)
        none = self._values[:0].reshape((networks, 0, sequences, 0))
        self._nothing = _emitted(none, (0, 0))

    def run(
        self,
        loss: Callable[[int, int], Array],
        tick: Tick = no_tick,
        on_gradient: Callable[[int, Emitted], None] | None = None,
    ) -> None:
        """Go back to the initial state.

        `loss(first, last)` gives the losses' gradients of the outputs (M, n, B, L, H) at the last n
        of the steps first..last; `on_gradient(first, emitted)` sees what each call emitted.
        """
        for index, span in self.spans():
            first, last = span.start + span.lo, span.start + span.hi
            emitted = self.back(self.tape.segment(index), span, loss(first, last))
            if on_gradient is not None:
                on_gradient(first, emitted)
            tick(span.hi - span.lo)

    def back(self, saved: Saved, span: Span, gradient: Array) -> Emitted:
        """One kernel call: the live rows from step span.hi back to span.lo."""
        tape, end = self.tape, span.start + span.hi
        bundle = Bundle(self.adjoint, self.exponent, self.lengths - end)
        live = int(np.count_nonzero(self.lengths >= end))
        emitted = self.room_for_emitted(span)
        tape.kernels.backward(
            tape.weights, saved, bundle, gradient, span, self.clip, live, self.trace, emitted
        )
        if self.gradients:
            self.add(saved, span, emitted)
        if self.trace.exponent.size:
            self._find_lost(saved, span, live)
        return emitted

    def _find_lost(self, saved: Saved, span: Span, live: int) -> None:
        """Look at the step at which each row became zero, if it did so in this call."""
        zero = self.exponent[:, :, :live] == EMPTY
        if not zero.any():
            return
        for m, b, row in np.argwhere(zero & ~self._dead[:, :, :live]):
            first, length = int(self.trace.offset[row]), int(self.lengths[row])
            path = self.trace.exponent[m, b, first : first + length + 1]
            lag = int(np.argmax(path == EMPTY))
            if lag == 0 or (self._cut and lag > 1 and (lag - 1) % self._cut == 0):
                continue  # a loss of zero, or the rule's own cut
            step = length - lag - span.start
            factor = self.tape.kernels.faintest(self.tape.weights, saved, m, step, b)
            self.lost[m, b, row] = factor is not None and factor < faint(self.adjoint.dtype)
        self._dead[:, :, :live] |= zero

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Pieces of segments, last first, cut where a loss joins the bundle."""
        tape = self.tape
        ends = {start + tape.segment_steps for start in tape.starts} | set(self.lengths.tolist())
        cuts = sorted({0} | {min(end, int(self.lengths[0])) for end in ends}, reverse=True)
        for last, first in pairwise(cuts):
            index = first // tape.segment_steps
            start = tape.starts[index]
            yield index, Span(start, first - start, last - start)

    def room_for_emitted(self, span: Span) -> Emitted:
        """Where a call leaves gradients: the same memory for all calls."""
        if not self.gradients:
            return self._nothing
        networks, sequences = self.exponent.shape[:2]
        lead = (networks, span.hi - span.lo, sequences)
        shape = (*lead, self._width)
        whole = math.prod(shape) == self._values.size
        values = self._values if whole else self._values[: math.prod(shape)]
        return _emitted(values.reshape(shape), self.tape.cell.adjoint_shape(self.tape.sizes))

    def add(self, saved: Saved, span: Span, emitted: Emitted) -> None:
        """Add one call's share to the sums over time."""
        networks = len(emitted.exponent)
        exponent = np.concatenate(
            [emitted.exponent.reshape(networks, -1), emitted.carried_exponent], axis=1
        )
        factor = self.sums.share(exponent).astype(self.adjoint.dtype)
        tape = self.tape
        tape.kernels.add_gradients(
            tape.weights, saved, tape.x, span, emitted, factor, self.sums.values
        )
