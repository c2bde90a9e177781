"""The forward pass kept for the way back, and the sweep that goes back over it.

Time is cut into segments so that a kernel call stays short (Ctrl-C is heard, progress moves) and
memory stays bounded: when the whole trajectory does not fit, only the state at each segment's
start is kept and the segment is computed again on the way back, with the same bits: ahead of time
where a thread has nothing to do.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Cell, Sizes
from seqlab.kernels import backends
from seqlab.kernels.layout import EMPTY, IN_CHAIN_CODES, NONE, Bundle, Clip, Emitted, Span, Trace
from seqlab.rules import Rule
from seqlab.sums import Sums

SEGMENT_BYTES = 16 << 20  # of one network's saved arrays in one segment
TRAJECTORY_BYTES = 256 << 20  # of saved arrays kept at once; beyond, segments are recomputed
MIN_SEGMENT = 16  # even: products go back and forth, whatever the segments

Tick = Callable[[int], None]


def ignore(steps: int) -> None:
    """A tick for those who do not watch."""


class Tape:
    """One ensemble's forward pass: x (M, T, B, I), where it lives, state (M, B, P, H) at the start.

    As many as `sharers` tapes share what may be kept.
    """

    def __init__(
        self,
        cell: Cell,
        backend: str,
        weights: Any,
        sizes: Sizes,
        x: Any,
        state: NDArray,
        sharers: int = 1,
    ) -> None:
        self.cell, self.kernels = cell, backends.kernels(backend, cell.name)
        self.arrays, self._ahead = backends.arrays(backend), partial(backends.ahead, backend)
        self.weights, self.sizes, self.x = weights, sizes, x
        self.networks, self.steps, self.sequences = x.shape[:3]
        self._state = state.copy()
        per_step = self.sequences * self.kernels.saved_width(sizes) * x.dtype.itemsize
        # Sums over time are added segment by segment: their bits must not depend on how many
        # networks there are.
        self.segment_steps = segment_steps(per_step, self.steps)
        whole = self.networks * per_step * self.steps
        self.keeps_all = whole <= TRAJECTORY_BYTES // sharers
        self._starts: list[NDArray] = []  # the state before each segment
        self._saved: list[Any] = []  # of each segment, where all are kept
        self._again: tuple[int, Any] | None = None  # the segment that was computed again last
        self._coming: tuple[int, Future[Any]] | None = None  # the one before it

    @property
    def state(self) -> NDArray:
        """The state (M, B, P, H) after the last step, once the tape has run."""
        return self._state

    @property
    def starts(self) -> range:
        """The first step of each segment."""
        return range(0, self.steps, self.segment_steps)

    def run(self, observe: Callable[[Any], None], tick: Tick = ignore) -> None:
        """Go forward once; `observe` sees what each segment saved."""
        for start in self.starts:
            self._starts.append(self._state.copy())
            saved = self._forward(start, self._state)
            if self.keeps_all:
                self._saved.append(saved)
            observe(saved)
            del saved  # its memory serves the next segment
            tick(min(self.segment_steps, self.steps - start))

    def segment(self, index: int) -> Any:
        """What segment `index` saved, computed again if it was not kept.

        The way back wants the one before next: a thread that has nothing to do computes it.
        """
        if self.keeps_all:
            return self._saved[index]
        if self._again is None or self._again[0] != index:
            self._again = None  # its memory serves the next one
            self._again = index, self._come(index)
        if index > 0 and self._coming is None:
            tasks = self.networks * self.sequences
            future = self._ahead(tasks, self._recompute, index - 1)
            self._coming = None if future is None else (index - 1, future)
        return self._again[1]

    def _come(self, index: int) -> Any:
        coming, self._coming = self._coming, None
        if coming is None or coming[0] != index:
            return self._recompute(index)
        return coming[1].result()

    def _recompute(self, index: int) -> Any:
        return self._forward(self.starts[index], self._starts[index].copy())

    def _forward(self, start: int, state: NDArray) -> Any:
        x = self.arrays.cut(self.x, start, min(start + self.segment_steps, self.steps))
        lead = (self.networks, x.shape[1], self.sequences)
        saved = self.kernels.save(lead, self.sizes, x.dtype)
        self.kernels.forward(self.weights, x, state, saved)
        return saved


def segment_steps(bytes_a_step: int, steps: int) -> int:
    """Steps in a segment: what fits SEGMENT_BYTES, in whole checkpoints of MIN_SEGMENT."""
    fitting = SEGMENT_BYTES // bytes_a_step // MIN_SEGMENT * MIN_SEGMENT
    return max(MIN_SEGMENT, min(fitting, steps))


def faint(dtype: np.dtype) -> float:
    """A factor under which products with a direction's entries and usual weights may underflow."""
    return float(np.finfo(dtype).smallest_normal * 2.0**60)


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
        parts = tape.cell.state_shape(tape.sizes)
        dtype = tape.x.dtype
        self.adjoint = np.zeros((networks, sequences, rows, *parts), dtype)
        self.exponent = np.full((networks, sequences, rows), EMPTY)
        self.clip = Clip(IN_CHAIN_CODES.get(rule.kind, NONE), float(rule.threshold))
        self._cut = int(rule.threshold) if rule.kind == "truncate" else 0
        self._dead = np.zeros((networks, sequences, rows), bool)
        self.lost = np.zeros_like(self._dead)
        points = self.lengths + 1 if record else np.zeros_like(self.lengths)
        recorded = (networks, sequences, int(points.sum()))
        self.trace = Trace(
            np.zeros((*recorded, len(tape.cell.parts))),
            np.full(recorded, np.nan),
            np.zeros(recorded, np.int64),
            np.cumsum(points) - points,
            np.zeros((networks, sequences, rows), np.int64),
        )
        self.sums = Sums.zeros(tape.cell.shapes(tape.sizes), networks)
        self._values = np.empty((0, 0, 0, 0), dtype)
        self._width = tape.kernels.emitted_width(tape.sizes) if gradients else 0

    def run(
        self,
        loss: Callable[[int, int], NDArray],
        tick: Tick = ignore,
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

    def back(self, saved: Any, span: Span, gradient: NDArray) -> Emitted:
        """One kernel call: the live rows from step span.hi back to span.lo."""
        tape, end = self.tape, span.start + span.hi
        bundle = Bundle(self.adjoint, self.exponent, self.lengths - end)
        live = int(np.count_nonzero(self.lengths >= end))
        emitted = self._room(span)
        tape.kernels.backward(
            tape.weights, saved, bundle, gradient, span, self.clip, live, self.trace, emitted
        )
        if self.gradients:
            self._add(saved, span, emitted)
        if self.trace.exponent.size:
            self._find_lost(saved, span, live)
        return emitted

    def _find_lost(self, saved: Any, span: Span, live: int) -> None:
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

    def _room(self, span: Span) -> Emitted:
        """Where a call leaves gradients: the same memory for calls of the same length."""
        networks, sequences = self.exponent.shape[:2]
        lead = (networks, span.hi - span.lo, sequences)
        parts = self.tape.cell.state_shape(self.tape.sizes) if self.gradients else (0, 0)
        dtype = self.adjoint.dtype
        if self._values.shape[:3] != lead:
            self._values = self.tape.arrays.room((*lead, self._width), dtype)
        return Emitted(
            self._values,
            np.full(lead, EMPTY),
            np.zeros((networks, sequences, *parts)),
            np.full((networks, sequences), EMPTY),
        )

    def _add(self, saved: Any, span: Span, emitted: Emitted) -> None:
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
