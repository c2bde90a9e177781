"""The table of a store that a terminal shows: architectures x lengths, at most 80 columns."""

from collections import defaultdict
from typing import TYPE_CHECKING

from seqlab.report.run_table import MOST_LENGTHS
from seqlab.report.text import Row, decimals, fill, grid, spread
from seqlab.report.tidy import SPEC
from seqlab.spec import kinds
from seqlab.wording import describe_settings, in_links

if TYPE_CHECKING:
    import pandas as pd

_CELL = ("hash", "clip", "length", "log10_attenuation")
_TITLE = (
    "attenuation by length, decades: log10 of |dL/d state| that many steps before the loss over "
    "that at the loss; median over networks"
)


def table(frame: "pd.DataFrame") -> str:
    """Text for what `load` gave; no newline at the end.

    A row for each run and rule under its architecture, told apart by whatever is not the same in
    all of the store; a column for at most six of the lengths.
    """
    values = {name: frame[name].dropna().unique().tolist() for name in (*SPEC[1:], "clip")}
    common = {name: found[0] for name, found in values.items() if len(found) == 1}
    varied = [name for name, found in values.items() if len(found) > 1]
    lengths = spread(sorted(set(frame["length"].tolist())), MOST_LENGTHS)
    at: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for run, rule, length, value in zip(*(frame[name] for name in _CELL), strict=True):
        at[run, rule][length] = value
    links = kinds.links(frame["arch"].unique())
    rows: list[Row] = []
    title = None
    heads = frame.drop_duplicates(["hash", "clip"]).astype(object)
    for head in heads.where(heads.notna(), None).to_dict("records"):
        if varied and head["arch"] != title:
            title = head["arch"]
            rows.append((title, []))
        own = describe_settings({name: head[name] for name in varied})
        found = at[head["hash"], head["clip"]]
        cells = [decimals(2, [found[n]])(found[n]) if n in found else "-" for n in lengths]
        rows.append((f"  {own}" if varied else head["arch"], cells))
    return "\n\n".join(
        [
            fill(in_links(_TITLE, links), 0),
            fill(describe_settings(common)),
            grid([list(map(str, lengths))], rows),
        ]
    )
