"""Histograms: how the values of all networks and lags are spread, a colour for each value of y."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from seqlab.figures.choose import Selection, select
from seqlab.figures.dots import colors_of
from seqlab.figures.gather import Where
from seqlab.figures.lines import STROKES
from seqlab.figures.request import Request, Results
from seqlab.figures.runs import Run
from seqlab.figures.style import INK, SMALL, WIDTHS, points, style
from seqlab.spec import kinds
from seqlab.wording import in_links

HEIGHT = 2.6  # inches
BINS = 40  # between the least and the greatest value of all panels
ASIDE = 1.5  # widths of a bin, from the last to the one for what is no number


@dataclass(frozen=True)
class Bars:
    """One panel's values of one colour: the `shares` (bins,) of all `count` between `edges`.

    `zero` is the share that is exactly zero, where logarithms have no place for it, and `beyond`
    the share that has overflowed or is nan. Together they are 1. `runs` are those that have them.
    """

    facet: Any
    y: Any
    edges: NDArray
    shares: NDArray
    zero: float
    beyond: float
    count: int
    runs: tuple[Run, ...]


def histogram(
    results: Results,
    ax: Axes | None = None,
    *,
    y: str | None = None,
    value: str = "log10_attenuation",
    where: Where | None = None,
    xscale: str | None = None,
) -> Axes:
    """Draw how a measure is spread over networks and lags, in colours of `y`; returns `ax`.

    A bar is a share of all networks at all lags that are kept, of the longest length; what is
    exactly zero, and what has overflowed or is nan, stands aside. `xscale` "linear" has numbers in
    place of their log10. Raises InputError where there is nothing to draw.
    """
    asked = Request("histogram", y=y, value=value, where=where or {}, panels=False)
    selection = select(results, asked).scaled("xscale", xscale)
    with style():
        size = (WIDTHS["single"].inches, HEIGHT)
        axes = ax or Figure(figsize=size, layout="constrained").subplots()
        drawn = bars(selection)
        axes.set(xlabel=selection.value_label, ylabel=count_label(selection))
        axes.set_ylim(*limits(drawn))
        draw(axes, drawn, selection)
        frame(axes, drawn)
        handles = key(selection)
        if handles:
            axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return axes


def count_label(selection: Selection) -> str:
    """What a bar is a share of."""
    if not selection.choice.coordinates:
        return "share of networks"
    return in_links("share of networks and steps", kinds.links(selection.archs))


def bars(selection: Selection) -> list[Bars]:
    """The bars of all panels, over the same bins."""
    choice = selection.choice
    found: dict[tuple[Any, Any], list[Run]] = {}
    for run in selection.runs:
        facet, y = (run.fields[name] if name else None for name in (choice.facet, choice.y))
        found.setdefault((facet, y), []).append(run)
    groups = {
        told: np.concatenate([run.values.ravel() for run in runs]) for told, runs in found.items()
    }
    every = np.concatenate(list(groups.values()))
    edges = np.histogram_bin_edges(every[np.isfinite(every)], BINS)
    return [
        Bars(
            facet,
            y,
            edges,
            np.histogram(values[np.isfinite(values)], edges)[0] / values.size,
            float(np.isneginf(values).mean()),
            float((np.isposinf(values) | np.isnan(values)).mean()),
            values.size,
            tuple(found[facet, y]),
        )
        for (facet, y), values in groups.items()
    ]


def draw(ax: Axes, drawn: Sequence[Bars], selection: Selection) -> None:
    """Outlines, and bars for what stands aside."""
    looks = _looks(selection)
    for one in drawn:
        ax.stairs(one.shares, one.edges, fill=True, **looks[one.y])
        for share, place, _ in _aside(one):
            if share:
                ax.stairs([share], place, fill=True, **looks[one.y])


def frame(ax: Axes, drawn: Sequence[Bars], value_range: tuple[float, float] | None = None) -> None:
    """The horizontal limits, with room for what stands aside in any panel, and its names."""
    places = [(share, place, name) for one in drawn for share, place, name in _aside(one)]
    ends = [drawn[0].edges, *(place for share, place, _ in places if share)]
    low, high = min(end[0] for end in ends), max(end[-1] for end in ends)
    margin = 0.02 * (high - low)
    ax.set_xlim(*(value_range or (low - margin, high + margin)))
    for name, at in {name: np.mean(place) for share, place, name in places if share}.items():
        ax.text(
            float(at),
            0.98,
            name,
            transform=ax.get_xaxis_transform(),
            ha="center",
            va="top",
            rotation=90,
            color=INK,
            size=points(SMALL),
            clip_on=True,
        )


def _aside(one: Bars) -> list[tuple[float, NDArray, str]]:
    """Share, edges and name of the bins for what is no number."""
    wide = one.edges[1] - one.edges[0]
    below, above = one.edges[0] - ASIDE * wide, one.edges[-1] + ASIDE * wide
    return [
        (one.zero, np.array([below - wide, below]), "zero"),
        (one.beyond, np.array([above, above + wide]), "overflow or nan"),
    ]


def limits(drawn: Iterable[Bars]) -> tuple[float, float]:
    """From no share to the largest."""
    return 0.0, 1.05 * max(max(one.shares.max(), one.zero, one.beyond) for one in drawn)


def key(selection: Selection) -> list[Artist]:
    """What colours and outlines mean."""
    y = selection.choice.y
    looks = _looks(selection) if y else {}
    return [Patch(label=selection.named(y, value), **look) for value, look in looks.items() if y]


def _looks(selection: Selection) -> dict[Any, dict[str, Any]]:
    """How bars of each value of y are drawn: in grey their outlines tell them apart."""
    strokes = itertools.cycle(STROKES[1:])
    return {
        value: {
            "edgecolor": color,
            "facecolor": (*color, 0.15),
            "linewidth": points(width),
            "linestyle": line,
        }
        for (value, color), (width, line) in zip(
            colors_of(selection).items(), strokes, strict=False
        )
    }
