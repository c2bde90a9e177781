"""How far training is, for whoever watches."""

import math
import time

import numpy as np
from numpy.typing import NDArray

from seqlab.learning import cost
from seqlab.learning.subject import Subject
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress
from seqlab.wording import lasting

PAUSE = 0.1  # seconds between two reports, at least


class Report:
    """Turns ticks of courses into a fraction, and a line: length or depth, update, median loss, how
    many networks have solved the task, time left if every update is needed."""

    def __init__(self, progress: Progress | None, subject: Subject) -> None:
        spec = subject.spec
        self._progress, self._updates = progress, spec.updates
        self._name = kinds.of_spec(spec).table.words["lengths"].removesuffix("s")
        self._left = [
            subject.seconds(length, networks)
            for length in spec.lengths
            for networks in cost.courses(spec)
        ]
        self._total, self._done, self._now = sum(self._left), 0.0, 0.0
        self._length, self._what = 0, ""
        self._last = -math.inf
        self._start: tuple[float, float] | None = None  # when, and how far: kernels are compiled

    def begin(self, what: str) -> None:
        """Say what comes before all training."""
        if self._progress is not None:
            self._progress(0.0, what)

    def begin_length(self, length: int, what: str = "") -> None:
        """Begin the next course."""
        self._done, self._now = self._done + self._now, self._left.pop(0)
        self._length, self._what = length, what

    def tick(self, update: int, loss: NDArray, solved: NDArray) -> None:
        """An update of the course has been made, of so many networks."""
        now = time.monotonic()
        if self._progress is None or now - self._last < PAUSE:
            return
        self._last, updates = now, self._updates
        share = (self._done + self._now * (update + 1) / updates) / self._total
        start, before = self._start = self._start or (now, share)
        taken = (now - start) / (share - before) if share > before else math.nan
        left = "" if math.isnan(taken) else f", {lasting(taken * (1 - share))} left"
        finite = loss[np.isfinite(loss)]
        shown = f"{np.median(finite):.3g}" if finite.size else "-"
        self._progress(
            share,
            f"{self._what}{self._name} {self._length}, update {update + 1} of {updates}, "
            f"loss {shown}, solved {solved.sum()} of {solved.size}{left}",
        )
