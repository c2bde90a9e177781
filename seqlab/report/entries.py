"""The numbers that people read of a result: one entry a rule, as `--json` prints them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantities import IN_TABLES, IN_TABLES_OF_TRAINING, is_training
from seqlab.numbers.quantity import THRESHOLDS, Quantity
from seqlab.numbers.statistics import bootstrap_t, median, quantile
from seqlab.report import layer_table
from seqlab.report.measured import Measured
from seqlab.report.points import Data, Points, arrays_of, at_points, curve_points

# One rule's numbers, by the fields of an entry of `curves` in `--json`. Rates in nats per step,
# attenuations and gradient norms in decades, lags in steps; None where a number does not exist.
Entry = dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """One quantity over networks, in the unit that people read.

    `middle` (rules,), or (rules, n) where there is one for each length, threshold or exponent;
    `low` and `high` beside it where the quantity has a spread. None for what was not asked for.
    """

    quantity: Quantity
    middle: NDArray | None
    low: NDArray | None = None
    high: NDArray | None = None

    def fields(self, rule: int, lengths: tuple[int, ...]) -> Entry:
        """One rule's fields in the JSON document."""
        quantity = self.quantity
        if self.middle is None:
            return dict.fromkeys(quantity.fields, {quantity.key: None} if quantity.key else None)
        numbers = self._numbers(rule)
        first: Any = numbers[-1]
        more: list[Any] = []
        if quantity.spread:
            more.append(self._spread(rule))
        if quantity.by_length and quantity.over != "count":
            more += [lengths, tuple(numbers)]
        if "exponent" in quantity.dims:
            first, more = tuple(numbers), [numbers.count(-math.inf)]
        elif "threshold" in quantity.dims:
            first = dict(zip(THRESHOLDS, numbers, strict=True))
        elif quantity.key:
            first = {quantity.key: first}
        return dict(zip(quantity.fields, (first, *more), strict=True))

    def columns(self, rules: int) -> dict[str, list[Any]]:
        """Columns of the tidy table, an entry a rule, of what is not there by length."""
        names = self.quantity.columns
        if self.middle is None:
            return {name: [None] * rules for name in names}
        value_of = _missing_as_none(self.quantity)
        numbers = self.middle.reshape(rules, -1).T[: len(self.quantity.names)].tolist()
        found = [[value_of(value) for value in column] for column in numbers]
        found += [end.tolist() for end in (self.low, self.high) if end is not None]
        return dict(zip(names, found, strict=True))

    def by_length(self, rules: int, lengths: int) -> dict[str, NDArray]:
        """Columns (rules, lengths) in the tidy table, of what is there by length."""
        if self.middle is None:
            return {name: np.full((rules, lengths), np.nan) for name in self.quantity.columns}
        found = [column for column in (self.middle, self.low, self.high) if column is not None]
        if self.quantity.kind == "lag":
            found = [np.where(column >= 0, column, np.nan) for column in found]
        return dict(zip(self.quantity.columns, found, strict=True))

    def _numbers(self, rule: int) -> list[Any]:
        assert self.middle is not None
        return list(map(_missing_as_none(self.quantity), np.atleast_1d(self.middle[rule]).tolist()))

    def _spread(self, rule: int) -> tuple[float, float] | None:
        assert self.low is not None
        assert self.high is not None
        low, high = (float(np.atleast_1d(end[rule])[-1]) for end in (self.low, self.high))
        return None if self.quantity.over == "mean" and math.isnan(low) else (low, high)


def document(result: Measured) -> dict[str, Any]:
    """The document that `--json` prints, in strict JSON's own types."""
    found: dict[str, Any] = {
        "spec": result.spec.to_dict(),
        "backend": result.backend,
        "result": None if result.path is None else str(result.path),
        "curves": [strict_json(entry) for entry in entries(result)],
    }
    data = arrays_of(result)
    if layer_table.by_layer(data):
        found["layers"] = strict_json(layer_table.document(data, data["rule"].tolist()))
    return found


def entries(result: Measured) -> list[Entry]:
    """One entry for each rule of a result, in its order."""
    data = arrays_of(result)
    lengths = tuple(data["length"].tolist())
    found: list[Entry] = [{"clip": clip} for clip in data["rule"].tolist()]
    for reading in readings(data):
        for rule, entry in enumerate(found):
            for name, value in reading.fields(rule, lengths).items():
                together = reading.quantity.key and name in entry
                entry[name] = entry[name] | value if together else value
    return found


def readings(data: Data) -> list[Reading]:
    """All that tables have of a result, in the JSON document's order."""
    ends = curve_points(data, every_lag=False)
    rows = IN_TABLES_OF_TRAINING if is_training(data) else IN_TABLES
    return [_read(quantity, data, ends) for quantity in rows]


def _read(quantity: Quantity, data: Data, ends: Points) -> Reading:
    if quantity.derived is None and quantity.source not in data:
        return Reading(quantity, None)
    along = quantity.by_length and quantity.of_curve
    if along:
        values = at_points(quantity, data, ends)
    else:
        values = quantity.derived(data) if quantity.derived else data[quantity.name]
    found = [values]
    if "network" in quantity.dims:
        found = [_MIDDLES[quantity.over](values)]
        found += _spread(quantity, values) if quantity.spread else []
    if not along:
        found = [quantity.in_units(numbers) for numbers in found]
    if "rule" not in quantity.dims:
        rules = data["rule"].size
        found = [np.broadcast_to(numbers, (rules, *numbers.shape)) for numbers in found]
    return Reading(quantity, *found)


def _spread(quantity: Quantity, values: NDArray) -> list[NDArray]:
    if quantity.over == "median":
        return [quantile(values, 0.25), quantile(values, 0.75)]
    columns = values.reshape(len(values), -1).T
    pairs = [_interval(tuple(column.tolist())) or (math.nan, math.nan) for column in columns]
    return [np.array(end).reshape(values.shape[1:]) for end in zip(*pairs, strict=True)]


@lru_cache(maxsize=4)  # rules that change nothing have equal rates
def _interval(rates: tuple[float, ...]) -> tuple[float, float] | None:
    return bootstrap_t(rates)


def _mean(values: NDArray) -> NDArray:
    """Means over the first axis; between -inf and inf there is none (nan)."""
    means = np.empty(values.shape[1:])
    with np.errstate(invalid="ignore"):
        for place in np.ndindex(means.shape):  # each alone: NumPy sums columns in another order
            means[place] = values[:, *place].mean()
    return means


def _count(values: NDArray) -> NDArray:
    return values.sum(axis=0).astype(np.int64)


_MIDDLES: dict[str, Callable[[NDArray], NDArray]] = {
    "mean": _mean,
    "median": median,
    "count": _count,
}


def _missing_as_none(quantity: Quantity) -> Callable[[Any], Any]:
    """What makes None of a lag that is not reached or not known, and of a number of the ensemble
    that is nan because it does not exist."""
    if quantity.kind == "lag":
        return lambda value: int(value) if value >= 0 else None
    if quantity.kind == "word" or "network" in quantity.dims:
        return lambda value: value
    return lambda value: None if math.isnan(value) else value


def strict_json(value: Any) -> Any:
    """A value in strict JSON's types: non-finite numbers are "-inf", "inf" and "nan"."""
    if isinstance(value, dict):
        return {key: strict_json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [strict_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
