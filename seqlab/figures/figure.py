"""Whole figures: panels, colour bar, key and title, saved with their data beside them."""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from seqlab.figures import bars, dots, grid, lines, maps, writing
from seqlab.figures.choose import Selection, select
from seqlab.figures.colors import colors
from seqlab.figures.curve import read_curves
from seqlab.figures.data import check_path, save, table
from seqlab.figures.names import PART, PIECES
from seqlab.figures.notes import pooled_fields, standing
from seqlab.figures.page import Looks, Page
from seqlab.figures.request import Request, Results, each, resolve_request
from seqlab.figures.scales import hanging
from seqlab.figures.style import style, width
from seqlab.figures.variance import values_of
from seqlab.numbers.quantities import is_training
from seqlab.report.measured import Measured
from seqlab.report.points import arrays_of, parts_of
from seqlab.wording import one_of, refuse

ROW = 0.24  # inches: a row of a heatmap that lists names
# The kinds of figures whose axes have a scale to be chosen.
SCALED = {"xscale": ("curves", "histogram"), "yscale": ("curves", "distribution")}
ALONE, BESIDE = 2.2, 1.5  # inches: the height of a panel of points or lines


def plot(
    results: Results,
    path: str | PathLike[str] | None,
    asked: Request | None = None,
    looks: Looks | None = None,
) -> Figure:
    """Write a figure as PDF, SVG or PNG, and its data beside it as CSV; without a path draw alone.

    Raises InputError, in one line, for what cannot be drawn; nothing is written then.
    """
    if asked is None:
        results = each(results)
        asked = resolve_request(results)
    looks = looks or Looks()
    if path is not None:
        check_path(path)
    if looks.value_range and asked.measure.log_axis and looks.value_range[0] <= 0:
        raise refuse("value_range", looks.value_range, f"above 0, where {asked.value} is counted")
    _check_kind(asked, looks)
    # The axis along which the measure lies.
    option = "xscale" if asked.kind == "histogram" else "yscale"
    selection = select(results, asked).scaled(option, getattr(looks, option))
    with style(width(looks.width).scale):
        figure = figure_of(selection, looks)
    if path is not None:
        save(figure, table(selection), path)
    return figure


def figure_of(selection: Selection, looks: Looks) -> Figure:
    """A selection as the whole figure of its kind, within a `style`."""
    return _KINDS[selection.choice.kind](selection, looks)


def _check_kind(asked: Request, looks: Looks) -> None:
    for option, kinds in SCALED.items():
        if getattr(looks, option) is not None and asked.kind not in kinds:
            raise refuse("kind", asked.kind, f"{one_of(kinds)} beside {option}")
    if looks.numbers and asked.kind != "heatmap":
        raise refuse("kind", asked.kind, "heatmap beside numbers")


def plot_results(results: Sequence[Measured], path: str | PathLike[str]) -> None:
    """Write decay curves as PDF, SVG or PNG, twice: against log lag and against lag; of training
    the share of networks that learn each length, or for one length their losses.

    A power law is straight on the left, an exponential on the right; see `curves`. Raises
    InputError for another suffix, and where there is nothing to draw.
    """
    training = all(is_training(result.variables) for result in results)
    plot(results, path, resolve_request(results) if training else Request("curves"))


def plot_reach(
    results: Sequence[Measured], path: str | PathLike[str] | None, looks: Looks | None = None
) -> Figure:
    """Write how far back the gradient reaches as PDF, SVG or PNG: of a state of several parts, a
    map of part by lag, first part at the bottom; of one part, curves as `plot_results` does; and
    of training what that draws. Without a path draw it alone.

    Raises InputError for another suffix, and where there is nothing to draw.
    """
    if all(is_training(result.variables) for result in results):
        return plot(results, path, resolve_request(results), looks)
    several = any(len(parts_of(arrays_of(result))) > 1 for result in results)
    return plot(results, path, Request(x="lag", y=PART) if several else Request("curves"), looks)


def _heatmap(selection: Selection, looks: Looks) -> Figure:
    choice = selection.choice
    columns, rows = maps.scales(selection, looks.contours)
    heads, panels = zip(*selection.panels(), strict=True)
    page = Page(heads, looks, _note(selection))
    filled = [grid.arrange(series, choice, columns, rows) for series in panels]
    values = np.concatenate([one.values.ravel() for one in filled])
    scale = colors(values, choice.measure, looks.value_range)
    key: dict[str, Artist] = {}
    for ax, one in zip(page.axes, filled, strict=True):
        key |= maps.draw(ax, one, scale, choice.measure, looks.contours)
        maps.frame(ax, one)
    label = _label(selection.value_label + scale.note, looks.value_label)
    labels = (
        _label(selection.label(columns.field), looks.xlabel),
        _label(selection.label(rows.field), looks.ylabel),
    )
    high = ROW * len(rows.values) if rows.kind == "names" else 0.72 * page.wide
    high = page.high(high, label, labels[1])
    scale.bar(page.axes, page.beside("value_label", label, high), page.tall(high))
    page.arrange(high, labels, list(key.values()), hanging(columns, page.wide))
    for ax, one in zip(page.axes, filled, strict=True):
        maps.frame(ax, one)
        if looks.numbers:
            maps.write_numbers(ax, one, scale)
    page.lay_out()
    return page.figure


def _curves(selection: Selection, looks: Looks) -> Figure:
    choice = selection.choice
    heads, panels = zip(*selection.panels(), strict=True)
    scales = [lines.scale_of(selection, looks.xscale)] * len(panels)
    drawn = [read_curves(selection, series) for series in panels]
    every = [curve for some in drawn for curve in some]
    bounds = [looks.value_range or lines.limits(every, choice)] * len(panels)
    wide = looks.width.lower() != "single"
    if choice.x == "lag" and len(panels) == 1 and looks.xscale is None and wide:
        heads, drawn = heads * 2, drawn * 2
        scales = [lines.scale_of(selection, kind) for kind in ("log", "linear")]
        bounds = [looks.value_range or lines.near(every, choice), *bounds]
    page = Page(heads, looks, _note(selection), alike=len(set(bounds)) == 1)
    for ax, some, scale, limits in zip(page.axes, drawn, scales, bounds, strict=True):
        ax.set_ylim(*limits)
        lines.draw(ax, some, choice, scale)
    # What a curve is called stands at its end, where there is one panel of them and room.
    alone = choice.facet is None
    label = _label(selection.value_label, looks.value_label, looks.ylabel)
    labels = _label(selection.label(scales[0].field), looks.xlabel), label
    high, key = page.high(ALONE if alone else BESIDE, label), lines.key(every, choice)
    below = hanging(scales[0], page.wide)
    page.arrange(high, labels, key, below)
    names = (
        lines.label(page.axes[-1], drawn[-1], choice, scales[-1])
        if alone
        else lines.legend(every, choice)
    )
    zeros = lines.name_zeros(page.axes[-1], choice)
    page.arrange(high, labels, [*names, *key, *zeros], below)
    for ax, scale in zip(page.axes, scales, strict=True):
        lines.frame(ax, scale)
    page.lay_out()
    return page.figure


def _distribution(selection: Selection, looks: Looks) -> Figure:
    choice, runs = selection.choice, selection.runs
    values = values_of(runs, choice.facet) if choice.facet else [None]
    page = Page(_heads(selection, values), looks, _note(selection))
    drawn = [
        dots.groups(selection, [r for r in runs if not choice.facet or r.fields[choice.facet] == v])
        for v in values
    ]
    scale = dots.scale_of(selection)
    bounds = looks.value_range or dots.limits([group for some in drawn for group in some])
    page.axes[0].set_ylim(*bounds)
    label = _label(selection.value_label, looks.value_label, looks.ylabel)
    labels = _label(selection.label(scale.field), looks.xlabel), label
    high = page.high(BESIDE if choice.facet else ALONE, label)
    page.arrange(high, labels, dots.key(selection), hanging(scale, page.wide))
    for ax, some in zip(page.axes, drawn, strict=True):
        dots.frame(ax, scale)
        dots.draw(ax, some, selection, scale)
    page.lay_out()
    return page.figure


def _histogram(selection: Selection, looks: Looks) -> Figure:
    choice = selection.choice
    values = values_of(selection.runs, choice.facet) if choice.facet else [None]
    page = Page(_heads(selection, values), looks, _note(selection))
    drawn = bars.bars(selection)
    label = _label(bars.count_label(selection), looks.ylabel)
    labels = _label(selection.value_label, looks.value_label, looks.xlabel), label
    page.axes[0].set_ylim(*bars.limits(drawn))
    high = page.high(BESIDE if choice.facet else ALONE, label)
    page.arrange(high, labels, bars.key(selection))
    for ax, value in zip(page.axes, values, strict=True):
        bars.draw(ax, [one for one in drawn if one.facet == value], selection)
        bars.frame(ax, drawn, looks.value_range)
    page.lay_out()
    return page.figure


_KINDS: dict[str, Callable[[Selection, Looks], Figure]] = {
    "heatmap": _heatmap,
    "profile": _heatmap,
    "curves": _curves,
    "distribution": _distribution,
    "histogram": _histogram,
}


def _heads(selection: Selection, values: Sequence[Any]) -> list[str]:
    """What panels of the values of the facet, if there is one, are headed."""
    facet = selection.choice.facet
    return [selection.named(facet, value) if facet else "" for value in values]


def _label(usual: str, *given: str | None) -> str:
    """The first text that the user gave, or what is usual."""
    return next((writing.written(text) for text in given if text is not None), usual)


def _note(selection: Selection) -> str:
    """What the panels have in common that their axes do not say."""
    choice, runs = selection.choice, selection.runs
    alone = {
        name: values_of(runs, name)[0]
        for name in ("arch", "name", *PIECES, "clip", "length")
        if name not in choice.fields and len(values_of(runs, name)) == 1
    }
    alone |= standing(runs, choice.fields, choice.measure)
    parts = [selection.named(name, value) for name, value in alone.items() if value is not None]
    counts = {int(n) for one in selection.series for n in one.networks}
    several = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    statistic = "mean" if choice.measure.mean else "median"
    statistic = "share" if choice.measure.quantity.over == "proportion" else statistic
    if choice.kind in ("heatmap", "profile") and max(counts) > 1:
        parts.append(f"{statistic} of {several} networks")
    if choice.kind == "histogram" and max(counts) > 1:
        parts.append(f"{several} networks")
    if pooled := pooled_fields(runs, selection.series[0].key):
        parts.append(f"pooled over {_and([name.replace('_', ' ') for name in pooled])}")
    return ", ".join(parts)


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
