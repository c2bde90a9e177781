"""Training as figures read it: a run for each rule and each length, whose networks are others'."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.figures.names import DRAWN, HOW_DRAWN, Measure, Piece, in_order, named
from seqlab.figures.runs import Run, horizon_of, lags, ruled_horizons
from seqlab.numbers.learning import LearnableLength, learnable_length
from seqlab.numbers.quantity import LN10, Quantity
from seqlab.numbers.variables import NEVER
from seqlab.report.points import Data

ORDER = ("network", "rule", "length", "update", "lag")


def runs_of_training(
    fields: Mapping[str, Any], data: Data, measure: Measure, coordinates: Collection[str]
) -> Iterator[Run]:
    """One run for each rule and length, or where all lengths share a number one for each rule.

    A network that has ended is in no curve from there on: it is a run of its own, of fewer points.
    Without `update` the last is taken, without `lag` that of the length.
    """
    quantity = measure.quantity
    stored = _in_order(quantity, data)
    kept = _in_training(quantity, data, stored)
    for k, rule in enumerate(map(str, data["rule"])):
        horizon = float(ruled_horizons(data)[k])
        for j in range(stored.shape[2]):
            told = {**fields, "clip": rule}
            if measure.of_training:
                length = int(data["length"][j])
                told |= {"length": length, "relative_length": _relative(length, horizon, data)}
            block = stored[:, k, j], kept[:, k, j]
            yield from _curves(told, data, measure, coordinates, *block, horizon)


def by_draw(runs: Sequence[Run]) -> list[Run]:
    """Runs that say how their networks are drawn, by the cell and what differs within it, where
    that was chosen; None in all where nothing does."""
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.fields["arch"], []).append(run)
    differ = {
        arch: [name for name in HOW_DRAWN if len({run.fields[name] for run in group}) > 1]
        for arch, group in cells.items()
    }
    if not any(differ.values()):
        return list(runs)
    found: dict[str, Run] = {}
    told = []
    for run in runs:
        chosen = {name: run.fields[name] for name in differ[run.fields["arch"]]}
        own = [named(name, value) for name, value in chosen.items() if value is not None]
        told.append(", ".join([run.fields["arch"], *own]))
        found.setdefault(told[-1], run)
    for name in reversed(("arch", *HOW_DRAWN)):  # sorting is stable
        order = in_order([run.fields[name] for run in found.values()])
        found = dict(sorted(found.items(), key=lambda one: order.index(one[1].fields[name])))
    parts = {name: Piece(name, place) for place, name in enumerate(found)}
    return [
        replace(run, fields={**run.fields, DRAWN: parts[name]})
        for run, name in zip(runs, told, strict=True)
    ]


def learnable(runs: Sequence[Run]) -> LearnableLength | None:
    """The learnable length of networks, of runs that say which have solved each length (1, or 0);
    None where not all lengths have the same networks, or there is one length alone."""
    solved: dict[int, list[NDArray]] = {}
    for run in runs:
        solved.setdefault(run.fields["length"], []).append(run.values[:, -1] > 0)
    columns = [np.concatenate(solved[length]) for length in sorted(solved)]
    if len(columns) < 2 or len({len(column) for column in columns}) > 1:
        return None
    return learnable_length(sorted(solved), np.stack(columns, axis=1))


def _in_order(quantity: Quantity, data: Data) -> NDArray:
    """(networks, rules, lengths, updates, lags) in the unit that people read, 1 where there is no
    such axis."""
    stored = quantity.derived(data) if quantity.derived else data[quantity.name]
    if quantity.kind == "lag":
        stored = lags(stored)
    dims = [dim.removeprefix("loss_") for dim in quantity.dims]
    missing = [place for place, name in enumerate(ORDER) if name not in dims]
    spread = np.expand_dims(np.asarray(quantity.in_units(stored), np.float64), missing)
    rules = data["rule"].size
    return np.broadcast_to(spread, (len(spread), rules, *spread.shape[2:]))


def _in_training(quantity: Quantity, data: Data, stored: NDArray) -> NDArray:
    """Where a network was still in training, and a lag within its length; as `stored`."""
    there = np.ones(stored.shape, bool)
    if "lag" in quantity.dims:
        there &= data["lag"] <= data["length"][:, np.newaxis, np.newaxis]
    if "update" in quantity.dims:
        ended = data["diverged_at"][..., np.newaxis]
        there &= ((ended == NEVER) | (data["update"] <= ended))[..., np.newaxis]
        there &= _until_end(stored)
    elif quantity.name == "log_norm_trained":
        there &= (data["diverged_at"] == NEVER)[..., np.newaxis, np.newaxis]
    elif "loss_update" in quantity.dims:
        there &= _until_end(data["loss"][..., np.newaxis])
    return there


def _until_end(stored: NDArray) -> NDArray:
    """Which updates were made at all at a length: a length ends for all its networks at once."""
    seen = ~np.isnan(stored).all(axis=(0, 1, 4), keepdims=True)
    seen[:, :, :, :1] = True
    return np.logical_or.accumulate(seen[:, :, :, ::-1], axis=3)[:, :, :, ::-1]


def _relative(length: int, horizon: float, data: Data) -> float:
    """A length over the horizon; where that is beyond the longest length, the most it can be."""
    return length / min(horizon, float(data["length"][-1]))


def _curves(
    fields: Mapping[str, Any],
    data: Data,
    measure: Measure,
    coordinates: Collection[str],
    values: NDArray,
    there: NDArray,
    horizon: float,
) -> Iterator[Run]:
    """Runs of networks (networks, updates, lags) that ended together."""
    axes = {"update": _updates(measure.quantity, data), "lag": data["lag"]}
    at = np.meshgrid(*(axes[name][: values.shape[1 + k]] for k, name in enumerate(axes)))
    points = {name: found.T.ravel() for name, found in zip(axes, at, strict=True)}
    values, there = values.reshape(len(values), -1), there.reshape(len(values), -1)
    for own in np.unique(there, axis=0):
        kept = own.copy()
        for name in measure.coordinates:
            if name not in coordinates and kept.any():
                kept &= points[name] == points[name][kept].max()
        if not kept.any():
            continue
        some = (there == own).all(axis=1)
        curves = values[np.ix_(some, kept)]
        if measure.coordinates == ("lag",):  # of these curves
            horizon = horizon_of(LN10 * values[np.ix_(some, own)], points["lag"][own])
        yield Run(
            fields=fields,
            points={name: points[name][kept] for name in measure.coordinates},
            values=curves,
            lengths=data["length"],
            theory=math.nan,
            horizon=horizon,
            levels=_levels(fields, data) if measure.name == "loss" else {},
        )


def _updates(quantity: Quantity, data: Data) -> NDArray:
    name = next((dim for dim in quantity.dims if dim.endswith("update")), None)
    return data[name] if name else np.zeros(1, int)


def _levels(fields: Mapping[str, Any], data: Data) -> dict[str, float]:
    """Losses that a loss is held to."""
    trivial = float(data["trivial_loss"][list(data["length"]).index(fields["length"])])
    return {"trivial loss": trivial, "solved under": trivial * fields["solved"]}
