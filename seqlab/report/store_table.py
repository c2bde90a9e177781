"""The table of a store that a terminal shows: architectures x lengths, at most 80 columns."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.numbers.quantity import HORIZON
from seqlab.report.run_table import MOST_LENGTHS
from seqlab.report.text import Row, decimals, fill, grid, spread
from seqlab.report.tidy import OF_TRAINING, SPEC
from seqlab.spec import kinds
from seqlab.spec.learn import LearnSpec
from seqlab.spec.option import noteworthy, settings
from seqlab.spec.probed import gradients
from seqlab.spec.train import TrainSpec
from seqlab.wording import describe_settings, in_links

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class _Shown:
    """What a table shows of each run, rule and length: `write` makes its cell of the `columns`, of
    at most so many `lengths`; then what there is once for a run and rule, under its header. The
    settings `names` tell runs apart; `kind` is the name of theirs, where it has one."""

    title: str
    columns: tuple[str, ...]
    write: Callable[..., str]
    names: tuple[str, ...]
    lengths: int = MOST_LENGTHS
    once: Mapping[str, Callable[[Mapping[Any, Any]], str]] = field(default_factory=dict)
    kind: str | None = None


def _horizon(row: Mapping[Any, Any]) -> str:
    lag = row[f"horizon_{HORIZON}"]
    return f">{row['steps']}" if lag is None else f"{lag:.0f}"


def _learnable(row: Mapping[Any, Any]) -> str:
    """With its interval; where the fit has no crossing, the end that is known."""
    value, low, high = (row[f"learnable_length{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return f">{low:.3g}" if low is not None else "-" if high is None else f"<{high:.3g}"
    first = "<" if low is None else f"{low:.3g}"
    last = f">{row['steps']}" if high is None else f"{high:.3g}"
    return f"{value:.3g} [{first}, {last}]"


_CURVES = _Shown(
    "attenuation by length, decades: log10 of |{}| that many steps before the loss over "
    "that at the loss; median over networks",
    ("log10_attenuation",),
    lambda value: decimals(2, [value])(value),
    SPEC[1:],
)
_TRAINED = _Shown(
    "networks that learn the task, by length, of those that were trained",
    ("networks_solved", "networks"),
    lambda solved, networks: f"{solved:.0f}/{networks}",
    (*SPEC[1:], *OF_TRAINING),
    lengths=4,
    once={f"horizon {HORIZON}": _horizon, "half learn [95%]": _learnable},
    kind=LearnSpec.kind,
)
_THROUGH_DEPTH = replace(
    _TRAINED, title=_TRAINED.title.replace("length", "depth"), kind=TrainSpec.kind
)


def table(frame: "pd.DataFrame") -> str:
    """Text for what `load` gave; no newline at the end.

    A row for each run and rule under its architecture, told apart by whatever is not the same in
    all of the store; a column for some of the lengths. Training of cells and that of stacks have
    tables of their own.
    """
    if "task" not in frame:
        return _table(frame, _CURVES)
    trained, of_cells = frame["networks_solved"].notna(), frame["task"].notna()
    parts = [
        (frame[~trained], _CURVES),
        (frame[of_cells], _TRAINED),
        (frame[trained & ~of_cells], _THROUGH_DEPTH),
    ]
    return "\n\n".join(_table(part, shown) for part, shown in parts if len(part))


def document(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of what `load` gave in strict JSON's types, by their columns: what is missing is
    None, infinities are "-inf" and "inf"."""
    plain = frame.astype(object).where(frame.notna(), None)
    rows: list[dict[Any, Any]] = plain.to_dict("records")
    return [{name: _strict(value) for name, value in row.items()} for row in rows]


def _strict(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _table(frame: "pd.DataFrame", shown: _Shown) -> str:
    values = {name: frame[name].dropna().unique().tolist() for name in (*shown.names, "clip")}
    tables = {arch: kinds.of(arch, shown.kind).table for arch in frame["arch"].unique()}
    same = {name: found[0] for name, found in values.items() if len(found) == 1}
    # What means nothing for some of the architectures is said only of the others.
    common = {name: value for name, value in same.items() if frame[name].notna().all()}
    by_arch = frame.groupby("arch", sort=False)
    varied = [
        name
        for name, found in values.items()
        if len(found) > 1 or (name not in common and by_arch[name].nunique(dropna=False).max() > 1)
    ]
    lengths = spread(sorted(set(frame["length"].tolist())), shown.lengths)
    at: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    cell = ("hash", "clip", "length", *shown.columns)
    row: tuple[Any, ...]
    for row in zip(*(frame[name] for name in cell), strict=True):
        run, rule, length, *numbers = row
        at[run, rule][length] = shown.write(*numbers)
    links = kinds.links(tables)
    rows: list[Row] = []
    arch = None
    heads = frame.drop_duplicates(["hash", "clip"]).astype(object)
    for head in heads.where(heads.notna(), None).to_dict("records"):
        names = (*settings(tables[head["arch"]]), "clip")
        if (varied or same != common) and head["arch"] != arch:
            arch = head["arch"]
            alone = [name for name in names if name in same and name not in (*common, *varied)]
            apart = {name: head[name] for name in alone}
            rows.append((fill(": ".join(filter(None, [arch, describe_settings(apart)]))), []))
        own = describe_settings({name: head[name] for name in names if name in varied})
        found = at[head["hash"], head["clip"]]
        cells = [found.get(n, "-") for n in lengths]
        cells += [write(head) for write in shown.once.values()]
        own = own or f"clip {head['clip']}"
        rows.append((f"  {own}" if arch else head["arch"], cells))
    parts = [
        fill(in_links(shown.title.format(gradients(frame["engine"])), links), 0),
        fill(describe_settings(noteworthy(next(iter(tables.values())), common))),
        grid([[*map(str, lengths), *shown.once]], rows),
    ]
    return "\n\n".join(filter(None, parts))
