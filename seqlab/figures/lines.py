"""Curves: a measure against lag, length or any field, with its quartiles and what theory says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from seqlab.figures import marks
from seqlab.figures.choose import ALIKE, Choice, Selection, select
from seqlab.figures.curve import Curve, read_curves
from seqlab.figures.gather import Where, points_of
from seqlab.figures.labels import Label, fit, merged, write, write_at
from seqlab.figures.names import OF_TRAINING, RELATIVE, named
from seqlab.figures.request import Request, Results
from seqlab.figures.scales import Scale, mark, mark_log, measuring
from seqlab.figures.style import GREY, INK, WIDTHS, Color, deep, pale, points, style
from seqlab.figures.variance import values_of
from seqlab.numbers.quantity import LOG10_SMALLEST

HEIGHT = 2.8  # inches
BESIDE = 0.4  # of the distance between two names, over which their points are spread
MOST_DOTS = 40  # points of a curve that are marked
NEAR = 12.0  # decades, within which it is decided what is learned
THEORY: dict[str, Any] = {"linestyle": (0, (4, 3))}
AT_END: dict[str, Any] = {"linestyle": "", "marker": "_"}  # where it is one number

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


def curves(
    results: Results,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    value: str = "log10_attenuation",
    where: Where | None = None,
    xscale: str | None = None,
    yscale: str | None = None,
) -> Axes:
    """Draw a measure against lag, length or a field, a colour for each value of `y`; returns `ax`.

    Line and band: median (of rates and shares the mean) and quartiles over networks, for each
    clip rule. Dashed: the predicted rate. A curve along the lower edge is exactly zero, one along
    the upper edge has overflowed. Against lag, the loss of the longest length is followed back.
    `yscale` "linear" has numbers in place of their log10. Raises InputError where there is nothing
    to draw.
    """
    asked = Request("curves", x=x, y=y, value=value, where=where or {}, panels=False)
    selection = select(results, asked).scaled("yscale", yscale)
    with style():
        size = (WIDTHS["single"].inches, HEIGHT)
        axes = ax or Figure(figsize=size, layout="constrained").subplots()
        drawn = read_curves(selection, selection.series)
        scale = scale_of(selection, xscale)
        axes.set(xlabel=selection.label(scale.field), ylabel=selection.value_label)
        axes.set_ylim(*limits(drawn, selection.choice))
        draw(axes, drawn, selection.choice, scale)
        zeros = name_zeros(axes, selection.choice)
        handles = [
            *key(drawn, selection.choice),
            *label(axes, drawn, selection.choice, scale),
            *zeros,
        ]
        if handles:
            axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    return axes


def scale_of(selection: Selection, kind: str | None) -> Scale:
    """The horizontal axis; "log" or "linear" overrides its sort where it is numbers."""
    choice, x = selection.choice, selection.choice.x
    if x not in choice.coordinates:
        values = values_of(selection.runs, x)
        if not (choice.measure.of_training and x in OF_TRAINING):
            return measuring(x, values, kind)
        horizons = [one.horizon for one in selection.series if np.isfinite(one.horizon)]
        return measuring(x, values, kind, [1.0] if x == RELATIVE else [*values, *horizons])
    return measuring(x, points_of(selection.series, x), kind)


def stroke_of(color: Color, stroke: int) -> dict[str, Any]:
    """How a line is drawn."""
    linewidth, linestyle = STROKES[stroke % len(STROKES)]
    shade = pale(color) if stroke == 0 else color
    return {"color": shade, "linewidth": points(linewidth), "linestyle": linestyle}


def draw(ax: Axes, drawn: Sequence[Curve], choice: Choice, scale: Scale) -> None:
    """Lines, bands and theory, on axes whose limits are set."""
    log, cloud = choice.measure.log_axis, marks.is_cloud(choice)
    bounds = ax.get_ylim()
    ax.set(yscale="log" if log else "linear", ylim=bounds)
    frame(ax, scale)
    if log:
        mark_log(ax, "y")
    for level in _zero_levels(ax, choice).values():
        ax.axhline(level, color=GREY, linewidth=points(0.6), zorder=1)
    drawn = [curve.broken() for curve in drawn]
    places = marks.places(drawn)
    for k, curve in enumerate(drawn):
        low, high = _within_limits(curve.low, ax), _within_limits(curve.high, ax)
        look = stroke_of(curve.color, curve.stroke)
        theory = {"linewidth": points(0.8), "color": deep(curve.color), **THEORY}
        shade: dict[str, Any] = {"color": curve.color, "alpha": 0.2, "zorder": 2}
        # A logarithm has no place for lag 0: what comes next would be drawn as if it began there.
        x = np.where(curve.x > 0, curve.x, np.nan) if scale.kind == "log" else curve.x
        to = ax.transData
        if scale.kind == "names":  # between names there is nothing to join
            x = x + BESIDE * (k - (len(drawn) - 1) / 2) / len(drawn)
            ax.vlines(x, low, high, linewidth=points(5), **shade)
            look["linestyle"] = ""
            theory |= AT_END
        elif choice.measure.interval or cloud:
            to = marks.aside(ax, places[k], max(places) + 1)
            marks.whiskers(ax, x, (low, high), curve.color, to)
        elif not any(curve.same_band(earlier) for earlier in drawn[:k]):
            ax.fill_between(x, low, high, linewidth=0, **shade)
        value = _within_limits(curve.value, ax)
        if cloud:
            marks.dots(ax, curve, value, drawn, to)
            value = np.where(np.isinf(curve.value), np.nan, value)
        dots = "o" if x.size < MOST_DOTS and choice.x != "update" and not cloud else ""
        if not (cloud and choice.x == RELATIVE):
            look |= {"marker": dots, "markersize": points(3), "transform": to}
            ax.plot(x, value, zorder=3, **look)
        if (known := np.isfinite(curve.theory)).any():
            # At the edge it is whole; beyond, as of a window, it would be out of the axes.
            inside = bounds[0] <= float(curve.theory[known][-1]) <= bounds[1]
            alone = AT_END | {"clip_on": not inside} if known.sum() == 1 else {}
            ax.plot(x, curve.theory, zorder=4, **theory | alone)
    marks.around(ax, drawn, choice)


def _within_limits(values: NDArray, ax: Axes) -> NDArray:
    """Values with infinities moved just inside the limits."""
    bottom, top = ax.transScale.transform([[1, y] for y in ax.get_ylim()])[:, 1]
    inset = np.array([0.01, -0.01]) * (top - bottom)
    ends = ax.transScale.inverted().transform([[0, bottom + inset[0]], [0, top + inset[1]]])
    return np.where(np.isinf(values), np.where(values < 0, *ends[:, 1]), values)


def frame(ax: Axes, scale: Scale) -> None:
    """Mark the horizontal axis as far as its present size allows."""
    mark(ax, "x", scale)


def limits(drawn: Sequence[Curve], choice: Choice) -> tuple[float, float]:
    """The range of what is finite, with a margin."""
    values = np.concatenate([part for c in drawn for part in (c.low, c.value, c.high)])
    if choice.measure.log_axis:
        values = np.append(values, [level for c in drawn for _, level in c.levels])
        values = np.where(values > 0, values, np.nan)
    finite = values[np.isfinite(values)]
    if choice.measure.log_axis:
        bottom, top = (finite.min(), finite.max()) if finite.size else (1.0, 10.0)
        return float(bottom / 1.5), float(top * 1.5)
    bottom, top = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if choice.measure.kind == "number":
        return -0.04 * float(top or 1.0), 1.04 * float(top or 1.0)
    margin = max(0.04 * (top - bottom), 0.25 if choice.measure.kind == "decades" else 1e-3)
    return float(bottom - margin), float(top + margin)


def near(drawn: Sequence[Curve], choice: Choice) -> tuple[float, float]:
    """Limits of the decades that matter first, where there are many more; else the whole range."""
    bottom, top = limits(drawn, choice)
    if choice.measure.kind != "decades" or (bottom > -1.5 * NEAR and top < 1.5 * NEAR):
        return bottom, top
    values = np.concatenate([part for c in drawn for part in (c.low, c.value, c.high)])
    there = np.append(values[np.abs(values) <= NEAR], 0.0)
    margin = 0.04 * NEAR
    return (
        max(bottom, (-NEAR if bottom < -NEAR else float(there.min())) - margin),
        min(top, float(there.max()) + margin),
    )


def _zero_levels(ax: Axes, choice: Choice) -> dict[str, float]:
    if not choice.measure.name.startswith("log10_attenuation"):
        return {}
    bottom, top = ax.get_ylim()
    return {dtype: level for dtype, level in LOG10_SMALLEST.items() if bottom < level < top}


def name_zeros(ax: Axes, choice: Choice) -> list[Artist]:
    """Say what the horizontal lines are where no curve is in the way, or else in the key."""
    left: list[Artist] = []
    for dtype, level in _zero_levels(ax, choice).items():
        text = f"{dtype} is zero below"
        if not write_at(ax, level, text, GREY):
            left.append(Line2D([], [], color=GREY, linewidth=points(0.6), label=text))
    return left


def key(drawn: Sequence[Curve], choice: Choice) -> list[Artist]:
    """What strokes, band and dashes mean, as far as labels do not say it."""
    handles = marks.key(drawn, choice)
    strokes = {curve.rule: curve.stroke for curve in drawn if curve.rule not in curve.label}
    told = len(strokes) > 1 or any(ALIKE in rule for rule in strokes)
    if told and not marks.is_cloud(choice):
        handles += [
            Line2D([], [], label=named("clip", rule), **stroke_of(GREY, k))
            for rule, k in strokes.items()
        ]
    counts = {curve.networks for curve in drawn}
    if max(counts) > 1 and not (choice.measure.interval or marks.is_cloud(choice)):
        several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
        text = f"quartiles of {several} networks"
        handles.append(Patch(color=GREY, alpha=0.3, linewidth=0, label=text))
    if any(np.isfinite(curve.theory).any() for curve in drawn):
        ends = all(np.isfinite(curve.theory).sum() < 2 for curve in drawn)
        look = THEORY | (AT_END if ends else {})
        text = "theory" + _without(drawn)
        handles.append(Line2D([], [], color=INK, label=text, linewidth=points(0.8), **look))
    if choice.measure.kind == "lag" and any(np.isposinf(curve.value).any() for curve in drawn):
        handles.append(Line2D([], [], label="on the upper edge: never", linestyle=""))
    return handles


def _without(drawn: Sequence[Curve]) -> str:
    """The curves that have no theory, where others have: by name."""
    known = {c.label: bool(np.isfinite(c.theory).any()) for c in drawn if c.predicted}
    left = [name for name, has in known.items() if not has]
    return f" (none for {', '.join(left)})" if left else ""


def label(ax: Axes, drawn: Sequence[Curve], choice: Choice, scale: Scale) -> list[Artist]:
    """Name the curves at their ends; where there is no room, return a legend's handles instead."""
    if marks.is_cloud(choice):
        return legend(drawn, choice)
    ends = [_end(curve) for curve in drawn]
    low, high = ax.get_ylim()
    outside = sum(not low <= end <= high for end in ends if np.isfinite(end))
    names = [
        Label(float(np.clip(end, low, high)), curve.label, curve.color, curve.fate, curve.rule)
        for end, curve in zip(ends, drawn, strict=True)
    ]
    names = merged(names, ax)
    if scale.kind == "names" or ax.get_yscale() != "linear" or outside or not fit(names, ax):
        return legend(drawn, choice)
    write(names, ax)
    return []


def _end(curve: Curve) -> float:
    """The last value that is one; 0 where none is."""
    there = curve.value[~np.isnan(curve.value)]
    return float(there[-1]) if there.size else 0.0


def legend(drawn: Sequence[Curve], choice: Choice) -> list[Artist]:
    """A handle for each name, with its stroke where it has one alone."""
    if marks.is_cloud(choice):
        return marks.names(drawn)
    handles: list[Artist] = []
    for name in dict.fromkeys(curve.label for curve in drawn):
        found = [curve for curve in drawn if curve.label == name]
        alone = len({curve.stroke for curve in found}) == 1
        line: Any = STROKES[found[0].stroke % len(STROKES)][1] if alone else "-"
        handles.append(Line2D([], [], label=name, color=found[0].color, linestyle=line))
    return handles
