"""Attenuation curves: the norm of the adjoint at every lag, for every length, in one sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.layout import Trace
from seqlab.rules import Rule
from seqlab.sums import Sums
from seqlab.tape import Sweep, Tape, Tick, ignore


@dataclass
class Curves:
    """Absolute natural logs of norms, (M, lengths, lags) each, nan past a length.

    `state` is the whole state's, `parts` its named parts', `inputs` dL/dx's at the same lag (nan at
    the initial state, which no input feeds). `fired` (M, lengths) counts the steps x sequences at
    which the rule acted; `sums` has the parameter gradients of the longest length's loss.
    """

    state: NDArray
    parts: dict[str, NDArray]
    inputs: NDArray
    fired: NDArray
    sums: Sums


def sweep_curves(
    tape: Tape,
    lengths: Sequence[int],
    readout: NDArray,
    rule: Rule,
    gradients: bool = False,
    tick: Tick = ignore,
) -> Curves:
    """Curves of the losses readout . y_T, T in `lengths` (rising), from one sweep over a tape.

    `readout` is (M, B, L, H), one for each length.
    """
    falling = list(lengths)[::-1]
    readout = np.ascontiguousarray(readout[:, :, ::-1].astype(tape.x.dtype))
    sweep = Sweep(tape, falling, rule, record=True, gradients=gradients)

    def loss(first: int, last: int) -> NDArray:
        networks, sequences, rows, units = readout.shape
        ends = last in falling
        gradient = np.zeros((networks, int(ends), sequences, rows, units), readout.dtype)
        if ends:
            row = falling.index(last)
            gradient[:, 0, :, row] = readout[:, :, row]
        return gradient

    sweep.run(loss, tick)
    return _read(sweep.trace, tape.cell.parts, sweep)


def _read(trace: Trace, names: tuple[str, ...], sweep: Sweep) -> Curves:
    parts = {
        name: _log_norm(trace.squares[..., index], trace.exponent)
        for index, name in enumerate(names)
    }
    return Curves(
        _log_norm(trace.squares.sum(axis=-1), trace.exponent),
        parts,
        _log_norm(trace.inputs, trace.exponent),
        trace.fired.sum(axis=1)[:, ::-1],
        sweep.sums,
    )


def _log_norm(squares: NDArray, exponent: NDArray) -> NDArray:
    """ln of the norm over sequences, (M, B, L, lags) falling -> (M, L, lags) rising."""
    # invalid: logaddexp warns of the nan past a length and at (-inf, -inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = 0.5 * np.log(squares) + exponent * np.log(2.0)
        if log.shape[1] == 1:
            return log[:, 0, ::-1]
        return 0.5 * np.logaddexp.reduce(2 * log, axis=1)[:, ::-1]
