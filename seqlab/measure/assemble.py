"""From the numbers of every network to the variables of a result."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.numbers.fit import fit_decay, fit_lags
from seqlab.numbers.quantities import in_files
from seqlab.numbers.quantity import LN_SMALLEST, MOST_LAGS, THRESHOLDS
from seqlab.numbers.statistics import first_below, median
from seqlab.numbers.variables import NEVER, Variable
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec

# What is measured of some networks, by name, one entry a network on the first axis; logs are
# natural. Quantities (see `seqlab.numbers.quantities`) as a file has them, and `longest` (M, rules,
# lags), the state's whole curve of the longest length.
Block = dict[str, NDArray]


def kept_lags(spec: Spec, every: int = 1) -> NDArray[np.int64]:
    """The lags a file keeps: 0, 1, every length, and at most 256 evenly spaced in log; of lags that
    are multiples of `every` alone, the nearest ones."""
    spread = np.geomspace(1, spec.steps, MOST_LAGS)
    return np.unique(np.concatenate([[0, every], spec.lengths, _nearest(spread, every)]))


def assemble(
    spec: Spec,
    blocks: Sequence[Block],
    parts: Iterable[str] = (),
    *,
    named: Sequence[str] = (),
    parameters: Sequence[str] = (),
    truncation: float | None = None,
    every: int = 1,
) -> dict[str, Variable]:
    """All variables of a result, networks in order; `parts` are those of a state that has several.

    `named` are the names along the axis of `log_norm_part`, `parameters` those along the axis of
    what is measured of each parameter, where that is; `truncation` is the cosine that a truncated
    gradient is to keep; `every` is the distance of the lags of `longest`.
    Raises KeyError for what has no row in `seqlab.numbers.quantities`.
    """
    found: dict[str, ArrayLike] = {
        "lag": kept_lags(spec, every),
        "length": np.asarray(spec.lengths, np.int64),
        "rule": np.asarray(spec.clip),
        "threshold": np.asarray(list(THRESHOLDS.values())),
    }
    measured = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    longest, predicted = measured.pop("longest"), measured.pop("predicted")
    found |= measured
    for name, values in (("part", named), ("parameter", parameters)):
        if values:
            found[name] = np.asarray(values)
    if truncation is not None:
        cosine = median(measured["cosine_to_lag"], axis=0)
        found["truncation_lag"] = truncation_lag(kept_lags(spec), cosine, truncation)
    found["decay_rate"] = longest[:, :, -1] / spec.steps
    found["theory"] = predicted.mean()
    found |= _of_median(spec.steps, median(longest, axis=0), every)
    rows, (link,) = in_files(parts), kinds.links([spec.arch])
    if unknown := found.keys() - rows.keys():
        raise KeyError(f"no row in seqlab.numbers.quantities: {', '.join(sorted(unknown))}")
    return {name: row.variable(found[name], link) for name, row in rows.items() if name in found}


def truncation_lag(lags: NDArray[np.int64], cosine: NDArray, least: float) -> int:
    """The smallest of `lags`, from 1 on, from which on a cosine (lags,) is above `least`; NEVER if
    it ends under it. The last lag, the initial state's, has none."""
    short = np.flatnonzero(~(cosine[:-1] > least))
    first = int(short[-1]) + 1 if short.size else 0
    return NEVER if first == len(lags) - 1 else int(lags[max(first, 1)])


def _of_median(steps: int, curves: NDArray, every: int) -> dict[str, ArrayLike]:
    """Horizons, zero lags and fits of the median curves (rules, lags), before thinning."""
    limits = np.log(list(THRESHOLDS.values()))

    def first(curve: NDArray, limit: float) -> int:
        place = first_below(curve, limit)
        return NEVER if place == NEVER else place * every

    found: dict[str, ArrayLike] = {"horizon": [[first(c, x) for x in limits] for c in curves]}
    for dtype, limit in LN_SMALLEST.items():
        found[f"{dtype}_zero_lag"] = [first(curve, limit) for curve in curves]
    lags = _nearest(fit_lags(steps), every)
    fits = [fit_decay(lags, curve[lags // every]) for curve in curves]
    for field in ("exponential_rms", "power_rms", "rate", "exponent"):
        values = [np.nan if fit is None else getattr(fit, field) for fit in fits]
        found[f"fit_{field}"] = values
    return found


def _nearest(lags: NDArray, every: int) -> NDArray[np.int64]:
    """The multiples of `every` from there up that lie nearest, each once."""
    multiples = np.rint(np.asarray(lags) / every).astype(np.int64)
    return np.unique(np.maximum(multiples, 1)) * every
