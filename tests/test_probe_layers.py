"""The adjoint through the blocks of somebody's model, against the naive product of Jacobians and
the lab's own stacks."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import naive_probe_layers as naive
import numpy as np
import pytest
from blocks import NEAR, NEAR_32, Model, Returns, half_square, linear, one_by_one
from naive import Array
from probing import random
from probing import seeded as seeded  # it acts on every test
from stack_runs import create, measured, taken

from seqlab.probes.layers import layers

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn
LN2 = math.log(2)


def array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().numpy())


def params(module: Any) -> dict[str, Array]:
    return {name: array(one) for name, one in module.named_parameters()}


def close(found: Array, wanted: Array, within: float = NEAR) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=within)


def mlp(activation: Any, depth: int = 50, inplace: bool = False) -> Any:
    """Widths that change from layer to layer; one child a layer."""
    options = {"inplace": True} if inplace else {}
    widths = [5 + (3 * i) % 7 for i in range(depth + 1)]
    return nn.Sequential(
        *(
            nn.Sequential(nn.Linear(n, m, dtype=torch.float64), activation(**options))
            for n, m in pairwise(widths)
        )
    )


def naive_mlp(net: Any, name: str) -> list[naive.Block]:
    return [naive.dense(array(one[0].weight), array(one[0].bias), name) for one in net]


class PreNorm(nn.Module):  # type: ignore[misc]
    def __init__(self, units: int = 6) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(units, dtype=torch.float64)
        self.linear = nn.Linear(units, units, dtype=torch.float64)

    def forward(self, s: Any) -> Any:
        return s + torch.tanh(self.linear(self.norm(s)))


class Concatenated(nn.Module):  # type: ignore[misc]
    def __init__(self, units: int, added: int = 2) -> None:
        super().__init__()
        self.linear = nn.Linear(units, added, dtype=torch.float64)

    def forward(self, s: Any) -> Any:
        return torch.cat([s, torch.relu(self.linear(s))], dim=-1)


# Against the product of Jacobians.


@pytest.mark.parametrize(("name", "kind"), [("sigmoid", nn.Sigmoid), ("relu", nn.ReLU)])
def test_a_deep_plain_network_whose_widths_change(name: str, kind: Any) -> None:
    net, x = mlp(kind), random(3, 5)
    found = layers(net, x, half_square)
    wanted = naive.curve(naive_mlp(net, name), array(x), lambda s: s)
    close(found.walk.log_norm[0], wanted)
    assert wanted[-1] < -40  # nats, in 50 layers
    assert found.names == [*(str(i) for i in range(49, -1, -1)), "input of 0"]
    assert found.walk.lengths.tolist() == [50]
    assert found.walk.lags.tolist() == list(range(51))
    assert found.walk.parts["state"].tobytes() == found.walk.log_norm.tobytes()
    again = layers(net, x, half_square)
    assert again.walk.log_norm.tobytes() == found.walk.log_norm.tobytes()


def test_float32_does_not_lose_what_it_cannot_hold() -> None:
    net, x = mlp(nn.Sigmoid, 60).float(), random(3, 5).float()
    start = x.clone().requires_grad_()
    half_square(net(start)).backward()
    assert not start.grad.any()
    found = layers(net, x, half_square).walk.log_norm[0]
    wanted = naive.curve(naive_mlp(net.double(), "sigmoid"), array(x.double()), lambda s: s)
    assert wanted[-1] < -149 * LN2  # below float32's least number
    close(found, wanted, NEAR_32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("power", [40, -40])
def test_beyond_the_range_of_floats(dtype: Any, power: int) -> None:
    """From an input of zero, so that the way forward stays within."""
    net = nn.Sequential(*(nn.Linear(4, 4, bias=False, dtype=dtype) for _ in range(300)))
    with torch.no_grad():
        for layer in net:
            layer.weight.copy_(torch.eye(4) * 2.0**power)
    found = layers(net, torch.zeros(1, 4, dtype=dtype), lambda y: y.sum()).walk.log_norm[0]
    # Powers of two round nothing; their sum is rounded once.
    close(found, LN2 * (1 + power * np.arange(301)), 12_000 * LN2 * 2.0**-52)


@pytest.mark.parametrize("power", [180, -180])
def test_a_link_may_take_more_than_the_range(power: int) -> None:
    net = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(8)))
    with torch.no_grad():
        for layer in net:
            layer.weight.copy_(torch.eye(4) * 2.0 ** (power // 2))
    found = layers(net, torch.zeros(1, 4), lambda y: y.sum(), ["1", "3", "5", "7"])
    assert found.names == ["7", "5", "3", "1", "input of 1"]
    close(found.walk.log_norm[0], LN2 * (1 + power * np.array([0, 1, 2, 3, 3.5])), 1e-12)


def test_what_no_scale_can_hold_is_nan_and_a_zero_is_a_zero() -> None:
    block = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3)))
    with torch.no_grad():
        for layer in block:
            layer.weight.fill_(1e38)
    found = layers(nn.Sequential(block, linear(2, 2).float()), torch.zeros(1, 2), torch.sum).walk
    assert np.isnan(found.log_norm[0]).tolist() == [False, False, True]
    net = nn.Sequential(linear(), nn.ReLU(), linear())
    with torch.no_grad():
        net[0].bias.fill_(-1e3)
    found = layers(net, random(1, 4), half_square).walk
    assert np.isneginf(found.log_norm[0]).tolist() == [False, False, True, True]
    assert np.isneginf(found.parts["state"][0]).tolist() == [False, False, True, True]


def test_a_residual_network_with_norms_before() -> None:
    net, x = Model([PreNorm() for _ in range(12)], one_by_one), random(2, 6)
    found = layers(net, x, half_square)
    blocks = [naive.pre_norm(params(block)) for block in net.blocks]
    close(found.walk.log_norm[0], naive.curve(blocks, array(x), lambda s: s))
    assert found.names[:2] == ["blocks.11", "blocks.10"]


@pytest.mark.parametrize("frozen", [False, True])
def test_transformer_encoder(frozen: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dtype=torch.float64)
    net, x = nn.TransformerEncoder(layer, 5).eval(), random(2, 4, 8)
    for parameter in net.parameters():
        parameter.requires_grad_(not frozen)
    with torch.no_grad():
        for one in net.parameters():
            one += 0.1 * random(*one.shape)  # the encoder's layers begin as copies
    found = layers(net, x, half_square)
    blocks = [naive.transformer(params(each), 2) for each in net.layers]
    close(found.walk.log_norm[0], naive.curve(blocks, array(x), lambda s: s))
    assert found.names[-2:] == ["layers.0", "input of layers.0"]


def test_blocks_that_join_their_input_to_their_output() -> None:
    net, x = Model([Concatenated(3 + 2 * i) for i in range(8)], one_by_one), random(2, 3)
    found = layers(net, x, half_square)
    blocks = [naive.concatenated(array(b.linear.weight), array(b.linear.bias)) for b in net.blocks]
    close(found.walk.log_norm[0], naive.curve(blocks, array(x), lambda s: s))


def test_a_block_that_is_called_again_is_a_link_again() -> None:
    block, x = nn.Sequential(linear(), nn.Tanh()), random(2, 4)
    wanted = naive.curve(
        7 * [naive.dense(array(block[0].weight), array(block[0].bias), "tanh")],
        array(x),
        lambda s: s,
    )
    for net in (Model(7 * [block], one_by_one), nn.Sequential(*(7 * [block]))):
        found = layers(net, x, half_square)
        close(found.walk.log_norm[0], wanted)
        first = "blocks.0" if isinstance(net, Model) else "0"
        assert found.names[-3:] == [f"{first} call 2", first, f"input of {first}"]


def test_the_lab_s_own_stack_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    depth, width = 40, 6
    net = nn.Sequential(*(nn.Sequential(linear(width, width), nn.Tanh()) for _ in range(depth)))
    weights = {
        f"{i}.{name}": one for i, block in enumerate(net) for name, one in params(block[0]).items()
    }
    np.savez("own.npz", **weights)
    given = {"steps": depth, "hidden": width, "networks": 1, "batch": 3, "params": "own.npz"}
    given["lengths"] = (depth,)
    spec = create(activation="tanh", **given)
    of = taken(spec)
    readout = torch.tensor(of.readouts[0][0])
    found = layers(net, torch.tensor(of.x[0]), lambda y: (y * readout).sum()).walk.log_norm[0]
    wanted = measured(spec)["log_norm"][0, 0, 0]
    close(found - found[0], wanted - wanted[0])


# What a model may be.


def test_whole_numbers_begin_the_chain_where_floats_do() -> None:
    net, x = (
        nn.Sequential(nn.Embedding(9, 4, dtype=torch.float64), *mlp(nn.Tanh, 0), linear()),
        torch.arange(6),
    )
    found = layers(net, x, half_square)
    assert found.names == ["1", "0"]
    inner = layers(net, x, half_square, ["1"])
    assert inner.names == ["1", "input of 1"]
    assert inner.walk.log_norm.tobytes() == found.walk.log_norm.tobytes()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    for names, wanted in ((None, found), (["1"], inner)):
        frozen = layers(net, x, half_square, names)
        assert frozen.names == wanted.names
        assert frozen.walk.log_norm.tobytes() == wanted.walk.log_norm.tobytes()
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_modules_that_work_in_place_have_the_same_curve() -> None:
    """Apart as blocks: the one changes what the tap before it gave out."""
    x = random(3, 5)
    start = x.clone()

    def curve(inplace: bool) -> Array:
        torch.manual_seed(5)
        net = mlp(nn.ReLU, 12, inplace)
        apart = nn.Sequential(nn.ReLU(inplace=inplace), *(one for block in net for one in block))
        return layers(apart, x, half_square).walk.log_norm[0]

    in_place = curve(True)
    assert in_place.tobytes() == curve(False).tobytes()
    layers(Model([linear(5, 5)], lambda blocks, x: blocks[0](x.mul_(2))), x, half_square)
    assert x.equal(start)
    # The mlp's own links, at every second tap, and the first one's slopes at the input.
    torch.manual_seed(5)
    net = mlp(nn.ReLU, 12)
    wanted = naive.curve([naive.relu, *naive_mlp(net, "relu")], array(x), lambda s: s)
    close(in_place[[*range(0, 25, 2), 25]], wanted)


FORMS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], set[str]]] = {
    "tuple": (lambda s: (s,), lambda o: o[0], {"state[0]"}),
    "with another": (lambda s: (s, s.sum(-1)), lambda o: o[0], {"state[0]", "state[1]"}),
    "with whole numbers": (lambda s: [s.argmax(), None, s], lambda o: o[2], {"state[2]"}),
    "dictionary": (lambda s: {"h": s}, lambda o: o["h"], {"state['h']"}),
    "twice": (lambda s: (s, s), lambda o: (o[0] + o[1]) / 2, {"state[0]"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_of_any_form(form: str) -> None:
    make, take, parts = FORMS[form]

    def run(blocks: Any, x: Any) -> Any:
        for block in blocks:
            x = take(block(x))
        return (x, "and more")

    net, x = Model([Returns(make) for _ in range(5)], run), random(2, 4)
    found = layers(net, x, half_square).walk
    blocks = [naive.dense(array(b.linear.weight), array(b.linear.bias), "tanh") for b in net.blocks]
    close(found.log_norm[0], naive.curve(blocks, array(x), lambda s: s))
    assert set(found.parts) == parts
    close(next(iter(found.parts.values()))[0], found.log_norm[0])
    for other in [*found.parts.values()][1:]:
        assert np.isneginf(other[0, :-1]).all()  # it is made of the first, and not handed on
        assert np.isnan(other[0, -1])


def test_a_state_of_two_tensors_of_different_shapes() -> None:
    """The same blocks on both parts joined have the same curve."""

    class Two(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(linear(6, 6), nn.Tanh())

        def forward(self, a: Any, b: Any) -> Any:
            joined = self.inner(torch.cat([a, b.flatten(1)], dim=1))
            return joined[:, :2], joined[:, 2:].reshape(-1, 2, 2)

    def run(blocks: Any, x: Any) -> Any:
        a, b = x[:, :2], x[:, 2:].reshape(-1, 2, 2)
        for block in blocks:
            a, b = block(a, b)
        return torch.cat([a, b.flatten(1)], dim=1)

    net, x = Model([Two() for _ in range(4)], run), random(3, 6)
    found = layers(net, x, half_square).walk
    blocks = [naive.dense(*params(b.inner[0]).values(), "tanh") for b in net.blocks]
    wanted = naive.curve(blocks, array(x), lambda s: s)
    close(found.log_norm[0, :-1], wanted[:-1])
    squares = np.exp(2 * np.array([part[0, :-1] for part in found.parts.values()])).sum(axis=0)
    close(np.log(squares) / 2, wanted[:-1])
    assert found.log_norm[0, -1] < wanted[-1]  # the first argument alone


def test_arguments_by_name_and_the_same_one_in_several_places() -> None:
    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(4, 2, batch_first=True, dtype=torch.float64)

        def forward(self, query: Any, key: Any, *, value: Any) -> Any:
            return self.inner(query, key, value)[0]

    def run(blocks: Any, x: Any) -> Any:
        for block in blocks:
            x = block(x, x, value=x)
        return x

    net, x = Model([Attention() for _ in range(3)], run), random(2, 3, 4)
    found = layers(net, x, half_square)
    assert len(found.names) == 4
    start = x.clone().requires_grad_()
    half_square(net(start)).backward()
    assert found.walk.log_norm[0, -1] == pytest.approx(math.log(start.grad.norm()), abs=NEAR)


def test_all_is_as_before_also_after_an_exception() -> None:
    net, x = Model([PreNorm(4), nn.Dropout(0.5), PreNorm(4)], one_by_one), random(2, 4)
    net.blocks[0].norm.weight.requires_grad_(False)
    net.train()  # so that it draws
    before = torch.get_rng_state(), torch.get_num_threads(), [m.training for m in net.modules()]
    flags = [p.requires_grad for p in net.parameters()]

    def fails(y: Any) -> Any:
        raise ZeroDivisionError

    for loss in (half_square, fails):
        with torch.no_grad():
            if loss is fails:
                with pytest.raises(ZeroDivisionError):
                    layers(net, x, loss)
            else:
                layers(net, x, loss)
            assert not torch.is_grad_enabled()
        after = torch.get_rng_state(), torch.get_num_threads(), [m.training for m in net.modules()]
        assert after[0].equal(before[0])
        assert after[1:] == before[1:]
        assert [p.requires_grad for p in net.parameters()] == flags
        assert all(p.grad is None for p in net.parameters())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
        assert not x.requires_grad
