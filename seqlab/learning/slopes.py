"""The slopes of a recurrent cell's gates, at every step of every sequence of a batch.

In float64 whatever the networks' dtype, in which a slope counts as zero under its normal numbers.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from seqlab.cells import Parameters
from seqlab.measure.stack_layers import FLAT
from seqlab.numbers.activations import find_activation
from seqlab.numbers.training_checklist import Units

Gates = dict[str, NDArray]  # pre-activations (m, B, H) at one step


def has_gates(arch: str) -> bool:
    """Whether a cell has units whose slopes say something."""
    return arch in _GATES


def units_of(
    arch: str, activation: str | None, params: Parameters, x: NDArray, hidden: NDArray
) -> dict[str, Units]:
    """Each gate's units, of x (m, T, B, I) and outputs `hidden` (m, T, B, H); nan where a slope is.

    None for ssm: its states are linear and have no slope to lose, and its Delta is drawn where
    softplus is flat.
    """
    if not has_gates(arch):
        return {}
    counts: dict[str, _Count] = {}
    shape = hidden[:, 0].shape
    least = float(np.finfo(hidden.dtype).smallest_normal)
    for gates in _steps(arch, params, x, hidden):
        for gate, z in gates.items():
            if gate not in counts:
                counts[gate] = _Count(_KINDS.get(gate) or activation or "tanh", shape)
            counts[gate].see(z, least)
    return {gate: count.units() for gate, count in counts.items() if count.kind != "identity"}


def _steps(arch: str, params: Parameters, x: NDArray, hidden: NDArray) -> Iterator[Gates]:
    """The pre-activations at each step of x (m, T, B, I), with outputs `hidden` (m, T, B, H)."""
    own = {name: array.astype(np.float64) for name, array in params.items()}
    h = carried = np.zeros_like(hidden[:, 0], dtype=np.float64)
    for t in range(x.shape[1]):
        into, within = (
            np.einsum("mbi,mgi->mbg", v, own[f"weight_{side}"]) + own[f"bias_{side}"][:, np.newaxis]
            for v, side in ((x[:, t], "ih"), (h, "hh"))
        )
        gates, carried = _GATES[arch](into, within, carried)
        yield gates
        h = hidden[:, t]


def _rnn(into: NDArray, within: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    return {"hidden": into + within}, carried


def _lstm(into: NDArray, within: NDArray, c: NDArray) -> tuple[Gates, NDArray]:
    i, f, g, o = np.split(into + within, 4, axis=-1)
    c = expit(f) * c + expit(i) * np.tanh(g)
    gates = {"input gate": i, "forget gate": f, "candidate": g, "output gate": o, "cell": c}
    return gates, c


def _gru(into: NDArray, within: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    r, z, n = np.split(into, 3, axis=-1)
    r_within, z_within, m = np.split(within, 3, axis=-1)
    r = r + r_within
    gates = {"reset gate": r, "update gate": z + z_within, "candidate": n + expit(r) * m}
    return gates, carried


# From W_ih x + b_ih and W_hh h + b_hh (m, B, rows), and what is carried beside h, to the gates and
# what is carried on; equations and orders are those of the cells.
_GATES: dict[str, Callable[[NDArray, NDArray, NDArray], tuple[Gates, NDArray]]] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru,
}
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

    def see(self, z: NDArray, least: float) -> None:
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
