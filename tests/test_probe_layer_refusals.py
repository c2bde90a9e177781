"""Blocks that are no chain, and names that are none, are refused in one line."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from blocks import NEAR, Model, Returns, half_square, linear, one_by_one
from probing import random
from probing import seeded as seeded  # it acts on every test

from seqlab.errors import InputError
from seqlab.probes.layers import layers

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn


def around(blocks: Any, x: Any) -> Any:
    """A U-net's skip."""
    down = blocks[0](x)
    return blocks[2](blocks[1](down) + down)


def to_the_loss(blocks: Any, x: Any) -> Any:
    first = blocks[0](x)
    return blocks[2](blocks[1](first)) + first


def around_all(blocks: Any, x: Any) -> Any:
    return one_by_one(blocks, x) + x


def beside_the_first(blocks: Any, x: Any) -> Any:
    return blocks[2](blocks[1](blocks[0](x)) + x)


def parallel(blocks: Any, x: Any) -> Any:
    return blocks[0](x) + blocks[1](torch.ones_like(x)) + blocks[2](x)


def cut(blocks: Any, x: Any) -> Any:
    return blocks[2](blocks[1](blocks[0](x).detach()))


def without(blocks: Any, x: Any) -> Any:
    with torch.no_grad():
        x = blocks[0](x)
    return blocks[2](blocks[1](x))


def ending(blocks: Any, x: Any) -> Any:
    return one_by_one(blocks, x).detach()


def not_called(blocks: Any, x: Any) -> Any:
    return blocks[0](x)


REFUSED = {
    around: r"^wrt: 'blocks.1' is not allowed; a gradient from blocks.2 goes around it, as by",
    to_the_loss: r"^wrt: 'blocks.1' is not allowed; a gradient from loss goes around it",
    around_all: r"^wrt: 'blocks.0' is not allowed; a gradient from loss goes around it",
    beside_the_first: r"^wrt: 'blocks.0' is not allowed; a gradient from blocks.2 goes around it",
    parallel: r"^wrt: 'blocks.1' is not allowed; no gradient goes from it to blocks.0",
    cut: r"^wrt: 'blocks.1' is not allowed; no gradient goes from it to blocks.0, called before",
    without: r"^wrt: 'input of blocks.0' is not allowed; the model switches gradients off where",
    ending: r"^wrt: 'loss' is not allowed; no gradient goes from it to blocks.2",
    not_called: r"^wrt: 'blocks.1' is not allowed; each block must be called as a module",
}


@pytest.mark.parametrize("run", REFUSED)
def test_what_is_no_chain_is_refused(run: Callable[[Any, Any], Any]) -> None:
    net = Model([linear() for _ in range(3)], run)
    with pytest.raises(InputError, match=REFUSED[run]):
        layers(net, random(2, 4), half_square)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


@pytest.mark.parametrize("frozen", [False, True])
def test_a_way_around_the_first_block_is_seen_behind_an_embedding(frozen: bool) -> None:
    def run(blocks: Any, x: Any) -> Any:
        start = blocks[0](x)
        early = start * 2  # taken before the tap is there
        return blocks[2](blocks[1](start) + early)

    net = Model([nn.Embedding(5, 4, dtype=torch.float64), linear(), linear()], run)
    for parameter in net.parameters():
        parameter.requires_grad_(not frozen)
    with pytest.raises(InputError, match=r"^wrt: 'blocks.1' is not allowed; a gradient from"):
        layers(net, torch.arange(5), half_square, ["blocks.1", "blocks.2"])
    enclosed = layers(net, torch.arange(5), half_square, ["blocks.2"])
    assert enclosed.names == ["blocks.2", "input of blocks.2"]


def test_a_skip_within_a_named_block_is_no_matter() -> None:
    class Skips(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = Model([linear() for _ in range(3)], around)

        def forward(self, x: Any) -> Any:
            return self.net(x)

    net, x = nn.Sequential(Skips(), Skips()), random(2, 4)
    found = layers(net, x, half_square)
    start = x.clone().requires_grad_()
    half_square(net(start)).backward()
    assert found.walk.log_norm[0, -1] == pytest.approx(math.log(start.grad.norm()), abs=NEAR)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("0", r"^wrt: '0' is not allowed; a list of names of submodules is needed, each once"),
        ([], r"^wrt: \[\] is not allowed"),
        ([1], r"^wrt: \[1\] is not allowed"),
        (["0", "0"], r"^wrt: \['0', '0'\] is not allowed"),
        (["fc11"], r"^wrt: 'fc11' is not allowed; a submodule of Sequential .*did you mean fc1\?"),
    ],
)
def test_names_that_are_none_are_refused(names: Any, message: str) -> None:
    net = nn.Sequential(OrderedDict(fc1=linear(), fc2=linear()))
    with pytest.raises(InputError, match=message):
        layers(net, random(2, 4), half_square, names)
    found = layers(net, random(2, 4), half_square, ["fc2", "fc1"])
    assert found.names == ["fc2", "fc1", "input of fc1"]


def test_other_things_are_refused() -> None:
    x = random(2, 4)
    with pytest.raises(InputError, match=r"^wrt: 'Linear' is not allowed; it has no nn.ModuleList"):
        layers(linear(), x, half_square)
    with pytest.raises(InputError, match=r"^loss: .* it must return one number"):
        layers(nn.Sequential(linear()), x, lambda y: y)
    ordered = nn.Sequential(Returns(lambda s: OrderedDict(h=s)))
    with pytest.raises(InputError, match=r"^wrt: '0 returns a OrderedDict' is not allowed"):
        layers(ordered, x, half_square)
    whole = nn.Sequential(Returns(lambda s: s.argmax(-1)))
    with pytest.raises(InputError, match=r"^wrt: '0' is not allowed; it returns no numbers of"):
        layers(whole, x, half_square)
    nothing = Model([linear()], lambda blocks, x: str(blocks[0](x)))
    with pytest.raises(InputError, match=r"^net: 'str' is not allowed; it must return a tensor"):
        layers(nothing, x, half_square)
