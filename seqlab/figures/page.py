"""The paper a figure is on: panels in a grid, title above, shared labels and key below."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from seqlab.errors import InputError
from seqlab.figures import writing
from seqlab.figures.style import GREY, LARGE, LETTER, SMALL, Width, points, width
from seqlab.wording import refuse, short_repr

ACROSS = {"single": 2, "double": 4, "slide": 4}  # panels side by side at most
PANEL = (0.9, 2.5)  # inches: the least and greatest height of one
# Inches, of what is around panels.
LINE = 11 / 72  # of title and key
TICKS = 0.34
LABEL = 0.17
HEAD = 0.2
BETWEEN = 0.08
SAMPLE = 33  # points: a line or patch of the key, and the gap before the next
# Of the paper, or of a panel: a line of the label below, and a head.
BELOW, ABOVE = 0.75, 0.8
BEYOND = 0.12  # inches that a label beside the panels may be longer
MOST_LINES = 3  # of a label beside the panels, as long as these may grow
SCALES = ("xscale", "yscale")
TEXTS = ("title", "xlabel", "ylabel", "value_label")
# Ends of a range, and how far they are apart to the larger: floats and ticks end beyond.
HIGHEST, NEAREST = 1e100, 1e-9


@dataclass(frozen=True)
class Looks:
    """How a figure is dressed. What is None is written for you; an empty text leaves it out.

    Texts may have mathematics between dollars (see `seqlab.figures.writing`). `value_range` is
    what the measure's axis or colour bar spans; `xscale`, "log" or "linear", is for curves and
    histograms, `yscale` for curves and distributions: where the measure is a logarithm, "linear"
    shows its number. `contours`, at 1e-3 and 1e-6, and `numbers`, the value of each cell, are for
    heatmaps.
    """

    width: str = "double"
    title: str | None = None
    xlabel: str | None = None
    ylabel: str | None = None
    value_label: str | None = None
    value_range: tuple[float, float] | None = None
    contours: bool = False
    numbers: bool = False
    xscale: str | None = None
    yscale: str | None = None

    def __post_init__(self) -> None:
        width(self.width)
        for option in TEXTS:
            if (text := getattr(self, option)) is not None:
                writing.check(option, text)
        if self.value_range is not None:
            _check_range(self.value_range)
        for option in SCALES:
            if (scale := getattr(self, option)) not in (None, "log", "linear"):
                raise InputError(f"{option}: {scale!r} is unknown; log, linear")


def _check_range(ends: tuple[float, float]) -> None:
    if not (
        isinstance(ends, Sequence) and len(ends) == 2 and all(isinstance(e, Real) for e in ends)
    ):
        raise refuse("value_range", ends, "two numbers, LOW:HIGH")
    low, high = ends
    if low >= high:
        raise InputError(f"value_range: {ends} does not ascend")
    largest = max(-low, high)
    if not (largest <= HIGHEST and high - low >= max(NEAREST * largest, 1 / HIGHEST)):
        raise refuse(
            "value_range",
            ends,
            f"two numbers within {HIGHEST:g} of zero, and no nearer to each other than "
            f"{NEAREST:g} of the larger, or {1 / HIGHEST:g}",
        )


class Page:
    """A figure with a panel for each head; `high` inches on paper, where the place leaves a choice.

    Above stands the title, or where there is none the note. Panels are `alike` where they share
    their vertical axis. Sizes are in inches on paper; on a slide everything is larger alike.
    """

    def __init__(
        self, heads: Sequence[str], looks: Looks, note: str, *, alike: bool = True
    ) -> None:
        self.place: Width = width(looks.width)
        self.titled = looks.title is not None
        text = note if looks.title is None else writing.written(looks.title)
        self.title = _lines("title", text, self.place.paper, LARGE if self.titled else SMALL)
        self.across = math.ceil(len(heads) / math.ceil(len(heads) / ACROSS[looks.width.lower()]))
        self.down = math.ceil(len(heads) / self.across)
        self.figure = Figure(figsize=(self.place.inches,) * 2, layout="constrained")
        grid = self.figure.subplots(self.down, self.across, sharey=alike, squeeze=False)
        every = list(grid.ravel())
        self.axes: list[Axes] = every[: len(heads)]
        for ax in every[len(heads) :]:
            ax.remove()
        for k, (ax, head) in enumerate(zip(self.axes, heads, strict=True)):
            ax.set_title(writing.shortened(head, 72 * ABOVE * self.wide, LARGE), loc="left")
            ax.tick_params(labelbottom=k + self.across >= len(heads))
        self.heads = heads
        self.room = (0.0, 0.0, 1.0, 1.0)
        self.shared: tuple[Text, Text] | None = None

    @property
    def wide(self) -> float:
        """About the width of a panel."""
        return self.place.paper / self.across

    def tall(self, high: float) -> float:
        """About the height of all panels together, each `high` where that is within bounds."""
        if self.place.fixed:
            return self.place.fixed - TICKS - LABEL - HEAD - LINE * max(len(self.title) - 1, 0)
        each = min(max(high, PANEL[0]), PANEL[1])
        return self.down * (each + HEAD * any(self.heads)) + (self.down - 1) * BETWEEN

    def high(self, high: float, *beside: str) -> float:
        """The height of a panel that was to be `high`, with labels beside it."""
        least = max(writing.least(label, LARGE, MOST_LINES) for label in beside)
        return max(high, least / 72 / self.down)

    def beside(self, option: str, label: str, high: float) -> str:
        """A label that is no longer than the panels beside it. Raises InputError for a formula."""
        spare = LABEL + LINE if self.place.fixed else 0.0  # for more lines above and below
        room = self.tall(high) - spare + BEYOND
        lines = writing.balanced(label, 72 * room, LARGE)
        return "\n".join(_checked(option, lines, room, LARGE))

    def arrange(
        self, high: float, labels: tuple[str, str], key: list[Artist], hanging: float = 0.0
    ) -> None:
        """Set the size of everything, write what is around the panels, and settle.

        So many inches `hanging` are what names take below the lowest. May be called again, with
        another key.
        """
        for old in (*self.figure.legends, *self.figure.texts):
            old.remove()
        paper = self.place.paper
        columns = _columns([str(handle.get_label()) for handle in key], 72 * paper)
        rows = math.ceil(len(key) / columns)
        x = "\n".join(_lines("xlabel", labels[0], BELOW * paper, LARGE))
        y = self.beside("ylabel", labels[1], high)
        several = len(self.axes) > 1
        top, foot = LINE * len(self.title), LINE * rows + 0.04
        under, side = (LABEL * (1 + label.count("\n")) for label in (x, y))
        whole = self.place.fixed or top + self.tall(high) + max(TICKS, hanging) + under + foot
        below, side = foot + under * several, side * several
        self.figure.set_size_inches(self.place.inches, whole * self.place.scale)
        self.room = (side / paper, below / whole, 1 - side / paper, 1 - (top + below) / whole)
        self._title(paper, whole)
        if key:
            corner: dict[str, Any] = {"bbox_to_anchor": (0, 0), "borderpad": 0.2}
            legend = self.figure.legend(handles=key, loc="lower left", ncols=columns, **corner)
            legend.set_in_layout(False)
        if len(self.axes) == 1:
            self.axes[0].set(xlabel=x, ylabel=y)
        else:
            self._share((x, y), foot / whole)
        self.lay_out()

    def lay_out(self) -> None:
        """Give axes their place, between what is around them, for good.

        It is rounded: in its last digits it is not the same each time, and pixels would differ.
        """
        self.figure.set_layout_engine("constrained", rect=self.room)
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")
        for ax in self.figure.axes:
            ax.set_position(Bbox(ax.get_position().get_points().round(6)))
            ax.set_in_layout(True)  # for the next time
        boxes = [ax.get_position() for ax in self.axes]
        lefts = sorted({box.x0 for box in boxes})
        pitch = min((b - a for a, b in itertools.pairwise(lefts)), default=1 - lefts[0])
        for ax, head in zip(self.axes, self.heads, strict=True):
            room = 72 * self.place.paper * pitch - SMALL
            ax.set_title(writing.shortened(head, room, LARGE), loc="left")
        if self.shared is not None:
            self.shared[0].set_x((boxes[0].x0 + max(box.x1 for box in boxes)) / 2)
            self.shared[1].set_y((boxes[-1].y0 + boxes[0].y1) / 2)

    def _title(self, paper: float, whole: float) -> None:
        quiet: dict[str, Any] = {"size": points(SMALL), "color": GREY}
        large: dict[str, Any] = {"size": points(LARGE)}
        self.figure.text(
            0.04 / paper,
            1 - 0.03 / whole,
            "\n".join(self.title),
            va="top",
            in_layout=False,
            **(large if self.titled else quiet),
        )

    def _share(self, labels: tuple[str, str], foot: float) -> None:
        """Labels of all panels, to be put in the middle of them."""
        alike: dict[str, Any] = {"size": points(LARGE), "in_layout": False}
        x = self.figure.text(0.5, foot, labels[0], ha="center", va="bottom", **alike)
        left = 0.03 / self.place.paper
        y = self.figure.text(left, 0.5, labels[1], ha="left", va="center", rotation=90, **alike)
        self.shared = (x, y)


def _lines(option: str, text: str, room: float, size: float) -> list[str]:
    """A text in so many inches, broken by the number of its letters, or where these are wide by
    their length. Raises InputError as `_checked` does."""
    lines = writing.wrapped(text, 72 * room, size, int(72 * room / size / LETTER))
    return _checked(option, lines, room, size)


def _checked(option: str, lines: list[str], room: float, size: float) -> list[str]:
    """The lines. Raises InputError, that begins with the option, for a formula that has no room."""
    for line in lines:
        if writing.length(line, size) > 72 * room:
            raise InputError(
                f"{option}: {short_repr(line)} is not broken, and has {room:.1f} inches of room; "
                "write it shorter"
            )
    return lines


def _columns(labels: Sequence[str], room: float) -> int:
    """Columns of a key in so many points: for as few rows as fit, filled one after another."""
    for rows in range(1, len(labels)):
        columns = math.ceil(len(labels) / rows)
        parts = np.array_split([_room(label) for label in labels], columns)  # as a legend does
        if sum(SAMPLE + part.max() for part in parts) <= room:
            return columns
    return 1


def _room(label: str) -> float:
    """Points to keep for a label of the key: by the number of its letters, or its length."""
    return 1.05 * writing.length(label, SMALL)
