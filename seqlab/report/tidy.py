"""Measureds as one tidy table: a row for each run, clip rule and length.

Columns, in this order:

- `hash`, which names the result's file, and the spec's fields (`params` and `input` by path);
- `clip`, the rule, and `length`, the steps of the loss's own sequence;
- at that length: `log10_attenuation`, its median over networks in decades, with the quartiles
  `..._q25` and `..._q75`; `zeros`, `underflows` and `overflows`, the networks whose gradient is
  exactly zero, under the number format's range, or not finite;
- at the longest length, so equal for all lengths of a run and rule: what `seqlab run --json`
  reports under the same names, with `decay_rate_low` and `_high` for the interval, one column a
  threshold for `horizon`, and `lyapunov_1` for the largest exponent.

What does not exist is missing (NaN, NA); a horizon or zero lag that is never reached too. Rows
are sorted by the spec, so that equal results give an equal table whatever the order they came in.
Every network and lag of one result is in `Result.to_dataframe`.
"""

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.report.entries import HORIZONS, Ends, Entry, ends, entries
from seqlab.report.measured import Measured
from seqlab.spec import kinds
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.kinds import Spec
from seqlab.wording import printable

if TYPE_CHECKING:
    import pandas as pd

SPEC = tuple(row.name for row in kinds.options().values() if row.in_table)
AT_LENGTH = tuple(field.name for field in fields(Ends))
NUMBERS = ("gain", "input_scale", "decay_rate_low", "decay_rate_high", "lyapunov_1", "theory")
LAGS = (*(f"horizon_{limit}" for limit in HORIZONS), "float32_zero_lag", "float64_zero_lag")
COLUMNS = (
    *("hash", *SPEC, "clip", "length", *AT_LENGTH),
    *("decay_rate", "decay_rate_low", "decay_rate_high", "fit", *LAGS, "clipped_fraction"),
    *("log10_param_grad_norm_before", "log10_param_grad_norm_after", "lyapunov_1", "theory"),
)


class _Part(NamedTuple):
    """One run's share of the table."""

    key: tuple
    records: list[dict[str, Any]]  # one a rule
    lengths: dict[str, NDArray]  # columns, one entry a rule and length


def frame(results: Iterable[Measured]) -> "pd.DataFrame | None":
    """The table of some results, read one after the other; None where there is none."""
    import pandas as pd

    parts = sorted(map(_part, results), key=lambda part: part.key)
    if not parts:
        return None
    records = pd.DataFrame([record for part in parts for record in part.records])
    names = parts[0].lengths
    lengths = pd.DataFrame({n: np.concatenate([p.lengths[n] for p in parts]) for n in names})
    counts = [len(p.lengths["length"]) // len(p.records) for p in parts for _ in p.records]
    repeated = records.loc[records.index.repeat(counts)].reset_index(drop=True)
    types = dict.fromkeys(("state", *LAGS), "Int64") | dict.fromkeys(NUMBERS, "float64")
    return pd.concat([repeated, lengths], axis="columns")[list(COLUMNS)].astype(types)


def _part(result: Measured) -> _Part:
    spec, at = result.spec, ends(result)
    values = {name: getattr(spec, name, None) for name in SPEC}
    values |= {n: printable(v.path) for n, v in values.items() if isinstance(v, ArrayFile)}
    lengths = vars(at) | {"length": np.broadcast_to(spec.lengths, at.zeros.shape)}
    return _Part(
        _key(spec),
        [{"hash": spec.hash} | values | _record(entry) for entry in entries(result, at)],
        {name: column.ravel() for name, column in lengths.items()},
    )


def _record(entry: Entry) -> dict[str, Any]:
    """What a rule has one of."""
    same = ("clip", "decay_rate", "fit", "clipped_fraction", "theory")
    record: dict[str, Any] = {name: getattr(entry, name) for name in same}
    low, high = entry.decay_rate_ci95 or (None, None)
    record |= {"decay_rate_low": low, "decay_rate_high": high}
    record |= {f"horizon_{limit}": lag for limit, lag in entry.horizon.items()}
    record |= {name: getattr(entry, name) for name in ("float32_zero_lag", "float64_zero_lag")}
    for when, norm in entry.log10_param_grad_norm.items():
        record[f"log10_param_grad_norm_{when}"] = norm
    return record | {"lyapunov_1": entry.lyapunov[0] if entry.lyapunov else None}


def _key(spec: Spec) -> tuple:
    """Where a run stands in the table: by its cell, then by every field in turn."""
    order = kinds.archs().index(spec.arch)
    values = (getattr(spec, name, None) for name in kinds.options())
    plain = [str(value) if isinstance(value, ArrayFile) else value for value in values]
    return order, *((value is not None, isinstance(value, str), value) for value in plain)
