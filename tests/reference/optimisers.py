"""Optimisers for parity with PyTorch: the loops, their gradients, and the file of what comes out.

The parameters begin at zero. A gradient is of other parameters' making: entries from 1 down to
1e-10, under the eps of Adam and RMSprop, and in size from update to update by a factor of a hundred
so that a clip acts on some updates and not on others.
"""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

UPDATES = 20
RATES = (1e-3, 0.1)  # one a network
SHAPES = {"weight": (4, 3), "bias": (4,)}  # of one network's parameters
FILE = Path(__file__).with_name("optimisers.npz")

Arrays = dict[str, np.ndarray]


class Loop(NamedTuple):
    """An ordinary training loop: optimiser, momentum, schedule of the rate, clip before the step
    with its threshold."""

    optimiser: str
    momentum: float
    schedule: str
    clip: str
    threshold: float = 0.5


LOOPS = {
    "-".join((name, f"{momentum:g}", schedule, clip)): Loop(name, momentum, schedule, clip)
    for (name, momentum), schedule, clip in itertools.product(
        (("sgd", 0.0), ("sgd", 0.9), ("rmsprop", 0.0), ("adam", 0.0)),
        ("constant", "cosine"),
        ("none", "norm", "value"),
    )
}


def gradients() -> list[Arrays]:
    """Of every update in turn, by name, (networks, ...) each."""
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        size = 10.0 ** rng.uniform(-10, 0, size=shape)
        return (
            size
            * rng.normal(size=(UPDATES, *shape))
            * 10.0 ** rng.uniform(-1, 1, size=(UPDATES, len(RATES), *(1,) * (len(shape) - 1)))
        )

    drawn = {name: draw((len(RATES), *shape)) for name, shape in SHAPES.items()}
    return [{name: values[k] for name, values in drawn.items()} for k in range(UPDATES)]
