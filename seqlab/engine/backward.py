"""The way back over a tape, with a bundle of losses."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.lane import Lane
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape, Tick, Trail, no_tick
from seqlab.kernels.contract import Array
from seqlab.kernels.layout import (
    EMPTY,
    NONE,
    STEP_NORM,
    Clip,
    Emitted,
    Losses,
    Span,
    power_of_two,
    unscaled,
)
from seqlab.rules import UNCLIPPED, Rule


class Sweep:
    """One way back over a tape: a bundle of losses, one at the end of each of `lengths`.

    `lengths` fall. Every level of the tape has a lane, which carries its own part of the state's
    adjoint. With `record` the lanes' traces hold every row's norms at every lag, and `lost`
    (M, B, L) says which rows became zero because a factor left the dtype's range; with `gradients`
    the sums hold the parameter gradients of the longest row. `fired` (M, B, L) counts the steps at
    which a rule inside the chain acted; it acts on the state of all levels.
    """

    def __init__(
        self, tape: Tape, lengths: Sequence[int], rule: Rule, record: bool, gradients: bool
    ) -> None:
        self.tape, self.lengths, self.gradients = tape, np.asarray(lengths, np.int64), gradients
        self.clip = Clip.of(rule)
        several = len(tape.levels) > 1
        self.lanes = [
            Lane(tape, level, self.lengths, record, gradients, several and (record or index > 0))
            for index, level in enumerate(tape.levels)
        ]
        # A rule on the state of several levels sees them all after each step.
        self._by_step = several and self.clip.code != NONE
        self._joint_fired = np.zeros(self.lanes[0].exponent.shape, np.int64)
        self.sums = Sums.zeros(tape.shapes, tape.networks)

    @property
    def fired(self) -> NDArray[np.int64]:
        """See the class."""
        return self._joint_fired if self._by_step else self.lanes[0].trace.fired

    @property
    def lost(self) -> NDArray[np.bool_]:
        """See the class."""
        return np.any([lane.lost for lane in self.lanes], axis=0)

    def rows(self) -> tuple[NDArray, NDArray[np.int64]]:
        """The adjoint (M, B, L, P, H) of the state of all levels at one exponent (M, B, L); what is
        too small beside another level's is zero."""
        if len(self.lanes) == 1:
            return self.lanes[0].adjoint, self.lanes[0].exponent
        exponent = np.max([lane.exponent for lane in self.lanes], axis=0)
        parts = [unscaled(lane.adjoint, lane.exponent - exponent) for lane in self.lanes]
        return np.concatenate(parts, axis=3), exponent

    def put(self, rows: NDArray, networks: NDArray | slice = slice(None)) -> None:
        """Begin again from an adjoint (networks, B, L, P, H) of some networks, at exponent 0."""
        for lane, own in zip(self.lanes, self.tape.by_level(rows), strict=True):
            lane.adjoint[networks] = own
            lane.exponent[networks] = 0

    def run(
        self,
        loss: Callable[[int, int], Array],
        tick: Tick = no_tick,
        on_gradient: Callable[[int, Emitted], None] | None = None,
    ) -> None:
        """Go back to the initial state.

        `loss(first, last)` gives the losses' gradients of the outputs (M, n, B, L, H) at the last n
        of the steps first..last; `on_gradient(first, emitted)` sees what each call emitted of the
        level that takes the input.
        """
        for index, span in self.spans():
            first, last = span.start + span.lo, span.start + span.hi
            emitted = self.back(self.tape.segment(index), span, loss(first, last))
            if on_gradient is not None:
                on_gradient(first, emitted)
            tick(span.hi - span.lo, self._live(last))

    def back(self, trail: Trail, span: Span, gradient: Array) -> Emitted:
        """The live rows from step span.hi back to span.lo, level by level from the last: one kernel
        call each. What the first level emitted."""
        end = span.start + span.hi
        live = self._live(end)
        losses = Losses(gradient, np.zeros(gradient.shape[:4], np.int64))
        together = self._by_step and self.clip.code == STEP_NORM
        clip = Clip.of(UNCLIPPED) if together else self.clip
        fired = [lane.trace.fired.copy() for lane in self.lanes] if self._by_step else []
        for index in reversed(range(len(self.lanes))):
            lane = self.lanes[index]
            emitted, losses = lane.back(trail[index], losses, span, clip, live)
            if self.gradients:
                x, of_x = self._input(trail, index, span)
                lane.add(trail[index], x, of_x, emitted, self.sums)
        if together:
            self._clip_norm(end - (span.hi - span.lo), live)
        elif self._by_step:
            changes = [
                lane.trace.fired - before for lane, before in zip(self.lanes, fired, strict=True)
            ]
            self._joint_fired += np.max(changes, axis=0)
        return emitted

    def spans(self) -> Iterator[tuple[int, Span]]:
        """Pieces of segments, last first, cut where a loss joins the bundle."""
        tape, longest = self.tape, int(self.lengths[0])
        ends = {start + tape.segment_steps for start in tape.starts} | set(self.lengths.tolist())
        if self._by_step:
            ends |= set(range(longest))
        cuts = sorted({0} | {min(end, longest) for end in ends}, reverse=True)
        for last, first in pairwise(cuts):
            index = first // tape.segment_steps
            start = tape.starts[index]
            yield index, Span(start, first - start, last - start)

    def _live(self, end: int) -> int:
        """How many losses are underway before a step."""
        return int(np.count_nonzero(self.lengths >= end))

    def _input(self, trail: Trail, index: int, span: Span) -> tuple[Array, Span]:
        """What a level was driven with, and where a call's steps are in it."""
        if index == 0:
            return self.tape.x, span
        steps = min(self.tape.segment_steps, self.tape.steps - span.start)
        return self.tape.outputs(trail[index - 1], steps), span._replace(start=0)

    def _clip_norm(self, step: int, live: int) -> None:
        """`step-norm` on what all levels have just handed to `step`."""
        exponents = np.stack([lane.exponent[:, :, :live] for lane in self.lanes])
        exponent = exponents.max(axis=0)
        squares = np.zeros(exponent.shape)
        for lane, own in zip(self.lanes, exponents, strict=True):
            rows = lane.adjoint[:, :, :live].astype(np.float64, copy=False)
            share = np.square(rows).sum(axis=(3, 4)) * power_of_two(2 * (own - exponent))
            squares += np.where(own == EMPTY, 0.0, share)
        norm, clip = np.sqrt(squares), self.clip
        above = norm > clip.mantissa * power_of_two(clip.exponent - exponent)
        self._joint_fired[:, :, :live] += above
        factor = np.divide(clip.mantissa, norm, out=np.ones_like(norm), where=above)
        shift = np.where(above, clip.exponent - exponent, 0)
        for lane in self.lanes:
            lane.limit(factor, shift, self.lengths[:live] - step)
