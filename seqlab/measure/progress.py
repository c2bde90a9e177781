"""How far a measurement is, for whoever watches."""

import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from seqlab.engine.tape import Tape, Tick
from seqlab.kernels._cache import compiled_before
from seqlab.spec.kinds import Progress

PAUSE = 0.25  # seconds between two calls, at least


class Pace:
    """Calls a Progress with fractions that never fall: the first at once, then every PAUSE seconds
    at most, and at the end. Without a Progress nothing is called."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._highest, self._due = progress, 0.0, -float("inf")
        self._lock = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether there is somebody who would be called now."""
        return self._progress is not None and time.monotonic() >= self._due

    def __call__(self, fraction: float, what: str) -> None:
        with self._lock:  # several threads may tell of one run
            if self._progress is None or self._highest >= 1:
                return
            self._highest = max(self._highest, min(1.0, fraction))
            if self._highest < 1 and not self.due:
                return
            self._due = time.monotonic() + PAUSE
            self._progress(self._highest, what)


def parts(progress: Progress | None, weights: Sequence[float]) -> list[Progress | None]:
    """The progress of each of several parts as that of the whole; a part is as much of it as its
    weight says."""
    total = sum(weights) or 1.0

    def part(before: float, weight: float) -> Progress | None:
        if progress is None:
            return None
        return lambda fraction, what: progress((before + weight * fraction) / total, what)

    return [part(sum(weights[:place]), weight) for place, weight in enumerate(weights)]


class Weights(NamedTuple):
    """What takes how long, in steps forward of the same networks: a step back, besides that each
    loss underway; a step back at which a rule sees several levels together, which is a kernel call
    of each alone; a comparison of the shares of a lag with the whole."""

    step: float = 1.0
    row: float = 1.0
    alone: float = 0.0
    share: float = 0.0


class Work(NamedTuple):
    """What is done with a tape, the way there and back for each of `alone` (whether a sweep's rule
    sees several levels together), a spectrum of so many exponents, so many shares of lags."""

    lengths: Sequence[int]
    alone: Sequence[bool]
    exponents: int = 0
    shares: int = 0

    def steps(self, tape: Tape, weights: Weights) -> float:
        """All of it, in steps forward."""
        steps, losses = tape.steps, sum(self.lengths)
        total = float(steps)
        for alone in self.alone:
            total += steps * _back(tape, weights, alone) + weights.row * losses
        if self.exponents:
            total += steps * (_back(tape, weights) + weights.row * self.exponents)
        if self.shares:
            total += steps * (_back(tape, weights) + weights.row) + weights.share * self.shares
        return total


def _back(tape: Tape, weights: Weights, alone: bool = False) -> float:
    """A step back without its losses: what was not kept is computed again."""
    return weights.step + (not tape.keeps_all) + weights.alone * alone


class Report:
    """Turns ticks into a fraction for the caller's progress, and says what is being done."""

    def __init__(self, progress: Progress | None, networks: int) -> None:
        self._pace, self._networks, self._done, self._what = Pace(progress), networks, 0.0, ""
        self._lock = threading.Lock()
        # Kernels are compiled where they are first called, forward and backward.
        self._note = "" if compiled_before() else " (first run: compiling kernels)"

    def begin(self, what: str) -> None:
        """Say what is being done now."""
        self._what = what + self._note
        self.add(0)

    def add(self, networks: float) -> None:
        """So many more networks, or shares of them, are done."""
        with self._lock:  # blocks tick from threads of their own
            self._done += networks
            # A sum of shares may miss the whole by its rounding, and all is done only at `end`.
            self._pace(min(self._done / self._networks, 1 - 1e-9), self._what)

    def end(self) -> None:
        """All is done."""
        self._pace(1.0, "done")

    def block(self, networks: int, tape: Tape, work: Work, weights: Weights) -> "BlockReport":
        """The part of it that some networks are, with which `work` is done."""
        return BlockReport(self, networks, tape, work, weights)


class BlockReport:
    """Turns the ticks of one block into shares of its work; `begin` is the whole run's."""

    def __init__(
        self, report: Report, networks: int, tape: Tape, work: Work, weights: Weights
    ) -> None:
        self._report, self._tape, self._weights = report, tape, weights
        self._each = networks / work.steps(tape, weights)
        self.begin = report.begin

    def forward(self, steps: int, rows: int) -> None:
        """A Tick of the way there."""
        del rows
        self._report.add(self._each * steps)

    def back(self, alone: bool = False) -> Tick:
        """A Tick of a way back, or of a spectrum."""
        step = _back(self._tape, self._weights, alone)

        def tick(steps: int, rows: int) -> None:
            self._report.add(self._each * steps * (step + self._weights.row * rows))

        return tick

    def shares(self, steps: int, shares: int) -> None:
        """A Tick of the shares of lags."""
        step = _back(self._tape, self._weights) + self._weights.row
        self._report.add(self._each * (steps * step + shares * self._weights.share))
