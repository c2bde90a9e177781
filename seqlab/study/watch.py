"""How far a sweep is: runs done, and the one it is on."""

from seqlab.measure.progress import Pace
from seqlab.spec.kinds import Progress


class Watch:
    """Reports to a Progress while a sweep goes on.

    `weights` has an estimate in seconds for each run that is still to be measured, by its hash;
    only their ratios count.
    """

    def __init__(self, progress: Progress, runs: int, weights: dict[str, float]) -> None:
        self._pace, self._runs, self._weights = Pace(progress), runs, weights
        self._total = sum(weights.values())
        self._measured = 0.0  # of the weights
        self._done = runs - len(weights)

    def report(self, label: str, run: str, fraction: float, what: str) -> None:
        """Report on the run that is going on, not too often."""
        if self._pace.due:
            share = self._share(fraction * self._weights.get(run, 0.0))
            # Runs that are settled otherwise, and the end, are still to come.
            self._pace(min(share, 1 - 1e-9), f"{self._count()}; {label}: {what}")

    def finish(self, run: str) -> None:
        """Count a run that is done."""
        if run in self._weights:
            self._measured += self._weights.pop(run)
            self._done += 1

    def end(self) -> None:
        """All is settled."""
        self._pace(1.0, self._count())

    def _count(self) -> str:
        return f"{self._done} of {self._runs} runs"

    def _share(self, underway: float) -> float:
        return (self._measured + underway) / self._total if self._total else 1.0
