"""Whole figures: panels, colour bar, key and title, saved with their data beside them."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqlab.errors import InputError
from seqlab.figures import dots, grid, lines, maps
from seqlab.figures.choose import Asked, Selection, pooled_fields, select, values_of
from seqlab.figures.colors import colors
from seqlab.figures.data import check_path, save, table
from seqlab.figures.gather import Result
from seqlab.figures.names import named
from seqlab.figures.style import GREY, LETTER, SMALL, points, style, width

ACROSS = {"single": 2, "double": 4, "slide": 4}  # panels side by side at most
ROW = 0.24  # inches: a row of a heatmap that lists names
LINE = 11.0 / 72  # inches: a line of text in title and key
PANEL = (0.8, 2.5)  # inches: the least and greatest height of one
AROUND = 0.62  # inches: ticks and label below
HEAD = 0.3  # inches: between one row of panels and the next
SAMPLE = 38.0  # points: a line or patch of the key, and the gap before the next


@dataclass(frozen=True)
class Looks:
    """How a figure is dressed. What is None is written for you; an empty text leaves it out."""

    width: str = "double"
    title: str | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    value_label: str | None = None
    value_range: tuple[float, float] | None = None
    contours: bool = False
    xscale: str | None = None

    def __post_init__(self) -> None:
        width(self.width)
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise InputError(f"value_range: {self.value_range} does not ascend")
        if self.xscale not in (None, "log", "linear"):
            raise InputError(f"xscale: {self.xscale!r} is unknown; log, linear")


def plot(
    results: Iterable[Result],
    path: str | PathLike[str],
    asked: Asked | None = None,
    looks: Looks | None = None,
) -> None:
    """Write a figure as PDF, SVG or PNG, and its data beside it as CSV.

    Raises InputError, in one line, for what cannot be drawn; nothing is written then.
    """
    asked, looks = asked or Asked(), looks or Looks()
    check_path(path)
    selection = select(results, asked)
    with style(width(looks.width).scale):
        figure = _KINDS[selection.choice.kind](selection, looks)
    save(figure, table(selection), path)


def plot_results(results: Sequence[Result], path: str | PathLike[str]) -> None:
    """Write decay curves as PDF, SVG or PNG, twice: against log lag and against lag.

    A power law is straight on the left, an exponential on the right; see `curves`. Raises
    InputError for another suffix, and where there is nothing to draw.
    """
    plot(results, path, Asked("curves"))


def _heatmap(selection: Selection, looks: Looks) -> Figure:
    choice, place = selection.choice, width(looks.width)
    columns, rows = maps.scales(selection, looks.contours)
    panels = list(selection.panels())
    figure, axes = _panels([head for head, _ in panels], looks)
    filled = [grid.arrange(series, choice, columns, rows) for _, series in panels]
    values = np.concatenate([one.values.ravel() for one in filled])
    scale = colors(values, choice.measure, looks.value_range)
    key: dict[str, Artist] = {}
    for ax, one in zip(axes, filled, strict=True):
        key |= maps.draw(ax, one, scale, choice.measure, looks.contours)
        maps.frame(ax, one)
    if rows.kind == "names":
        high = ROW * len(rows.values)
    else:
        high = 0.72 * place.paper / _across(len(panels), looks)
    label = choice.measure.label if looks.value_label is None else looks.value_label
    scale.bar(axes, label, _tall(high, len(axes), looks))
    _arrange(figure, axes, high, looks, _note(selection), list(key.values()))
    for ax, one in zip(axes, filled, strict=True):
        maps.frame(ax, one)
    _label(figure, axes, looks)
    return figure


def _curves(selection: Selection, looks: Looks) -> Figure:
    panels = list(selection.panels())
    twice = len(panels) == 1 and selection.choice.x == "lag" and looks.width.lower() != "single"
    if twice and looks.xscale is None:
        panels *= 2
        scales = [lines.scale_of(selection, kind) for kind in ("log", "linear")]
    else:
        scales = [lines.scale_of(selection, looks.xscale)] * len(panels)
    figure, axes = _panels([head for head, _ in panels], looks)
    drawn = [lines.read_curves(selection, series) for _, series in panels]
    everything = [curve for some in drawn for curve in some]
    for ax, some, scale in zip(axes, drawn, scales, strict=True):
        lines.draw(ax, some, selection.choice, scale)
        if looks.value_label is not None:
            ax.set_ylabel(looks.value_label)
    axes[0].set_ylim(*looks.value_range or lines.limits(everything, selection.choice))
    alone = selection.choice.facet is None
    # Heights are about the final ones: the names beside curves are placed by them.
    high = 2.2 if alone else 1.5
    _arrange(figure, axes, high, looks, _note(selection), lines.key(everything))
    names = lines.label(axes[-1], drawn[-1]) if alone else lines.legend(everything)
    for ax in axes[:1] if alone else axes:
        lines.name_zeros(ax, selection.choice)
    _arrange(figure, axes, high, looks, _note(selection), [*names, *lines.key(everything)])
    for ax, scale in zip(axes, scales, strict=True):
        lines.frame(ax, scale)
    _label(figure, axes, looks)
    return figure


def _distribution(selection: Selection, looks: Looks) -> Figure:
    facet, runs = selection.choice.facet, selection.runs
    values = values_of(runs, facet) if facet else [None]
    figure, axes = _panels([named(facet, value) if facet else "" for value in values], looks)
    drawn = [
        dots.groups(selection, [r for r in runs if facet is None or r.fields[facet] == value])
        for value in values
    ]
    scale = dots.scale_of(selection)
    bounds = looks.value_range or dots.limits([group for some in drawn for group in some])
    for ax, some in zip(axes, drawn, strict=True):
        ax.set_ylim(*bounds)
        dots.draw(ax, some, selection, scale)
        dots.frame(ax, scale)
        if looks.value_label is not None:
            ax.set_ylabel(looks.value_label)
    high = 2.2 if facet is None else 1.5
    _arrange(figure, axes, high, looks, _note(selection), dots.key(selection))
    for ax in axes:
        dots.frame(ax, scale)
    _label(figure, axes, looks)
    return figure


_KINDS = {
    "heatmap": _heatmap,
    "profile": _heatmap,
    "curves": _curves,
    "distribution": _distribution,
}


def _across(count: int, looks: Looks) -> int:
    """Panels side by side, the rows of about one length."""
    return math.ceil(count / math.ceil(count / ACROSS[looks.width.lower()]))


def _panels(heads: Sequence[str], looks: Looks) -> tuple[Figure, list[Axes]]:
    """A figure of axes that share both scales, a head over each."""
    place, across = width(looks.width), _across(len(heads), looks)
    figure = Figure(figsize=(place.inches, place.inches), layout="constrained")
    shape = (math.ceil(len(heads) / across), across)
    axes = list(figure.subplots(*shape, sharey=True, squeeze=False).ravel())
    for ax in axes[len(heads) :]:
        ax.remove()
    for k, (ax, head) in enumerate(zip(axes, heads, strict=False)):
        ax.set_title(head, loc="left")
        ax.tick_params(labelbottom=k + across >= len(heads))
    return figure, axes[: len(heads)]


def _arrange(
    figure: Figure,
    axes: Sequence[Axes],
    high: float,
    looks: Looks,
    note: str,
    handles: list[Artist],
) -> None:
    """Title on top, key at the bottom, between them panels `high` inches on paper; settled."""
    place = width(looks.width)
    for old in (*figure.legends, *figure.texts):
        old.remove()
    title = textwrap.wrap(
        note if looks.title is None else looks.title, int(72 * place.paper / SMALL / LETTER)
    )
    columns = _columns([str(handle.get_label()) for handle in handles], 72 * place.paper)
    rows = math.ceil(len(handles) / columns)
    top, bottom = LINE * len(title) + 0.05 * bool(title), LINE * rows + 0.05 * bool(rows)
    heads = HEAD * any(ax.get_title(loc="left") for ax in axes)
    down = math.ceil(len(axes) / _across(len(axes), looks))
    whole = place.fixed or top + _tall(high, len(axes), looks) + down * heads + AROUND + bottom
    shared = LABEL * (len(axes) > 1)
    rect = (
        shared / place.paper,
        (bottom + shared) / whole,
        1 - shared / place.paper,
        1 - (top + bottom + shared) / whole,
    )
    figure.set_size_inches(place.inches, whole * place.scale)
    figure.set_layout_engine("constrained", rect=rect)
    quiet: dict[str, Any] = {"size": points(SMALL), "color": GREY} if looks.title is None else {}
    corner = 0.04 / place.paper, 1 - 0.03 / whole
    figure.text(*corner, "\n".join(title), va="top", in_layout=False, **quiet)
    if handles:
        legend = figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 0), ncols=columns, borderpad=0.2
        )
        legend.set_in_layout(False)
    figure.draw_without_rendering()
    _label(figure, axes, looks, (bottom + 0.03) / whole)


def _tall(high: float, count: int, looks: Looks) -> float:
    """Inches on paper from the lowest panel's foot to the highest one's head."""
    place, down = width(looks.width), math.ceil(count / _across(count, looks))
    if place.fixed:
        return place.fixed - AROUND - HEAD
    return down * min(max(high, PANEL[0]), PANEL[1]) + (down - 1) * BETWEEN


def _columns(labels: Sequence[str], room: float) -> int:
    """Columns of a key in so many points: as many as fit, filled one after another."""
    for columns in range(len(labels), 1, -1):
        rows = math.ceil(len(labels) / columns)
        longest = [max(map(len, labels[k : k + rows])) for k in range(0, len(labels), rows)]
        if sum(SAMPLE + LETTER * SMALL * letters for letters in longest) <= room:
            return columns
    return 1


def _note(selection: Selection) -> str:
    """What the panels have in common that their axes do not say."""
    choice, runs = selection.choice, selection.runs
    parts = [
        named(name, values_of(runs, name)[0])
        for name in ("arch", "clip")
        if name not in choice.fields and len(values_of(runs, name)) == 1
    ]
    counts = {int(n) for one in selection.series for n in one.networks}
    several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    statistic = "mean" if choice.measure.mean else "median"
    if choice.kind in ("heatmap", "profile") and max(counts) > 1:
        parts.append(f"{statistic} of {several} networks")
    if pooled := pooled_fields(runs, selection.series):
        parts.append(f"pooled over {' and '.join(name.replace('_', ' ') for name in pooled)}")
    return ", ".join(parts)


def _label(figure: Figure, axes: Sequence[Axes], looks: Looks, foot: float) -> None:
    """Each label once where panels share it, in the middle of them."""
    x = axes[0].get_xlabel() if looks.xlabel is None else looks.xlabel
    y = axes[0].get_ylabel() if looks.ylabel is None else looks.ylabel
    for ax in axes:
        ax.set(xlabel="", ylabel="")
    if len(axes) == 1:
        axes[0].set(xlabel=x, ylabel=y)
        return
    boxes = [ax.get_position() for ax in axes]
    middle = (
        (min(box.x0 for box in boxes) + max(box.x1 for box in boxes)) / 2,
        (min(box.y0 for box in boxes) + max(box.y1 for box in boxes)) / 2,
    )
    size = points(LABEL_SIZE)
    figure.text(middle[0], foot, x, ha="center", size=size, in_layout=False)
    figure.text(0.0, middle[1], y, va="center", rotation=90, size=size, in_layout=False)
