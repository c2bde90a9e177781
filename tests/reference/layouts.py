"""What Keras, Flax and ONNX computed with small layers: their weights, the input, their output.

`make_layouts.py` makes the file, of arrays by `framework/case/weights/path` and
`framework/case/output` (T, B, H), both directions' side by side, from `x` (T, B, I) and a zero
state. They lie there end to end, with their names and shapes as JSON: one by one they would take
five times the room.
"""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

PATH = Path(__file__).with_name("layouts.npz")


class Case(NamedTuple):
    """One layer of a framework, its weights by name, in dictionaries where it has them so."""

    framework: str
    arch: str
    kind: str
    weights: dict[str, Any]
    x: Array
    output: Array


@cache
def cases() -> dict[str, Case]:
    """Every case of the file by its name."""
    stored = read()
    trees: dict[str, dict[str, Any]] = {}
    for key, array in stored.items():
        if key != "x":
            *path, leaf = key.split("/")
            place = trees.setdefault("/".join(path[:2]), {})
            for step in path[2:]:
                place = place.setdefault(step, {})
            place[leaf] = array
    found = {}
    for name, tree in trees.items():
        framework, _, case = name.partition("/")
        arch, _, kind = case.partition("-")
        weights = tree["weights"]
        found[name] = Case(framework, arch, kind, weights, stored["x"], tree["output"])
    return found


def write(arrays: Mapping[str, Array]) -> None:
    shapes = json.dumps({name: array.shape for name, array in arrays.items()})
    numbers = np.concatenate([array.ravel() for array in arrays.values()])
    np.savez_compressed(PATH, shapes=np.array(shapes), numbers=numbers)


def read() -> dict[str, Array]:
    with np.load(PATH) as archive:
        shapes, numbers = json.loads(str(archive["shapes"])), archive["numbers"]
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    parts = np.split(numbers, np.cumsum(sizes)[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The leaves of dictionaries in dictionaries by their paths."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        leaves |= flat(value, f"{above}{name}/") if inner else {f"{above}{name}": value}
    return leaves
