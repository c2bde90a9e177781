"""Curves, from pooled networks: what each is called, where it lies, how it is told apart."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.figures.choose import Choice, Selection
from seqlab.figures.gather import Series
from seqlab.figures.names import PIECES, RELATIVE, are_numbers, named
from seqlab.figures.runs import Run
from seqlab.figures.style import Color, palette, ramp
from seqlab.figures.variance import values_of
from seqlab.numbers.quantity import LN10
from seqlab.numbers.statistics import quantile
from seqlab.spec import kinds

LEAST_OF_RAMP = 3  # numbers
FIRST_FREE = 3  # of the palette: the colours before are too near to the ramp's


@dataclass(frozen=True)
class Curve:
    """One line: a measure's middle and quartiles over networks at each x.

    A value of x that is no number lies at its place among all. `theory` is what was predicted, nan
    where nothing was: of a stack's curve its end alone, for layers are not alike as steps are. Of
    rules that share it one is `predicted`. Of training, against length: the `horizon` of the
    networks as they are drawn, and the length that half of them learn. `at_most` says where x is
    only known not to be beyond; `levels` are numbers that values are held to, by name.
    """

    label: str
    rule: str
    networks: int
    x: NDArray
    low: NDArray
    value: NDArray
    high: NDArray
    theory: NDArray
    predicted: bool
    color: Color
    stroke: int
    horizon: float = math.nan
    learnable: float = math.nan
    at_most: NDArray | None = None
    levels: tuple[tuple[str, float], ...] = ()

    @property
    def fate(self) -> str:
        """What a label must add where a curve does not end in a number."""
        end = self.value[-1]
        if np.isfinite(end):
            return ""
        return " (nan)" if np.isnan(end) else " (zero)" if end < 0 else " (overflow)"

    def broken(self) -> "Curve":
        """It with a gap where zeros end: a part that no gradient had reached does not rise."""
        zero = np.isneginf(self.value)
        after = 1 + np.flatnonzero(zero[:-1] & ~zero[1:])
        if not after.size:
            return self
        arrays = (self.x, self.low, self.value, self.high, self.theory)
        x, low, value, high, theory = np.insert(np.array(arrays, float), after, np.nan, axis=1)
        return replace(self, x=x, low=low, value=value, high=high, theory=theory)

    def same_band(self, other: "Curve") -> bool:
        return np.array_equal([self.low, self.high], [other.low, other.high], equal_nan=True)


def read_curves(selection: Selection, series: Sequence[Series]) -> list[Curve]:
    """The lines of one panel, back to front. Colours tell `y` apart, strokes the rules.

    A value has the same colour and a rule the same stroke in every panel.
    """
    choice, runs = selection.choice, selection.runs
    colors = _colors(choice.y, runs)
    rules = list(selection.alike) if "clip" in (choice.y, choice.stroke) else []
    lines: dict[tuple[Any, Any], list[Series]] = {}
    for one in series:
        if rules and one.key["clip"] not in rules:
            continue
        told = one.key[choice.y] if choice.y else None
        lines.setdefault((told, one.key["clip"] if rules else None), []).append(one)
    words = _words_among_numbers(colors)  # in grey as dark as one of these
    whole = "layer" in kinds.links(selection.archs)
    places = {
        part: (list(colors).index(part[0]), rules.index(part[1]) if rules else 1) for part in lines
    }
    return [
        _curve(
            lines[part],
            choice,
            values_of(runs, choice.x) if choice.x not in choice.coordinates else [],
            label=_name(choice.y, _whole(part[0], selection), runs),
            rule=str(_whole(part[1], selection)),
            color=colors[part[0]],
            stroke=stroke if len(rules) > 1 else 1 + (part[0] in words),
            predicted=stroke == 0 or len(rules) < 2,
            whole=whole,
            learnable=_learnable(lines[part], selection),
        )
        for part, (_, stroke) in sorted(places.items(), key=lambda item: item[1])
    ]


def _colors(field: str | None, runs: Sequence[Run]) -> dict[Any, Color]:
    """Numbers have the colours of a ramp, unless they are few; words have their own.

    Pieces, which have an order, are told apart in grey by a ramp too.
    """
    values = values_of(runs, field) if field else [None]
    if field in PIECES and len(values) >= LEAST_OF_RAMP:
        return dict(zip(values, ramp(len(values)), strict=True))
    numbers = [value for value in values if are_numbers([value])]
    if len(numbers) < LEAST_OF_RAMP:
        return dict(zip(values, palette(len(values)), strict=True))
    words = _words_among_numbers(values)
    shades = palette(FIRST_FREE + len(words))[FIRST_FREE:]
    found = dict(zip([*numbers, *words], [*ramp(len(numbers)), *shades], strict=True))
    return {value: found[value] for value in values}


def _words_among_numbers(values: Collection[Any]) -> list[Any]:
    """The others, where numbers are so many that they have a ramp."""
    words = [value for value in values if not are_numbers([value])]
    return words if len(values) - len(words) >= LEAST_OF_RAMP else []


def _whole(value: Any, selection: Selection) -> Any:
    """A rule with all that are alike; anything else as it is."""
    return selection.alike.get(value, value)


def _name(field: str | None, value: Any, runs: Sequence[Run]) -> str:
    cells = ", ".join(map(str, values_of(runs, "arch")))
    if field is None:
        return cells
    if field == "clip" and "," not in cells:
        return f"{cells}, {value}"
    return named(field, value, values_of(runs, "arch"))


def _curve(
    series: Sequence[Series],
    choice: Choice,
    order: Sequence[Any],
    label: str,
    rule: str,
    color: Color,
    stroke: int,
    predicted: bool,
    whole: bool,
    learnable: float,
) -> Curve:
    """A line through the points of one series, or through many series of one point.

    `whole` says that theory is of whole chains, not of each length or lag.
    """
    if choice.x in choice.coordinates:
        x = series[0].points[choice.x]
    else:
        series = sorted(series, key=lambda one: order.index(one.key[choice.x]))
        numbers = are_numbers(order)
        x = np.array([k if numbers else order.index(k) for k in (s.key[choice.x] for s in series)])

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(one, name) for one in series])

    return Curve(
        label=label,
        rule=rule,
        networks=int(joined("networks").max()),
        x=x,
        low=joined("low"),
        value=joined("value"),
        high=joined("high"),
        theory=_theory(series, choice, x, whole) if predicted else np.full(x.shape, np.nan),
        predicted=predicted,
        color=color,
        stroke=stroke,
        horizon=float(quantile([one.horizon for one in series], 0.5)),
        learnable=learnable,
        at_most=np.isinf([one.horizon for one in series]) if choice.x == RELATIVE else None,
        levels=tuple({level for one in series for level in one.levels}),
    )


def _learnable(series: Sequence[Series], selection: Selection) -> float:
    found = selection.learnable.get(selection.values_told_apart(series[0].key))
    return math.nan if found is None or found.length is None else found.length


def _theory(series: Sequence[Series], choice: Choice, x: NDArray, whole: bool) -> NDArray:
    rates = np.concatenate([np.full(one.value.shape, one.theory) for one in series])
    if whole and choice.x in choice.coordinates:
        rates = np.where(x == x.max(), rates, np.nan)
    if choice.measure.quantity.name == "log_norm" and choice.x in choice.coordinates:
        return np.exp(rates * x) if choice.measure.number else rates * x / LN10
    return rates if choice.measure.name == "decay_rate" else np.full(rates.shape, np.nan)
