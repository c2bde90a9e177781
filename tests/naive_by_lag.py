"""What each lag gives to the parameters' gradient, step by step. Imports nothing from seqlab."""

from typing import Any

import naive
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Params = dict[str, Array]


def shares(arch: str, params: Params, x: Array, readout: Array, activation: str) -> list[Params]:
    """By lag, from 0 on, what that step adds to the gradients of readout . y_T."""
    run = naive.forward(arch, params, x, activation=activation)
    handed = tuple(np.zeros_like(part[0]) for part in run["states"])
    found = []
    for t in reversed(range(len(x))):
        g_y = readout if t == len(x) - 1 else np.zeros_like(readout)
        handed, _, grads = naive.CELLS[arch].pull(params, run["saved"][t], handed, g_y)
        found.append(grads)
    return found


def flat(grads: Params) -> Array:
    return np.concatenate([value.ravel() for value in grads.values()])


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
