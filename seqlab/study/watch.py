"""How far a sweep is: runs done, the one it is on, and the time left."""

import time

from seqlab.spec.kinds import Progress
from seqlab.wording import lasting

PAUSE = 0.1  # seconds between two reports, at least


class Watch:
    """Reports to a Progress while a sweep goes on.

    `weights` has an estimate in seconds for each run that is still to be measured, by its hash;
    only their ratios count, since the time left follows from the time that was taken so far.
    """

    def __init__(self, progress: Progress, runs: int, weights: dict[str, float]) -> None:
        self._progress, self._runs, self._weights = progress, runs, weights
        self._total = sum(weights.values())
        self._measured = 0.0  # of the weights
        self._done = runs - len(weights)
        self._start, self._last = time.monotonic(), 0.0

    def say(self, label: str, run: str, fraction: float, what: str) -> None:
        """Report on the run that is going on, not too often."""
        now = time.monotonic()
        if now - self._last < PAUSE:
            return
        self._last = now
        share = self._share(fraction * self._weights.get(run, 0.0))
        left = f", {lasting((now - self._start) * (1 / share - 1))} left" if share else ""
        self._progress(share, f"{self._done} of {self._runs} runs{left}; {label}: {what}")

    def finish(self, run: str) -> None:
        """Count a run that is done."""
        if run in self._weights:
            self._measured += self._weights.pop(run)
            self._done += 1

    def _share(self, underway: float) -> float:
        return (self._measured + underway) / self._total if self._total else 1.0
