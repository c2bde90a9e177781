"""Heatmaps: a measure over two fields, with what is no number marked apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.patheffects as effects
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.choose import ROUNDING, Selection, select
from seqlab.figures.colors import Colors, colors
from seqlab.figures.gather import Where
from seqlab.figures.grid import Grid, arrange, axes_of
from seqlab.figures.names import MINUS, Measure
from seqlab.figures.request import Request, Results
from seqlab.figures.scales import Scale, mark
from seqlab.figures.style import SMALL, WIDTHS, points, style
from seqlab.figures.writing import length
from seqlab.numbers.quantity import HORIZON, LOG10_SMALLEST

HEIGHT = 2.6  # inches
CONTOURS: dict[float, Any] = {-6.0: (0, (4, 2)), -3.0: "-"}  # decades, and the lines drawn
MOST_SHAPES = 2000  # cells that a PDF keeps as shapes; more are a picture in it
HORIZON_LINE: dict[str, Any] = {"color": "black", "linestyle": "-"}


@dataclass(frozen=True)
class Mark:
    """How cells are drawn that a colour cannot show, and what the key says of them."""

    label: str
    hatch: str
    ink: str
    face: str | None = None  # None: the cell's own colour


ZERO = Mark("exactly zero in float32", "////", "white")
UNDEFINED = Mark("nan", "xxxx", "0.35", "0.75")
OVERFLOW = Mark("overflow", "....", "white", "black")
NEVER = Mark("never", "....", "0.55", "white")
MISSING = Mark("not measured", "\\\\\\", "0.75", "white")


def heatmap(
    results: Results,
    ax: Axes | None = None,
    *,
    x: str | None = None,
    y: str | None = None,
    value: str = "log10_attenuation",
    where: Where | None = None,
    contours: bool = False,
    numbers: bool = False,
) -> Axes:
    """Draw a measure over two fields, length or lag, with its colour bar; returns `ax`.

    Hatched: where float32 would be exactly zero; nan, overflow and runs that are missing are
    marked apart; a line is the horizon. `contours` adds lines at 1e-3 and 1e-6, `numbers` the
    values. Raises InputError where there is nothing to draw.
    """
    asked = Request("heatmap", x=x, y=y, value=value, where=where or {}, panels=False)
    return _alone(select(results, asked), ax, contours, numbers)


def profile(
    results: Results,
    ax: Axes | None = None,
    *,
    value: str = "log10_attenuation",
    where: Where | None = None,
    contours: bool = False,
) -> Axes:
    """Draw a measure of one run over lag and length, a triangle, as `heatmap` does."""
    asked = Request("profile", value=value, where=where or {}, panels=False)
    return _alone(select(results, asked), ax, contours)


def _alone(selection: Selection, ax: Axes | None, contours: bool, numbers: bool = False) -> Axes:
    with style():
        size = (WIDTHS["single"].inches, HEIGHT)
        axes = ax or Figure(figsize=size, layout="constrained").subplots()
        measure = selection.choice.measure
        cells = arrange(selection.series, selection.choice, *scales(selection, contours))
        scale = colors(cells.values, measure)
        key = draw(axes, cells, scale, measure, contours)
        frame(axes, cells)
        labels = [selection.label(axis.field) for axis in (cells.columns, cells.rows)]
        axes.set(xlabel=labels[0], ylabel=labels[1])
        label = selection.value_label + scale.note
        scale.bar([axes], label, axes.bbox.height / axes.figure.dpi)
        if key:
            axes.legend(
                handles=list(key.values()), loc="lower left", bbox_to_anchor=(0, 1), ncols=2
            )
        if numbers:
            page = axes.get_figure(root=True)
            assert page is not None
            page.draw_without_rendering()  # axes have their size then
            write_numbers(axes, cells, scale)
    return axes


def scales(selection: Selection, contours: bool) -> tuple[Scale, Scale]:
    """Columns and rows. Raises InputError where contours are asked for and have no meaning."""
    choice = selection.choice
    columns, rows = axes_of(selection.series, choice)
    numbers = columns.numeric and rows.numeric
    if contours and not (choice.measure.kind == "decades" and numbers):
        raise InputError(
            f"contours: they need decades over two axes of numbers, not {choice.measure.name} over "
            f"{choice.x} and {choice.y}"
        )
    return columns, rows


def draw(
    ax: Axes, grid: Grid, scale: Colors, measure: Measure, contours: bool
) -> dict[str, Artist]:
    """Fill axes with the cells of a grid; returns the key of what is marked, by label."""
    _mesh(ax, grid, scale)
    key: dict[str, Artist] = {}
    for marked, where in _marks(grid, measure):
        if where.any():
            face = marked.face or "none"
            ax.add_patch(_hatched(_rectangles(where, grid.columns, grid.rows), marked, face))
            key[marked.label] = _sample(marked, marked.face or scale.cmap(0.0))
    if contours:
        key |= _contours(ax, grid)
    elif grid.horizon is not None and np.isfinite(grid.horizon).all(axis=0).any():
        width = points(1.1)
        ax.plot(*grid.horizon, linewidth=width, path_effects=_halo(width), **HORIZON_LINE)
        label = f"horizon: median under {HORIZON}"
        key[label] = Line2D([], [], linewidth=width, label=label, **HORIZON_LINE)
    ax.spines[["top", "right"]].set_visible(True)
    return key


def write_numbers(ax: Axes, grid: Grid, scale: Colors) -> None:
    """Write its value into each cell, in the middle; what is hatched has none.

    Axes must have their size. Raises InputError where cells are too small to read them.
    """
    texts = [[written(value) for value in row] for row in grid.values]
    size = points(SMALL)
    wide, high = np.array([ax.bbox.width, ax.bbox.height]) / ax.figure.dpi * 72
    each = wide / len(grid.columns.values), high / len(grid.rows.values)
    longest = max(length(text, SMALL) for row in texts for text in row) * size / SMALL
    listed = {grid.columns.kind, grid.rows.kind} == {"names"}
    if not (listed and longest + size / 2 < each[0] and 1.2 * size < each[1]):
        shape = f"{len(grid.rows.values)} x {len(grid.columns.values)}"
        raise InputError(f"numbers: {shape} cells are too small for them; choose with where")
    for row, line in zip(grid.rows.centres, zip(grid.values, texts, strict=True), strict=True):
        for column, value, text in zip(grid.columns.centres, *line, strict=True):
            ax.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                color="white" if _is_dark(scale.cmap(scale.norm(value))) else "black",
                size=size,
                zorder=4,
            )


def written(value: float) -> str:
    """A value as a cell has it: three figures from 1 up, two below; nothing for no number."""
    if not np.isfinite(value):
        return ""
    size = abs(value)
    figures = f"{value:.0f}" if size >= 100 else f"{value:#.{3 if size >= 1 else 2}g}"
    return figures.replace("-", MINUS) if size > ROUNDING else "0"


def _is_dark(color: Sequence[float]) -> bool:
    """Whether white is the better ink, by the colour's luma (Rec. 601)."""
    return float(np.dot(color[:3], (0.299, 0.587, 0.114))) < 0.5


def frame(ax: Axes, grid: Grid) -> None:
    """Mark both axes as far as their present size allows."""
    mark(ax, "x", grid.columns)
    mark(ax, "y", grid.rows)
    ax.tick_params(which="both", direction="out")


def _mesh(ax: Axes, grid: Grid, scale: Colors) -> None:
    shown = np.clip(np.nan_to_num(grid.values, nan=0.0), scale.norm.vmin, scale.norm.vmax)
    hidden = np.isnan(grid.values)
    ax.pcolormesh(
        grid.columns.edges,
        grid.rows.edges,
        np.ma.array(shown, mask=hidden),
        cmap=scale.cmap,
        norm=scale.norm,
        rasterized=hidden.size > MOST_SHAPES,
        edgecolors="face",  # else viewers show seams between neighbours
        linewidth=0.1,
        zorder=1,
    )


def _marks(grid: Grid, measure: Measure) -> Iterator[tuple[Mark, NDArray]]:
    yield MISSING, grid.missing
    yield UNDEFINED, grid.undefined
    yield NEVER if measure.kind in ("lag", "updates") else OVERFLOW, np.isposinf(grid.values)
    with np.errstate(invalid="ignore"):
        attenuation = measure.name.startswith("log10_attenuation")
        yield (
            ZERO,
            grid.values < (LOG10_SMALLEST["float32"] if attenuation else -np.finfo(float).max),
        )


def _hatched(shape: Path, style: Mark, face: Any) -> PathPatch:
    return PathPatch(
        shape, facecolor=face, edgecolor=style.ink, hatch=style.hatch, linewidth=0, zorder=2
    )


def _sample(style: Mark, face: Any) -> Patch:
    return Patch(
        facecolor=face, edgecolor=style.ink, hatch=style.hatch, linewidth=0, label=style.label
    )


def _rectangles(where: NDArray, columns: Scale, rows: Scale) -> Path:
    """One outline around the marked cells, neighbours in a row together."""
    padded = np.pad(where, ((0, 0), (1, 1))).astype(np.int8)
    steps = np.diff(padded, axis=1)
    row, first = np.nonzero(steps == 1)
    _, last = np.nonzero(steps == -1)
    left, right = columns.edges[first], columns.edges[last]
    low, high = rows.edges[row], rows.edges[row + 1]
    corners = [(left, low), (right, low), (right, high), (left, high), (left, low)]
    vertices = np.stack([np.stack(corner, axis=1) for corner in corners], axis=1)
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
    return Path(vertices.reshape(-1, 2), codes * len(row))


def _contours(ax: Axes, grid: Grid) -> dict[str, Artist]:
    """Lines along which 1e-3 and 1e-6 are left, and their key."""
    if min(grid.values.shape) < 2:
        return {}
    limits = 2 * min(CONTOURS), -2 * min(CONTOURS)  # infinities have no place between cells
    wide = points(1.0)
    drawn = ax.contour(
        grid.columns.centres,
        grid.rows.centres,
        np.ma.masked_invalid(np.clip(grid.values, *limits)),
        levels=list(CONTOURS),
        colors="black",
        linestyles=list(CONTOURS.values()),
        linewidths=wide,
        zorder=3,
    )
    drawn.set_path_effects(_halo(wide))
    return {
        f"1e{level:.0f} is left": Line2D(
            [], [], linestyle=line, label=f"1e{level:.0f} is left", color="black", linewidth=wide
        )
        for (level, line), path in zip(CONTOURS.items(), drawn.get_paths(), strict=True)
        if np.size(path.vertices)
    }


def _halo(width: float) -> list[effects.AbstractPathEffect]:
    return [effects.withStroke(linewidth=width + points(1.2), foreground="white")]
