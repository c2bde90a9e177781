"""Attenuation curves: the norm of the adjoint at every lag, for every length, in one sweep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import part_names
from seqlab.engine.backward import Sweep
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape, Tick, no_tick
from seqlab.kernels.layout import Emitted
from seqlab.rules import Rule


@dataclass
class Curves:
    """Absolute natural logs of norms by lag, (M, T + 1) for each length T, in rising order.

    `state` is the whole state's, `parts` its named parts' where there are several, or where the
    network is `layered` those of all its layers; `inputs` dL/dx's at the same lag (nan at the
    initial state, which no input feeds). `fired` (M, lengths) counts the steps x sequences at which
    the rule acted, `lost` (M, lengths) says where a zero is none: a factor left the dtype's range;
    `sums` has the parameter gradients of the longest length's loss.
    """

    state: list[NDArray]
    parts: dict[str, list[NDArray]]
    inputs: list[NDArray]
    fired: NDArray
    lost: NDArray
    sums: Sums
    layered: bool = False

    @property
    def named(self) -> dict[str, list[NDArray]]:
        """Every curve by the name that results give it."""
        parts = {f"log_norm_{part}": curves for part, curves in self.parts.items()}
        return {"log_norm": self.state, "log_norm_input": self.inputs, **parts}


def sweep_curves(
    tape: Tape,
    lengths: Sequence[int],
    readout: NDArray,
    rule: Rule,
    gradients: bool = False,
    tick: Tick = no_tick,
    on_gradient: Callable[[int, Emitted], None] | None = None,
) -> Curves:
    """Curves of the losses readout . y_T, T in `lengths` (rising), from one sweep over a tape.

    `readout` is (M, B, L, H), one for each length; `on_gradient` as of `Sweep.run`.
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

    sweep.run(loss, tick, on_gradient)
    return read_curves(sweep)


def read_curves(sweep: Sweep) -> Curves:
    """The curves of a sweep that is over, in the memory of its traces."""
    traces = [lane.trace for lane in sweep.lanes]
    first, names = sweep.lanes[0], part_names(sweep.lanes[0].level.cell.parts, len(traces))
    parts = {}
    if len(names) > 1:
        each = [(trace, i) for i in range(first.trace.squares.shape[2]) for trace in traces]
        parts = {
            name: _log_norm(trace.squares[:, :, i].copy(), trace.exponent)
            for name, (trace, i) in zip(names, each, strict=True)
        }
    logs = [_log_norm(_of_all(trace.squares), trace.exponent) for trace in traces]
    with np.errstate(invalid="ignore"):  # of nan, and at (-inf, -inf)
        whole = logs[0] if len(logs) == 1 else np.logaddexp.reduce([2 * one for one in logs]) / 2

    def by_length(log: NDArray) -> list[NDArray]:
        return np.split(log, first.trace.offset[1:], axis=1)[::-1]

    return Curves(
        by_length(whole),
        {name: by_length(log) for name, log in parts.items()},
        by_length(_log_norm(first.trace.inputs, first.input_exponent)),
        sweep.fired.sum(axis=1)[:, ::-1],
        np.any(sweep.lost, axis=1)[:, ::-1],
        sweep.sums,
        layered=len(traces) > 1,
    )


def _of_all(squares: NDArray) -> NDArray:
    """Sums of squares of all parts, (M, B, P, points) -> (M, B, points), in place where there is
    one part."""
    return squares[:, :, 0] if squares.shape[2] == 1 else squares.sum(axis=2)


def _log_norm(squares: NDArray, exponent: NDArray) -> NDArray:
    """ln of the norm over sequences, (M, B, points) -> (M, points), in place of the squares, which
    are at 2^exponent."""
    # invalid: logaddexp warns of nan and at (-inf, -inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(squares, out=squares)
        log *= 0.5
        log += exponent * np.log(2.0)
        if log.shape[1] == 1:
            return log[:, 0]
        return 0.5 * np.logaddexp.reduce(2 * log, axis=1)
