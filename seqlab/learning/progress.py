"""How far training is, for whoever watches."""

import numpy as np
from numpy.typing import NDArray

from seqlab.learning import cost
from seqlab.learning.subject import Subject
from seqlab.measure.progress import Pace
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress


class Report:
    """Turns ticks of courses into a fraction, and a line: length or depth, update, median loss, how
    many networks have solved the task."""

    def __init__(self, progress: Progress | None, subject: Subject) -> None:
        spec = subject.spec
        self._pace, self._updates = Pace(progress), spec.updates
        self._name = kinds.of_spec(spec).table.words["lengths"].removesuffix("s")
        self._left = [
            subject.seconds(length, networks)
            for length in spec.lengths
            for networks in cost.courses(spec)
        ]
        self._total, self._done, self._now = sum(self._left), 0.0, 0.0
        self._length, self._what = 0, ""

    def begin(self, what: str) -> None:
        """Say what comes before all training."""
        self._pace(0.0, what)

    def begin_length(self, length: int, what: str = "") -> None:
        """Begin the next course."""
        self._done, self._now = self._done + self._now, self._left.pop(0)
        self._length, self._what = length, what

    def tick(self, update: int, loss: NDArray, solved: NDArray) -> None:
        """An update of the course has been made, of so many networks."""
        if not self._pace.due:
            return
        share = (self._done + self._now * (update + 1) / self._updates) / self._total
        finite = loss[np.isfinite(loss)]
        shown = f"{np.median(finite):.3g}" if finite.size else "-"
        self._pace(
            min(share, 1 - 1e-9),  # the end is told by `end`
            f"{self._what}{self._name} {self._length}, update {update + 1} of {self._updates}, "
            f"loss {shown}, solved {solved.sum()} of {solved.size}",
        )

    def end(self) -> None:
        """All is done."""
        self._pace(1.0, "done")
