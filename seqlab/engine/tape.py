"""The forward pass kept for the way back.

Time is cut into segments so that a kernel call stays short (Ctrl-C is heard, progress moves) and
memory stays bounded: when the whole trajectory does not fit, only the state at each segment's
start is kept and the segment is computed again on the way back, with the same bits: ahead of time
where a thread has nothing to do.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels import backends
from seqlab.kernels.contract import Array, CellKernels, Chain, Saved, Weights

SEGMENT_BYTES = 16 << 20  # of one network's saved arrays in one segment
TRAJECTORY_BYTES = 256 << 20  # of saved arrays kept at once; beyond, segments are recomputed
MIN_SEGMENT = 16  # even: products go back and forth, whatever the segments

Tick = Callable[[int, int], None]  # steps that were made, each of so many losses; 0 forward


def no_tick(steps: int, rows: int) -> None:
    """A tick for those who do not watch."""


class Level(NamedTuple):
    """One layer of a network of several, fed by the outputs of the level below; any other chain has
    one level. `suffix` ends the names of its parameters."""

    cell: Chain
    kernels: CellKernels
    weights: Weights
    sizes: Sizes
    suffix: str = ""


Trail = tuple[Saved, ...]  # what each level saved of a segment


class Tape:
    """One ensemble's forward pass: x (M, T, B, I), where it lives, state (M, B, P, H) at the start,
    whose parts are those of the first level, then those of the next.

    As many as `sharers` tapes share what may be kept: `budget` bytes, TRAJECTORY_BYTES if left
    out.
    """

    def __init__(
        self,
        backend: str,
        levels: Sequence[Level],
        x: Array,
        state: NDArray,
        sharers: int = 1,
        budget: int | None = None,
    ) -> None:
        self.levels = levels
        self.arrays, self._ahead = backends.arrays(backend), partial(backends.ahead, backend)
        self.x = x
        self.networks, self.steps, self.sequences = x.shape[:3]
        self._state = state.copy()
        width = sum(level.kernels.saved_width(level.sizes) for level in levels)
        per_step = self.sequences * width * x.dtype.itemsize
        # Sums over time are added segment by segment: their bits must not depend on how many
        # networks there are.
        self.segment_steps = segment_steps(per_step, self.steps)
        whole = self.networks * per_step * self.steps
        kept = TRAJECTORY_BYTES if budget is None else budget
        self.keeps_all = whole <= kept // sharers
        self._starts: list[NDArray] = []  # the state before each segment
        self._saved: list[Trail] = []  # of each segment, where all are kept
        self._recomputed: tuple[int, Trail] | None = None  # the last segment computed again
        self._underway: tuple[int, Future[Trail]] | None = None  # the one before it

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters of one network that all steps share."""
        return {
            f"{name}{level.suffix}": shape
            for level in self.levels
            for name, shape in level.cell.shapes(level.sizes).items()
        }

    @property
    def state(self) -> NDArray:
        """The state (M, B, P, H) after the last step, once the tape has run."""
        return self._state

    @property
    def starts(self) -> range:
        """The first step of each segment."""
        return range(0, self.steps, self.segment_steps)

    def run(self, observe: Callable[[Saved], None], tick: Tick = no_tick) -> None:
        """Go forward once; `observe` sees what the last level saved of each segment."""
        for start in self.starts:
            self._starts.append(self._state.copy())
            trail = self._forward(start, self._state)
            if self.keeps_all:
                self._saved.append(trail)
            observe(trail[-1])
            del trail  # its memory serves the next segment
            tick(min(self.segment_steps, self.steps - start), 0)

    def segment(self, index: int) -> Trail:
        """What segment `index` saved, computed again if it was not kept.

        The way back wants the one before next: a thread that has nothing to do computes it.
        """
        if self.keeps_all:
            return self._saved[index]
        if self._recomputed is None or self._recomputed[0] != index:
            self._recomputed = None  # its memory serves the next one
            self._recomputed = index, self._await(index)
        if index > 0 and self._underway is None:
            tasks = self.networks * self.sequences
            future = self._ahead(tasks, self._recompute, index - 1)
            self._underway = None if future is None else (index - 1, future)
        return self._recomputed[1]

    def _await(self, index: int) -> Trail:
        underway, self._underway = self._underway, None
        if underway is None or underway[0] != index:
            return self._recompute(index)
        return underway[1].result()

    def _recompute(self, index: int) -> Trail:
        return self._forward(self.starts[index], self._starts[index].copy())

    def _forward(self, start: int, state: NDArray) -> Trail:
        x = self.arrays.cut(self.x, start, min(start + self.segment_steps, self.steps))
        lead, trail = (self.networks, x.shape[1], self.sequences), list[Saved]()
        for level, own in zip(self.levels, self.by_level(state), strict=True):
            x = self.outputs(trail[-1], x.shape[1]) if trail else x
            saved = level.kernels.save(lead, level.sizes, x.dtype)
            end = np.ascontiguousarray(own)
            level.kernels.forward(level.weights, x, end, saved)
            own[...] = end
            trail.append(saved)
        return tuple(trail)

    def by_level(self, state: NDArray) -> list[NDArray]:
        """The parts (..., P, H) of each level of a state, or of its adjoint, views."""
        return np.split(state, len(self.levels), axis=-2)

    def outputs(self, saved: Saved, steps: int) -> Array:
        """The outputs (M, S, B, H) of a level's segment, of so many steps, as the next level's
        kernels take them."""
        first = saved.outputs.shape[1] - steps
        return self.arrays.cut(saved.outputs, first, first + steps)

    def faintest(self, trail: Trail, m: int, step: int, b: int) -> float | None:
        """The smallest factor of one sequence's step back, of those that no finite state makes
        zero; None where there is none such."""
        factors = [
            level.kernels.faintest(level.weights, saved, m, step, b)
            for level, saved in zip(self.levels, trail, strict=True)
        ]
        return min((factor for factor in factors if factor is not None), default=None)


def segment_steps(bytes_a_step: int, steps: int) -> int:
    """Steps in a segment: what fits SEGMENT_BYTES, in whole checkpoints of MIN_SEGMENT."""
    fitting = SEGMENT_BYTES // bytes_a_step // MIN_SEGMENT * MIN_SEGMENT
    return max(MIN_SEGMENT, min(fitting, steps))
