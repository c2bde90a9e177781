"""Whole measurements, as `seqlab.run` makes them, with all kernels compiled: seconds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import seqlab
from seqlab.bench.jobs import Context, Job
from seqlab.bench.race import OURS, Contest, Side, race, row
from seqlab.bench.rows import Row


@dataclass(frozen=True)
class Runs:
    """Each of `runs` has the fields of a spec."""

    runs: Sequence[Mapping[str, Any]]

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job("runs", self._measure)

    def _measure(self, context: Context) -> list[Row]:
        contests = [
            Contest(
                {name: str(value) for name, value in spec.items()},
                [Side(OURS, partial(seqlab.run, **spec))],
            )
            for spec in self.runs
        ]
        race(contests, context.timing)
        return [row(contest, 1.0) for contest in contests]
