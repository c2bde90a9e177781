"""What the parameters' gradient is made of: the share of each lag, and of all lags up to it."""

from collections.abc import Collection, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.backward import Sweep
from seqlab.engine.ensemble import Ensemble
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape, Tick
from seqlab.kernels.layout import Span
from seqlab.rules import UNCLIPPED

NAMES = ("log_gradient_by_lag", "log_gradient_to_lag", "cosine_to_lag")


def by_lag(
    ensemble: Ensemble,
    tape: Tape,
    readout: NDArray,
    whole: Sums,
    lags: NDArray[np.int64],
    tick: Tick,
) -> dict[str, NDArray]:
    """Of the loss readout . y_T at the tape's last step, (M, B, L, H) for L = 1, whose gradient is
    `whole`.

    The share of lag tau is what step T - tau adds to the gradients of the parameters, which all
    steps have in common; lag T, the initial state's, has none and stays nan. Of all parameters that
    were given, (M, lags): `log_gradient_by_lag`, ln of the norm of a lag's share over the whole's;
    `log_gradient_to_lag`, the same of the sum of the shares up to it, which is what `truncate` of
    as many steps leaves; `cosine_to_lag`, of that sum and the whole. And of each of the cell's
    parameters alone, (M, parameters, lags), by the same names with `_parameter` behind.

    A kernel call for each of `lags` (rising, from 0 on), and one for all between two of them.
    `tick` hears of steps, and of how many of them were compared.
    """
    sweep = Sweep(tape, [tape.steps], UNCLIPPED, record=False, gradients=True)
    shapes, given = tape.shapes, list(ensemble.names)
    groups = [given, *([name] if name in given else [] for name in shapes)]
    tables = np.full((len(NAMES), tape.networks, len(groups), len(lags)), np.nan)
    columns = {tape.steps - 1 - lag: column for column, lag in enumerate(lags.tolist())}
    until, loss = Sums.zeros(shapes, tape.networks), readout[:, np.newaxis].astype(tape.x.dtype)
    for index, span in _pieces(sweep, columns):
        first, last = span.start + span.lo, span.start + span.hi
        sweep.sums = Sums.zeros(shapes, tape.networks)
        sweep.back(tape.segment(index), span, loss if last == tape.steps else loss[:, :0])
        until.add(sweep.sums)
        if (column := columns.get(first)) is not None:
            for k, group in enumerate(groups):
                three = (sums.of(group) for sums in (sweep.sums, until, whole))
                tables[:, :, k, column] = _compared(*three) if group else np.nan
        tick(span.hi - span.lo, int(column is not None))
    every = dict(zip(NAMES, tables, strict=True))
    return {name: table[:, 0] for name, table in every.items()} | {
        f"{name}_parameter": table[:, 1:] for name, table in every.items()
    }


def _pieces(sweep: Sweep, alone: Collection[int]) -> Iterator[tuple[int, Span]]:
    """The spans of a sweep, cut so that each step of `alone` is a piece."""
    ends = {end for step in alone for end in (step, step + 1)}
    for index, span in sweep.spans():
        first, last = span.start + span.lo, span.start + span.hi
        cuts = sorted({first, last} | {end for end in ends if first < end < last}, reverse=True)
        for hi, lo in pairwise(cuts):
            yield index, Span(span.start, lo - span.start, hi - span.start)


def _compared(share: Sums, so_far: Sums, whole: Sums) -> tuple[NDArray, NDArray, NDArray]:
    """See `by_lag`, (M,) each."""
    with np.errstate(invalid="ignore"):  # of no gradient at all there are no shares
        norm = whole.log_norm()
        return share.log_norm() - norm, so_far.log_norm() - norm, so_far.cosine(whole)
