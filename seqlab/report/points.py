"""A result laid flat: the fields of its spec, its arrays, and its curves point by point."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS
from seqlab.numbers.quantity import Quantity
from seqlab.report.measured import Measured
from seqlab.spec.arrays import ArrayFile
from seqlab.wording import describe_value, printable

Data = Mapping[str, NDArray]

WHOLE = "state"  # what the only part is called where a result has no parts
# Of the lab's own cells, each of which is a variable.
PARTS = dict.fromkeys(p for cell in CELLS.values() if len(cell.parts) > 1 for p in cell.parts)


def fields_of(result: Measured, names: Iterable[str]) -> dict[str, Any]:
    """Fields of its spec, None for one that its kind lacks; of a file of arrays the path."""
    return {name: _as_field(getattr(result.spec, name, None)) for name in names}


def _as_field(value: Any) -> Any:
    if isinstance(value, tuple):  # several as one text, one as itself
        return value[0] if len(value) == 1 else describe_value(value)
    return printable(value.path) if isinstance(value, ArrayFile) else value


def arrays_of(result: Measured) -> dict[str, NDArray]:
    """Its arrays by name."""
    return {name: np.asarray(variable.data) for name, variable in result.variables.items()}


def parts_of(data: Data) -> dict[str, NDArray]:
    """ln norms (networks, rules, lengths, lags) of the parts of the adjoint, by the part's name.

    In the order of the file; relative to the whole state's norm at lag 0.
    """
    if "log_norm_part" in data:
        return dict(
            zip(data["part"].tolist(), np.moveaxis(data["log_norm_part"], 2, 0), strict=True)
        )
    own = {part: data[f"log_norm_{part}"] for part in PARTS if f"log_norm_{part}" in data}
    return own or {WHOLE: data["log_norm"]}


def parameters_of(data: Data, quantity: Quantity) -> dict[str, NDArray]:
    """A quantity that is of each parameter too, (networks, lags), by the parameter's name; without
    the parameters that a cell has and the run had not."""
    values = np.moveaxis(data[quantity.of_each.name], 1, 0)
    found = zip(data["parameter"].tolist(), values, strict=True)
    return {name: value for name, value in found if not np.isnan(value).all()}


@dataclass(frozen=True)
class Points:
    """Points of curves, by length, then by lag: `length` and `lag` (points,) in steps.

    `row` and `column` are their places among all lengths and lags of the result.
    """

    row: NDArray
    column: NDArray
    length: NDArray
    lag: NDArray

    def of(self, curves: NDArray) -> NDArray:
        """Curves (..., lengths, lags) at the points: (..., points)."""
        return curves[..., self.row, self.column]

    def of_longest(self, curves: NDArray) -> NDArray:
        """Curves (..., lags) of the longest length at the points, nan at those of others."""
        longest = self.row == self.row.max(initial=0)
        return np.where(longest, curves[..., self.column], np.nan)


def curve_points(
    data: Data, *, every_length: bool = True, every_lag: bool = True, to_start: bool = True
) -> Points:
    """The lags up to each length, or the last of each alone; of the longest length alone, or of
    all. Without `to_start` the last lag is the one before the initial state's."""
    length, lag = data["length"], data["lag"]
    last = np.searchsorted(lag, length) - (not to_start)
    exists = np.arange(lag.size) <= last[:, np.newaxis]
    if not every_lag:
        exists &= np.arange(lag.size) == last[:, np.newaxis]
    if not every_length:
        exists[:-1] = False
    row, column = np.nonzero(exists)
    return Points(row, column, length[row], lag[column])


def at_points(quantity: Quantity, data: Data, at: Points) -> NDArray:
    """A quantity of curves at some points, in the unit that people read.

    (networks, rules, points).
    """
    lost, stored = data["underflow"][:, :, at.row] > 0, data[quantity.source]
    if "lag" in quantity.dims and "length" not in quantity.dims:
        found = at.of_longest(stored)
        if "rule" not in quantity.dims:  # the same under all
            found = np.broadcast_to(found[:, np.newaxis], lost.shape)
    else:
        found = at.of(stored)
    return quantity.at_points(found, lost, at.lag)
