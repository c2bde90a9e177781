"""Whole training loops for parity with PyTorch: cells, optimisers, clip rules, data, and the file
of what they come to.

Two classes at the last two steps of 12, cross-entropy; as many updates as batches.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

UPDATES, STEPS, SEQUENCES, INPUTS, HIDDEN, STATE, CLASSES = 20, 12, 5, 3, 6, 2, 2
AT = (10, 11)
RATES = {"sgd": 0.05, "rmsprop": 0.003, "adam": 0.01}
MOMENTUM = 0.9  # of sgd
CLIPS = {"none": None, "norm": 0.1, "value": 0.01}
FILE = Path(__file__).with_name("training.npz")

Arrays = dict[str, np.ndarray]


class Loop(NamedTuple):
    cell: str
    optimiser: str
    clip: str

    @property
    def key(self) -> str:
        return "-".join(self)


CELLS = ("rnn", "lstm", "gru", "ssm", "mingru", "slstm")
LOOPS = [Loop(*each) for each in itertools.product(CELLS, RATES, CLIPS)]
_BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3, "slstm": 4}


def shapes(cell: str) -> dict[str, tuple[int, ...]]:
    """Of all parameters, the readout's among them."""
    readout = {"readout_weight": (CLASSES, HIDDEN), "readout_bias": (CLASSES,)}
    if cell == "ssm":
        return {
            "in_proj_weight": (HIDDEN, INPUTS),
            "x_proj_weight": (1 + 2 * STATE, HIDDEN),
            "dt_proj_weight": (HIDDEN, 1),
            "dt_proj_bias": (HIDDEN,),
            "A_log": (HIDDEN, STATE),
            "D": (HIDDEN,),
        } | readout
    if cell == "mingru":
        return {
            "linear_z_weight": (HIDDEN, INPUTS),
            "linear_z_bias": (HIDDEN,),
            "linear_h_weight": (HIDDEN, INPUTS),
            "linear_h_bias": (HIDDEN,),
        } | readout
    rows = _BLOCKS[cell] * HIDDEN
    biases = ("bias",) if cell == "slstm" else ("bias_ih", "bias_hh")
    weights = {"weight_ih": (rows, INPUTS), "weight_hh": (rows, HIDDEN)}
    return weights | dict.fromkeys(biases, (rows,)) | readout


def start(cell: str) -> Arrays:
    """First parameters."""
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.5, shape) for name, shape in shapes(cell).items()}


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """x (T, B, I) and classes (n, B) of every update."""
    rng = np.random.default_rng(1)
    return [
        (
            rng.normal(size=(STEPS, SEQUENCES, INPUTS)),
            rng.integers(CLASSES, size=(len(AT), SEQUENCES)),
        )
        for _ in range(UPDATES)
    ]
