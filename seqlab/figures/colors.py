"""The colours of heatmaps: one scale for all of them, safe for colour-blind readers and in grey."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from seqlab.figures.choose import ROUNDING
from seqlab.figures.names import MINUS, Measure
from seqlab.figures.scales import tick_text

# From little to much, with ever more light: what has vanished and what has exploded differ in grey
# too. Blue and yellow, on both sides of a grey, are told apart with every kind of sight.
ZERO = 0.7  # where what neither fades nor grows has its grey
PALETTE = LinearSegmentedColormap.from_list(
    "seqlab",
    [
        (0.0, "#05051e"),
        (0.2, "#1a2f78"),
        (0.45, "#2f74b5"),
        (ZERO, "#b2b2b2"),
        (0.85, "#f0c455"),
        (1.0, "#fff3a6"),
    ],
)
# Decades, and where in the palette they lie: the same in every figure. The first thousandths and
# millionths, where it is decided what is learned, have most of it; where float32 ends, so does it.
DECADES = {-45.0: 0.0, -6.0: 0.2, 0.0: ZERO, 6.0: 0.85, 39.0: 1.0}
TICKS = (-45.0, -6.0, -3.0, 0.0, 6.0, 39.0)
BENT = ", linear between ticks"  # what a label adds for these
NEGLIGIBLE = 0.01  # of the larger side of zero: the other side is not shown for less
THICK = 9.0  # points on paper: a colour bar
STEEPEST = 5.0  # a side of zero is drawn as if it reached a fifth as far as the other


class Pieces(Normalize):
    """Linear from each of ascending values to the next, whose places are within 0 and 1."""

    def __init__(self, values: Sequence[float], places: Sequence[float]) -> None:
        super().__init__(values[0], values[-1])
        self._values, self._places = values, places

    def __call__(self, value: Any, clip: bool | None = None) -> Any:
        numbers: Any = np.ma.asarray(value, float)
        # Beyond the ends it goes on, so that a colour map knows what lies outside.
        found = np.interp(numbers.filled(np.nan), self._values, self._places)
        found = np.where(numbers.data < self._values[0], -1.0, found)
        found = np.where(numbers.data > self._values[-1], 2.0, found)
        masked = np.ma.array(found, mask=np.ma.getmask(numbers))
        return masked if np.ndim(value) else masked[()]

    def inverse(self, value: Any) -> Any:
        return np.interp(value, self._places, self._values)


@dataclass(frozen=True)
class Colors:
    """How values become colours; `extend` says beyond which ends there are values.

    `ticks` are those of the bar, () for some round ones. `note` is what its label has to add.
    """

    cmap: Colormap
    norm: Normalize
    extend: str
    ticks: tuple[float, ...] = ()
    note: str = ""

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
        bar.ax.minorticks_off()
        if isinstance(self.norm, LogNorm):
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
        elif isinstance(self.norm, Pieces):
            ticks = self.ticks or _round(*bar.ax.get_ylim())
            bar.set_ticks(ticks, labels=[f"{tick:.10g}".replace("-", MINUS) for tick in ticks])
        else:
            bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])
            bar.update_ticks()
        return bar


def colors(values: NDArray, measure: Measure, between: tuple[float, float] | None = None) -> Colors:
    """The scale for what is finite among values, or for what lies `between` two.

    Decades have the same colours in every figure, from -45 to 0, or on to 39 where something
    explodes. Where something else has two sides, as rates have, zero is grey too.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    decades = measure.kind == "decades" and between is None
    bottom, top = between or _ends(low, high, measure)
    extend = ("neither", "min", "max", "both")[int(low < bottom) + 2 * int(high > top)]
    if measure.log_axis:
        return Colors(PALETTE, LogNorm(bottom, top), extend)
    if measure.kind not in ("decades", "rate"):
        return Colors(PALETTE, Normalize(bottom, top), extend)
    if decades:
        shown = {value: place for value, place in DECADES.items() if value <= top}
        ticks = tuple(tick for tick in TICKS if tick <= top)
        return Colors(*_within(shown), extend, ticks, BENT)
    anchors = {bottom: 0.0 if bottom < 0 else ZERO, top: 1.0 if top > 0 else ZERO}
    if bottom < 0 < top:
        anchors[0.0] = ZERO
    return Colors(*_within(dict(sorted(anchors.items()))), extend)


def _within(places: dict[float, float]) -> tuple[Colormap, Pieces]:
    """The part of the palette in which some ascending values have these places, and their scale."""
    first, *_, last = places.values()
    part = PALETTE(np.linspace(first, last, PALETTE.N))
    inner = [(place - first) / (last - first) for place in places.values()]
    return LinearSegmentedColormap.from_list("part", part), Pieces(list(places), inner)


def _ends(low: float, high: float, measure: Measure) -> tuple[float, float]:
    """Where a scale for values from `low` to `high` ends."""
    if measure.kind == "share":
        return 0.0, 1.0
    if measure.kind in ("lag", "updates"):
        return 1.0, max(high, 2.0)
    if measure.kind == "amount":
        return (low, high) if 0 < low < high else (high / 2, high) if high > 0 else (1.0, 2.0)
    if measure.kind == "decades":
        lowest, *_, highest = DECADES
        low, high = max(low, lowest), min(high, highest)
    down, up = max(-low, 0.0), max(high, 0.0)
    least = max(NEGLIGIBLE * max(down, up), ROUNDING)
    if measure.kind == "decades":
        return lowest, highest if up > least else 0.0
    if down > least and up > least:
        return -max(down, up / STEEPEST), max(up, down / STEEPEST)
    if max(down, up) <= least:
        return -1.0, 0.0
    return (0.0, up) if up > down else (-down, 0.0)


def _round(low: float, high: float) -> list[float]:
    """Round numbers on both sides of zero, or on the one that there is."""
    if not low < 0 < high:
        return [tick for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    down = [-tick for tick in MaxNLocator(3).tick_values(0, -low) if 0 < tick <= -low]
    up = [tick for tick in MaxNLocator(3).tick_values(0, high) if 0 < tick <= high]
    return [*sorted(down), 0.0, *up]
