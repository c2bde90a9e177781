"""Results in a folder: a file that is added to job by job, so that a run can be taken up again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from seqlab.bench.rows import Row
from seqlab.errors import InputError

DATA = "results.json"


@dataclass(frozen=True)
class Finished:
    """What one job measured, or why it failed; `when` it ended (UTC), after how many seconds."""

    rows: list[Row]
    failure: str | None
    seconds: float
    when: str


@dataclass(frozen=True)
class Results:
    """One machine's finished jobs, by full name."""

    machine: Mapping[str, str]
    jobs: dict[str, Finished]

    @classmethod
    def open(cls, folder: Path, machine: Mapping[str, str]) -> Self:
        """What the folder has, or nothing yet.

        Raises InputError for a damaged file, and for one from another machine or other versions:
        what stands in one table was measured alike.
        """
        path = folder / DATA
        if not path.exists():
            return cls(machine, {})
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            before = data["machine"]
            jobs = {name: _finished(**job) for name, job in data["jobs"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"out: {path} is damaged; delete it or choose another") from None
        for name in sorted(before.keys() | machine.keys()):
            if before.get(name) != machine.get(name):
                raise InputError(
                    f"out: {path} was measured with {name} {before.get(name)}, and here it is "
                    f"{machine.get(name)}; choose another folder"
                )
        return cls(machine, jobs)

    def write(self, folder: Path) -> None:
        """Write the file."""
        jobs = {
            name: {**vars(job), "rows": [row.to_dict() for row in job.rows]}
            for name, job in self.jobs.items()
        }
        text = json.dumps({"machine": dict(self.machine), "jobs": jobs}, indent=1)
        (folder / DATA).write_text(text + "\n", encoding="utf-8")

    def rows(self, case: str) -> list[Row]:
        """The rows of a case's finished jobs."""
        return [
            row
            for name, job in self.jobs.items()
            if name.partition("/")[0] == case
            for row in job.rows
        ]


def _finished(rows: list[dict], failure: str | None, seconds: float, when: str) -> Finished:
    return Finished([Row(**row) for row in rows], failure, seconds, when)
