"""Deep stacks of one's own weights: sizes, orders and hashes, and files that do not fit."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weight_files
from stack_specs import refusal, stack

from seqlab.errors import InputError
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_arrays import load_stack

Arrays = dict[str, Any]


def layers(
    sizes: tuple[int, ...] = (5, 5, 5, 5), leading: tuple[int, ...] = (), bias: bool = True
) -> Arrays:
    """An nn.Sequential of linear layers between activations, each size to the next."""
    rng = np.random.default_rng(0)
    found: Arrays = {}
    for place, (into, out) in enumerate(itertools.pairwise(sizes)):
        found[f"{2 * place}.weight"] = rng.normal(size=(*leading, out, into))
        if bias:
            found[f"{2 * place}.bias"] = rng.normal(size=(*leading, out))
    return found


def saved(content: Arrays, name: str = "w.npz") -> str:
    np.savez(name, **content)
    return name


@pytest.mark.parametrize("leading", [(), (4,)])
@pytest.mark.parametrize("arch", ["mlp", "resnet"])
def test_sizes_come_from_the_weights(arch: str, leading: tuple[int, ...], here: Path) -> None:
    spec = StackSpec.create(arch=arch, params=saved(layers(leading=leading)))
    assert (spec.steps, spec.hidden, spec.inputs) == (3, 5, None)
    assert spec.networks == (*leading, 1)[0]
    assert spec.init is spec.gain is spec.bias_scale is None
    assert StackSpec.from_dict(spec.to_dict()) == spec


def test_a_first_layer_for_inputs_is_not_counted(here: Path) -> None:
    spec = StackSpec.create(arch="mlp", params=saved(layers((7, 5, 5))))
    assert (spec.steps, spec.hidden, spec.inputs) == (1, 5, 7)
    (first, _), (second, _) = load_stack("w.npz")
    assert (first.shape, second.shape) == ((5, 7), (5, 5))


def equal(found: list[Any], content: Arrays) -> None:
    wanted = list(content.values())
    assert len(found) == len(wanted) // 2
    for (weight, bias), *pair in zip(found, wanted[::2], wanted[1::2], strict=True):
        assert np.array_equal(weight, pair[0])
        assert np.array_equal(bias, pair[1])


def test_layers_are_in_the_order_of_their_numbers(here: Path) -> None:
    """2 before 10, and whatever the file's order."""
    content = layers((5,) * 8)
    assert list(content)[-2] == "12.weight"
    equal(load_stack(saved(dict(sorted(content.items())))), content)
    Path("w.safetensors").write_bytes(weight_files.safetensors(dict(sorted(content.items()))))
    equal(load_stack("w.safetensors"), content)


def test_names_that_differ_otherwise_are_in_the_files_order(here: Path) -> None:
    content = layers((5, 5, 5))
    new = ("inner.weight", "inner.bias", "core.weight", "core.bias")
    renamed = dict(zip(new, content.values(), strict=True))
    equal(load_stack(saved(renamed)), content)
    Path("w.safetensors").write_bytes(weight_files.safetensors(renamed))
    with pytest.raises(InputError, match=r"^params: w.safetensors keeps no order of inner.weight"):
        load_stack("w.safetensors")


def test_a_plain_list_of_matrices_has_no_biases(here: Path) -> None:
    matrices = list(layers((5, 5, 5), bias=False).values())
    np.savez("w.npz", *matrices)
    assert [bias for _, bias in load_stack("w.npz")] == [None, None]


def test_a_checkpoint_is_read_whole_or_by_its_module(
    here: Path, write: Any, pretended: Any
) -> None:
    content = layers((5, 5, 5))
    write("w.pt", content)
    equal(load_stack("w.pt"), content)
    model = {f"encoder.{name}": value for name, value in content.items()}
    write("m.pt", model | {"head.weight": np.ones((2, 5))})
    equal(load_stack("m.pt", module="encoder"), content)
    whole, part = (
        stack(steps=None, params="w.pt"),
        stack(steps=None, params="m.pt", module="encoder"),
    )
    assert whole == part
    assert whole.hash == part.hash
    assert refusal(steps=None, params="m.pt").startswith(
        "params: m.pt, head.weight has shape (2, 5); (5, 5) goes with encoder.0.weight"
    )
    assert refusal(steps=None, params="m.pt", module="decoder") == (
        "module: 'decoder' is not in m.pt; it holds encoder, head"
    )


def test_the_hash_covers_the_content_and_not_the_names(here: Path) -> None:
    content = layers()
    renamed = {f"net.{name}": value for name, value in content.items()}
    changed = content | {"2.bias": content["2.bias"] + 1e-12}
    first, again, other = (
        stack(steps=None, params=saved(arrays, f"{k}.npz"))
        for k, arrays in enumerate((content, renamed, changed))
    )
    assert first == again
    assert first.hash == again.hash != other.hash
    assert first.params is not None
    equal(load_stack("1.npz", first.params.sha256), content)
    with pytest.raises(InputError, match=r"^params: 2.npz has changed since the spec was made"):
        load_stack("2.npz", first.params.sha256)


MISFITS: list[tuple[Arrays, dict[str, Any], str]] = [
    ({}, {"steps": 4}, "steps: 4 does not match the 3 of params w.npz"),
    ({}, {"hidden": 6}, "hidden: 6 does not match the 5 of params w.npz"),
    ({}, {"networks": 2}, "networks: 2 does not match the 1 of params w.npz"),
    ({}, {"inputs": 9}, "inputs: 9 is not allowed; params w.npz has no first layer for inputs"),
    ({}, {"init": "he"}, "init: 'he' means nothing beside params, which are not drawn"),
    ({}, {"gain": 2.0}, "gain: 2.0 means nothing beside params, which are not drawn"),
    ({}, {"bias_scale": 1.0}, "bias_scale: 1.0 means nothing beside params, which are not drawn"),
    ({}, {"in_law": True}, "params: '/"),
    ({}, {"dtype": "float32"}, "params: w.npz, weight_1 is float64; allowed: float32, the run's"),
    ({"2.weight": np.ones((5, 4))}, {}, "params: w.npz, 2.weight has shape (5, 4); (5, 5) goes"),
    ({"2.bias": np.ones(4)}, {}, "params: w.npz, the bias of 2.weight has shape (4,); (5,) goes"),
    ({"2.weight": np.ones((2, 5, 5))}, {}, "params: w.npz, 2.weight has shape (2, 5, 5); (5, 5)"),
    ({"8.bias": np.ones(5)}, {}, "params: w.npz, 8.bias has no 8.weight beside it"),
    ({"0.weight": np.ones(5)}, {}, "params: w.npz, 0.weight has shape (5,); (n, n), or (M, n, n)"),
    ({"0.weight": np.full((5, 5), np.nan)}, {}, "params: w.npz, weight_1 has NaN or infinity"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "given", "message"), MISFITS)
def test_weights_that_do_not_fit(
    changed: Arrays, given: dict[str, Any], message: str, here: Path
) -> None:
    path = saved(layers() | changed)
    assert refusal(**{"steps": None, "params": path} | given).startswith(message)


def test_files_that_hold_no_stack(here: Path) -> None:
    np.save("one.npy", np.eye(3))
    assert refusal(params="one.npy").startswith("params: one.npy holds one array; named ones")
    assert refusal(params="no.npz").startswith("params: cannot read no.npz: No such file")
    saved({"0.bias": np.ones(3)})
    assert refusal(params="w.npz").startswith("params: w.npz, 0.bias has no 0.weight beside it")
    np.savez("w.npz")
    assert refusal(params="w.npz").startswith("params: w.npz holds no weights; a matrix for each")
    saved({"0.weight": np.ones((3, 2))})
    assert refusal(params="w.npz").startswith("params: w.npz holds a layer for inputs and no other")
