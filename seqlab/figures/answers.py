"""The figure of `seqlab reach`: what is left of the gradient against the option; the answers."""

import math
from os import PathLike

from seqlab.figures.choose import select
from seqlab.figures.data import check_path, save, table
from seqlab.figures.figure import figure_of
from seqlab.figures.page import Looks
from seqlab.figures.request import Request
from seqlab.figures.style import GREY, INK, points, style
from seqlab.report.reach_table import Question, kept

WINDOW = 12  # decades above and below what was asked for, and no more
MARGIN = 1.0  # decades
THIN = 0.7  # points


def plot_answers(found: Question, path: str | PathLike[str]) -> None:
    """Write it as PDF, SVG or PNG, and its data beside it as CSV: of each value tried the median
    and the quartiles. Raises InputError."""
    check_path(path)
    selection = select(found.tried, Request("curves", x=found.vary, panels=False))
    level = math.log10(found.keep)
    with style():
        looks = Looks("single", title=_title(found), value_range=_range(found, level))
        figure = figure_of(selection, looks)
        (ax,) = figure.axes
        ax.axhline(level, color=GREY, linewidth=points(THIN), zorder=1)
        left, right = ax.get_xlim()
        for one in found.answers:
            ax.axvline(one.value, color=INK, linewidth=points(THIN), zorder=2)
            if (one.low, one.high) != (None, None):
                ends = left if one.low is None else one.low, right if one.high is None else one.high
                ax.axvspan(*ends, color=GREY, alpha=0.25, linewidth=0, zorder=0)
        ax.set_xlim(left, right)
    save(figure, table(selection), path)


def _title(found: Question) -> str:
    name = found.vary.replace("_", " ")
    values = " or ".join(f"{one.value:.4g}{_interval(one.low, one.high)}" for one in found.answers)
    what = f"{name} {values}" if values else f"no {name}"
    return f"{what} leaves {found.keep:g} after {found.steps} steps"


def _interval(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" [{', '.join('beyond' if end is None else f'{end:.4g}' for end in (low, high))}]"


def _range(found: Question, level: float) -> tuple[float, float]:
    """Of what is kept, a window around what was asked for."""
    found_at = [one for result in found.tried if math.isfinite(one := kept(result))]
    low, high = min([*found_at, level - 1]), max([*found_at, level + 1])
    return max(low, level - WINDOW), min(high + MARGIN, level + WINDOW)
