"""From results to what a figure draws: runs that agree on the chosen fields, pooled."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.figures.courses import by_draw, runs_of_training
from seqlab.figures.names import (
    DRAWN,
    FIELDS,
    OF_TRAINING,
    PART,
    PIECES,
    Measure,
    Piece,
    check_axis,
    in_order,
    text,
)
from seqlab.figures.notes import standing
from seqlab.figures.runs import Run, horizon_of, lags, one_along, ruled_horizons
from seqlab.numbers.learning import wilson_interval
from seqlab.numbers.quantities import is_training
from seqlab.numbers.statistics import quantile
from seqlab.report.measured import Measured
from seqlab.report.points import (
    Data,
    arrays_of,
    at_points,
    curve_points,
    fields_of,
    parameters_of,
    parts_of,
)

Where = Mapping[str, Collection[str]]
WITHIN = ("clip", *PIECES, *OF_TRAINING)  # fields with several values in one result


@dataclass(frozen=True)
class Series:
    """The pooled networks of the runs that agree on `key`, point by point.

    `points` has the coordinates that were asked for; `value` lies between `low` and `high`,
    quartiles or the ends of its interval; `networks` counts. `spans` are the ranges of coordinates
    that single runs cover; `levels` are numbers that values are held to, by name; `standing` the
    length and lag of the values where nothing else says them.
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
    levels: tuple[tuple[str, float], ...]
    standing: Mapping[str, Any]

    @property
    def ends(self) -> NDArray:
        """(3, points): the middle between its ends."""
        return np.stack([self.low, self.value, self.high])

    def get(self, name: str) -> Any:
        """The value of a field, or the values of a coordinate."""
        return self.points[name] if name in self.points else self.key[name]


def read(
    results: Iterable[Measured],
    measure: Measure,
    coordinates: Collection[str],
    where: Where,
    apart: str | None = None,
) -> list[Run]:
    """One run for each rule of each result that `where` lets pass, at the points asked for; taken
    `apart`, one for each of these pieces.

    Without `lag` a length is represented by its last lag, without `length` all by the longest.
    Raises InputError where nothing is left, naming the field that left nothing.
    """
    for name in where:
        check_axis("where", name)
        own = name in OF_TRAINING
        if name not in FIELDS or name == DRAWN or (own and not measure.of_training):
            raise InputError(f"where: {name} is no field of runs with {measure.name}")
    runs: list[Run] = []
    seen: dict[str, set[Any]] = {name: set() for name in where}
    total = 0
    for result in results:
        total += 1
        data = arrays_of(result)
        fields = fields_of(result, FIELDS) | dict.fromkeys((*PIECES, *OF_TRAINING))
        for name in set(seen) - set(WITHIN):
            seen[name].add(fields[name])
        if all(_one_of(fields[name], where[name]) for name in where if name not in WITHIN):
            seen.get("clip", set()).update(map(str, data["rule"]))
            found = list(_runs(fields, data, measure, coordinates, apart))
            for name in set(seen) & {*PIECES, *OF_TRAINING}:
                seen[name].update(run.fields[name] for run in found)
            inner = [name for name in WITHIN if name in where]
            runs += [r for r in found if all(_one_of(r.fields[n], where[n]) for n in inner)]
    if not total:
        raise InputError("plot: there is no result to draw")
    if not runs:
        raise InputError(_nothing_left(measure, where, seen))
    runs = by_draw(_named(runs)) if measure.of_training else _named(runs)
    return _ordered(runs, apart) if apart else runs


def _named(runs: Sequence[Run]) -> list[Run]:
    """Beside networks that have a name, all others by that of their architecture."""
    if not any(run.fields["name"] for run in runs):
        return list(runs)
    names = [run.fields["name"] or run.fields["arch"] for run in runs]
    return [
        replace(run, fields={**run.fields, "name": name})
        for run, name in zip(runs, names, strict=True)
    ]


def _runs(
    fields: dict[str, Any],
    data: Data,
    measure: Measure,
    coordinates: Collection[str],
    apart: str | None,
) -> Iterable[Run]:
    if measure.quantity.learned:
        if is_training(data) and (measure.quantity.derived or measure.quantity.name in data):
            yield from runs_of_training(fields, data, measure, coordinates)
        return
    if measure.quantity.source not in data:
        return
    if measure.quantity.each:
        data = _unruled(data)
    if apart:
        yield from _of_pieces(fields, data, measure, coordinates, apart)
    else:
        yield from _of_rules(fields, data, measure, coordinates)


def _unruled(data: Data) -> Data:
    """Data of one rule, none, without theory or horizon: as what has neither is drawn."""
    ruled = ("underflow", "log_norm")
    one = {name: data[name][:, :1] for name in ruled}
    nothing = {"theory": np.array(math.nan), "horizon": np.full_like(data["horizon"][:1], -1)}
    return {**data, **one, **nothing, "rule": np.array(["none"])}


def _of_pieces(
    fields: dict[str, Any], data: Data, measure: Measure, coordinates: Collection[str], field: str
) -> Iterable[Run]:
    quantity = measure.quantity
    pieces = parts_of(data) if field == PART else parameters_of(data, quantity)
    for place, (name, values) in enumerate(pieces.items()):
        told, own = fields | {field: Piece(name, place)}, {**data, quantity.source: values}
        for k, run in enumerate(_of_rules(told, own, measure, coordinates)):
            if field == PART and len(pieces) > 1:  # theory, the file's horizon are the whole's
                horizon = horizon_of(values[:, k, -1], data["lag"])
                run = replace(run, theory=math.nan, horizon=horizon)
            yield run


def _of_rules(
    fields: dict[str, Any], data: Data, measure: Measure, coordinates: Collection[str]
) -> Iterable[Run]:
    length, lag, values = _values(data, measure, coordinates)
    horizon = ruled_horizons(data)
    for k, rule in enumerate(map(str, data["rule"])):
        yield Run(
            fields=fields | {"clip": rule},
            points={"length": length, "lag": lag},
            values=values[:, k],
            lengths=data["length"],
            theory=float(data["theory"]),
            horizon=float(horizon[k]),
        )


def _ordered(runs: Sequence[Run], field: str) -> list[Run]:
    """Runs whose pieces have the last of the places that they have in files, in all runs."""
    places: dict[str, int] = {}
    for run in runs:
        piece = run.fields[field]
        places[piece] = max(piece.place, places.get(piece, 0))
    pieces = {name: Piece(name, place) for name, place in places.items()}
    return [replace(run, fields={**run.fields, field: pieces[run.fields[field]]}) for run in runs]


def _values(
    data: Data, measure: Measure, coordinates: Collection[str]
) -> tuple[NDArray, NDArray, NDArray]:
    """Lengths and lags (points,), and a measure (networks, rules, points) there."""
    length, quantity = data["length"], measure.quantity
    if not measure.coordinates:
        if coordinates:
            raise InputError(
                f"value: {measure.name} is one number a run; neither length nor lag can be an axis"
            )
        return length[-1:], length[-1:], _of_run(data, measure)[..., np.newaxis]
    at = curve_points(
        data,
        every_length="length" in coordinates,
        every_lag="lag" in coordinates,
        to_start=quantity.to_start,
    )
    return at.length, at.lag, at_points(quantity, data, at)


def _of_run(data: Data, measure: Measure) -> NDArray:
    """(networks, rules), or one network where a number is the ensemble's."""
    quantity = measure.quantity
    stored = data[quantity.name]
    if "threshold" in quantity.dims:
        stored = one_along(stored, data, measure.name.removeprefix(f"{quantity.read}_"))
    if "exponent" in quantity.dims:
        stored = stored[..., 0]  # they fall
    if "length" in quantity.dims:
        stored = stored[..., -1]
    stored = lags(stored) if quantity.kind == "lag" else quantity.in_units(stored)
    stored = stored if "network" in quantity.dims else stored[np.newaxis]
    stored = stored if "rule" in quantity.dims else stored[:, np.newaxis]
    return np.broadcast_to(stored, (len(stored), data["rule"].size))


def pool(runs: Sequence[Run], measure: Measure, by: Collection[str]) -> list[Series]:
    """The networks of all runs that agree on the fields in `by`, taken together."""
    names = [name for name in measure.coordinates if name in by]
    groups: dict[tuple[Any, ...], list[Run]] = {}
    fields = [name for name in by if name not in names]
    for run in runs:
        groups.setdefault(tuple(run.fields[name] for name in fields), []).append(run)
    if measure.quantity.over == "survival":
        for group in groups.values():
            if len({run.fields["updates"] for run in group}) > 1:
                raise InputError(
                    f"value: {measure.name} of runs with other updates is no one number; choose "
                    "with --where updates=N"
                )
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
        chosen = np.flatnonzero(which.ravel() == k)
        stacked = np.concatenate(
            [blocks[b][1][:, column[b, chosen]] for b in np.flatnonzero(pattern)]
        )
        statistics[:, chosen] = _statistics(stacked, measure)
        networks[chosen] = len(stacked)
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
        levels=tuple({level for run in runs for level in run.levels.items()}),
        standing=standing(runs, {*key, *names}, measure),
    )


def _blocks(runs: Sequence[Run], names: Sequence[str]) -> list[tuple[NDArray, NDArray]]:
    """Points (points, names) and networks (networks, points), runs of equal points together."""
    found: dict[bytes, tuple[NDArray, list[NDArray]]] = {}
    for run in runs:
        if names:
            points = np.stack([run.points[name] for name in names], axis=1)
        else:
            points = np.zeros((1, 1), int)
        values = run.values[:, -len(points) :]
        found.setdefault(points.tobytes(), (points, []))[1].append(values)
    return [(points, np.concatenate(values)) for points, values in found.values()]


def _statistics(values: NDArray, measure: Measure) -> NDArray:
    """Of (networks, points) a middle between two ends, as the measure has them."""
    if measure.interval:
        return np.array([_share(column) for column in values.T]).T
    if measure.quantity.over == "survival":
        return np.array([_reached(values, q) for q in (0.25, 0.5, 0.75)])
    low, middle, high = (quantile(values, q) for q in (0.25, 0.5, 0.75))
    if measure.mean:
        with np.errstate(invalid="ignore"):
            middle = values.mean(axis=0)
    return np.array([low, middle, high])


def _share(has: NDArray) -> tuple[float, float, float]:
    """The share of networks (networks,) that have something, between the ends of its interval."""
    low, high = wilson_interval(int(has.sum()), has.size)
    return low, float(has.mean()), high


def _reached(updates: NDArray, q: float) -> NDArray:
    """The first update at which so large a share of networks (networks, points) are done, by Kaplan
    & Meier (1958): all that were given up, inf here, were so at the same update, the last."""
    place = math.ceil(q * len(updates)) - 1
    return np.asarray(np.sort(updates, axis=0)[place])


def _span(run: Run, names: Sequence[str]) -> tuple[float, float]:
    covered = run.points[names[0]]
    return float(covered[0]), float(covered[-1])


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
