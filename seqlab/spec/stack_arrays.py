"""One's own weights of a deep stack: matrices in the order of the layers, read from a file.

They have PyTorch's names in an `nn.Sequential` (`0.weight`, `0.bias`, `2.weight`), or any others:
what is called a bias belongs to the weight of that name, all else is a weight.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.spec import arrays, formats
from seqlab.spec.formats import Archive, Stored

Path = formats.Source


class _Layer(NamedTuple):
    """A weight (out, in), and a bias (out,) or none; both with an axis of networks or without."""

    name: str
    weight: Stored
    bias: Stored | None


def load_stack(
    path: Path, sha256: str | None = None, module: str | None = None
) -> list[tuple[NDArray, NDArray | None]]:
    """Weight (n, n) and bias (n,) of each layer in their order, as stored; None for no bias. With
    leading networks (M, n, n) and (M, n). The first weight may be (n, I): the layer that brings
    inputs to the width.

    Raises InputError where the file does not hold them, and where their content has another digest
    than `sha256`.
    """
    with opened_stack(path, module) as stored:
        loaded = arrays.read("params", path, stored)
    arrays.require_digest("params", path, loaded, sha256)
    weights = [name for name in loaded if name.startswith("weight")]
    return [(loaded[name], loaded.get(name.replace("weight", "bias"))) for name in weights]


@contextmanager
def opened_stack(path: Path, module: str | None = None) -> Iterator[Archive]:
    """A stack's arrays in a file, or in one module of a model's, as `weight_1`, `bias_1` and so on
    in the order of the layers; `weight_0` is of the layer that brings inputs to the width.

    None is read before it is asked for. Raises InputError where the file holds no stack.
    """
    with arrays.opened_archive("params", path) as found:
        layers = _layers(path, _within(path, found, module))
        _check_shapes(path, layers)
        renamed: Archive = {}
        first = 1 if _is_square(layers[0].weight) else 0
        for number, layer in enumerate(layers, first):
            renamed[f"weight_{number}"] = layer.weight
            if layer.bias is not None:
                renamed[f"bias_{number}"] = layer.bias
        yield renamed


def sizes_of_stack(stored: Mapping[str, Stored]) -> dict[str, int]:
    """The fields that the arrays of `opened_stack` fix: steps, hidden, networks, and inputs where
    there is a layer for them."""
    steps = sum(name.startswith("weight") and name != "weight_0" for name in stored)
    first = next(iter(stored.values()))
    *networks, hidden, inputs = first.shape
    sizes = {"steps": steps, "hidden": hidden, "networks": (*networks, 1)[0]}
    return sizes | ({"inputs": inputs} if "weight_0" in stored else {})


def _within(path: Path, found: Archive, module: str | None) -> Archive:
    """The arrays of a module, by their names in it."""
    if module is None:
        return found
    inside = {
        name.removeprefix(f"{module}."): array
        for name, array in found.items()
        if name.startswith(f"{module}.")
    }
    if not inside:
        held = ", ".join(list(dict.fromkeys(name.partition(".")[0] for name in found))[:8])
        raise InputError(f"module: {module!r} is not in {path}; it holds {held}")
    return inside


def _layers(path: Path, found: Archive) -> list[_Layer]:
    biases = {_weight_of(name): name for name in found if _is_bias(name)}
    weights = _in_order(path, [name for name in found if not _is_bias(name)])
    for weight, bias in biases.items():
        if weight not in weights:
            raise InputError(f"params: {path}, {bias} has no {weight} beside it; biases need one")
    if not weights:
        raise InputError(f"params: {path} holds no weights; a matrix for each layer is needed")
    return [
        _Layer(name, found[name], found[biases[name]] if name in biases else None)
        for name in weights
    ]


def _is_bias(name: str) -> bool:
    return name.rfind("bias") > name.rfind("weight")


def _weight_of(bias: str) -> str:
    head, _, tail = bias.rpartition("bias")
    return f"{head}weight{tail}"


def _in_order(path: Path, names: Sequence[str]) -> list[str]:
    """By their numbers where they differ by these alone, else as the file has them."""
    if len({re.sub(r"\d+", "0", name) for name in names}) <= 1:
        return sorted(names, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
    if not formats.keeps_order(path):
        raise InputError(
            f"params: {path} keeps no order of {names[0]}, {names[1]}; names that differ by "
            "numbers alone are needed, or a .npz"
        )
    return list(names)


def _is_square(weight: Stored) -> bool:
    return weight.shape[-2] == weight.shape[-1]


def _check_shapes(path: Path, layers: Sequence[_Layer]) -> None:
    """Refuse all but square weights of one size behind a first (n, I), biases (n,), and on all of
    them an axis of networks or none."""
    first = layers[0].weight
    if first.ndim not in (2, 3) or first.size == 0:
        raise _refused(path, layers[0].name, first, "(n, n), or (M, n, n) for M networks")
    *leading, units, _ = first.shape
    if len(layers) == 1 and not _is_square(first):
        raise InputError(
            f"params: {path} holds a layer for inputs and no other; (n, n) is needed for each layer"
        )
    for place, layer in enumerate(layers):
        square = (*leading, units, units)
        if place > 0 and layer.weight.shape != square:
            raise _refused(path, layer.name, layer.weight, f"{square} goes with {layers[0].name}")
        if layer.bias is not None and layer.bias.shape != square[:-1]:
            name = f"the bias of {layer.name}"
            raise _refused(path, name, layer.bias, f"{square[:-1]} goes with its weight")


def _refused(path: Path, name: str, array: Stored, allowed: str) -> InputError:
    return InputError(f"params: {path}, {name} has shape {array.shape}; {allowed}")
