"""A curve over the one it should have been, and how far they are apart."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from seqlab.figures.scales import mark_log
from seqlab.figures.style import GREY, WIDTHS, palette, points, style, write_figure
from seqlab.wording import in_links

HEIGHT = 2.8  # inches


class Curve(Protocol):
    """Decades at lags, which count links."""

    @property
    def name(self) -> str: ...
    @property
    def lag(self) -> NDArray: ...
    @property
    def log10(self) -> NDArray: ...
    @property
    def link(self) -> str: ...


def overlay(found: Sequence[Curve], kept: Sequence[Curve], atol: float, path: Path) -> None:
    """Draw the curves that differ, over their baselines, and how far they are apart."""
    baselines = {curve.name: curve for curve in kept}
    every = [(curve, baselines[curve.name]) for curve in found if curve.name in baselines]
    pairs = [(new, old) for new, old in every if not (_apart(new, old)[1] <= atol).all()] or every
    links = dict.fromkeys(curve.link for curve in found)
    with style():
        figure = Figure(figsize=(WIDTHS["double"].inches, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (new, old), color in zip(pairs, palette(len(pairs)), strict=True):
            _line(left, old.lag, old.log10, color=GREY, linewidth=points(3), alpha=0.4)
            _line(left, new.lag, new.log10, color=color, label=new.name)
            _line(right, *_apart(new, old), color=color, marker="o")
        left.set_ylabel("log10 norm (decades)")
        left.plot([], [], color=GREY, linewidth=points(3), alpha=0.4, label="baseline")
        right.axhline(atol, color=GREY, label=f"{atol:g} allowed")
        right.set(yscale="log", ylabel="distance from the baseline (decades)")
        mark_log(right, "y")
        for ax in (left, right):
            ax.set(xscale="log", xlabel=in_links("lag (steps)", links))
            mark_log(ax, "x")
            ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        write_figure(figure, path)


def _apart(new: Curve, old: Curve) -> tuple[NDArray, NDArray]:
    """Lags that both have, and the decades between them there."""
    shared, now, then = np.intersect1d(new.lag, old.lag, return_indices=True)
    with np.errstate(invalid="ignore"):
        apart = np.abs(new.log10[now] - old.log10[then])
    return shared, np.where(new.log10[now] == old.log10[then], 0.0, apart)


def _line(ax: Axes, lag: NDArray, log10: NDArray, **look: object) -> None:
    """Lag 0 has no place on a log axis."""
    ax.plot(lag[lag > 0], log10[lag > 0], markersize=points(2.5), **look)  # type: ignore[arg-type]
