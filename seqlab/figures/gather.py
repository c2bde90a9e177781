"""From results to what a figure draws: runs that agree on the chosen fields, pooled."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.names import COORDINATES, FIELDS, Measure, check_axis, in_order, text
from seqlab.numbers.statistics import quantile
from seqlab.report.measured import Measured
from seqlab.wording import printable

LN10 = math.log(10)
HORIZON = 1e-3  # the threshold of the horizon that figures draw
NEVER = math.inf

Where = Mapping[str, Collection[str]]
Data = dict[str, NDArray]


@dataclass(frozen=True)
class Run:
    """One clip rule of one result: `values` (networks, points) at `length` and `lag` (points,).

    `lengths` are all that were measured; `theory` is in nats per step, nan for none; `horizon` in
    steps.
    """

    fields: Mapping[str, Any]
    length: NDArray
    lag: NDArray
    values: NDArray
    lengths: NDArray
    theory: float
    horizon: float

    def coordinate(self, name: str) -> NDArray:
        return self.length if name == "length" else self.lag


@dataclass(frozen=True)
class Series:
    """The pooled networks of the runs that agree on `key`, point by point.

    `points` has the coordinates (length, lag) that were asked for; `value` lies between the
    quartiles `low` and `high`; `networks` counts. `spans` are the ranges of lengths or lags that
    single runs cover.
    """

    key: Mapping[str, Any]
    points: Mapping[str, NDArray]
    low: NDArray
    value: NDArray
    high: NDArray
    networks: NDArray
    theory: float
    horizon: float
    spans: tuple[tuple[float, float], ...]

    def get(self, name: str) -> Any:
        """The value of a field, or the values of a coordinate."""
        return self.points[name] if name in self.points else self.key[name]


def read(
    results: Iterable[Measured], measure: Measure, coordinates: Collection[str], where: Where
) -> list[Run]:
    """One run for each rule of each result that `where` lets pass, at the points asked for.

    Without `lag` a length is represented by its last lag, without `length` all by the longest.
    Raises InputError where nothing is left, naming the field that left nothing.
    """
    for name in where:
        check_axis("where", name)
    runs: list[Run] = []
    seen: dict[str, set[Any]] = {name: set() for name in where}
    total = 0
    for result in results:
        total += 1
        fields = {name: _plain(getattr(result.spec, name, None)) for name in FIELDS}
        data = {name: np.asarray(v.data) for name, v in result.variables.items()}
        for name in set(seen) - {"clip"}:
            seen[name].add(fields[name])
        if all(_one_of(fields[name], where[name]) for name in where if name != "clip"):
            seen.get("clip", set()).update(map(str, data["rule"]))
            runs += _runs(fields, data, measure, coordinates, where.get("clip"))
    if not total:
        raise InputError("plot: there is no result to draw")
    if not runs:
        raise InputError(_nothing_left(measure, where, seen))
    return runs


def _runs(
    fields: dict[str, Any],
    data: Data,
    measure: Measure,
    coordinates: Collection[str],
    wanted: Collection[str] | None,
) -> Iterable[Run]:
    if measure.variable not in data:
        return
    length, lag, values = _values(data, measure, coordinates)
    horizon = _lags(data["horizon"])[:, np.isclose(data["threshold"], HORIZON)]
    for k, rule in enumerate(map(str, data["rule"])):
        if wanted is None or _one_of(rule, wanted):
            yield Run(
                fields=fields | {"clip": rule},
                length=length,
                lag=lag,
                values=values[:, k],
                lengths=data["length"],
                theory=float(data["theory"]),
                horizon=float(horizon[k, 0]),
            )


def _values(
    data: Data, measure: Measure, coordinates: Collection[str]
) -> tuple[NDArray, NDArray, NDArray]:
    """Lengths and lags (points,), and a measure (networks, rules, points) there."""
    length, lag, stored = data["length"], data["lag"], data[measure.variable]
    if not measure.of_curve:
        if coordinates:
            raise InputError(
                f"value: {measure.name} is one number a run; neither length nor lag can be an axis"
            )
        return length[-1:], length[-1:], _of_run(data, measure)[..., np.newaxis]
    # The last lag of all is the initial state's, to which no input belongs.
    last = np.searchsorted(lag, length) - measure.variable.endswith("_input")
    exists = np.arange(lag.size) <= last[:, np.newaxis]
    if "lag" not in coordinates:
        exists &= np.arange(lag.size) == last[:, np.newaxis]
    if "length" not in coordinates:
        exists[:-1] = False
    row, column = np.nonzero(exists)
    lost = data["underflow"][:, :, row] > 0
    found = _converted(measure, stored[:, :, row, column], lost, lag[column])
    return length[row], lag[column], found


def _converted(measure: Measure, log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
    """`lost` says where a zero is none: one step's factor left the number format's range."""
    if measure.name == "zero_share":
        return (np.isneginf(log_norm) & ~lost).astype(float)
    if measure.name == "underflow_share":
        return (np.isneginf(log_norm) & lost).astype(float)
    if measure.name == "overflow_share":
        return (np.isnan(log_norm) | np.isposinf(log_norm)).astype(float)
    if measure.name == "decay_rate":
        return np.divide(log_norm, lag, out=np.full_like(log_norm, np.nan), where=lag > 0)
    return log_norm / LN10


def _of_run(data: Data, measure: Measure) -> NDArray:
    """(networks, rules), or one network where a number is the ensemble's."""
    stored, rules = data[measure.variable], data["rule"].size
    if measure.variable == "horizon":
        threshold = float(measure.name.removeprefix("horizon_"))
        stored = stored[:, np.isclose(data["threshold"], threshold)][:, 0]
    if measure.kind == "lag":
        stored = _lags(stored)
    if measure.kind == "decades":
        stored = stored / LN10
    if measure.variable == "lyapunov":
        return np.repeat(stored[:, :1], rules, axis=1)  # they fall
    return np.broadcast_to(stored, (1, rules)) if stored.ndim < 2 else stored


def _lags(stored: NDArray) -> NDArray:
    return np.where(stored < 0, NEVER, stored)


def pool(runs: Sequence[Run], measure: Measure, by: Collection[str]) -> list[Series]:
    """The networks of all runs that agree on the fields in `by`, taken together."""
    names = [name for name in COORDINATES if name in by]
    groups: dict[tuple[Any, ...], list[Run]] = {}
    fields = [name for name in by if name in FIELDS]
    for run in runs:
        groups.setdefault(tuple(run.fields[name] for name in fields), []).append(run)
    return [
        _series(dict(zip(fields, key, strict=True)), group, measure, names)
        for key, group in groups.items()
    ]


def points_of(series: Iterable[Series], name: str) -> list[int]:
    """All lengths or lags of some series, ascending."""
    return np.unique(np.concatenate([one.points[name] for one in series])).tolist()


def _series(
    key: Mapping[str, Any], runs: Sequence[Run], measure: Measure, names: Sequence[str]
) -> Series:
    blocks = _blocks(runs, names)
    points, place = np.unique(
        np.concatenate([points for points, _ in blocks]), axis=0, return_inverse=True
    )
    # Where each block has each point, -1 where it has not.
    column = np.full((len(blocks), len(points)), -1)
    start = 0
    for k, (found, _) in enumerate(blocks):
        column[k, place.ravel()[start : start + len(found)]] = np.arange(len(found))
        start += len(found)
    statistics, networks = np.empty((3, len(points))), np.zeros(len(points), int)
    patterns, which = np.unique(column >= 0, axis=1, return_inverse=True)
    for k, pattern in enumerate(patterns.T):
        here = np.flatnonzero(which.ravel() == k)
        stacked = np.concatenate(
            [blocks[b][1][:, column[b, here]] for b in np.flatnonzero(pattern)]
        )
        statistics[:, here] = _statistics(stacked, measure)
        networks[here] = len(stacked)
    low, value, high = statistics
    theory = np.array([run.theory for run in runs])
    return Series(
        key=key,
        points={name: points[:, k] for k, name in enumerate(names)},
        low=low,
        value=value,
        high=high,
        networks=networks,
        theory=float(theory.mean()),
        horizon=float(quantile([run.horizon for run in runs], 0.5)),
        spans=tuple({_span(run, names) for run in runs}) if len(names) == 1 else (),
    )


def _blocks(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[NDArray, NDArray]]:
    """Points (points, names) and networks (networks, points), runs of equal points together."""
    found: dict[bytes, tuple[NDArray, list[NDArray]]] = {}
    for run in runs:
        if names:
            points = np.stack([run.coordinate(name) for name in names], axis=1)
        else:
            points = np.zeros((1, 1), int)
        values = run.values[:, -len(points) :]
        found.setdefault(points.tobytes(), (points, []))[1].append(values)
    return [(points, np.concatenate(values)) for points, values in found.values()]


def _statistics(values: NDArray, measure: Measure) -> NDArray:
    """Quartile, median or mean, quartile of (networks, points)."""
    low, middle, high = (quantile(values, q) for q in (0.25, 0.5, 0.75))
    if measure.mean:
        with np.errstate(invalid="ignore"):
            middle = values.mean(axis=0)
    return np.array([low, middle, high])


def _span(run: Run, names: Sequence[str]) -> tuple[float, float]:
    covered = run.coordinate(names[0])
    return float(covered[0]), float(covered[-1])


def _plain(value: Any) -> Any:
    """A field's value; of a file of arrays its path."""
    return printable(value.path) if hasattr(value, "path") else value


def _one_of(value: Any, wanted: Collection[str]) -> bool:
    if isinstance(value, Real):
        return any(_number(word) == value for word in wanted)
    return text(value) in wanted or str(value) in wanted


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _nothing_left(measure: Measure, where: Where, seen: Mapping[str, set[Any]]) -> str:
    for name, values in seen.items():
        if not any(_one_of(value, where[name]) for value in values):
            there = ", ".join(map(text, in_order(list(values))))
            return f"where: {name}={','.join(where[name])} is in no run; {name} is {there}"
    if where:
        asked = ", ".join(f"{name}={','.join(words)}" for name, words in where.items())
        return f"where: no run has {asked} together with {measure.name}"
    return f"value: no run of this store has {measure.name}"
