"""What is drawn where the user left it open: of training its success, of other runs their reach."""

from collections.abc import Iterable
from typing import Any

from seqlab.figures.choose import Asked
from seqlab.figures.names import PART, RELATIVE, measure
from seqlab.numbers.quantities import is_training
from seqlab.report.measured import Measured


def ask(results: Iterable[Measured], **given: Any) -> Asked:
    """What was asked for, as `Asked` has it; where neither value nor kind was, what tells most.

    Of training alone: the share of networks that learn each length, or for one length their losses.
    Raises InputError.
    """
    if "value" not in given and (value := _value(results, given)) is not None:
        given["value"] = value
    if "kind" not in given and "value" in given:
        found = measure(given["value"])
        map_of_reach = {"update", "lag"} <= set(found.coordinates) & _named(given)
        if found.quantity.learned and not map_of_reach:
            given["kind"] = "curves"
    return Asked(**given)


def _value(results: Iterable[Measured], given: dict[str, Any]) -> str | None:
    """A measure of training that has the axes asked for, None for what every run has."""
    axes = _named(given)
    if "update" in axes:
        return "log10_attenuation_traced" if "lag" in axes else "loss"
    if RELATIVE in axes:
        return "updates_to_solve"
    if axes & {"lag", PART} or PART in given.get("where", {}) or given.get("kind") == "profile":
        return None
    lengths = 0
    for result in results:
        if not is_training(result.variables):
            return None
        lengths = max(lengths, len(result.spec.lengths))
    if not lengths:
        return None
    return "solved_share" if lengths > 1 else "loss"


def _named(given: dict[str, Any]) -> set[str]:
    return {given[option] for option in ("x", "y", "facet") if given.get(option)}
