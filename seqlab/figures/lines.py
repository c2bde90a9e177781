"""Curves: a measure against lag, length or any field, with its quartiles and what theory says."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from seqlab.figures.choose import Asked, Choice, Selection, select, values_of
from seqlab.figures.gather import LN10, Result, Run, Series, Where, points_of
from seqlab.figures.labels import Label, fit, merged, spacing, write
from seqlab.figures.names import COORDINATES, ZERO_BELOW, named
from seqlab.figures.scales import Scale, mark, mark_log, measuring
from seqlab.figures.style import (
    GREY,
    INK,
    SMALL,
    WIDTHS,
    Color,
    pale,
    palette,
    points,
    ramp,
    style,
)

HEIGHT = 2.8  # inches
MOST_DOTS = 40  # points of a curve that are marked
THEORY: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 3))}

# How rules are told apart, back to front. The first is wide and pale, the others narrow on top of
# it: curves that coincide, as those of most rules do where nothing explodes, stay visible.
STROKES: tuple[tuple[float, Any], ...] = (
    (3.2, "-"),
    (1.1, "-"),
    (1.4, (0, (1, 1.2))),
    (1.2, (0, (5, 1.5, 1, 1.5))),
    (1.2, (0, (3, 1.2, 1, 1.2, 1, 1.2))),
    (1.2, (0, (2.5, 1.2))),
)


@dataclass(frozen=True)
class Curve:
    """One line: a measure's middle and quartiles over networks at each x.

    `theory` is what was predicted for it, nan where nothing was.
    """

    label: str
    rule: str
    networks: int
    x: NDArray
    low: NDArray
    value: NDArray
    high: NDArray
    theory: NDArray
    color: Color
    stroke: int

    @property
    def fate(self) -> str:
        """What a label must add where a curve does not end in a number."""
        end = self.value[-1]
        if np.isfinite(end):
            return ""
        return " (nan)" if np.isnan(end) else " (zero)" if end < 0 else " (overflow)"

    def same_band(self, other: "Curve") -> bool:
        return np.array_equal([self.low, self.high], [other.low, other.high], equal_nan=True)


def curves(
    results: Iterable[Result],
    ax: Axes | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    value: str = "log10_attenuation",
    where: Where | None = None,
    xscale: str | None = None,
) -> Axes:
    """Draw a measure against lag, length or a field, a colour for each value of `y`; returns `ax`.

    Line and band: median (of rates and shares the mean) and quartiles over networks, for each
    clip rule. Dashed: the predicted rate. A curve along the lower edge is exactly zero, one along
    the upper edge has overflowed. Against lag, the loss of the longest length is followed back.
    Raises InputError where there is nothing to draw.
    """
    selection = select(
        results, Asked("curves", x=x, y=y, value=value, where=where or {}, panels=False)
    )
    with style():
        size = (WIDTHS["single"].inches, HEIGHT)
        axes = ax or Figure(figsize=size, layout="constrained").subplots()
        drawn = read_curves(selection, selection.series)
        scale = scale_of(selection, xscale)
        axes.set(xlabel=scale.label, ylabel=selection.choice.measure.label)
        axes.set_ylim(*limits(drawn, selection.choice))
        draw(axes, drawn, selection.choice, scale)
        name_zeros(axes, selection.choice)
        handles = [*key(drawn), *label(axes, drawn)]
        if handles:
            axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return axes


def scale_of(selection: Selection, kind: str | None) -> Scale:
    """The horizontal axis; "log" or "linear" overrides its sort where it is numbers."""
    x = selection.choice.x
    if x not in COORDINATES:
        return measuring(x, values_of(selection.runs, x), kind)
    return measuring(x, points_of(selection.series, x), kind)


def read_curves(selection: Selection, series: Sequence[Series]) -> list[Curve]:
    """The lines of one panel, back to front. Colours tell `y` apart, strokes the rules.

    A value has the same colour and a rule the same stroke in every panel.
    """
    choice, runs = selection.choice, selection.runs
    colors = _colors(choice.y, runs)
    rules = values_of(runs, "clip") if "clip" in (choice.y, choice.stroke) else []
    lines: dict[tuple[Any, Any], list[Series]] = {}
    for one in series:
        told = one.key[choice.y] if choice.y else None
        lines.setdefault((told, one.key["clip"] if rules else None), []).append(one)
    places = {
        part: (list(colors).index(part[0]), rules.index(part[1]) if rules else 1) for part in lines
    }
    return [
        _curve(
            sorted(lines[part], key=lambda one: _place(one, choice.x)),
            choice,
            label=_name(choice.y, part[0], runs),
            rule=str(part[1]),
            color=colors[part[0]],
            stroke=stroke if len(rules) > 1 else 1,
            theory=stroke == 0 or len(rules) < 2,
        )
        for part, (_, stroke) in sorted(places.items(), key=lambda item: item[1])
    ]


def _colors(field: str | None, runs: Sequence[Run]) -> dict[Any, Color]:
    values = values_of(runs, field) if field else [None]
    numbers = len(values) > 2 and all(isinstance(value, (int, float)) for value in values)
    return dict(zip(values, (ramp if numbers else palette)(len(values)), strict=True))


def _name(field: str | None, value: Any, runs: Sequence[Run]) -> str:
    cells = ", ".join(map(str, values_of(runs, "arch")))
    if field is None:
        return cells
    return f"{cells}, {value}" if field == "clip" else named(field, value)


def _place(one: Series, field: str) -> Any:
    return 0 if field in COORDINATES else one.key[field]


def _curve(
    series: Sequence[Series],
    choice: Choice,
    label: str,
    rule: str,
    color: Color,
    stroke: int,
    theory: bool,
) -> Curve:
    """A line through the points of one series, or through many series of one point."""

    def joined(name: str) -> NDArray:
        return np.concatenate([getattr(one, name) for one in series])

    if choice.x in COORDINATES:
        x = series[0].points[choice.x]
    else:
        x = np.array([one.key[choice.x] for one in series])
    return Curve(
        label=label,
        rule=rule,
        networks=int(joined("networks").max()),
        x=x,
        low=joined("low"),
        value=joined("value"),
        high=joined("high"),
        theory=_theory(series, choice, x) if theory else np.full(x.shape, np.nan),
        color=color,
        stroke=stroke,
    )


def _theory(series: Sequence[Series], choice: Choice, x: NDArray) -> NDArray:
    rates = np.concatenate([np.full(one.value.shape, one.theory) for one in series])
    if choice.measure.name == "log10_attenuation" and choice.x in COORDINATES:
        return rates * x / LN10
    return rates if choice.measure.name == "decay_rate" else np.full(rates.shape, np.nan)


def stroke_of(color: Color, stroke: int) -> dict[str, Any]:
    """How a line is drawn."""
    linewidth, linestyle = STROKES[stroke % len(STROKES)]
    shade = pale(color) if stroke == 0 else color
    return {"color": shade, "linewidth": points(linewidth), "linestyle": linestyle}


def draw(ax: Axes, drawn: Sequence[Curve], choice: Choice, scale: Scale) -> None:
    """Lines, bands and theory, on axes whose limits are set."""
    lags = choice.measure.kind == "lag"
    bounds = ax.get_ylim()
    ax.set(yscale="log" if lags else "linear", ylim=bounds)
    frame(ax, scale)
    if lags:
        mark_log(ax, "y")
    for level in _zero_levels(ax, choice).values():
        ax.axhline(level, color=GREY, linewidth=points(0.6), zorder=1)
    for k, curve in enumerate(drawn):
        x = scale.place(curve.x)
        dots = "o" if x.size < MOST_DOTS else ""
        if not any(curve.same_band(earlier) for earlier in drawn[:k]):
            low, high = _shown(curve.low, ax), _shown(curve.high, ax)
            ax.fill_between(x, low, high, color=curve.color, alpha=0.2, linewidth=0, zorder=2)
        ax.plot(
            x,
            _shown(curve.value, ax),
            marker=dots,
            markersize=points(3),
            zorder=3,
            **stroke_of(curve.color, curve.stroke),
        )
        if np.isfinite(curve.theory).any():
            ax.plot(x, curve.theory, zorder=4, linewidth=points(0.8), **THEORY)


def _shown(values: NDArray, ax: Axes) -> NDArray:
    """Values with infinities moved just inside the limits, beyond everything finite."""
    to_axes = ax.transScale.transform
    bottom, top = to_axes([[1, y] for y in ax.get_ylim()])[:, 1]
    inset = 0.01 * (top - bottom)
    low, high = ax.transScale.inverted().transform([[0, bottom + inset], [0, top - inset]])[:, 1]
    return np.clip(values, low, high)


def frame(ax: Axes, scale: Scale) -> None:
    """Mark the horizontal axis as far as its present size allows."""
    mark(ax, "x", scale)


def limits(drawn: Sequence[Curve], choice: Choice) -> tuple[float, float]:
    """The range of what is finite, with a margin."""
    values = np.concatenate([part for c in drawn for part in (c.low, c.value, c.high)])
    finite = values[np.isfinite(values)]
    if choice.measure.kind == "lag":
        bottom, top = (finite.min(), finite.max()) if finite.size else (1.0, 10.0)
        return float(bottom / 1.5), float(top * 1.5)
    bottom, top = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    margin = 0.04 * (top - bottom) or 0.25
    return float(bottom - margin), float(top + margin)


def _zero_levels(ax: Axes, choice: Choice) -> dict[str, float]:
    if not choice.measure.name.startswith("log10_attenuation"):
        return {}
    bottom, top = ax.get_ylim()
    return {dtype: level for dtype, level in ZERO_BELOW.items() if bottom < level < top}


def name_zeros(ax: Axes, choice: Choice) -> list[Artist]:
    """Say what the horizontal lines are, on the side where a vanishing curve leaves room."""
    early = ax.get_xscale() == "log"
    for dtype, level in _zero_levels(ax, choice).items():
        under = early and level - spacing(ax) > ax.get_ylim()[0]
        ax.annotate(
            f"{dtype} is zero below",
            (0 if early else 1, level),
            xytext=(3 if early else -3, -2 if under else 2),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            ha="left" if early else "right",
            va="top" if under else "bottom",
            size=points(SMALL),
            color=GREY,
        )
    return []


def zeros_key(ax: Axes, choice: Choice) -> list[Artist]:
    """The same as a line of the key, for axes without room."""
    dtypes = " and ".join(_zero_levels(ax, choice))
    text = f"{dtypes} {'are' if ' ' in dtypes else 'is'} zero below"
    return [Line2D([], [], color=GREY, linewidth=points(0.6), label=text)] if dtypes else []


def key(drawn: Sequence[Curve]) -> list[Artist]:
    """What strokes, band and dashes mean, as far as labels do not say it."""
    handles: list[Artist] = []
    strokes = {curve.rule: curve.stroke for curve in drawn if curve.rule not in curve.label}
    if len(strokes) > 1:
        handles += [
            Line2D([], [], label=named("clip", rule), **stroke_of(GREY, k))
            for rule, k in strokes.items()
        ]
    counts = {curve.networks for curve in drawn}
    if max(counts) > 1:
        several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        text = f"quartiles of {several} networks"
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label=text))
    if any(np.isfinite(curve.theory).any() for curve in drawn):
        handles.append(Line2D([], [], label="theory", linewidth=points(0.8), **THEORY))
    return handles


def label(ax: Axes, drawn: Sequence[Curve]) -> list[Artist]:
    """Name the curves at their ends; where there is no room, return a legend's handles instead."""
    ends = (np.nan_to_num(_shown(curve.value, ax)[-1]) for curve in drawn)
    names = [Label(float(y), c.label + c.fate, c.color) for y, c in zip(ends, drawn, strict=True)]
    names = merged(names, ax)
    if ax.get_yscale() == "linear" and fit(names, ax):
        write(names, ax)
        return []
    return legend(drawn)


def legend(drawn: Sequence[Curve]) -> list[Artist]:
    """A handle for each name."""
    colors = {curve.label: curve.color for curve in drawn}
    return [Line2D([], [], label=name, color=color) for name, color in colors.items()]
