"""Labels written beside the ends of curves, in place of a legend."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from seqlab.figures.style import LETTER, SMALL, Color, points
from seqlab.figures.writing import LONGEST_NAME, balanced, length

TIED = "\N{NO-BREAK SPACE}"
WIDE = 1.25 * LONGEST_NAME  # points of a line, in which there may be a field's name too
LINE_HEIGHT = 1.35  # from one label to the next, times its height


@dataclass(frozen=True)
class Label:
    """A name for the curve that reaches the right edge at height y, in data units: `fate` says that
    it ends in no number, `rule` tells curves of one name apart."""

    y: float
    name: str
    color: Color
    fate: str = ""
    rule: str = ""

    @property
    def text(self) -> str:
        return self.name + self.fate

    @cached_property
    def lines(self) -> list[str]:
        """The text as it is written: broken behind commas, where that is enough."""
        tied = re.sub("(?<!,) ", TIED, self.text)
        enough = all(length(part, SMALL) <= WIDE for part in tied.split(", "))
        found = balanced(tied if enough else self.text, WIDE, SMALL)
        return [line.replace(TIED, " ") for line in found]


def spacing(ax: Axes) -> float:
    """The height of a line of text, in data units of a linear y axis."""
    bottom, top = ax.get_ylim()
    height = ax.bbox.height / ax.figure.dpi * 72
    return (top - bottom) * LINE_HEIGHT * points(SMALL) / height


def merged(labels: Sequence[Label], ax: Axes) -> list[Label]:
    """The labels without those that would say the same at the same place; where they say the same
    at several, each with its rule."""
    gap = spacing(ax)
    kept: list[Label] = []
    for label in labels:
        if not any(k.text == label.text and abs(k.y - label.y) < gap for k in kept):
            kept.append(label)
    texts = [label.text for label in kept]
    return [
        replace(label, name=f"{label.name}, {label.rule}") if texts.count(label.text) > 1 else label
        for label in kept
    ]


def fit(labels: Sequence[Label], ax: Axes) -> bool:
    """Whether so many labels find room one above another."""
    bottom, top = ax.get_ylim()
    return sum(len(label.lines) for label in labels) * spacing(ax) <= top - bottom


def write(labels: Sequence[Label], ax: Axes) -> None:
    """Write each label to the right of the axes, as near to its curve as the others allow.

    Of curves that end together the first is named on top.
    """
    order = sorted(labels, key=lambda label: label.y, reverse=True)[::-1]
    line, (bottom, top) = spacing(ax), ax.get_ylim()
    sizes = line * np.array([len(label.lines) for label in order])
    ends = bottom + (sizes[0] - line) / 2, top - (sizes[-1] - line) / 2  # one line may hang over
    heights = _spread(np.array([label.y for label in order]), sizes, *ends)
    place = ax.get_yaxis_transform()
    for label, height in zip(order, heights, strict=True):
        thread = Line2D([1.0, 1.03, 1.05], [label.y, height, height], transform=place)
        thread.set(color=label.color, linewidth=points(0.8), clip_on=False)
        ax.add_line(thread)
        ax.text(
            1.06,
            height,
            "\n".join(label.lines),
            transform=place,
            va="center",
            size=points(SMALL),
            color=label.color,
        )


def write_at(ax: Axes, level: float, text: str, color: Color) -> bool:
    """Name a horizontal line, just under or over it, where no curve is; False where there is none.

    Curves and axes must have their final place.
    """
    gap, wide = points(3), LETTER * points(SMALL) * len(text)
    bottom, top = ax.get_ylim()
    width, height = (side / ax.figure.dpi * 72 for side in (ax.bbox.width, ax.bbox.height))
    y = height * (level - bottom) / (top - bottom)
    curves = [_in_points(line, ax) for line in ax.lines if line.get_transform() == ax.transData]
    for left in (gap, width - wide - gap, (width - wide) / 2):
        for low in (y - points(SMALL) - gap, y + gap / 2):
            high = low + points(SMALL)
            across = np.linspace(left - gap, left + wide + gap, 99)
            heights = (np.interp(across, *curve, left=np.nan, right=np.nan) for curve in curves)
            taken = any(((low - gap < h) & (h < high + gap / 2)).any() for h in heights)
            if not taken and low > 0 and high < height:
                place = (left / width, low / height)
                box = ax.text(*place, text, transform=ax.transAxes, size=points(SMALL), color=color)
                box.set_in_layout(False)
                return True
    return False


def _in_points(line: Line2D, ax: Axes) -> tuple[NDArray, NDArray]:
    """The points of a line, from the corner of its axes."""
    with np.errstate(divide="ignore", invalid="ignore"):
        place = ax.transAxes.inverted().transform(ax.transData.transform(line.get_xydata()))
    size = np.array([ax.bbox.width, ax.bbox.height]) / ax.figure.dpi * 72
    x, y = (place * size)[np.isfinite(place).all(axis=1)].T
    return (x, y) if x.size else (np.zeros(1), np.full(1, np.nan))


def _spread(wanted: NDArray, sizes: NDArray, bottom: float, top: float) -> NDArray:
    """Ascending heights of the middles of things of such sizes, none of which touch, within limits,
    with the least squared displacement.

    Less what those below take, "do not touch" is "not descending": an isotonic regression.
    """
    stack = np.cumsum(sizes) - (sizes + sizes[0]) / 2
    base = isotonic_regression(wanted - stack).x
    return np.clip(base, bottom, top - stack[-1]) + stack
