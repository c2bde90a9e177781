"""Results as tidy tables.

`frame` has a row for each run, clip rule and length. Columns, in this order:

- `hash`, which names the result's file, and the spec's fields (`params` and `input` by path);
- `clip`, the rule, and `length`, the steps of the loss's own sequence;
- at that length: `log10_attenuation`, its median over networks in decades, with the quartiles
  `..._q25` and `..._q75`; `zeros`, `underflows` and `overflows`, the networks whose gradient is
  exactly zero, under the number format's range, or not finite;
- at the longest length, so equal for all lengths of a run and rule: what `seqlab run --json`
  reports under the same names, with `decay_rate_low` and `_high` for the interval, one column a
  threshold for `horizon`, and `lyapunov_1` for the largest exponent.

Where there are results of training, their settings stand behind the spec's fields, and at the end
what `seqlab learn --json` reports: at each length, and of a rule the learnable length.

What does not exist is missing (NaN, NA); a horizon or zero lag that is never reached too. Rows
are sorted by the spec, so that equal results give an equal table whatever the order they came in.
Every network and lag of one result is in `curve_frame`.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantities import IN_TABLES, IN_TABLES_OF_TRAINING, is_training
from seqlab.numbers.quantity import LN10, Quantity
from seqlab.report.entries import readings
from seqlab.report.measured import Measured
from seqlab.report.points import Data, arrays_of, curve_points, fields_of, parts_of
from seqlab.spec import kinds
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.kinds import Spec

if TYPE_CHECKING:
    import pandas as pd


def _by_length_first(rows: Iterable[Quantity]) -> list[Quantity]:
    return sorted(rows, key=lambda row: not row.by_length)


SPEC = tuple(row.name for row in kinds.options(kinds.by_arch()).values() if row.in_table)
OF_TRAINING = tuple(
    row.name for row in kinds.options().values() if row.in_table and row.name not in SPEC
)
_NEVER_MISS = ("steps", "hidden", "networks", "seed")
COLUMNS = (
    *("hash", *SPEC, "clip", "length"),
    *(name for row in _by_length_first(IN_TABLES) for name in row.columns),
)
_LEARNED = [row for row in IN_TABLES_OF_TRAINING if row.learned]
# Beside results of training.
MORE_COLUMNS = (
    *COLUMNS[: 1 + len(SPEC)],
    *OF_TRAINING,
    *COLUMNS[1 + len(SPEC) :],
    *(name for row in _by_length_first(_LEARNED) for name in row.columns),
)
_MAY_MISS = {int: "Int64", float: "float64", bool: "boolean"}
_TYPES = {
    name: _MAY_MISS[row.read]
    for name, row in kinds.options().items()
    if row.read in _MAY_MISS and row.in_table and not row.many and name not in _NEVER_MISS
} | {
    name: "Int64" if row.kind == "lag" else "float64"
    for row in IN_TABLES_OF_TRAINING
    for name in row.columns
    if row.kind != "word" and (row.learned or not row.by_length)
}


class _Part(NamedTuple):
    """One run's share of the table."""

    key: tuple
    trained: bool
    rules: dict[str, list[Any]]  # columns, one entry a rule
    lengths: dict[str, NDArray]  # columns, one entry a rule and length

    @property
    def counts(self) -> list[int]:
        """Lengths of each rule."""
        rules = len(self.rules["clip"])
        return [len(self.lengths["length"]) // rules] * rules

    def rule_column(self, name: str) -> list[Any]:
        """An entry a rule, missing where the run has no such number."""
        return self.rules.get(name, [None] * len(self.rules["clip"]))

    def length_column(self, name: str) -> NDArray:
        """An entry a rule and length, missing where the run has no such number."""
        missing = np.full(len(self.lengths["length"]), np.nan)
        return self.lengths.get(name, missing)


def frame(results: Iterable[Measured]) -> "pd.DataFrame | None":
    """The table of some results, read one after the other; None where there is none."""
    import pandas as pd

    parts = sorted(map(_part, results), key=lambda part: part.key)
    if not parts:
        return None
    most = max(parts, key=lambda part: part.trained)
    rules = pd.DataFrame({n: [x for p in parts for x in p.rule_column(n)] for n in most.rules})
    joined = {n: np.concatenate([p.length_column(n) for p in parts]) for n in most.lengths}
    lengths = pd.DataFrame(joined)
    counts = [n for p in parts for n in p.counts]
    columns = MORE_COLUMNS if most.trained else COLUMNS
    repeated = rules.loc[rules.index.repeat(counts)].reset_index(drop=True)
    whole = pd.concat([repeated, lengths], axis="columns")[list(columns)]
    whole = whole.astype({name: kind for name, kind in _TYPES.items() if name in columns})
    absent = [name for name in _NEVER_MISS if whole[name].isna().any()]  # but of a probe
    return whole.astype(dict.fromkeys(absent, "Int64"))


def _part(result: Measured) -> _Part:
    data = arrays_of(result)
    clips: list[str] = data["rule"].tolist()
    trained = is_training(data)
    fields = {"hash": result.spec.hash} | fields_of(result, (*SPEC, *OF_TRAINING))
    rules = {name: [value] * len(clips) for name, value in fields.items()} | {"clip": clips}
    lengths = {"length": np.tile(data["length"], len(clips))}
    for reading in readings(data):
        if reading.quantity.by_length:
            columns = reading.by_length(len(clips), data["length"].size)
            lengths |= {name: column.ravel() for name, column in columns.items()}
        else:
            rules |= reading.columns(len(clips))
    return _Part(_key(result.spec), trained, rules, lengths)


def _key(spec: Spec) -> tuple:
    """Where a run stands in the table: by its cell, then by every field in turn."""
    order = kinds.archs().index(spec.arch)
    values = (getattr(spec, name, None) for name in kinds.options())
    plain = [str(value) if isinstance(value, ArrayFile) else value for value in values]
    return order, *((value is not None, isinstance(value, str), value) for value in plain)


def curve_frame(result: Measured, names: Sequence[str]) -> "pd.DataFrame":
    """A row for each network, rule, length, and lag up to the length.

    Columns: the spec's hash and its fields `names`, `network`, `rule`, `length`, `lag`, and norms
    relative to the state's at lag 0, in nats `log_norm` of the state, `log_norm_input`, and
    `log_norm_PART` of each part, and in decades `log10_norm` and so on. PART is the part's name
    with underscores for blanks ("layer 1 hidden": `log_norm_layer_1_hidden`), and one more where
    a column before has that name already.
    """
    import pandas as pd

    data = arrays_of(result)
    at, (networks, rules) = curve_points(data), data["log_norm"].shape[:2]
    columns: dict[str, Any] = {"hash": result.spec.hash} | fields_of(result, names)
    columns |= {"network": np.repeat(np.arange(networks), rules * at.lag.size)}
    columns |= {"rule": np.tile(np.repeat(data["rule"], at.lag.size), networks)}
    columns |= {"length": np.tile(at.length, networks * rules)}
    columns |= {"lag": np.tile(at.lag, networks * rules)}
    for name, values in _curves(data).items():
        columns[name] = at.of(values).ravel()
        columns[name.replace("log", "log10", 1)] = columns[name] / LN10
    return pd.DataFrame(columns)


def _curves(data: Data) -> dict[str, NDArray]:
    """All log norms (networks, rules, lengths, lags) by the names of their columns."""
    found = {name: values for name, values in data.items() if name.startswith("log_norm")}
    if found.pop("log_norm_part", None) is not None:
        for part, values in parts_of(data).items():
            name = re.sub(r"\s", "_", f"log_norm_{part}")
            while name in found:
                name += "_"
            found[name] = values
    return found
