"""What a figure must say of what it draws: where values stand, and which runs it takes as one."""

import shlex
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from seqlab.errors import Note
from seqlab.figures.names import FIELDS, RELATIVE, Measure, text
from seqlab.figures.runs import Run
from seqlab.figures.variance import values_of

SAY_LENGTH = {"length", RELATIVE, "steps", "depth"}  # the last length is a run's steps, or depth
QUIET = ("seed",)  # runs that differ in it alone are one ensemble
MOST_SAID = 4  # values of a field


def standing(runs: Sequence[Run], shown: Collection[str], measure: Measure) -> dict[str, Any]:
    """The length and the lag at which values stand, as far as the fields and coordinates `shown`
    do not say it; several as a text."""
    found: dict[str, set[int]] = {}
    if not SAY_LENGTH & {*shown}:
        found["length"] = {
            int(run.fields["length"] if measure.of_training else run.lengths[-1]) for run in runs
        }
    if "lag" in measure.coordinates and not ({"lag"} | SAY_LENGTH - {RELATIVE}) & {*shown}:
        found["lag"] = {int(run.points["lag"][-1]) for run in runs}
    return {name: _one(sorted(values)) for name, values in found.items()}


def _one(values: Sequence[int]) -> int | str:
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def pooled_fields(runs: Sequence[Run], told: Collection[str]) -> dict[str, list[Any]]:
    """The fields in which runs differ that agree on those `told`, and so are drawn as one, with
    their values."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.fields[name] for name in sorted(told)), []).append(run)
    return {
        name: values_of(runs, name)
        for name in FIELDS
        if name not in told
        and name != RELATIVE
        and any(len({run.fields[name] for run in group}) > 1 for group in groups.values())
    }


def note_pooled(runs: Sequence[Run], told: Collection[str]) -> None:
    """Say what is drawn as one, but for seeds, and how to tell it apart."""
    pooled: Mapping[str, list[Any]] = {
        name: values for name, values in pooled_fields(runs, told).items() if name not in QUIET
    }
    if not pooled:
        return
    told_as = [f"{name} {_list_values(values)}" for name, values in pooled.items()]
    first, values = next(iter(pooled.items()))
    choice = f"--where {shlex.quote(f'{first}={text(values[0])}')}"
    warnings.warn(
        f"runs are drawn as one that differ in {'; '.join(told_as)}: choose with {choice}, or tell "
        f"them apart with --facet {first}",
        Note,
        stacklevel=3,
    )


def _list_values(values: Sequence[Any]) -> str:
    some = [text(value) for value in values[:MOST_SAID]]
    return ", ".join([*some, "..."] if len(values) > MOST_SAID else some)
