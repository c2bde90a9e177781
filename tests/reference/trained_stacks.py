"""Training loops of deep stacks for parity with PyTorch: stacks, optimisers, clip rules, data, and
the file of what they come to.

Four classes of a linear head's answers, cross-entropy; as many updates as batches.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import naive_depth as naive
import numpy as np
from naive_depth import Array, Gradients, Stack

UPDATES, ROWS, TOKENS, WIDTH, DEPTH, CLASSES = 15, 6, 3, 8, 3, 4
EPS = 1e-5  # of the norms
RATES = {"sgd": 0.05, "rmsprop": 0.003, "adam": 0.01}
MOMENTUM = 0.9  # of sgd
CLIPS = {"none": None, "norm": 0.1, "value": 0.01}
FILE = Path(__file__).with_name("trained_stacks.npz")
STACKS = {
    "mlp": Stack("mlp", "tanh"),
    "batch": Stack("mlp", "relu", "batch", eps=EPS),
    "resnet": Stack("resnet", "gelu", "layer", alpha=0.5, eps=EPS),
    "densenet": Stack("densenet", "elu"),
    "transformer": Stack("transformer", "gelu", heads=2, eps=EPS),
}


class Loop(NamedTuple):
    stack: str
    optimiser: str
    clip: str

    @property
    def key(self) -> str:
        return "-".join(self)


LOOPS = [Loop(*each) for each in itertools.product(STACKS, RATES, CLIPS)]


def start(name: str) -> tuple[list[Gradients], Array]:
    """First parameters of the layers, and of the head (features, CLASSES)."""
    rng = np.random.default_rng(sorted(STACKS).index(name))
    layers = naive.draw(rng, STACKS[name], DEPTH, WIDTH, "pytorch")
    features = WIDTH * (DEPTH + 1) if STACKS[name].arch == "densenet" else WIDTH
    return layers, rng.normal(0, 0.5, (features, CLASSES))


def named(layers: list[Gradients], head: Array) -> dict[str, Array]:
    """All parameters by one name each."""
    parts = {f"{i}.{key}": value for i, part in enumerate(layers) for key, value in part.items()}
    return {**parts, "head": head}


def batches(name: str) -> list[tuple[Array, Array]]:
    """x (T, B, n) and classes (B,) of every update; T is 1 but of a Transformer."""
    rng = np.random.default_rng(1)
    steps = TOKENS if STACKS[name].arch == "transformer" else 1
    return [
        (rng.normal(size=(steps, ROWS, WIDTH)), rng.integers(CLASSES, size=ROWS))
        for _ in range(UPDATES)
    ]
