"""A checklist as a terminal shows it, at most 80 columns wide, and in a JSON document."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.cells import CELLS
from seqlab.learning.optimisers import ADAM_RATE, BETAS, EPS, SGD_RATE
from seqlab.learning.stacks import TRAINED, UPDATES
from seqlab.learning.training_checklist import updates_of
from seqlab.numbers.rules_of_thumb import Line
from seqlab.report.text import Row, fill, grid
from seqlab.spec.kinds import Spec
from seqlab.spec.learn import LearnSpec
from seqlab.tasks import CLASSES

Checked = Mapping[str | None, Sequence[Line]]  # by the clip rule, None where it goes by none

_HEAD = ["number", "rule of thumb", "verdict"]
_TRAINED = (
    f"updates, loss: {UPDATES} updates of the first {TRAINED} networks by SGD (rate {SGD_RATE:g}) "
    f"and by Adam (rate {ADAM_RATE:g}, betas {BETAS[0]:g} and {BETAS[1]:g}, eps {EPS:g}), on the "
    f"stack's inputs in {CLASSES} classes of a linear teacher; softmax cross-entropy of a linear "
    "head; a guess ignores the inputs; medians over networks and updates"
)


class Checklist(list[Line]):
    """The lines of one checklist, which print as a table."""

    def __repr__(self) -> str:
        return text({"": self}, "") if self else "nothing was seen"


def training_note(spec: LearnSpec) -> str:
    """How a checklist of recurrent networks in training was measured."""
    cell, units = CELLS[spec.arch], "units: of the last update's batch"
    if cell.gates is None:
        units = f"units: without meaning here, for {cell.slopes_kept}"
    return (
        f"{updates_of(spec)} updates of {spec.networks} networks by {spec.optimizer} on "
        f"{spec.task}, {spec.sequences} sequences of length {spec.steps}; norms and ratios: "
        "medians over updates and networks, ratios of matrices alone; steps: the shares of the "
        "recurrent parameter's gradient, of the last step's loss alone, before the last update, "
        f"from the first step with a state before it; {units}"
    )


def of_specs(specs: Sequence[Spec], checked: Sequence[Checked]) -> str:
    """What stands below the table of specs of one kind that were checked."""
    titled = {}
    for spec, lists in zip(specs, checked, strict=True):
        for rule, lines in lists.items():
            titled[spec.arch if len(lists) == 1 else f"{spec.arch}, {rule}"] = lines
    told = [training_note(spec) for spec in specs if isinstance(spec, LearnSpec)]
    return text(titled, "\n".join(dict.fromkeys(told)) or _TRAINED)


def by_rule(checked: Checked) -> Any:
    """A spec's checklists in strict JSON's types, by rule where there is one for each."""
    found = {rule: document(lines) for rule, lines in checked.items()}
    return found.get(None, found)


def text(checked: Mapping[str, Sequence[Line]], told: str = _TRAINED) -> str:
    """Checklists by architecture, or by what else tells them apart: numbers first, then what they
    mean here, then once for each rule where it misleads, then how they were measured."""
    rows: list[Row] = []
    notes: list[str] = []
    limits: dict[str, str] = {}
    titled = len(checked) > 1
    for arch, lines in checked.items():
        rows += [(arch, [])] if titled else []
        for line in lines:
            name = f"{line.of}: {line.name}" if line.of else line.name
            cells = [line.shown, line.allowed, line.verdict]
            rows.append((f"  {name}" if titled else name, cells))
            if line.note:
                notes.append(f"{arch}, {name}: {line.note}" if titled else f"{name}: {line.note}")
            limits[line.name] = line.limit
    parts = [
        grid([_HEAD], rows),
        "\n".join(map(fill, notes)),
        "where the rules mislead\n"
        + "\n".join(fill(f"{name}: {limit}") for name, limit in limits.items()),
        fill(told),
    ]
    return "\n\n".join(part for part in parts if part)


def document(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Checklist lines in strict JSON's types: non-finite numbers are "-inf", "inf" and "nan"."""
    found = [line._asdict() for line in lines]
    for one in found:
        if not math.isfinite(one["number"]):
            one["number"] = str(one["number"])
    return found
