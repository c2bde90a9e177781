"""What a file keeps of one sweep's curves."""

import numpy as np
from numpy.typing import NDArray

from seqlab.measure.assemble import kept_lags
from seqlab.measure.curves import Curves
from seqlab.spec.kinds import Spec


def kept(spec: Spec, curves: Curves) -> dict[str, NDArray]:
    """What is kept of one sweep's curves, by name, (M, ...) each."""
    lags, start = kept_lags(spec), [curve[:, :1] for curve in curves.state]
    kept = {name: _thinned(curve, start, lags) for name, curve in curves.named.items()}
    if curves.layered:  # one array of them all, with their names beside
        parts = [kept.pop(f"log_norm_{name}") for name in curves.parts]
        kept["log_norm_part"] = np.stack(parts, axis=1)
    kept["longest"] = curves.state[-1] - start[-1]
    kept["underflow"] = curves.lost.astype(np.float64)
    return kept


def _thinned(curves: list[NDArray], start: list[NDArray], lags: NDArray) -> NDArray:
    """Each length's curve at some lags, from its start: (M, lengths, lags), nan past a length."""
    table = np.full((len(curves[0]), len(curves), len(lags)), np.nan)
    for k, (curve, origin) in enumerate(zip(curves, start, strict=True)):
        within = lags < curve.shape[1]
        table[:, k, within] = curve[:, lags[within]] - origin
    return table
