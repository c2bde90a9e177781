"""What is seen of training, from the textbooks' loops: shares of a gradient by step, slopes of
gates. Imports nothing from seqlab.
"""

import math
from typing import Any

import naive
import numpy as np
import numpy.typing as npt
from naive_functions import sigmoid_slope, tanh_slope
from naive_rules import clip_handed

Array = npt.NDArray[Any]
Params = dict[str, Array]


def shares(
    arch: str, params: Params, x: Array, error: Array, activation: str, clip: str, name: str
) -> list[float]:
    """The norm of each step's share of a parameter's gradient, of one loss at the last step, whose
    dL/dy is `error` (B, K)."""
    own = {key: array for key, array in params.items() if not key.startswith("readout_")}
    run = naive.forward(arch, own, x, activation=activation)
    handed = tuple(np.zeros_like(part[0]) for part in run["states"])
    found = []
    for t in reversed(range(len(x))):
        joins = (
            error @ params["readout_weight"] if t == len(x) - 1 else np.zeros_like(run["output"][t])
        )
        handed, _, grads = naive.CELLS[arch].pull(own, run["saved"][t], handed, joins)
        found.append(norm(grads[name]))
        if clip.startswith(("step-", "truncate")):
            handed = clip_handed(clip, handed, len(x) - t, [0] * x.shape[1])
    return found[::-1]


def norm(array: Array) -> float:
    return math.sqrt(math.fsum(float(v) ** 2 for v in array.ravel()))


SLOPES = {"sigmoid": (sigmoid_slope, 0.25), "tanh": (tanh_slope, 1.0)}  # and the steepest


def slopes(arch: str, params: Params, x: Array, activation: str) -> dict[str, Array]:
    """Each gate's slopes (T, B, H) over the steepest."""
    own = {key: array for key, array in params.items() if not key.startswith("readout_")}
    saved = naive.forward(arch, own, x, activation=activation)["saved"]
    if arch == "rnn":
        steepest = 0.25 if activation == "sigmoid" else 1.0
        return {"hidden": np.stack([step["slope"] for step in saved]) / steepest}
    found = {}
    for gate, (key, kind) in naive.CELLS[arch].gates.items():
        slope, steepest = SLOPES[kind]
        found[gate] = np.stack([slope(step[key]) for step in saved]) / steepest
    return found


def units(slope: Array) -> tuple[float, float, float]:
    """Of slopes over the steepest (T, B, H): the shares of units that never have one, of those that
    always have, and of all that are under 5%."""
    steps, sequences, hidden = slope.shape
    never = always = flat = 0
    for j in range(hidden):
        own = [float(slope[t, b, j]) for t in range(steps) for b in range(sequences)]
        never += all(v == 0 for v in own)
        always += all(v != 0 for v in own)
        flat += sum(v < 0.05 for v in own)
    return never / hidden, always / hidden, flat / (hidden * steps * sequences)
