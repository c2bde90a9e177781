"""The paper a figure is on: panels in a grid, title above, shared labels and key below."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from seqlab.errors import InputError
from seqlab.figures.style import GREY, LARGE, LETTER, SMALL, Width, points, width

ACROSS = {"single": 2, "double": 4, "slide": 4}  # panels side by side at most
PANEL = (0.9, 2.5)  # inches: the least and greatest height of one
# Inches, of what is around panels.
LINE = 11 / 72  # of title and key
TICKS = 0.34
LABEL = 0.17
HEAD = 0.2
BETWEEN = 0.08
SAMPLE = 33  # points: a line or patch of the key, and the gap before the next


@dataclass(frozen=True)
class Looks:
    """How a figure is dressed. What is None is written for you; an empty text leaves it out.

    `value_range` is what the measure's axis or colour bar spans; `xscale`, "log" or "linear", is
    for curves, `contours`, at 1e-3 and 1e-6, for heatmaps.
    """

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


class Page:
    """A figure with a panel for each head; `high` inches on paper, where the place leaves a choice.

    Sizes are in inches on paper; on a slide everything is larger alike.
    """

    def __init__(self, heads: Sequence[str], looks: Looks) -> None:
        self.looks = looks
        self.place: Width = width(looks.width)
        self.across = math.ceil(len(heads) / math.ceil(len(heads) / ACROSS[looks.width.lower()]))
        self.down = math.ceil(len(heads) / self.across)
        self.figure = Figure(figsize=(self.place.inches,) * 2, layout="constrained")
        grid = self.figure.subplots(self.down, self.across, sharey=True, squeeze=False)
        every = list(grid.ravel())
        self.axes: list[Axes] = every[: len(heads)]
        for ax in every[len(heads) :]:
            ax.remove()
        for k, (ax, head) in enumerate(zip(self.axes, heads, strict=True)):
            ax.set_title(head, loc="left")
            ax.tick_params(labelbottom=k + self.across >= len(heads))
        self.heads = HEAD * any(heads)
        self.room = (0.0, 0.0, 1.0, 1.0)
        self.shared: tuple[Text, Text] | None = None

    @property
    def wide(self) -> float:
        """About the width of a panel."""
        return self.place.paper / self.across

    def tall(self, high: float) -> float:
        """About the height of all panels together, each `high` where that is within bounds."""
        if self.place.fixed:
            return self.place.fixed - TICKS - LABEL - HEAD
        each = min(max(high, PANEL[0]), PANEL[1])
        return self.down * (each + self.heads) + (self.down - 1) * BETWEEN

    def arrange(self, high: float, note: str, labels: tuple[str, str], key: list[Artist]) -> None:
        """Set the size of everything, write what is around the panels, and settle.

        May be called again, with another key.
        """
        for old in (*self.figure.legends, *self.figure.texts):
            old.remove()
        paper = self.place.paper
        text = note if self.looks.title is None else self.looks.title
        title = textwrap.wrap(text, int(72 * paper / SMALL / LETTER))
        columns = _columns([str(handle.get_label()) for handle in key], 72 * paper)
        rows = math.ceil(len(key) / columns)
        top, foot = LINE * len(title), LINE * rows + 0.04
        whole = self.place.fixed or top + self.tall(high) + TICKS + LABEL + foot
        labels = labels[0], wrapped(labels[1], self.tall(high))
        several = len(self.axes) > 1
        side = LABEL * (1 + labels[1].count("\n")) * several
        below = foot + LABEL * several
        self.figure.set_size_inches(self.place.inches, whole * self.place.scale)
        self.room = (side / paper, below / whole, 1 - side / paper, 1 - (top + below) / whole)
        self._title(title, paper, whole)
        if key:
            corner: dict[str, Any] = {"bbox_to_anchor": (0, 0), "borderpad": 0.2}
            legend = self.figure.legend(handles=key, loc="lower left", ncols=columns, **corner)
            legend.set_in_layout(False)
        if len(self.axes) == 1:
            self.axes[0].set(xlabel=labels[0], ylabel=labels[1])
        else:
            self._share(labels, foot / whole)
        self.settle()

    def settle(self) -> None:
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
        if self.shared is not None:
            self.shared[0].set_x((boxes[0].x0 + max(box.x1 for box in boxes)) / 2)
            self.shared[1].set_y((boxes[-1].y0 + boxes[0].y1) / 2)

    def _title(self, lines: list[str], paper: float, whole: float) -> None:
        quiet: dict[str, Any] = {"size": points(SMALL), "color": GREY}
        loud: dict[str, Any] = {"size": points(LARGE)}
        self.figure.text(
            0.04 / paper,
            1 - 0.03 / whole,
            "\n".join(lines),
            va="top",
            in_layout=False,
            **(quiet if self.looks.title is None else loud),
        )

    def _share(self, labels: tuple[str, str], foot: float) -> None:
        """Labels of all panels, to be put in the middle of them."""
        alike: dict[str, Any] = {"size": points(LARGE), "in_layout": False}
        x = self.figure.text(0.5, foot, labels[0], ha="center", va="bottom", **alike)
        left = 0.03 / self.place.paper
        y = self.figure.text(left, 0.5, labels[1], ha="left", va="center", rotation=90, **alike)
        self.shared = (x, y)


def wrapped(label: str, room: float) -> str:
    """A label that is hardly longer than the panels, of so many inches on paper, beside it."""
    return "\n".join(textwrap.wrap(label, int(1.25 * 72 * room / LARGE / LETTER)))


def _columns(labels: Sequence[str], room: float) -> int:
    """Columns of a key in so many points: for as few rows as fit, filled one after another."""
    for rows in range(1, len(labels)):
        longest = [max(map(len, labels[k : k + rows])) for k in range(0, len(labels), rows)]
        if sum(SAMPLE + LETTER * SMALL * letters for letters in longest) <= room:
            return len(longest)
    return 1
