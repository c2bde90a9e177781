"""Deep stacks for parity with PyTorch: what goes in, and the file of what comes out."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import naive_depth as naive
import numpy as np
from naive_depth import ACTIVATIONS, Array, Gradients, Stack

ROWS, WIDTH, DEPTH, EPS = 6, 12, 3, 1e-5
FILE = Path(__file__).with_name("stacks.npz")

STACKS = {
    **{f"mlp-{name}": Stack("mlp", name) for name in ACTIVATIONS},
    **{
        f"mlp-{name}-{kind}": Stack("mlp", name, kind, eps=EPS)
        for name in ("relu", "sigmoid")
        for kind in ("batch", "layer", "group:3")
    },
    **{
        f"resnet-{kind}-{place}-{'outside' if outside else 'inside'}": Stack(
            "resnet", "gelu", kind, place, outside, alpha=0.5, eps=EPS
        )
        for kind, place, outside in itertools.product(
            ("none", "batch", "layer"), ("pre", "post"), (True, False)
        )
    },
    **{f"densenet-{kind}": Stack("densenet", "elu", kind, eps=EPS) for kind in ("none", "layer")},
    **{
        f"transformer-{place}-{name}": Stack("transformer", name, place=place, heads=3, eps=EPS)
        for place in ("pre", "post")
        for name in ("relu", "gelu")
    },
}


class Draw(NamedTuple):
    """Blocks' parameters by PyTorch's names, the input (rows, units), and the loss's readout of
    the last state."""

    layers: list[Gradients]
    x: Array
    readout: Array


def draw(name: str) -> Draw:
    """The inputs of a stack."""
    rng = np.random.default_rng(sorted(STACKS).index(name))
    layers = naive.draw(rng, STACKS[name], DEPTH, WIDTH, "pytorch")
    width = WIDTH * (DEPTH + 1) if STACKS[name].arch == "densenet" else WIDTH
    return Draw(layers, rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(ROWS, width)))


def flat(output: Array, x: Array, layers: list[Gradients]) -> dict[str, Array]:
    """The last state and all gradients by one name each."""
    parts = {f"{i}.{key}": value for i, part in enumerate(layers) for key, value in part.items()}
    return {"output": output, "x": x, **parts}


def relative_errors(name: str, answers: Mapping[str, Array]) -> dict[str, float]:
    """The largest difference of each array from PyTorch's, over its norm; over that of the largest
    where it is zero but for rounding.

    Raises ValueError when the names are not PyTorch's.
    """
    with np.load(FILE) as archive:
        kept = {
            k.removeprefix(f"{name}/"): v for k, v in archive.items() if k.startswith(f"{name}/")
        }
    if kept.keys() != answers.keys():
        raise ValueError(f"{name}: have {sorted(answers)}, want {sorted(kept)}")
    largest = max(float(np.linalg.norm(array)) for array in kept.values())
    errors = {}
    for key, want in kept.items():
        norm = float(np.linalg.norm(want))
        scale = norm if norm > 1e-12 * largest else largest
        errors[key] = float(np.abs(answers[key] - want).max()) / scale
    return errors
