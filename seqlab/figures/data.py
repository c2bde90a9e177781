"""Files of figures, and the numbers behind each beside it."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from seqlab.errors import InputError
from seqlab.figures.bars import Bars, bars
from seqlab.figures.choose import Selection
from seqlab.figures.gather import Series
from seqlab.figures.names import text
from seqlab.figures.notes import standing
from seqlab.figures.runs import Run
from seqlab.figures.style import FORMATS, write_figure
from seqlab.numbers.quantity import HORIZON

FIRST = "figure"  # the first column of each such file: whose data it is


def check_path(path: str | PathLike[str], option: str = "plot") -> Path:
    """The path of a figure to be written; InputError, that begins with the option, for others.

    A table of that name which is no figure's data would be overwritten: that is refused too.
    """
    checked = Path(path)
    if checked.suffix.lower() not in FORMATS:
        raise InputError(
            f"{option}: {str(path)!r} has no known format; allowed: {', '.join(FORMATS)}"
        )
    beside = checked.with_suffix(".csv")
    try:
        with beside.open(encoding="utf-8-sig", errors="replace") as file:
            ours = file.readline().startswith(f"{FIRST},")
    except OSError:
        return checked
    if not ours:
        raise InputError(f"{option}: {beside} is not a figure's data and would be overwritten")
    return checked


def save(figure: Figure, data: pd.DataFrame, path: str | PathLike[str]) -> None:
    """Write a figure by its suffix, and its data as CSV: the same bytes for the same figure."""
    target = check_path(path)
    write_figure(figure, target)
    data.to_csv(
        target.with_suffix(".csv"),
        index=False,
        float_format="%.10g",
        na_rep="nan",
        lineterminator="\n",
    )


def table(selection: Selection) -> pd.DataFrame:
    """A row for each point drawn; of a distribution, for each network; of a histogram, each bin.

    Columns: the figure's kind, its fields, and the measure (with quartiles over networks, or the
    ends of its interval); rates of theory in nat/step, horizons and learnable lengths in steps. Of
    a bin: where it begins and ends, and the share of all values that is in it; the shares that are
    in none are in each row.
    """
    choice = selection.choice
    if choice.kind == "distribution":
        parts = [_networks(selection, run) for run in selection.runs]
    elif choice.kind == "histogram":
        parts = [_bins(selection, one) for one in bars(selection)]
    else:
        parts = [_points(selection, one) for one in selection.series]
    whole = pd.concat(parts, ignore_index=True)
    whole.insert(0, FIRST, choice.kind)
    return whole


def _points(selection: Selection, one: Series) -> pd.DataFrame:
    measure = selection.choice.measure
    columns: dict[str, Any] = _fields(one.key) | dict(one.points) | dict(one.standing)
    columns |= {measure.name: one.value}
    low, high = ("low", "high") if measure.interval else ("q25", "q75")
    columns |= {f"{measure.name}_{low}": one.low, f"{measure.name}_{high}": one.high}
    columns |= {"networks": one.networks}
    if "length" in measure.coordinates:
        columns |= {"theory": one.theory}
    if measure.axes:
        columns |= {f"horizon_{HORIZON}": one.horizon}
    if (found := selection.learnable.get(selection.values_told_apart(one.key))) is not None:
        ends = {"": found.length, "_low": found.low, "_high": found.high}
        columns |= {
            f"learnable_length{end}": np.nan if length is None else length
            for end, length in ends.items()
        }
    return pd.DataFrame(columns, index=range(one.value.size))


def _networks(selection: Selection, run: Run) -> pd.DataFrame:
    choice = selection.choice
    shown = choice.coordinates
    networks, points = run.values.shape
    kept = np.arange(points) if shown else np.array([points - 1])
    columns: dict[str, Any] = _fields({n: run.fields[n] for n in choice.fields if n not in shown})
    columns |= {name: np.tile(run.points[name][kept], networks) for name in shown}
    columns |= standing([run], choice.fields, choice.measure)
    columns |= {"network": np.repeat(np.arange(networks), kept.size)}
    columns |= {choice.measure.name: run.values[:, kept].ravel()}
    return pd.DataFrame(columns, index=range(networks * kept.size))


def _bins(selection: Selection, one: Bars) -> pd.DataFrame:
    choice = selection.choice
    told = {choice.facet: one.facet, choice.y: one.y}
    columns: dict[str, Any] = _fields({name: value for name, value in told.items() if name})
    columns |= standing(one.runs, choice.fields, choice.measure)
    name = choice.measure.name
    columns |= {f"{name}_from": one.edges[:-1], f"{name}_to": one.edges[1:], "share": one.shares}
    columns |= {"zero": one.zero, "overflow_or_nan": one.beyond, "values": one.count}
    return pd.DataFrame(columns, index=range(one.shares.size))


def _fields(key: Mapping[str, Any]) -> dict[str, Any]:
    return {name: text(value) if value is None else value for name, value in key.items()}
