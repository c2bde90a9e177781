"""What curves of training have besides a line: intervals, horizons, learnable lengths, levels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT
from matplotlib.transforms import Transform, offset_copy
from numpy.typing import NDArray

from seqlab.figures.choose import Choice
from seqlab.figures.curve import Curve
from seqlab.figures.names import RELATIVE, named
from seqlab.figures.style import GREY, Color, pale, points

ASIDE = 1.6  # points, from one colour's intervals to the next one's, which may be the same
SHAPES = ("o", "s", "^", "D", "v", "P", "X", "p")
SIZE = 3.6  # points: a mark
SIZES = (5.8, SIZE, 2.2)  # of rules
THIN = 0.7  # points: a line that is no curve
LEVELS: dict[str, Any] = {"trivial loss": "-", "solved under": (0, (4, 2))}
HORIZON: dict[str, Any] = {"marker": "^", "markeredgewidth": 0}
TO_CURVE: dict[str, Any] = {"linestyle": (0, (1, 2)), "clip_on": False, "zorder": 2}
HALF: dict[str, Any] = {"marker": "D", "markerfacecolor": "white"}
NEVER: dict[str, Any] = {"marker": "o", "markerfacecolor": "white"}
AT_MOST: dict[str, Any] = {"marker": CARETLEFT, "markeredgewidth": 0}
_NO_LINE: dict[str, Any] = {"linestyle": "", "in_layout": False}  # marks may hang over an edge


def is_cloud(choice: Choice) -> bool:
    """Whether points are marks, which stand for themselves or on the upper edge for never."""
    return choice.measure.kind == "updates" or choice.x == RELATIVE


def shapes(drawn: Sequence[Curve]) -> dict[str, str]:
    """The shape of marks of each name."""
    order = list(dict.fromkeys(curve.label for curve in drawn))
    return {name: SHAPES[k % len(SHAPES)] for k, name in enumerate(order)}


def places(drawn: Sequence[Curve]) -> list[int]:
    """Which curves are drawn aside of which: those of other colours."""
    order = list(dict.fromkeys(curve.color for curve in drawn))
    return [order.index(curve.color) for curve in drawn]


def _style(curve: Curve, drawn: Sequence[Curve]) -> dict[str, Any]:
    """Of a curve's marks. Rules are told apart as lines' are: the first is large and pale, others
    are smaller on top of it."""
    order = sorted({one.stroke for one in drawn})
    place = order.index(curve.stroke) + (len(order) == 1)
    color = pale(curve.color) if place == 0 else curve.color
    size = SIZES[min(place, len(SIZES) - 1)]
    return {"color": color, "markersize": points(size), "markeredgewidth": points(0.8), **_NO_LINE}


def aside(ax: Axes, place: int, count: int) -> Transform:
    """Data, but so far aside that one of so many places does not hide another."""
    step = points(ASIDE) * (place - (count - 1) / 2)
    return offset_copy(ax.transData, fig=ax.get_figure(root=True), x=step, units="points")


def whiskers(
    ax: Axes, x: NDArray, ends: tuple[NDArray, NDArray], color: Color, to: Transform
) -> None:
    """A stroke between two ends at each x."""
    thin: dict[str, Any] = {"linewidth": points(THIN), "alpha": 0.6, "zorder": 2}
    ax.vlines(x, *ends, color=color, transform=to, **thin).set_in_layout(False)


def dots(ax: Axes, curve: Curve, value: NDArray, drawn: Sequence[Curve], to: Transform) -> None:
    """A mark at each x, hollow on the upper edge where there is no number."""
    look: dict[str, Any] = {"transform": to, "marker": shapes(drawn)[curve.label], "zorder": 4}
    look |= _style(curve, drawn)
    never = np.isinf(curve.value)
    ax.plot(curve.x[~never], value[~never], **look)
    ax.plot(curve.x[never], value[never], **look | {"markerfacecolor": "white", "clip_on": False})
    most = curve.at_most
    if most is not None and most.any():
        left = offset_copy(to, fig=ax.get_figure(root=True), x=-points(SIZE), units="points")
        ax.plot(curve.x[most], value[most], **look | AT_MOST | {"transform": left})


def around(ax: Axes, drawn: Sequence[Curve], choice: Choice) -> None:
    """Horizons on the axis, learnable lengths at one half, and what values are held to."""
    if choice.x == RELATIVE:
        ax.axvline(1, color=GREY, linewidth=points(THIN), zorder=1)
    for name, level in sorted({level for curve in drawn for level in curve.levels}):
        ax.axhline(level, color=GREY, linestyle=LEVELS[name], linewidth=points(THIN), zorder=1)
    for curve in drawn:
        alike: dict[str, Any] = {"color": curve.color, "clip_on": False, "zorder": 5}
        if has_horizon(curve, choice):
            bottom, x = ax.get_ylim()[0], [curve.horizon] * 2
            met = np.interp(np.log(curve.horizon), np.log(curve.x), curve.value)
            met = np.clip(np.nan_to_num(met, nan=np.inf), *ax.get_ylim())  # never is above
            ax.plot(x, [bottom, met], color=curve.color, linewidth=points(THIN), **TO_CURVE)
            at_foot = {"transform": ax.get_xaxis_transform(), "markersize": points(1.3 * SIZE)}
            ax.plot(x[:1], [0], **alike | HORIZON | at_foot | _NO_LINE)
        if np.isfinite(curve.learnable):
            size = {"markersize": points(SIZE)}
            ax.plot([curve.learnable], [0.5], **alike | HALF | size | _NO_LINE)


def has_horizon(curve: Curve, choice: Choice) -> bool:
    """Whether the horizon of a curve's networks is on its axis."""
    of_length = choice.measure.of_training and choice.x == "length"
    return bool(of_length and np.isfinite(curve.horizon))


def names(drawn: Sequence[Curve]) -> list[Artist]:
    """What colours, shapes and sizes of marks mean."""
    found = {curve.label: curve.color for curve in drawn}
    handles: list[Artist] = [
        _mark(n, color=found[n], marker=shape) for n, shape in shapes(drawn).items()
    ]
    rules = {curve.rule: curve for curve in drawn if curve.rule not in curve.label}
    if len(rules) > 1:
        for rule, curve in rules.items():
            grey = replace(curve, color=GREY)
            handles.append(_mark(named("clip", rule), **_style(grey, drawn) | {"marker": "o"}))
    return handles


def key(drawn: Sequence[Curve], choice: Choice) -> list[Artist]:
    """What these marks mean."""
    handles: list[Artist] = []
    counts = sorted({curve.networks for curve in drawn})
    several = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    if choice.measure.interval or (is_cloud(choice) and counts[-1] > 1):
        ends = "95% interval," if choice.measure.interval else "quartiles of"
        handles.append(_mark(f"{ends} {several} networks", marker="|", markersize=points(7)))
    for name, line in LEVELS.items():
        if any(name == told for curve in drawn for told, _ in curve.levels):
            handles.append(_line(name, line))
    if any(has_horizon(curve, choice) for curve in drawn):
        handles.append(_mark("horizon at initialisation", **HORIZON))
    if any(np.isfinite(curve.learnable) for curve in drawn):
        handles.append(_mark("half of them learn it", **HALF))
    if choice.x == RELATIVE:
        handles.append(_line("length = horizon", "-"))
    if any(np.isinf(curve.value).any() for curve in drawn) and is_cloud(choice):
        handles.append(_mark("not solved by half", **NEVER))
    if any(curve.at_most is not None and curve.at_most.any() for curve in drawn):
        handles.append(_mark("at most: no horizon", **AT_MOST))
    return handles


def _mark(label: str, **look: Any) -> Line2D:
    usual: dict[str, Any] = {"color": GREY, "markersize": points(SIZE), "label": label}
    return Line2D([], [], **usual | look | _NO_LINE)


def _line(label: str, line: Any) -> Line2D:
    return Line2D([], [], color=GREY, linestyle=line, linewidth=points(THIN), label=label)
