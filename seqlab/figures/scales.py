"""Where the values of a field lie along an axis, and how that axis is marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.names import COORDINATES, PIECES, RELATIVE, are_numbers, in_order, text
from seqlab.figures.style import LETTER, SMALL, points
from seqlab.figures.writing import length, literal

MOST_NAMES = 12  # numbers, up to which each has a row or column of its own size
MARGIN = 0.03  # of the length of an axis, beyond the first and last point
TILT = 40  # degrees: names that would touch side by side
MOST_STEPS = 4  # the same for lengths, lags and updates
ON_LOG = ("length", "lag", RELATIVE)  # are at home on a log axis

Name = Literal["x", "y"]


@dataclass(frozen=True)
class Scale:
    """The distinct values of a field, in order, and where each lies: `centres`, between `edges`.

    `kind` is "log" or "linear" where the axis measures, "names" where it lists: values then lie
    at 0, 1, 2...
    """

    field: str
    values: tuple[Any, ...]
    kind: str
    centres: NDArray
    edges: NDArray

    @property
    def numeric(self) -> bool:
        return are_numbers(self.values)

    def index(self, values: Any) -> NDArray:
        """The place of a field's value, or of each of an array's, among `values`."""
        if self.field in COORDINATES:
            return np.searchsorted(np.asarray(self.values), values)
        return np.asarray(self.values.index(values))

    def at(self, number: float) -> float:
        """Where any number would lie; nan for one that is not on this axis."""
        if self.kind != "names":
            return number if self.edges[0] <= number <= self.edges[-1] else math.nan
        if number <= 0:
            return math.nan
        logs = np.log(np.asarray(self.values, float))
        return float(np.interp(math.log(number), logs, self.centres, left=math.nan, right=math.nan))


def measuring(
    field: str, values: Sequence[Any], kind: str | None = None, beside: Sequence[float] = ()
) -> Scale:
    """An axis for points: it measures where all values are numbers. `kind` overrides its sort.

    What stands `beside` them has room too.
    """
    ordered = tuple(in_order(values))
    if not are_numbers(ordered):
        return listing(field, ordered)
    found = np.asarray(ordered, float)
    kind = kind or _sort(field, found)
    shown = found[found > 0] if kind == "log" else found
    if not shown.size:
        raise InputError(f"xscale: log has no place for {field}, none of which is above 0")
    ends = shown[[0, -1]]
    if len(beside):
        ends = np.array([min(ends[0], *beside), max(ends[1], *beside)])
    if field not in COORDINATES or len(beside) or ends[0] == ends[1]:
        ends = _widened(ends, kind)
    return Scale(field, ordered, kind, found, ends)


def _widened(ends: NDArray, kind: str) -> NDArray:
    if kind == "log":
        return np.exp(_widened(np.log(ends), "linear"))
    return ends + np.array([-1, 1]) * (MARGIN * np.ptp(ends) or 0.5)


def cells(field: str, values: Sequence[Any], continuous: bool = False) -> Scale:
    """An axis for the rows or columns of a heatmap; a few numbers are listed, many measured."""
    ordered = tuple(in_order(values))
    most = 1 if continuous else MOST_STEPS if field in COORDINATES else MOST_NAMES
    many = len(ordered) > most
    if not (many and are_numbers(ordered)):
        return listing(field, ordered)
    found = np.asarray(ordered, float)
    kind = _sort(field, found)
    if kind == "log":
        return Scale(field, ordered, kind, found, np.exp(_edges(np.log(found))))
    return Scale(field, ordered, kind, found, _edges(found))


def mark(ax: Axes, name: Name, scale: Scale) -> None:
    """Limits and ticks of an axis, such that at its present size no two labels touch."""
    room = (ax.bbox.width if name == "x" else ax.bbox.height) / ax.figure.dpi * 72
    ends = scale.edges[[0, -1]]
    if (
        name == "y"
        and scale.kind == "names"
        and scale.field not in PIECES  # layers are read from the bottom
        and not any(are_numbers([value]) for value in scale.values)
    ):
        ends = ends[::-1]  # other names are read from the top
    (ax.set_xlim if name == "x" else ax.set_ylim)(ends[0], ends[1])
    if scale.kind == "names":
        _list(ax, name, scale, room)
    elif scale.kind == "log":
        (ax.set_xscale if name == "x" else ax.set_yscale)("log")
        mark_log(ax, name)
        if scale.field not in ON_LOG:
            _mark_values(ax, name, scale, room)
    elif scale.field in COORDINATES:  # they count
        axis = ax.xaxis if name == "x" else ax.yaxis
        axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def mark_log(ax: Axes, name: Name) -> None:
    """Plain numbers at the powers of ten, or at 1, 2 and 5 times them where few are in sight."""
    axis = ax.xaxis if name == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    wide = math.floor(math.log10(high) + 1e-9) - math.ceil(math.log10(low) - 1e-9) >= 2
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    axis.set_minor_formatter(NullFormatter())


def _mark_values(ax: Axes, name: Name, scale: Scale, room: float) -> None:
    """The values themselves, where round numbers would be fewer than they and have no more room."""
    axis = ax.xaxis if name == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    labels = [tick_text(value) for value in scale.values]
    each = LETTER * points(SMALL) * max(map(len, labels)) if name == "x" else points(SMALL)
    apart = room * np.diff(np.log(scale.values)) / math.log(high / low)
    if len(labels) <= MOST_NAMES and apart.min(initial=np.inf) > 1.3 * each:
        axis.set_ticks(list(scale.values), labels)
        axis.set_minor_locator(NullLocator())


def tick_text(number: float) -> str:
    """A number as a tick writes it, without powers up to a million."""
    if 1 <= abs(number) < 1e6:
        return f"{number:.10g}"
    return f"{number:g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _list(ax: Axes, name: Name, scale: Scale, room: float) -> None:
    """A tick for each value, or for every n-th; long names under a horizontal axis are tilted."""
    labels = [literal(text(value)) for value in scale.values]
    step, each = 1, room / max(len(labels), 1)
    line = 1.3 * points(SMALL)
    longest = LETTER * points(SMALL) * max(map(len, labels))
    tilted = name == "x" and longest + 0.5 * line > each
    if tilted and are_numbers(scale.values):
        tilted, step = False, math.ceil((longest + 0.5 * line) / each)
    elif tilted or name == "y":
        step = math.ceil(line / each)
    axis = ax.xaxis if name == "x" else ax.yaxis
    axis.set_ticks(list(scale.centres[::step]), labels[::step])
    ax.tick_params(axis=name, length=0)
    if tilted:
        ax.tick_params(axis="x", rotation=TILT)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def hanging(scale: Scale, wide: float) -> float:
    """Inches on paper below a horizontal axis of about a width that names take, if tilted."""
    if scale.kind != "names" or scale.numeric:
        return 0.0
    longest = max(length(literal(text(value)), SMALL) for value in scale.values) / 72
    each = wide / len(scale.values)
    return longest * math.sin(math.radians(TILT)) if longest > each else 0.0


def listing(field: str, values: Sequence[Any]) -> Scale:
    """An axis of names, or of numbers written as such."""
    ordered = tuple(values)
    centres = np.arange(len(ordered), dtype=float)
    return Scale(field, ordered, "names", centres, np.append(centres, len(ordered)) - 0.5)


def _sort(field: str, values: NDArray) -> str:
    if field == "update":
        return "linear"
    return "log" if field in ON_LOG else _evenest(values)


def _evenest(values: NDArray) -> str:
    """The kind of axis on which numbers are more evenly spread."""
    if values[0] <= 0 or values.size < 3:
        return "linear"
    spread = [
        np.std(steps) / np.mean(steps) for steps in (np.diff(values), np.diff(np.log(values)))
    ]
    return "log" if spread[1] < spread[0] else "linear"


def _edges(centres: NDArray) -> NDArray:
    """Half way between neighbours, and as far beyond the ends."""
    inner = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - inner[0]], inner, [2 * centres[-1] - inner[-1]]])
