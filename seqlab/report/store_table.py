"""The table of a store that a terminal shows: architectures x lengths, at most 80 columns."""

from collections import defaultdict
from typing import TYPE_CHECKING

from seqlab.report.run_table import MOST_LENGTHS
from seqlab.report.text import Row, decimals, fill, grid, spread
from seqlab.report.tidy import SPEC
from seqlab.spec import kinds
from seqlab.spec.option import settings
from seqlab.spec.probed import gradients
from seqlab.wording import describe_settings, in_links

if TYPE_CHECKING:
    import pandas as pd

_CELL = ("hash", "clip", "length", "log10_attenuation")
_TITLE = (
    "attenuation by length, decades: log10 of |{}| that many steps before the loss over "
    "that at the loss; median over networks"
)


def table(frame: "pd.DataFrame") -> str:
    """Text for what `load` gave; no newline at the end.

    A row for each run and rule under its architecture, told apart by whatever is not the same in
    all of the store; a column for at most six of the lengths.
    """
    values = {name: frame[name].dropna().unique().tolist() for name in (*SPEC[1:], "clip")}
    tables = {arch: kinds.of(arch).table for arch in frame["arch"].unique()}
    same = {name: found[0] for name, found in values.items() if len(found) == 1}
    # What some of the kinds have no word for is said only of the others.
    common = {n: value for n, value in same.items() if all(n in t for t in tables.values())}
    varied = [name for name, found in values.items() if len(found) > 1]
    lengths = spread(sorted(set(frame["length"].tolist())), MOST_LENGTHS)
    at: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for run, rule, length, value in zip(*(frame[name] for name in _CELL), strict=True):
        at[run, rule][length] = value
    links = kinds.links(tables)
    rows: list[Row] = []
    arch = None
    heads = frame.drop_duplicates(["hash", "clip"]).astype(object)
    for head in heads.where(heads.notna(), None).to_dict("records"):
        names = (*settings(tables[head["arch"]]), "clip")
        if (varied or same != common) and head["arch"] != arch:
            arch = head["arch"]
            apart = {name: head[name] for name in names if name in same and name not in common}
            rows.append((fill(": ".join(filter(None, [arch, describe_settings(apart)]))), []))
        own = describe_settings({name: head[name] for name in names if name in varied})
        found = at[head["hash"], head["clip"]]
        cells = [decimals(2, [found[n]])(found[n]) if n in found else "-" for n in lengths]
        rows.append((f"  {own}" if arch else head["arch"], cells))
    parts = [
        fill(in_links(_TITLE.format(gradients(frame["engine"])), links), 0),
        fill(describe_settings(common)),
        grid([list(map(str, lengths))], rows),
    ]
    return "\n\n".join(filter(None, parts))
