"""Results in a folder: a file that is added to job by job, so that a run can be taken up again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from seqlab.bench.machine import GPU
from seqlab.bench.rows import Row
from seqlab.errors import InputError

DATA = "results.json"
FORMAT = 2


@dataclass(frozen=True)
class Finished:
    """What one job measured, or why it failed; `when` it ended (UTC), after how many seconds."""

    rows: list[Row]
    failure: str | None
    seconds: float
    when: str


@dataclass(frozen=True)
class Measured:
    """One machine's finished jobs, by full name."""

    machine: Mapping[str, str]
    jobs: dict[str, Finished]

    def rows(self, case: str) -> list[Row]:
        """The rows of a case's finished jobs."""
        return [
            row
            for name, job in self.jobs.items()
            if name.partition("/")[0] == case
            for row in job.rows
        ]

    def to_dict(self) -> dict[str, Any]:
        """As JSON keeps it."""
        jobs = {
            name: {**vars(job), "rows": [row.to_dict() for row in job.rows]}
            for name, job in self.jobs.items()
        }
        return {"machine": dict(self.machine), "jobs": jobs}


@dataclass(frozen=True)
class Results:
    """What was measured in a folder, by machine class: one machine of each."""

    classes: dict[str, Measured]

    @classmethod
    def open(cls, folder: Path, machine_class: str, machine: Mapping[str, str]) -> Self:
        """What the folder has, with room for a machine of this class.

        Raises InputError for a damaged file, and for one with results of another machine of the
        class or of other versions: what stands in one table was measured alike. So too for a GPU's
        results beside a processor's, which are those of other cases.
        """
        path = folder / DATA
        if not path.exists():
            return cls({machine_class: Measured(machine, {})})
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            classes = {name: _measured(**one) for name, one in _classes(data, machine_class)}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"out: {path} is damaged; delete it or choose another") from None
        if any((name == GPU) != (machine_class == GPU) for name in classes):
            raise InputError(
                f"out: {path} has results of {', '.join(classes)}, and this is {machine_class}; "
                "choose another folder"
            )
        before = classes.setdefault(machine_class, Measured(machine, {})).machine
        for name in sorted(before.keys() | machine.keys()):
            if before.get(name) != machine.get(name):
                raise InputError(
                    f"out: {path} has {machine_class} measured with {name} {before.get(name)}, and "
                    f"here it is {machine.get(name)}; choose another folder"
                )
        return cls(classes)

    def write(self, folder: Path) -> None:
        """Write the file."""
        classes = {name: measured.to_dict() for name, measured in self.classes.items()}
        text = json.dumps({"format": FORMAT, "classes": classes}, indent=1)
        (folder / DATA).write_text(text + "\n", encoding="utf-8")


def _classes(data: dict[str, Any], machine_class: str) -> list[tuple[str, dict[str, Any]]]:
    """Each class and what its machine measured.

    The first format had one machine's results without its class; that machine is this one, else
    they are refused.
    """
    if "format" not in data:
        return [(machine_class, data)]
    if data["format"] != FORMAT:
        raise ValueError
    return list(data["classes"].items())


def _measured(machine: dict[str, str], jobs: dict[str, dict]) -> Measured:
    return Measured(machine, {name: _finished(**job) for name, job in jobs.items()})


def _finished(rows: list[dict], failure: str | None, seconds: float, when: str) -> Finished:
    return Finished([Row(**row) for row in rows], failure, seconds, when)
