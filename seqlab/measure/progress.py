"""How far a measurement is, for whoever watches."""

import threading

from seqlab import rules
from seqlab.kernels._cache import compiled_before
from seqlab.spec.kinds import Progress, Spec


def work(spec: Spec) -> int:
    """Steps that a block takes, each row of a bundle counted as one."""
    sweeps = 1 + sum(rules.parse(rule).in_chain for rule in spec.clip)
    more = (getattr(spec, "spectrum", None) or 0) + (getattr(spec, "truncation", None) is not None)
    return spec.steps * (1 + sweeps * len(spec.lengths) // 2 + more)


class Report:
    """Turns ticks into a fraction for the caller's progress, and says what is being done."""

    def __init__(self, progress: Progress | None, work: int) -> None:
        self._progress, self._work, self._done, self._what = progress, work, 0, ""
        self._lock = threading.Lock()
        # Kernels are compiled where they are first called, forward and backward.
        self._note = "" if compiled_before() else " (first run: compiling kernels)"

    def begin(self, what: str) -> None:
        self._what = what + self._note
        self.tick(0)

    def tick(self, steps: int) -> None:
        with self._lock:  # blocks tick from threads of their own
            self._done += steps
            if self._progress is not None:
                self._progress(min(1.0, self._done / self._work), self._what)
