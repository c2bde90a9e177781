"""What may be put on an axis, how it is spelled, ordered and labelled."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import PurePath
from typing import Any

from seqlab import rules
from seqlab.cells import ACTIVATIONS, INITS
from seqlab.errors import InputError
from seqlab.figures.writing import literal
from seqlab.layers import draws
from seqlab.numbers import spellings
from seqlab.numbers.quantities import in_figures
from seqlab.numbers.quantity import Quantity
from seqlab.report import drawable
from seqlab.report.points import PARTS
from seqlab.spec import kinds, stack_table
from seqlab.spec.learn_table import TIMES
from seqlab.wording import did_you_mean, in_links

# What there is to ask for; see there.
PART, PARAMETER, PIECES = drawable.PART, drawable.PARAMETER, drawable.PIECES
RELATIVE, DRAWN, COORDINATES = drawable.RELATIVE, drawable.DRAWN, drawable.COORDINATES
OF_TRAINING, FIELDS, AXES = drawable.OF_TRAINING, drawable.FIELDS, drawable.AXES
# What tells networks of one cell apart before they are trained.
HOW_DRAWN = (
    *("hidden", "state", "activation", "init", "gain", "input_scale", "forget_bias"),
    *("r_min", "r_max", "max_phase", "decay"),
)

_NORMS = tuple(name.partition(":")[0] for name in stack_table.NORMS)
_RULES = ("none", *rules.AFTER, *rules.IN_CHAIN)
_WITH_NUMBER = (*_RULES, *spellings.WITH_NUMBER, *_NORMS)
_ORDER = {
    name: position
    for names in (
        spellings.NAMES,
        draws.INITS,
        _NORMS,
        kinds.archs(),
        ACTIVATIONS,
        INITS,
        _RULES,
    )
    for position, name in enumerate(names)
}


@dataclass(frozen=True)
class Measure:
    """A number that a figure shows: a quantity, or one of those along its last axis.

    `number` is True where a logarithm's number is meant.
    """

    name: str
    label: str
    quantity: Quantity
    number: bool = False

    @property
    def kind(self) -> str:
        """What it is a scale of: decades, number (from 0 up), rate, lag or updates (inf for never),
        share, amount (above 0)."""
        return "number" if self.number else self.quantity.kind

    @property
    def as_number(self) -> "Measure":
        """What it is the log10 of."""
        label = self.label.removeprefix("log10 ").removesuffix(" (decades)")
        return replace(self, name=self.name.removeprefix("log10_"), label=label, number=True)

    @property
    def mean(self) -> bool:
        """Whether it is averaged over networks, where others have their median taken."""
        return self.quantity.over not in ("median", "survival")

    @property
    def log_axis(self) -> bool:
        """Whether it has no sign and is at home on a log axis."""
        return self.kind in ("lag", "updates", "amount")

    @property
    def interval(self) -> bool:
        """Whether a 95% interval stands beside it, where others have quartiles of networks."""
        return self.quantity.over == "proportion"

    @property
    def of_training(self) -> bool:
        """Whether it is there for each length of training, whose networks are others'."""
        return self.quantity.learned and "length" in self.quantity.dims

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Along what one run has it at many points."""
        if self.quantity.learned:
            dims = [dim.removeprefix("loss_") for dim in self.quantity.dims]
            return tuple(name for name in ("update", "lag") if name in dims)
        return ("length", "lag") if self.quantity.of_curve else ()

    @property
    def along(self) -> str | None:
        """What its curves are drawn against, None for a field."""
        return next((name for name in ("update", "lag", "length") if name in self.axes), None)

    @property
    def axes(self) -> tuple[str, ...]:
        """What may be an axis of it besides the fields of a spec."""
        return (*self.coordinates, *(OF_TRAINING if self.of_training else ()))

    @property
    def pieces(self) -> str | None:
        """What it is taken apart into: what is read off the state's curve is there for each part
        too, and what parameters' gradients are made of for each parameter."""
        if self.coordinates and self.quantity.source == "log_norm":
            return PART
        return PARAMETER if self.quantity.each else None


class Piece(str):
    """The name of a part or a parameter, with its place among all that are drawn."""

    __slots__ = ("place",)
    place: int

    def __new__(cls, name: str, place: int) -> "Piece":
        piece = super().__new__(cls, name)
        piece.place = place
        return piece


MINUS = "\N{MINUS SIGN}"
MEASURES = {
    name: Measure(name, label, quantity)
    for quantity in in_figures(PARTS)
    for name, label in quantity.names.items()
}


def measure(name: str) -> Measure:
    """A measure by its name. Raises InputError."""
    if name not in MEASURES:
        close = did_you_mean(name, MEASURES)
        raise InputError(f"value: {name!r} is not measured; {', '.join(MEASURES)}{close}")
    return MEASURES[name]


def check_axis(option: str, name: str) -> str:
    """A field or coordinate by its name. Raises InputError that begins with the option."""
    if name not in AXES:
        close = did_you_mean(name, AXES)
        raise InputError(f"{option}: {name!r} is no field; {', '.join(AXES)}{close}")
    return name


def label(name: str, archs: Collection[str]) -> str:
    """What an axis says of a field or coordinate, in the words of the kinds of runs drawn."""
    if name in COORDINATES:
        return in_links(COORDINATES[name], kinds.links(archs))
    tables = [kinds.of(arch).table for arch in archs]
    found = dict.fromkeys(table[name].label for table in tables if name in table)
    return " or ".join(filter(None, found)) or AXES[name]


def text(value: Any) -> str:
    """A field's value as a tick or a label writes it."""
    if value is None:
        return "default"
    if value is True:
        return "yes"
    if isinstance(value, Piece):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}".replace("-", MINUS)
    return PurePath(value).name if "/" in str(value) else str(value)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Distinct values as an axis shows them: the default, numbers, names, pieces by their place."""

    def place(value: Any) -> tuple[int, float, float, str]:
        if value is None:
            return 0, 0.0, 0.0, ""
        if isinstance(value, (int, float)):
            return 1, float(value), 0.0, ""
        if isinstance(value, Piece):
            return 3, value.place, 0.0, ""
        name, _, threshold = str(value).partition(":")
        number = threshold.removesuffix(TIMES)
        limit = float(number) if name in _WITH_NUMBER and number else 0.0
        return 2, _ORDER.get(name, len(_ORDER)), limit, str(value)

    return sorted(set(values), key=place)


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether an axis can measure all of them."""
    return all(isinstance(value, Real) for value in values)


def named(field: str, value: Any, archs: Collection[str] = ()) -> str:
    """A field and its value, as short as it is clear, as a figure of `archs` writes them: beside a
    curve on two lines, if it is long."""
    if field == "length" and kinds.links(archs) == ("layer",):
        field = "depth"
    name = "" if field in ("arch", "name", *PIECES, DRAWN) else f"{field.replace('_', ' ')} "
    return name + literal(text(value), lines=2)
