"""The cases file, read and checked: what to measure, and what is hoped for."""

import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqlab.bench import contests, growth, processes, runs, shares
from seqlab.bench.jobs import Job
from seqlab.bench.machine import CLASSES
from seqlab.bench.race import Timing
from seqlab.bench.rows import Label, Row
from seqlab.errors import InputError

BUILT_IN = Path(__file__).with_name("cases.toml")
ON_GPU = Path(__file__).with_name("cases-cuda.toml")
KINDS: dict[str, Callable[..., Any]] = {
    "study": contests.Study,
    "gradients": contests.Gradients,
    "scan": contests.Scan,
    "stacks": contests.Stacks,
    "training": contests.Training,
    "runs": runs.Runs,
    "startup": processes.Startup,
    "long": processes.Long,
    "threads": growth.Threads,
    "growth": growth.Growth,
    "floor": shares.Floor,
    "shares": shares.Shares,
    "scan-share": shares.ScanShare,
}
TAKES: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "geometric mean": lambda values: math.exp(sum(map(math.log, values)) / len(values)),
}


@dataclass(frozen=True)
class Case:
    """One table: its jobs by full name, "case/job"."""

    name: str
    title: str
    text: str
    jobs: Mapping[str, Job]


@dataclass(frozen=True)
class Goal:
    """How far a number must get, and how far it is hoped to. Smaller is better where the aim is
    smaller than the must."""

    must: float
    aim: float

    def reached(self, value: float) -> str:
        """aim, must or missed."""
        sign = 1 if self.aim >= self.must else -1
        reached = [name for name in ("aim", "must") if sign * value >= sign * getattr(self, name)]
        return reached[0] if reached else "missed"


@dataclass(frozen=True)
class Target:
    """A number wanted of one case: `take` over the rows that match `where`; how large by machine
    class, and of any class that has no goal of its own."""

    what: str
    case: str
    column: str
    take: str
    on: Mapping[str, Goal]
    otherwise: Goal | None = None
    where: Mapping[str, Label | list[Label]] = field(default_factory=dict)

    def goal(self, machine_class: str) -> Goal | None:
        """What is wanted of a machine class, None where nothing is."""
        return self.on.get(machine_class, self.otherwise)

    def measured(self, rows: Iterable[Row]) -> float | None:
        """The number, None where it was not measured."""
        matching = [row for row in rows if row.matches(self.where)]
        values = [row.value(self.column) for row in matching if row.has(self.column)]
        return TAKES[self.take](values) if values else None

    def verdict(self, value: float | None, machine_class: str) -> str:
        """How far it got: aim, must, missed, not measured, or that the class has no target."""
        if value is None:
            return "not measured"
        goal = self.goal(machine_class)
        return "no target" if goal is None else goal.reached(value)


@dataclass(frozen=True)
class Suite:
    """A whole cases file."""

    timing: Timing
    cases: Sequence[Case]
    targets: Sequence[Target]

    def select(self, only: Sequence[str]) -> dict[str, Job]:
        """Jobs by full name: all, or those of the named cases and the named jobs themselves.

        Raises InputError for a name that there is not.
        """
        every = {name: job for case in self.cases for name, job in case.jobs.items()}
        for name in only:
            if not any(_within(full, name) for full in every):
                known = ", ".join(case.name for case in self.cases)
                raise InputError(f"only: {name!r} is unknown; allowed: {known}, or {known}/JOB")
        chosen = [n for n in every if not only or any(_within(n, name) for name in only)]
        return {name: every[name] for name in chosen}


def _within(full: str, name: str) -> bool:
    return full == name or full.startswith(name + "/")


def read(path: Path = BUILT_IN) -> Suite:
    """Read a cases file. Raises InputError where it is not one."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        timing = Timing(**data.pop("timing"))
        cases = [_case(**fields) for fields in data.pop("case")]
        targets = [_target(**fields) for fields in data.pop("target", [])]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InputError(f"cases: {path} cannot be used: {error}") from None
    if data:
        raise InputError(f"cases: {path} has {next(iter(data))!r}; allowed: timing, case, target")
    return Suite(timing, cases, targets)


def _case(name: str, kind: str, title: str, text: str = "", **fields: Any) -> Case:
    if kind not in KINDS:
        raise InputError(f"kind: {kind!r} is unknown; allowed: {', '.join(KINDS)}")
    return Case(name, title, text, {f"{name}/{j.name}": j for j in KINDS[kind](**fields).jobs()})


def _target(
    must: float | None = None,
    aim: float | None = None,
    on: Mapping[str, Mapping[str, float]] | None = None,
    **fields: Any,
) -> Target:
    goals = {name: Goal(**goal) for name, goal in (on or {}).items()}
    for name in goals:
        if name not in CLASSES:
            raise InputError(f"on: {name!r} is unknown; allowed: {', '.join(CLASSES)}")
    if must is None or aim is None:
        if must is not aim or not goals:
            raise TypeError(f"target {fields.get('what')!r} needs must and aim")
        return Target(on=goals, **fields)
    return Target(on=goals, otherwise=Goal(must, aim), **fields)
