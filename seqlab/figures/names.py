"""What may be put on an axis, how it is spelled, ordered and labelled."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import PurePath
from typing import Any

from seqlab import rules
from seqlab.cells import ACTIVATIONS, INITS
from seqlab.errors import InputError
from seqlab.figures.writing import literal
from seqlab.spec import kinds
from seqlab.spec.option import labels
from seqlab.wording import did_you_mean

# Fields of a grid, with the labels of their axes; those that tell more come first.
FIELDS = labels(kinds.options())
# Coordinates of a curve.
COORDINATES = {"length": "sequence length (steps)", "lag": "lag (steps back from the loss)"}
AXES = FIELDS | COORDINATES

_RULES = ("none", *rules.AFTER, *rules.IN_CHAIN)
_ORDER = {
    name: position
    for names in (kinds.archs(), ACTIVATIONS, INITS, _RULES)
    for position, name in enumerate(names)
}


@dataclass(frozen=True)
class Measure:
    """A number that a figure shows.

    `kind` says what it is a scale of: decades, rates and exponents have a sign, lags are counted
    in steps and may be "never" (inf), shares lie between 0 and 1. `mean`: averaged over networks
    where others have their median taken. `variable` is its name in a result.
    """

    name: str
    label: str
    kind: str
    variable: str
    mean: bool = False

    @property
    def of_curve(self) -> bool:
        """Whether it is there at every lag of every length, not once a run."""
        return self.variable.startswith("log_norm")


MINUS = "\N{MINUS SIGN}"
_PARTS = {"": "state", "_hidden": "hidden part", "_cell": "cell part", "_input": "input"}
MEASURES = {
    measure.name: measure
    for measure in (
        *(
            Measure(
                f"log10_attenuation{part}",
                f"log10 gradient of the {name} (decades)"
                if part
                else "log10 attenuation (decades)",
                "decades",
                f"log_norm{part}",
            )
            for part, name in _PARTS.items()
        ),
        Measure("decay_rate", "decay rate (nat/step)", "rate", "log_norm", mean=True),
        Measure("zero_share", "share of networks exactly zero", "share", "log_norm", mean=True),
        Measure(
            "underflow_share", "share of networks under the range", "share", "log_norm", mean=True
        ),
        Measure("overflow_share", "share of networks not finite", "share", "log_norm", mean=True),
        *(
            Measure(f"horizon_{t}", f"horizon at {t} (steps)", "lag", "horizon")
            for t in ("1e-1", "1e-3", "1e-6")
        ),
        *(
            Measure(
                f"{dtype}_zero_lag", f"{dtype} zero from lag (steps)", "lag", f"{dtype}_zero_lag"
            )
            for dtype in ("float32", "float64")
        ),
        Measure("fit_rate", "rate of the exponential fit (nat/step)", "rate", "fit_rate"),
        Measure("fit_exponent", "exponent of the power-law fit", "rate", "fit_exponent"),
        Measure("clipped_fraction", "share clipped", "share", "clipped_fraction", mean=True),
        *(
            Measure(
                f"log10_param_grad_norm_{when}",
                f"log10 gradient norm {when} clipping (decades)",
                "decades",
                f"log_param_grad_norm_{when}",
            )
            for when in ("before", "after")
        ),
        Measure("theory", "predicted rate (nat/step)", "rate", "theory", mean=True),
        Measure(
            "lyapunov_1", "largest Lyapunov exponent (nat/step)", "rate", "lyapunov", mean=True
        ),
    )
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


def text(value: Any) -> str:
    """A field's value as a tick or a label writes it."""
    if value is None:
        return "default"
    if isinstance(value, float):
        return f"{value:g}".replace("-", MINUS)
    return PurePath(value).name if "/" in str(value) else str(value)


def in_order(values: Sequence[Any]) -> list[Any]:
    """Distinct values as an axis shows them: the default, numbers, then names."""

    def place(value: Any) -> tuple[int, float, float, str]:
        if value is None:
            return 0, 0.0, 0.0, ""
        if isinstance(value, (int, float)):
            return 1, float(value), 0.0, ""
        name, _, threshold = str(value).partition(":")
        limit = float(threshold) if name in _RULES and threshold else 0.0
        return 2, _ORDER.get(name, len(_ORDER)), limit, str(value)

    return sorted(set(values), key=place)


# Decades below which a gradient that was 1 at lag 0 is exactly zero in plain floats.
ZERO_BELOW = {"float32": -149 * math.log10(2), "float64": -1074 * math.log10(2)}


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether an axis can measure all of them."""
    return all(isinstance(value, Real) for value in values)


def named(field: str, value: Any) -> str:
    """A field and its value, as short as it is clear, as a figure writes them."""
    name = "" if field == "arch" else f"{field.replace('_', ' ')} "
    return name + literal(text(value))
