"""Which fields tell most: how much of a measure's variance over runs each explains."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.figures.names import FIELDS, Measure, in_order
from seqlab.figures.runs import Run
from seqlab.numbers.quantity import LOG10_SMALLEST
from seqlab.numbers.statistics import quantile

LEVELS = (
    LOG10_SMALLEST["float32"],
    -LOG10_SMALLEST["float32"],
)  # decades; beyond, more tells no more


def values_of(runs: Sequence[Run], name: str) -> list[Any]:
    """The values of a field, each once, in order."""
    return in_order([run.fields[name] for run in runs])


def varying(runs: Sequence[Run], measure: Measure) -> dict[str, float]:
    """Fields with several values, and how much of the variance of the measure each explains.

    Those that explain most come first, the seed last. A field is None for the cells that it means
    nothing to; that alone is no variety.
    """
    cells: dict[str, list[Run]] = {}
    for run in runs:
        cells.setdefault(run.fields["arch"], []).append(run)
    levels = np.array([_level(run, measure) for run in runs])
    found = {}
    for name in FIELDS:
        values = [run.fields[name] for run in runs]
        within = max(len({run.fields[name] for run in group}) for group in cells.values())
        if len(set(values) - {None}) > 1 or within > 1:
            found[name] = _explained(values, levels)
    return dict(sorted(found.items(), key=lambda item: (item[0] == "seed", -round(item[1], 2))))


def _level(run: Run, measure: Measure) -> float:
    """A number for a run: the mean over its points of what its networks have in the middle."""
    if measure.interval and measure.mean:
        return float(run.values.mean())
    middle = quantile(run.values, 0.5)
    if measure.log_axis:
        with np.errstate(divide="ignore", invalid="ignore"):
            middle = np.log10(middle)
    return float(np.clip(np.nan_to_num(middle), *LEVELS).mean())


def _explained(values: Sequence[Any], levels: NDArray) -> float:
    """The share of the variance of levels that lies between values."""
    _, group = np.unique([repr(value) for value in values], return_inverse=True)
    means = np.bincount(group, levels) / np.bincount(group)
    total = levels.var()
    return float(means[group].var() / total) if total > 0 else 0.0
