"""Distributions: every network a dot, with median and quartiles, for each value of a field."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from seqlab.figures.choose import Selection, select
from seqlab.figures.gather import Where
from seqlab.figures.names import Measure
from seqlab.figures.request import Request, Results
from seqlab.figures.runs import Run
from seqlab.figures.scales import Scale, listing, mark
from seqlab.figures.style import INK, LETTER, SMALL, WIDTHS, Color, palette, points, style
from seqlab.figures.variance import values_of
from seqlab.numbers.statistics import quantile

HEIGHT = 2.6  # inches
ROOM = 0.8  # of the distance between two values
DOT = 2.4  # points
BINS = 40  # of the height, within which dots stand side by side


@dataclass(frozen=True)
class Group:
    """The networks of one value of x and of y; `values` is all of them."""

    x: Any
    y: Any
    values: NDArray


def distribution(
    results: Results,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    value: str = "log10_attenuation",
    where: Where | None = None,
) -> Axes:
    """Draw a measure's every network over the values of `x`, in colours of `y`; returns `ax`.

    A dot is a network, a box the quartiles, a stroke the median. Networks that are exactly zero
    or have overflowed stand on the edges, and are counted there. Raises InputError where there is
    nothing to draw.
    """
    selection = select(
        results, Request("distribution", x=x, y=y, value=value, where=where or {}, panels=False)
    )
    with style():
        size = (WIDTHS["single"].inches, HEIGHT)
        axes = ax or Figure(figsize=size, layout="constrained").subplots()
        scale = scale_of(selection)
        drawn = groups(selection, selection.runs)
        axes.set(xlabel=selection.label(scale.field), ylabel=selection.value_label)
        axes.set_ylim(*limits(drawn))
        frame(axes, scale)
        draw(axes, drawn, selection, scale)
        handles = key(selection)
        if handles:
            axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return axes


def scale_of(selection: Selection) -> Scale:
    """The values of x, side by side."""
    x, runs = selection.choice.x, selection.runs
    if x in selection.choice.coordinates:
        return listing(x, np.unique(np.concatenate([run.points[x] for run in runs])).tolist())
    return listing(x, values_of(runs, x))


def groups(selection: Selection, runs: Sequence[Run]) -> list[Group]:
    """The networks of a panel's runs, in order."""
    choice = selection.choice
    found: dict[tuple[Any, Any], list[NDArray]] = {}
    for run in runs:
        told = run.fields[choice.y] if choice.y else None
        if choice.x in choice.coordinates:
            for place, values in zip(run.points[choice.x].tolist(), run.values.T, strict=True):
                found.setdefault((place, told), []).append(values)
        else:
            found.setdefault((run.fields[choice.x], told), []).append(run.values[:, -1])
    return [Group(x, y, np.concatenate(values)) for (x, y), values in found.items()]


def draw(ax: Axes, drawn: Sequence[Group], selection: Selection, scale: Scale) -> None:
    """Dots, boxes and counts, on axes whose limits are set."""
    colors = colors_of(selection)
    each = ROOM / len(colors)
    for group in drawn:
        place = float(scale.index(group.x)) + each * (
            list(colors).index(group.y) - (len(colors) - 1) / 2
        )
        _dots(ax, place, group.values, 0.9 * each, colors[group.y])
        _box(ax, place, group.values, 0.8 * each, colors[group.y])
        _counts(ax, place, group.values, each, selection.choice.measure)


def frame(ax: Axes, scale: Scale) -> None:
    mark(ax, "x", scale)


def colors_of(selection: Selection) -> dict[Any, Color]:
    y = selection.choice.y
    values = values_of(selection.runs, y) if y else [None]
    return dict(zip(values, palette(len(values)), strict=True))


def key(selection: Selection) -> list[Artist]:
    """What colours mean."""
    y = selection.choice.y
    if y is None:
        return []
    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=points(4),
            color=color,
            label=selection.named(y, value),
        )
        for value, color in colors_of(selection).items()
    ]


def limits(drawn: Iterable[Group]) -> tuple[float, float]:
    """The range of what is finite, with room for the counts of what is not."""
    values = np.concatenate([group.values for group in drawn])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    span = (high - low) or 1.0
    below, above = np.isneginf(values).any(), (np.isposinf(values) | np.isnan(values)).any()
    return low - span * (0.25 if below else 0.05), high + span * (0.25 if above else 0.05)


def _dots(ax: Axes, place: float, values: NDArray, room: float, color: Color) -> None:
    """Each finite value a dot; those of about one height side by side, as they come, for in order
    they would look like a trend."""
    bottom, top = ax.get_ylim()
    finite = values[np.isfinite(values)]
    row = np.floor((finite - bottom) / (top - bottom) * BINS)
    offsets = np.zeros(finite.size)
    wide = max((int(count) for count in np.unique(row, return_counts=True)[1]), default=1)
    step = room / max(wide, 8)
    for one in np.unique(row):
        placed = np.flatnonzero(row == one)
        offsets[placed] = step * (np.arange(placed.size) - (placed.size - 1) / 2)
    ax.plot(
        place + offsets,
        finite,
        linestyle="",
        marker="o",
        markersize=points(DOT),
        markeredgewidth=0,
        color=color,
        alpha=0.65,
        zorder=2,
    )


def _box(ax: Axes, place: float, values: NDArray, room: float, color: Color) -> None:
    low, middle, high = (float(quantile(values, q)) for q in (0.25, 0.5, 0.75))
    if np.isfinite([low, high]).all():
        ax.bar(
            place,
            high - low,
            room,
            low,
            facecolor=(*color, 0.2),
            edgecolor=color,
            linewidth=points(0.7),
        )
    if np.isfinite(middle):
        ends = [place - room / 2, place + room / 2]
        ax.plot(ends, [middle, middle], color=INK, linewidth=points(1.2), zorder=3)


def _counts(ax: Axes, place: float, values: NDArray, room: float, measure: Measure) -> None:
    """How many networks lie beyond every axis."""
    wide = room * ax.bbox.width / ax.figure.dpi * 72 / np.ptp(ax.get_xlim())
    beyond = "never" if measure.kind == "updates" else "overflow"
    counts = {
        "zero": np.isneginf(values).sum(),
        beyond: np.isposinf(values).sum(),
        "nan": np.isnan(values).sum(),
    }
    for names, height, side in (("zero",), 0.02, "bottom"), ((beyond, "nan"), 0.98, "top"):
        lines = [f"{counts[name]} {name}" for name in names if counts[name]]
        if not lines:
            continue
        fits = LETTER * points(SMALL) * max(map(len, lines)) < wide
        ax.text(
            place,
            height,
            ("\n" if fits else ", ").join(lines),
            transform=ax.get_xaxis_transform(),
            ha="center",
            va=side,
            rotation=0 if fits else 90,
            size=points(SMALL),
        )
