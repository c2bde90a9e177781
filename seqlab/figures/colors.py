"""Colour scales of heatmaps: perceptually uniform, safe for colour-blind readers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from seqlab.figures.names import Measure
from seqlab.figures.scales import tick_text
from seqlab.numbers.quantity import LOG10_SMALLEST

# Beyond these decades float32 has nothing left to tell: they are where colours end.
LOWEST, HIGHEST = LOG10_SMALLEST["float32"], 38.53
NEGLIGIBLE = 0.01  # of the larger side of zero: the other side is not shown for less
ROUNDING = 1e-6  # decades or nats per step, that are no change at all
THICK = 9.0  # points on paper: a colour bar
STEEPEST = 5.0  # a side of zero is drawn as if it reached a fifth as far as the other


@dataclass(frozen=True)
class Colors:
    """How values become colours; `extend` says beyond which ends there are values."""

    cmap: Colormap
    norm: Normalize
    extend: str

    def bar(self, axes: Sequence[Axes], label: str, tall: float) -> Colorbar:
        """A labelled colour bar, about `tall` inches on paper, beside axes that share it."""
        figure = axes[0].figure
        bar = figure.colorbar(
            ScalarMappable(self.norm, self.cmap),
            ax=list(axes),
            extend=self.extend,
            label=label,
            aspect=72 * tall / THICK,
        )
        bar.outline.set_visible(False)
        if isinstance(self.norm, LogNorm):
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
            bar.ax.minorticks_off()
        elif isinstance(self.norm, TwoSlopeNorm):
            bar.set_ticks(_two_sided(*bar.ax.get_ylim()))
        else:
            bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])
            bar.update_ticks()
        return bar


def colors(values: NDArray, measure: Measure, between: tuple[float, float] | None = None) -> Colors:
    """The scale for what is finite among values, or for what lies `between` two.

    What only vanishes is dark where little is left, what only explodes where much is; where both
    happen the scale has two sides, and zero in the middle.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    bottom, top = between or _ends(low, high, measure)
    extend = ("neither", "min", "max", "both")[int(low < bottom) + 2 * int(high > top)]
    if measure.kind == "share":
        return Colors(_map("mako_r"), Normalize(bottom, top), extend)
    if measure.log_axis:
        return Colors(_map("mako"), LogNorm(bottom, top), extend)
    if bottom < 0 < top:
        return Colors(_map("vlag"), TwoSlopeNorm(0, bottom, top), extend)
    return Colors(_map("rocket_r" if top > 0 else "mako"), Normalize(bottom, top), extend)


def _ends(low: float, high: float, measure: Measure) -> tuple[float, float]:
    """Where a scale for values from `low` to `high` ends."""
    if measure.kind == "share":
        return 0.0, 1.0
    if measure.kind in ("lag", "updates"):
        return 1.0, max(high, 2.0)
    if measure.kind == "amount":
        return (low, high) if 0 < low < high else (high / 2, high) if high > 0 else (1.0, 2.0)
    if measure.kind == "decades":
        low, high = max(low, LOWEST), min(high, HIGHEST)
    down, up = max(-low, 0.0), max(high, 0.0)
    least = max(NEGLIGIBLE * max(down, up), ROUNDING)
    if down > least and up > least:
        return -max(down, up / STEEPEST), max(up, down / STEEPEST)
    if max(down, up) <= least:
        return -1.0, 0.0
    return (0.0, up) if up > down else (-down, 0.0)


def _map(name: str) -> Colormap:
    return sns.color_palette(name, as_cmap=True)


def _two_sided(low: float, high: float) -> list[float]:
    """Round numbers on both sides of zero."""
    down = [-tick for tick in MaxNLocator(3).tick_values(0, -low) if 0 < tick <= -low]
    up = [tick for tick in MaxNLocator(3).tick_values(0, high) if 0 < tick <= high]
    return [*down, 0.0, *up]
