"""What a figure is asked for, and what is drawn where the user left it open: of training its
success, of other runs their reach."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from seqlab.errors import InputError
from seqlab.figures.gather import Where
from seqlab.figures.names import (
    COORDINATES,
    MEASURES,
    OF_TRAINING,
    PART,
    PIECES,
    RELATIVE,
    Measure,
    check_axis,
    measure,
)
from seqlab.numbers.quantities import is_training
from seqlab.report.drawable import KINDS as KINDS
from seqlab.report.measured import Measured
from seqlab.wording import one_of, refuse

Results = Measured | Iterable[Measured]


@dataclass(frozen=True)
class Request:
    """What the user asked for; None leaves a choice to the figure.

    `x` and `y` are fields or coordinates: of a heatmap the columns and rows, of curves and
    distributions the axis and what colours tell apart; a histogram has `y` alone. `facet` has a
    panel for each value, where there are `panels` at all.
    """

    kind: str = "heatmap"
    x: str | None = None
    y: str | None = None
    facet: str | None = None
    value: str = "log10_attenuation"
    where: Where = field(default_factory=dict)
    panels: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind: {self.kind!r} is not drawn; {', '.join(KINDS)}")
        taken: dict[str, str] = {}
        for option, name in self.given.items():
            check_axis(option, name)
            if name in taken:
                raise InputError(f"{option}: {name} is the field of {taken[name]} already")
            taken[name] = option
        if self.kind == "profile" and (self.x or self.y):
            raise InputError("x, y: a profile has lag and length as its axes; facet is free")
        if self.kind == "profile" and self.measure.quantity.learned:
            raise refuse("kind", self.kind, f"heatmap or curves beside value {self.value}")
        if self.kind == "histogram" and self.x:
            raise InputError("x: a histogram has its values there; y and facet are free")
        fields = OF_TRAINING if self.measure.of_training else {}
        if self.kind != "heatmap" and self.y in COORDINATES and self.y not in fields:
            raise InputError(f"y: {self.y} cannot tell {self.kind} apart; a field can")
        if self.facet in COORDINATES and self.facet not in fields:
            raise InputError(f"facet: {self.facet} cannot be spread over panels; a field can")
        if self.kind == "distribution" and self.x in ("lag", "update"):
            raise InputError(f"x: a distribution is not drawn against {self.x}; length or a field")
        for pieces in PIECES:
            if pieces in self.asked_for and self.measure.pieces != pieces:
                fit = [name for name, one in MEASURES.items() if one.pieces == pieces]
                raise refuse("value", self.value, f"{one_of(fit)} beside {pieces}")

    @property
    def given(self) -> dict[str, str]:
        """The fields asked for, by option."""
        return {name: v for name in ("x", "y", "facet") if (v := getattr(self, name)) is not None}

    @property
    def asked_for(self) -> set[str]:
        """The fields that have a place or are chosen from."""
        return {*self.given.values(), *self.where}

    @property
    def apart(self) -> str | None:
        """What each run is taken apart into, one of PIECES, None where it stays whole."""
        return None if self.asked_for.isdisjoint(PIECES) else self.measure.pieces

    @property
    def measure(self) -> Measure:
        return measure(self.value)

    @property
    def coordinates(self) -> set[str]:
        """What to read before the choice is made: enough for it, and most often for the figure."""
        named, own = set(self.given.values()), set(self.measure.coordinates)
        if self.measure.quantity.learned:
            return named & own or own
        asked = named & {"length", "lag"}
        if asked or not own:
            return asked
        by_lag = self.kind in ("curves", "histogram") and self.x is None
        return {"lag"} if by_lag else {"length"}


def each(results: Results) -> Iterable[Measured]:
    """One result as a list of it; several such that they can be read twice."""
    if hasattr(results, "variables"):
        return [cast(Measured, results)]
    return list(results) if iter(results) is results else results


def resolve_request(results: Results, **given: Any) -> Request:
    """What was asked for, as `Request` has it; where neither value nor kind was, what tells most.

    Of training alone: the share of networks that learn each length, or for one length their losses.
    Raises InputError.
    """
    if "value" not in given and (value := _value(each(results), given)) is not None:
        given["value"] = value
    if "kind" not in given and "value" in given:
        found = measure(given["value"])
        map_of_reach = {"update", "lag"} <= set(found.coordinates) & _named(given)
        if found.quantity.learned and not map_of_reach:
            given["kind"] = "curves"
    return Request(**given)


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
