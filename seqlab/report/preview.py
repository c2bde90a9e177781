"""What a sweep would do, and take, before it starts."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from seqlab.report.text import fill, size
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec
from seqlab.spec.option import noteworthy
from seqlab.spec.study import StudySpec
from seqlab.wording import describe_settings, lasting

FIRST = 3  # specs that a preview shows


def preview_text(study: StudySpec, folder: Path, todo: Sequence[Spec], threads: int) -> str:
    """Text for a study whose runs `todo` this store lacks; at most 80 columns."""
    found = len(study.runs) - len(todo)
    lines = [fill(f"{study.name}: {len(study.runs)} runs, {found} of them in {folder}")]
    if todo:
        time = lasting(sum(kinds.cost(spec).seconds(spec, threads) for spec in todo))
        largest = max(todo, key=_memory)
        disk = sum(kinds.cost(spec).file_bytes(spec) for spec in todo)
        lines += [
            f"time    about {time} on this machine's {threads} threads, give or take a factor of 2",
            fill(f"memory  {size(_memory(largest))}, for {study.label(largest)}"),
            f"disk    {size(disk)}",
            "first runs:" if len(todo) > 1 else "the run:",
            *(fill(f"  {_settings(spec)}") for spec in islice(todo, FIRST)),
        ]
    return "\n".join(lines)


def _memory(spec: Spec) -> int:
    return kinds.cost(spec).memory_bytes(spec)


def _settings(spec: Spec) -> str:
    table = kinds.of_spec(spec).table
    return describe_settings(noteworthy(table, {name: getattr(spec, name) for name in table}))
