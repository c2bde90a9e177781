"""`seqlab.probe` against the lab's own kernels, and its engines against each other."""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from naive import Array
from probing import CLASSES, NEAR, RULES, SAME, close, random, recurrent, same
from probing import seeded as seeded  # it acts on every test

import seqlab
from seqlab.measure.randomness import unit_readout
from seqlab.probes.callables import of_pytorch
from seqlab.probes.steps import walk

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn
# The count of NEAR for 40 steps of float32, of 6e-8.
SINGLE = 40 * 50 * 6e-8


def by_autograd(net: Any, *given: Any, **options: Any) -> Any:
    """A probe of the same network with a hook that does nothing, which the kernels do not know."""
    hook = net.register_forward_hook(lambda *given: None)
    try:
        return seqlab.probe(net, *given, **options)
    finally:
        hook.remove()


# Against the lab's own kernels.


def joint_adjoint(net: Any, x: Array, readout: Array) -> Array:
    """ln of the joint adjoint's norm at lags 0..T, by the lab's kernels: the Jacobians of every
    layer at every step, all steps and unit vectors as sequences of one step, and their product
    backwards with one power of two for all layers."""
    steps, kinds = len(x), 2 if isinstance(net, nn.LSTM) else 1
    below, jacobians = x, []
    for layer in seqlab.from_torch(net):
        units = layer.params["weight_hh"].shape[1]
        whole = seqlab.forward(layer.arch, layer.params, below[:, None]).output[:, 0]
        before = np.zeros((kinds, steps, units))
        before[0, 1:] = whole[:-1]
        if kinds == 2:  # cell states are told one by one
            for t in range(steps - 1):
                initial = tuple(np.array(part[t : t + 1]) for part in before)
                one = seqlab.forward(layer.arch, layer.params, below[t, None, None], initial)
                before[1, t + 1] = one.final[1][0]
        entries = kinds * units
        spread = np.repeat(before, entries, axis=1)  # (kinds, steps * entries, units)
        initial = tuple(spread) if kinds == 2 else spread[0]
        at_once = np.repeat(below, entries, axis=0)[None]
        trajectory = seqlab.forward(layer.arch, layer.params, at_once, initial=initial)
        unit = np.tile(np.eye(entries).reshape(entries, kinds, units), (steps, 1, 1))
        final = tuple(np.moveaxis(unit, 1, 0)) if kinds == 2 else unit[:, 0]
        none = np.zeros_like(trajectory.output)
        back = seqlab.backward(trajectory, none, grad_final=final)
        parts = back.initial if kinds == 2 else [back.initial]
        rows = np.concatenate([back.x[0], *parts], axis=1).reshape(steps, entries, -1)
        jacobians.append(rows)
        below = whole
    adjoint = [np.zeros(rows.shape[1]) for rows in jacobians]
    adjoint[-1][: len(readout)] = readout
    exponent, found = 0, []
    for t in range(steps - 1, -2, -1):
        norm = np.linalg.norm(np.concatenate(adjoint))
        shift = math.frexp(norm)[1]
        adjoint, exponent = [np.ldexp(part, -shift) for part in adjoint], exponent + shift
        found.append(math.log(np.ldexp(norm, -shift)) + exponent * math.log(2))
        if t >= 0:
            to_below: Any = 0.0
            for level in reversed(range(len(jacobians))):
                width = jacobians[level].shape[2] - len(adjoint[level])
                adjoint[level][: len(readout)] += to_below
                back_one = adjoint[level] @ jacobians[level][t]
                to_below, adjoint[level] = back_one[:width], back_one[width:]
    return np.array(found)


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("arch", CLASSES)
def test_stacked_layers_are_what_the_kernels_find(arch: str, layers: int) -> None:
    net, x, readout = recurrent(arch, layers), random(2000, 1, 3), random(6)
    steps = of_pytorch(net, x)
    assert steps is not None
    found = walk(steps, x, None, lambda y: (y * readout).sum(), [2000]).log_norm[0]
    close(found, joint_adjoint(net, x[:, 0].numpy(), readout.numpy()), NEAR)
    assert found[-1] < -450
    probed = seqlab.probe(net, x, readout=readout)
    assert probed.engine == "kernels"
    close(probed.log_norm[0, 0], found, NEAR)
    chunks = by_autograd(net, x, readout=readout, every=25)
    assert chunks.lags.tolist() == list(range(0, 2001, 25))
    close(chunks.log_norm[0, 0], found[::25], SAME)


# Kernels and autograd.


class Named(nn.LSTM):
    """A subclass that computes what its base does."""


def parametrised() -> Any:
    net = nn.GRU(3, 6, dtype=torch.float64)
    nn.utils.parametrizations.weight_norm(net, "weight_hh_l0")
    return net


def known() -> dict[str, Callable[[], tuple[Any, ...]]]:
    """Networks, inputs and states that the lab's kernels know."""
    x, single = random(40, 2, 3), random(40, 3)

    def cell(kind: Any) -> Any:
        return kind(3, 6, dtype=torch.float64)

    return {
        **{arch: lambda arch=arch: (recurrent(arch), x) for arch in CLASSES},
        "relu": lambda: (recurrent("rnn", nonlinearity="relu"), x),
        "relu cell": lambda: (nn.RNNCell(3, 6, nonlinearity="relu", dtype=torch.float64), x),
        "rnn cell": lambda: (cell(nn.RNNCell), x),
        "lstm cell": lambda: (cell(nn.LSTMCell), x),
        "gru cell": lambda: (cell(nn.GRUCell), x),
        "no bias": lambda: (recurrent("lstm", bias=False), x),
        "batch first": lambda: (recurrent("gru", batch_first=True), x.transpose(0, 1)),
        "unbatched": lambda: (recurrent("lstm"), single),
        "unbatched, batch first": lambda: (recurrent("gru", batch_first=True), single),
        "unbatched cell": lambda: (cell(nn.LSTMCell), single),
        "state": lambda: (recurrent("gru"), x, random(1, 2, 6)),
        "states": lambda: (recurrent("lstm"), x, (random(1, 2, 6), random(1, 2, 6))),
        "state of one": lambda: (recurrent("lstm"), single, (random(1, 6), random(1, 6))),
        "state of a cell": lambda: (cell(nn.LSTMCell), x, (random(2, 6), random(2, 6))),
        "subclass": lambda: (Named(3, 6, dtype=torch.float64), x),
        "parametrised": lambda: (parametrised(), x),
        "three layers": lambda: (recurrent("lstm", 3), x),
        "two relu layers": lambda: (recurrent("rnn", 2, nonlinearity="relu"), x),
        "two layers, unbatched, batch first": lambda: (
            recurrent("gru", 2, batch_first=True),
            single,
        ),
        "states of two layers": lambda: (
            recurrent("lstm", 2),
            x,
            (random(2, 2, 6), random(2, 2, 6)),
        ),
        "state of two layers and one": lambda: (recurrent("gru", 2), single, random(2, 6)),
        "no dropout now": lambda: (recurrent("gru", 2, dropout=0.5).eval(), x),
    }


@pytest.mark.parametrize("name", known())
def test_kernels_and_autograd_are_one(name: str) -> None:
    net, x, *state = known()[name]()
    sequences = 1 if x.dim() == 2 else 2
    steps = {"batch first": 1}.get(name, 0)
    for options in (
        {},
        {"readout": random(6)},
        {"readout": random(6).numpy(), "lengths": [40, 7, 23], "time": steps},
        {"readout": random(*([] if sequences == 1 else [2]), 6)},
        {"loss": lambda y: (y**3).sum() + y.prod(), "lengths": "5,20,40"},
        {"lengths": (40, 20), "every": 5},
        *({"clip": rule, "lengths": [26, 40, 13]} for rule in RULES),
    ):
        found = seqlab.probe(net, x, *state, **options)
        wanted = by_autograd(net, x, *state, **options)
        assert (found.engine, wanted.engine) == ("kernels", "autograd")
        same(found, wanted, NEAR)
        acts = options.get("clip", "none").startswith(("step", "trunc"))
        if "relu" in name:  # it may fade at once, and end in exact zeros
            continue
        assert (found.fired[0, -1] > 0) == acts
        if "clip" not in options:
            assert np.isfinite(found.log_norm[0, 0, : 1 + found.lengths[0] // found.every]).all()


def test_a_rule_acts_where_something_is_left() -> None:
    """A sequence whose adjoint is zero is neither clipped nor cut."""
    x, readout = random(20, 2, 3), torch.zeros(2, 6, dtype=torch.float64)
    readout[1] = random(6)
    for rule in RULES[2:]:
        for layers in (1, 2):
            net = recurrent("rnn", layers)
            both = seqlab.probe(net, x, readout=readout, clip=rule)
            alone = seqlab.probe(net, x[:, 1:], readout=readout[1:], clip=rule)
            close(both.fired, alone.fired / 2, SAME)
            close(both.log_norm, alone.log_norm, NEAR)
            assert alone.fired[0, 0] > 0


def test_a_loss_sees_each_lengths_own_output() -> None:
    """Of a loss whose gradient is y itself, lag 0 is the norm of every length's own output."""
    for layers in (1, 2):
        net, x = recurrent("lstm", layers), random(30, 2, 3)
        found = seqlab.probe(net, x, loss=lambda y: (y**2).sum() / 2, lengths=[30, 4, 17])
        y = net(x)[0].detach()
        wanted = [float(y[n - 1].norm().log()) for n in (30, 4, 17)]
        close(found.log_norm[0, :, 0], wanted, SAME)


def test_a_loss_may_change_its_output_in_place() -> None:
    x = random(10, 2, 3)
    for layers in (1, 2):
        net = recurrent("lstm", layers)
        found = seqlab.probe(net, x, loss=lambda y: y.mul_(3).sum())
        wanted = seqlab.probe(net, x, loss=lambda y: 3 * y.sum())
        close(found.log_norm, wanted.log_norm, SAME)
        zero = seqlab.probe(net, x, loss=lambda y: (y * 0).sum())
        assert np.isneginf(zero.log_norm).all()


def own_forward() -> Any:
    class Own(nn.LSTM):
        def forward(self, x: Any, state: Any = None) -> Any:
            y, after = super().forward(x, state)
            return y * 1.0, after

    return Own(3, 6, dtype=torch.float64)


def own_call() -> Any:
    class Own(nn.LSTM):
        def __call__(self, x: Any, state: Any = None) -> Any:
            y, after = super().__call__(x, state)
            return 2 * y, after

    return Own(3, 6, dtype=torch.float64)


def backward_hooked() -> Any:
    net = recurrent("rnn")
    net.register_full_backward_hook(lambda module, given, sent: None)
    return net


def before_hooked() -> Any:
    net = recurrent("gru")
    net.register_forward_pre_hook(lambda module, given: None)
    return net


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize(
    "make",
    [
        own_forward,
        own_call,
        backward_hooked,
        before_hooked,
        lambda: recurrent("lstm", proj_size=2),
        lambda: recurrent("rnn").bfloat16(),
    ],
)
def test_what_the_kernels_do_not_know_is_autograds(make: Callable[[], Any]) -> None:
    net = make()
    x = random(20, 2, 3).to(next(net.parameters()).dtype)
    found = seqlab.probe(net, x)
    assert found.engine == "autograd"
    assert np.isfinite(found.log_norm).all()
    assert found.dtype == str(x.dtype).removeprefix("torch.")


def test_hooks_of_all_modules_are_heard() -> None:
    net, x = recurrent("gru"), random(20, 2, 3)
    plain = seqlab.probe(net, x)
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, given, answer: (2 * answer[0], answer[1])
    )
    try:
        found = seqlab.probe(net, x)
    finally:
        hook.remove()
    close(found.log_norm[..., 1:], plain.log_norm[..., 1:] + math.log(2), NEAR)


@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_made_of_the_output_is_heard(layers: int) -> None:
    """An output doubled by a hook, or by a forward of one's own, has ln 2 more; of the latter the
    state is no source, and lag 0 is the readout's norm."""

    class Own(nn.LSTM):
        def forward(self, x: Any, state: Any = None) -> Any:
            y, after = super().forward(x, state)
            return 2 * y, after

    plain, x = recurrent("lstm", layers), random(20, 2, 3)
    own = Own(3, 6, layers, dtype=torch.float64)
    own.load_state_dict(plain.state_dict())
    wanted = seqlab.probe(plain, x, lengths=[20, 7]).log_norm + math.log(2)
    hooked = copy.deepcopy(plain)
    hooked.register_forward_hook(lambda module, given, answer: (2 * answer[0], answer[1]))
    close(seqlab.probe(hooked, x, lengths=[20, 7]).log_norm, wanted, NEAR)
    found = seqlab.probe(own, x, lengths=[20, 7])
    close(found.log_norm[..., 1:], wanted[..., 1:], NEAR)
    close(found.log_norm[0, :, 0], math.log(2) / 2, SAME)  # of two sequences
    assert all(np.isnan(part[0, :, 0]).all() for part in found.parts.values())


def test_another_call_is_heard() -> None:
    """The same network with its output doubled has ln 2 more."""
    net, x = own_call(), random(20, 2, 3)
    plain = recurrent("lstm")
    plain.load_state_dict(net.state_dict())
    found, wanted = seqlab.probe(net, x), seqlab.probe(plain, x)
    close(found.log_norm, wanted.log_norm + math.log(2), NEAR)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_dtype_is_a_copys(layers: int) -> None:
    net, x = recurrent("lstm", layers), random(40, 2, 3)
    double = seqlab.probe(net, x)
    single = seqlab.probe(net, x, dtype="float32")
    assert (single.dtype, net.weight_hh_l0.dtype) == ("float32", torch.float64)
    close(single.log_norm, double.log_norm, SINGLE)
    assert not np.array_equal(single.log_norm, double.log_norm)
    again = seqlab.probe(copy.deepcopy(net).float(), x.float(), dtype=np.float64)
    assert again.dtype == "float64"
    close(again.log_norm, double.log_norm, SINGLE)  # weights and x have been rounded
    close(again.log_norm, single.log_norm, SINGLE)


@pytest.mark.parametrize("layers", [1, 2])
def test_an_ensemble_is_its_networks(layers: int) -> None:
    nets, x = [recurrent("lstm", layers) for _ in range(3)], random(40, 2, 3)
    options: dict[str, Any] = {"clip": "step-norm:0.1", "lengths": [40, 11]}
    found = seqlab.probe(nets, x, **options)
    for m, net in enumerate(nets):
        alone = seqlab.probe(net, x, readout=unit_readout(0, m, 6), **options)
        assert found.log_norm[m].tobytes() == alone.log_norm[0].tobytes()
        assert found.fired[m].tolist() == alone.fired[0].tolist()
        for name, part in found.parts.items():
            assert part[m].tobytes() == alone.parts[name][0].tobytes()
    assert found.fired.min() > 0


@pytest.mark.parametrize("layers", [1, 2])
def test_networks_are_drawn_by_a_reset(layers: int) -> None:
    net, x = recurrent("gru", layers), random(40, 2, 3)
    before, dice = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found = seqlab.probe(net, x, networks=3, reset=lambda one: one.reset_parameters())
    assert torch.equal(torch.get_rng_state(), dice)
    assert all(torch.equal(held, before[name]) for name, held in net.state_dict().items())
    assert len(found.log_norm) == 3
    for m in range(3):
        torch.manual_seed(m)
        drawn = copy.deepcopy(net)
        drawn.reset_parameters()
        alone = seqlab.probe(drawn, x, readout=unit_readout(0, m, 6))
        assert found.log_norm[m].tobytes() == alone.log_norm[0].tobytes()


@pytest.mark.parametrize("layers", [1, 2])
def test_the_same_bits_twice(layers: int) -> None:
    net, x = recurrent("lstm", layers), random(60, 3, 3)
    one, other = (seqlab.probe(net, x, clip="step-value:0.01") for _ in range(2))
    assert one.log_norm.tobytes() == other.log_norm.tobytes()
    assert one.result.spec.content == other.result.spec.content


@pytest.mark.parametrize("every", [1, 20])
def test_a_state_that_overflows_leaves_nan(every: int) -> None:
    net, x = recurrent("rnn", nonlinearity="relu"), random(400, 2, 3)
    with torch.no_grad():
        net.weight_hh_l0 *= 1e6
    for probe in (seqlab.probe, by_autograd):
        found = probe(net, x, every=every, lengths=[400, 20])
        assert np.isfinite(found.log_norm[0, :, 0]).all()
        assert np.isnan(found.log_norm[0, 0, 1:]).all()
        assert np.isfinite(found.log_norm[0, 1, : 20 // every + 1]).all()


def test_zeros_that_pytorch_rounded_are_no_exact_zeros() -> None:
    """1 - tanh^2 is 0 in float64 from 19.1 on, and sech^2, by which the kernels go, is not."""
    net, x = recurrent("rnn"), random(20, 2, 3)
    with torch.no_grad():
        net.bias_ih_l0 += 60
    found, rounded = seqlab.probe(net, x), by_autograd(net, x)
    assert np.isfinite(found.log_norm).all()
    assert np.isneginf(rounded.log_norm[0, 0, 1:]).all()
    assert rounded.underflow.tolist() == [[True]]
    cut = by_autograd(recurrent("rnn"), x, clip="truncate:5")
    assert np.isneginf(cut.log_norm[0, 0, -1])
    assert not cut.underflow.any()
    without = seqlab.probe(recurrent("rnn", 2), x, readout=torch.zeros(6, dtype=torch.float64))
    assert np.isneginf(without.log_norm).all()
    assert not without.underflow.any()
