"""Decay curves: how much of the gradient is left, lag by lag."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from os import PathLike
from typing import Any, Literal, Protocol

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.labels import Label, fit, merged, spacing, write
from seqlab.figures.style import (
    DOUBLE_COLUMN,
    INK,
    SMALL,
    Color,
    check_path,
    pale,
    palette,
    save,
    style,
)
from seqlab.measure.statistics import quantile
from seqlab.measure.variables import Variable

LagScale = Literal["log", "linear"]

HEIGHT = 2.8  # inches
GREY = (0.45, 0.45, 0.45)
ZERO_BELOW = {"float32": -149 * math.log10(2), "float64": -1074 * math.log10(2)}
THEORY: dict[str, Any] = {"color": INK, "linewidth": 0.8, "linestyle": (0, (4, 3))}

# How rules are told apart, back to front. The first is wide and pale, the others narrow on top of
# it: curves that coincide, as those of most rules do where nothing explodes, stay visible.
STROKES: tuple[dict[str, Any], ...] = (
    {"linewidth": 3.2, "linestyle": "-"},
    {"linewidth": 1.1, "linestyle": "-"},
    {"linewidth": 1.4, "linestyle": (0, (1, 1.2))},
    {"linewidth": 1.2, "linestyle": (0, (5, 1.5, 1, 1.5))},
    {"linewidth": 1.2, "linestyle": (0, (3, 1.2, 1, 1.2, 1, 1.2))},
    {"linewidth": 1.2, "linestyle": (0, (2.5, 1.2))},
)


class Spec(Protocol):
    """The part of a run's spec that a figure names."""

    @property
    def arch(self) -> str: ...


class Result(Protocol):
    """What a figure reads of a result."""

    @property
    def spec(self) -> Spec: ...

    @property
    def variables(self) -> Mapping[str, Variable]: ...


@dataclass(frozen=True)
class Curve:
    """One rule's quartiles over networks, in decades, at each lag up to the longest length."""

    label: str
    rule: str
    networks: int
    lag: NDArray
    low: NDArray
    median: NDArray
    high: NDArray
    theory: float  # decades per step, nan where there is none
    color: Color
    stroke: int

    @property
    def line(self) -> dict[str, Any]:
        return _line(self.color, self.stroke)

    @property
    def fate(self) -> str:
        """What a label must add where a curve does not end in a number."""
        end = self.median[-1]
        if np.isfinite(end):
            return ""
        return " (nan)" if np.isnan(end) else " (zero)" if end < 0 else " (overflow)"

    def same_band(self, other: "Curve") -> bool:
        return np.array_equal([self.low, self.high], [other.low, other.high], equal_nan=True)


def plot_results(results: Sequence[Result], path: str | PathLike[str]) -> None:
    """Write decay curves as PDF, SVG or PNG, twice: against log lag and against lag.

    A power law is straight on the left, an exponential on the right. See `curves`. Raises
    InputError for another suffix, and where there is nothing to draw.
    """
    check_path(path)
    with style():
        drawn = _read(results)
        figure = Figure(figsize=(DOUBLE_COLUMN, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        _draw(left, drawn, "log")
        _draw(right, drawn, "linear")
        _name_zeros(left)
        right.set_ylabel("")
        figure.draw_without_rendering()  # settles the height that the labels share
        handles = _key(drawn) + _label(right, drawn)
        if handles:
            figure.legend(handles=handles, loc="outside upper left", ncols=5)
    save(figure, path)


def curves(results: Sequence[Result], ax: Axes | None = None, lag_scale: LagScale = "log") -> Axes:
    """Draw the decay of the state gradient over the longest length of each result; returns `ax`.

    Line and band: median and quartiles over networks of log10 of the norm of the state gradient
    relative to lag 0 (decades) against lag (steps), for each clip rule. Dashed: the predicted
    rate. A curve along the lower edge is exactly zero, one along the upper edge has overflowed.
    Raises InputError where there is nothing to draw.
    """
    with style():
        drawn = _read(results)
        axes = ax or Figure(figsize=(DOUBLE_COLUMN / 2, HEIGHT), layout="constrained").subplots()
        _draw(axes, drawn, lag_scale)
        _name_zeros(axes)
        handles = _key(drawn) + _label(axes, drawn)
        if handles:
            axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return axes


def _read(results: Sequence[Result]) -> list[Curve]:
    """Every curve, back to front. Colours and labels tell cells apart, or the rules of one."""
    if not results:
        raise InputError("plot: there is no result to draw")
    if len(results) == 1:
        [result] = results
        rules = [str(rule) for rule in result.variables["rule"].data]
        names = [f"{result.spec.arch}, {rule}" for rule in rules]
        return list(_curves_of(result, names, palette(len(rules))))
    return [
        curve
        for result, color in zip(results, palette(len(results)), strict=True)
        for curve in _curves_of(result, repeat(result.spec.arch), repeat(color))
    ]


def _curves_of(result: Result, names: Iterable[str], colors: Iterable[Color]) -> Iterator[Curve]:
    data = {name: variable.data for name, variable in result.variables.items()}
    longest = int(np.argmax(data["length"]))
    within = data["lag"] <= data["length"][longest]
    decades = data["log_norm"][:, :, longest, within] / math.log(10)
    low, median, high = (quantile(decades, q) for q in (0.25, 0.5, 0.75))
    alone = data["rule"].size == 1
    for k, (rule, label, color) in enumerate(zip(data["rule"], names, colors, strict=False)):
        yield Curve(
            label=label,
            rule=str(rule),
            networks=len(decades),
            lag=data["lag"][within],
            low=low[k],
            median=median[k],
            high=high[k],
            theory=float(data["theory"]) / math.log(10) if k == 0 else math.nan,
            color=color,
            stroke=1 if alone else k,
        )


def _line(color: Color, stroke: int) -> dict[str, Any]:
    shade = pale(color) if stroke == 0 else color
    return {"color": shade, **STROKES[stroke % len(STROKES)]}


def _draw(ax: Axes, drawn: Sequence[Curve], lag_scale: LagScale) -> None:
    bottom, top = _limits(drawn)
    end = max(curve.lag[-1] for curve in drawn)
    ax.set(
        xscale=lag_scale,
        xlim=(1, max(end, 2)) if lag_scale == "log" else (0, end),
        ylim=(bottom, top),
        xlabel="lag (steps back from the loss)",
        ylabel="state gradient relative to lag 0\n(log$_{10}$, decades)",
    )
    for level in _zero_levels(ax).values():
        ax.axhline(level, color=GREY, linewidth=0.6, zorder=1)
    for k, curve in enumerate(drawn):
        if not any(curve.same_band(earlier) for earlier in drawn[:k]):
            low, high = _shown(curve.low, ax), _shown(curve.high, ax)
            ax.fill_between(
                curve.lag, low, high, color=curve.color, alpha=0.2, linewidth=0, zorder=2
            )
        ax.plot(curve.lag, _shown(curve.median, ax), zorder=3, **curve.line)
        if math.isfinite(curve.theory):
            ax.plot(curve.lag, curve.theory * curve.lag, zorder=4, **THEORY)


def _shown(decades: NDArray, ax: Axes) -> NDArray:
    """Values with infinities moved just inside the limits, beyond everything finite."""
    bottom, top = ax.get_ylim()
    inset = 0.01 * (top - bottom)
    return np.clip(decades, bottom + inset, top - inset)


def _limits(drawn: Sequence[Curve]) -> tuple[float, float]:
    """The range of what is finite, with a margin."""
    values = np.concatenate([part for c in drawn for part in (c.low, c.median, c.high)])
    finite = values[np.isfinite(values)]
    bottom, top = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    margin = max(0.04 * (top - bottom), 0.25)
    return float(bottom - margin), float(top + margin)


def _zero_levels(ax: Axes) -> dict[str, float]:
    bottom, top = ax.get_ylim()
    return {dtype: level for dtype, level in ZERO_BELOW.items() if bottom < level < top}


def _name_zeros(ax: Axes) -> None:
    """Say what the horizontal lines are, on the side where a vanishing curve leaves room."""
    early = ax.get_xscale() == "log"
    for dtype, level in _zero_levels(ax).items():
        under = early and level - spacing(ax) > ax.get_ylim()[0]
        ax.annotate(
            f"{dtype} is zero below",
            (0 if early else 1, level),
            xytext=(3 if early else -3, -2 if under else 2),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            ha="left" if early else "right",
            va="top" if under else "bottom",
            size=SMALL,
            color=GREY,
        )


def _key(drawn: Sequence[Curve]) -> list[Artist]:
    """What strokes, band and dashes mean, as far as labels do not say it."""
    handles: list[Artist] = []
    strokes = {curve.rule: curve.stroke for curve in drawn if curve.rule not in curve.label}
    if set(strokes) - {"none"}:
        handles += [Line2D([], [], label=rule, **_line(GREY, k)) for rule, k in strokes.items()]
    counts = {curve.networks for curve in drawn}
    if max(counts) > 1:
        several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        text = f"quartiles of {several} networks"
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label=text))
    if any(math.isfinite(curve.theory) for curve in drawn):
        handles.append(Line2D([], [], label="theory", **THEORY))
    return handles


def _label(ax: Axes, drawn: Sequence[Curve]) -> list[Artist]:
    """Name the curves at their ends; where there is no room, return a legend's handles instead."""
    ends = (np.nan_to_num(_shown(curve.median, ax)[-1]) for curve in drawn)
    names = merged(
        [Label(float(y), c.label + c.fate, c.color) for y, c in zip(ends, drawn, strict=True)], ax
    )
    if fit(names, ax):
        write(names, ax)
        return []
    return [Line2D([], [], label=name.text, color=name.color) for name in names]
