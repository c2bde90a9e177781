"""Decay curves that are kept in small CSV files, and how others are held against them."""

import csv
import io
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.errors import InputError
from seqlab.numbers.quantity import LN10
from seqlab.numbers.statistics import bootstrap_t, median
from seqlab.report.measured import Measured
from seqlab.report.points import arrays_of, curve_points
from seqlab.spec import kinds

MOST_LAGS = 40  # of a curve in a file
HEADER = ["curve", "quantity", "lag", "value"]
RATES = ("rate", "rate_low", "rate_high")


@dataclass(frozen=True)
class Curve:
    """A named curve: `log10` at `lag` (lags,), its rate in nats a link and that one's interval.

    -inf is a zero, and like no number. The rate is nan where none is defined; low and high are the
    rate itself where there are not networks enough.
    """

    name: str
    lag: NDArray
    log10: NDArray
    rate: float
    low: float
    high: float
    link: str = "step"


def curves_of(source: "Measured | Mapping[str, Any]") -> list[Curve]:
    """The curves of a result, two a clip rule: by lag (longest length) and by length; or of arrays.

    Raises InputError for anything else, and for curves with nan.
    """
    if isinstance(source, Mapping):
        return [_of_arrays(source)]
    if hasattr(source, "variables") and hasattr(source, "spec"):
        return list(_of_result(source))
    raise InputError(
        f"curve: {type(source).__name__} is not allowed; a result of seqlab.run or "
        'seqlab.probe, or {"lag": ..., "log_norm": ...}'
    )


def _of_arrays(source: Mapping[str, Any]) -> Curve:
    if set(source) != {"lag", "log_norm"}:
        raise InputError(f"curve: it has {sorted(map(str, source))}; lag and log_norm are needed")
    lag, log_norm = (_array(name, source[name]) for name in ("lag", "log_norm"))
    whole = lag.ndim == 1 and lag.size > 0 and bool(np.all(lag == np.rint(lag)))
    if not (whole and lag[0] >= 0 and np.all(np.diff(lag) > 0)):
        raise InputError("lag: whole steps from 0 up are needed, (lags,), ascending")
    networks = np.atleast_2d(log_norm)
    if networks.ndim != 2 or networks.shape[1] != lag.size or not len(networks):
        raise InputError(
            f"log_norm: its shape is {log_norm.shape}; ({lag.size},) or (networks, {lag.size}) "
            "is needed"
        )
    steps = max(float(lag[-1] - lag[0]), 1.0)
    with np.errstate(invalid="ignore"):
        rates = (networks[:, -1] - networks[:, 0]) / steps
    return _curve("curve", lag, median(networks), rates)


def _array(name: str, values: Any) -> NDArray:
    """Numbers of any framework; a tensor may need its gradient, or be on another device."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: {type(values).__name__} is no array of numbers") from None


def _of_result(result: Measured) -> Iterator[Curve]:
    data, (link,) = arrays_of(result), kinds.links([result.spec.arch])
    curves, rates = data["log_norm"], data["decay_rate"]
    longest, ends = curve_points(data, every_length=False), curve_points(data, every_lag=False)
    by_lag, by_length = median(longest.of(curves)), median(ends.of(curves))  # (rules, points)
    for k, rule in enumerate(map(str, data["rule"])):
        yield _curve(rule, longest.lag, by_lag[k], rates[:, k], link)
        yield _curve(f"{rule} by length", ends.length, by_length[k], np.array([np.nan]), link)


def _curve(
    name: str, lag: NDArray, log_norm: ArrayLike, rates: NDArray, link: str = "step"
) -> Curve:
    log10 = np.asarray(log_norm) / LN10
    if (unknown := np.flatnonzero(np.isnan(log10))).size:
        raise InputError(
            f"{name}: nan at lag {lag[unknown[0]]:.0f}, at {unknown.size} of {lag.size} lags, is "
            "no decay to be held to; give a curve that ends before, or networks that stay finite"
        )
    with np.errstate(invalid="ignore"):
        rate = float(rates.mean())
    low, high = bootstrap_t(rates) or (rate, rate)
    return Curve(name, lag.astype(int), log10, rate, low, high, link)


def compare(
    found: Sequence[Curve], kept: Sequence[Curve], rate_atol: float, log10_atol: float
) -> list[str]:
    """What differs by more than is allowed, a line each; nothing where all is as it was."""
    names = [[curve.name for curve in curves] for curves in (found, kept)]
    if names[0] != names[1]:
        return [f"its curves are {', '.join(names[0])}; they were {', '.join(names[1])}"]
    lines = []
    for new, old in zip(found, kept, strict=True):
        for line in (*_levels(new, old, log10_atol), *_rates(new, old, rate_atol)):
            lines.append(line if len(found) == 1 else f"{new.name}: {line}")
    return lines


def _levels(new: Curve, old: Curve, atol: float) -> Iterator[str]:
    absent = np.setdiff1d(old.lag, new.lag)
    if absent.size:
        yield f"lag {absent[0]} is not there any more ({absent.size} of {old.lag.size} lags)"
        return
    now = new.log10[np.searchsorted(new.lag, old.lag)]
    apart = differences(now, old.log10)
    beyond = np.flatnonzero(~(apart <= atol))
    if beyond.size:
        worst = beyond[np.argmax(np.nan_to_num(apart[beyond], nan=np.inf))]
        lag, one, other = old.lag[worst], now[worst], old.log10[worst]
        if np.isfinite(apart[worst]):
            yield (
                f"{apart[worst]:.3g} decades apart at lag {lag}, {atol:g} allowed: {one:.6g}, was "
                f"{other:.6g}"
            )
        else:
            yield f"{_describe_level(one)} at lag {lag}, was {_describe_level(other)}"
        yield (
            f"beyond that from lag {old.lag[beyond[0]]} on, at {beyond.size} of {old.lag.size} "
            "lags compared"
        )


def _describe_level(log10: float) -> str:
    return {-np.inf: "a zero (-inf)", np.inf: "an overflow (inf)"}.get(log10, f"{log10:.6g}")


def differences(now: NDArray, then: NDArray) -> NDArray:
    """Decades between two curves; none between equal infinities, or nan and nan."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(now - then)
    alike = (now == then) | (np.isnan(now) & np.isnan(then))
    return np.where(alike, 0.0, apart)


def _rates(new: Curve, old: Curve, atol: float) -> Iterator[str]:
    low, high = old.low - atol, old.high + atol
    if low <= new.rate <= high or (np.isnan(new.rate) and np.isnan(old.rate)):
        return
    rate = "no rate" if np.isnan(new.rate) else f"rate {new.rate:.6g} nat/{new.link}"
    if np.isfinite(old.rate):
        yield f"{rate}, was {old.rate:.6g}; {low:.6g} to {high:.6g} is allowed"
    else:
        yield f"{rate}, was {'none' if np.isnan(old.rate) else _describe_level(old.rate)}"


def write(path: Path, curves: Sequence[Curve]) -> None:
    """Keep curves in a file, whole or not at all: at most 40 lags of each, 6 decimals."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    for curve in curves:
        if not np.isnan(curve.rate):
            for name, value in zip(RATES, (curve.rate, curve.low, curve.high), strict=True):
                rows.writerow([curve.name, name, "", f"{value:.6f}"])
        for k in _thinned(curve.lag):
            rows.writerow([curve.name, "log10", curve.lag[k], f"{curve.log10[k] + 0.0:.6f}"])
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        draft.write_text(text.getvalue(), encoding="utf-8", newline="\n")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _thinned(lag: NDArray) -> NDArray:
    """The first, the last, and what is nearest to even spacing in log."""
    if lag.size <= MOST_LAGS:
        return np.arange(lag.size)
    wanted = np.geomspace(1, lag[-1], MOST_LAGS - 1)
    return np.unique([0, *(int(np.argmin(np.abs(lag - step))) for step in wanted)])


def read(path: Path) -> list[Curve]:
    """The curves in a file that `write` made. Raises InputError."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        if rows[:1] != [HEADER]:
            raise ValueError
        names = dict.fromkeys(row[0] for row in rows[1:])
        return [_read(name, [row for row in rows[1:] if row[0] == name]) for name in names]
    except (ValueError, IndexError):
        raise InputError(f"{path}: not a baseline of decay curves") from None


def _read(name: str, rows: Sequence[Sequence[str]]) -> Curve:
    rates = {quantity: float(value) for _, quantity, lag, value in rows if not lag}
    points = [(int(lag), float(value)) for _, _, lag, value in rows if lag]
    lag, log10 = (np.array(column) for column in zip(*points, strict=True))
    rate, low, high = (rates.get(name, np.nan) for name in RATES)
    return Curve(name, lag, log10, rate, low, high)


def draw(found: Sequence[Curve], kept: Sequence[Curve], atol: float, path: Path) -> str:
    """Save both as a picture; a line that says where it is, or why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they would be the user's errors
            from seqlab.figures.overlay import overlay

            overlay(found, kept, atol, path)
    except Exception as error:  # a picture must not hide what differs
        return f"no picture: {error}"
    return f"picture: {path}"
