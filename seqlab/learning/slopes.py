"""The slopes of a cell's gates, at every step of every sequence of a batch.

In float64 whatever the networks' dtype, in which a slope counts as zero under its normal numbers.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Cell, Gates, Parameters
from seqlab.measure.stack_layers import FLAT
from seqlab.numbers.activations import find_activation
from seqlab.numbers.training_checklist import Units


def units_of(
    cell: Cell, activation: str | None, params: Parameters, x: NDArray, hidden: NDArray
) -> dict[str, Units]:
    """Each gate's units, of x (m, T, B, I) and outputs `hidden` (m, T, B, H); nan where a slope is.

    None for a cell without gates.
    """
    counts: dict[str, _Count] = {}
    shape = hidden[:, 0].shape
    least = float(np.finfo(hidden.dtype).smallest_normal)
    for gates in _steps(cell, params, x, hidden):
        for gate, z in gates.items():
            if gate not in counts:
                counts[gate] = _Count(_KINDS.get(gate) or activation or "tanh", shape)
            counts[gate].observe(z, least)
    return {gate: count.units() for gate, count in counts.items() if count.kind != "identity"}


def _steps(cell: Cell, params: Parameters, x: NDArray, hidden: NDArray) -> Iterator[Gates]:
    """The pre-activations at each step of x (m, T, B, I), with outputs `hidden` (m, T, B, H)."""
    if cell.gates is None:
        return
    own = {name: array.astype(np.float64) for name, array in params.items()}
    h = carried = np.zeros_like(hidden[:, 0], dtype=np.float64)
    for t in range(x.shape[1]):
        gates, carried = cell.gates(own, x[:, t], h, carried)
        yield gates
        h = hidden[:, t]


_KINDS = {
    **dict.fromkeys(
        ("input gate", "forget gate", "output gate", "reset gate", "update gate"), "sigmoid"
    ),
    "candidate": "tanh",
    "cell": "tanh",
}


class _Count:
    """Of one gate's slopes (m, B, H), step by step."""

    def __init__(self, kind: str, shape: tuple[int, ...]) -> None:
        self.kind, self._phi = kind, find_activation(kind)
        self._always, self._never = np.ones((2, *shape), bool)  # zero so far
        self._flat = np.zeros(shape)  # steps; nan where a slope is
        self._steps = 0

    def observe(self, z: NDArray, least: float) -> None:
        slope = self._phi.slope(z)
        zero = slope < least
        self._always &= zero
        self._never &= ~zero
        self._flat += np.where(np.isnan(slope), np.nan, slope < FLAT * self._phi.steepest)
        self._steps += 1

    def units(self) -> Units:
        flat = self._flat.mean(axis=(1, 2)) / self._steps

        def share(of_units: NDArray) -> NDArray:
            return np.where(np.isnan(flat), np.nan, of_units.all(axis=1).mean(axis=1))

        saturated = None if self._phi.homogeneous else flat
        return Units(share(self._always), share(self._never), saturated)
