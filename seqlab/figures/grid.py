"""The cells of a heatmap: which value stands where, and where there is none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.figures.choose import Choice
from seqlab.figures.gather import Series, points_of
from seqlab.figures.scales import Scale, cells
from seqlab.numbers.quantity import HORIZON, THRESHOLDS


@dataclass(frozen=True)
class Grid:
    """Values (rows, columns), nan where there is none.

    `missing` cells were not measured, though they could have been; `undefined` ones were, and are
    nan. `horizon` is a line in data units, broken by nan; None where no axis counts steps.
    """

    columns: Scale
    rows: Scale
    values: NDArray
    missing: NDArray
    undefined: NDArray
    horizon: tuple[NDArray, NDArray] | None


def axes_of(series: Sequence[Series], choice: Choice) -> tuple[Scale, Scale]:
    """Columns and rows that serve all panels."""
    both = _both(choice)
    assert choice.y is not None
    columns, rows = (
        cells(name, _values(series, name, choice), both) for name in (choice.x, choice.y)
    )
    return columns, rows


def arrange(series: Sequence[Series], choice: Choice, columns: Scale, rows: Scale) -> Grid:
    """The cells of one panel."""
    values = np.full((len(rows.values), len(columns.values)), np.nan)
    measured = np.zeros(values.shape, bool)
    for one in series:
        kept = one.points["lag"] > 0 if "lag" in one.points else np.ones(one.value.size, bool)
        at = tuple(_index(scale, one.get(scale.field), kept) for scale in (rows, columns))
        values[at] = one.value[kept]
        measured[at] = True
        if len(one.points) == 1:
            along = columns if columns.field in one.points else rows
            where = (at[0][0], slice(None)) if along is columns else (slice(None), at[1][0])
            values[where], measured[where] = _stretched(
                values[where], measured[where], np.asarray(along.values, float), one.spans
            )
    impossible = np.zeros(values.shape, bool)
    if choice.coordinates == {"lag", "length"}:
        lag, length = np.meshgrid(columns.values, rows.values)
        if columns.field == "length":
            lag, length = length, lag
        impossible = lag > length
    return Grid(
        columns=columns,
        rows=rows,
        values=values,
        missing=~measured & ~impossible,
        undefined=np.isnan(values) & measured,
        horizon=_horizon(series, choice, columns, rows, values),
    )


def _values(series: Sequence[Series], name: str, choice: Choice) -> list[Any]:
    if name not in choice.coordinates:
        return [one.key[name] for one in series]
    return [value for value in points_of(series, name) if value > 0 or name == "update"]


def _index(scale: Scale, value: Any, kept: NDArray) -> NDArray:
    return np.atleast_1d(scale.index(value[kept] if isinstance(value, np.ndarray) else value))


def _stretched(
    values: NDArray, measured: NDArray, at: NDArray, spans: Sequence[tuple[float, float]]
) -> tuple[NDArray, NDArray]:
    """A row whose runs were measured at other lags or lengths than its neighbours'.

    Where a single run reaches, its nearest value stands; beyond, nothing was measured.
    """
    known = np.flatnonzero(measured)
    if known.size in (0, measured.size):
        return values, measured
    between = np.sqrt(at[known[1:]] * at[known[:-1]])
    nearest = known[np.searchsorted(between, at)]
    reached = measured.copy()
    for low, high in spans:
        reached |= (low <= at) & (at <= high) & (low < high)
    return np.where(reached, values[nearest], values), reached


def _horizon(
    series: Sequence[Series], choice: Choice, columns: Scale, rows: Scale, values: NDArray
) -> tuple[NDArray, NDArray] | None:
    """Across each row (or column) of cells, a stroke where the horizon lies."""
    steps = next((scale for scale in (columns, rows) if scale.field == "lag"), None)
    steps = steps or next((s for s in (columns, rows) if s.field == "length"), None)
    if steps is None:
        return None
    across = rows if steps is columns else columns
    if _both(choice):
        if choice.measure.kind != "decades":
            return None
        lines = values if steps is columns else values.T
        below = lines < np.log10(THRESHOLDS[HORIZON])
        lag = np.where(below.any(axis=1), steps.centres[below.argmax(axis=1)], np.nan)
    elif across.field in choice.coordinates:
        return None
    else:
        lag = np.full(len(across.values), np.nan)
        for one in series:
            lag[across.index(one.key[across.field])] = steps.at(one.horizon)
    place = np.repeat(lag, 3)
    edge = np.stack([across.edges[:-1], across.edges[1:], across.edges[1:]], axis=1).ravel()
    if across.kind == "names":
        place[2::3] = np.nan  # rows that have no order are not joined
    return (place, edge) if steps is columns else (edge, place)


def _both(choice: Choice) -> bool:
    return {choice.x, choice.y} <= choice.coordinates
