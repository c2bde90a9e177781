"""Parameters under PyTorch's names: of a layer, of a layer within a model, without biases."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from drawn import ARCHS, GATED, Run, answers, draw, parts, same_bits
from naive import Array

import seqlab
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.spec import naming

BIASES = ("bias_ih", "bias_hh")
# The name under which somebody's dictionary has a parameter.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "nn.LSTMCell": lambda name: name,
    "nn.LSTM": lambda name: f"{name}_l0",
    "second layer": lambda name: f"{name}_l1",
    "within a model": lambda name: f"encoder.rnn.{name}_l0",
    "cell within a model": lambda name: f"layers.0.{name}",
}


def renamed(run: Run, spell: Callable[[str], str]) -> Run:
    return run._replace(params={spell(name): value for name, value in run.params.items()})


def refusal(params: Any, arch: str = "lstm") -> str:
    """What is said, in one line, of a dictionary."""
    x = draw(arch).x
    messages = []
    for call in (seqlab.forward, partial(seqlab.attenuation, lengths=[3])):
        with pytest.raises(InputError, match=r"^params: ") as refused:
            call(arch, params, x)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    assert re.search("allowed|needed", messages[0])
    return messages[0]


@pytest.mark.tiny
@pytest.mark.parametrize("arch", GATED)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("networks", [0, 2])
def test_gradients_have_the_names_that_went_in(arch: str, spelling: str, networks: int) -> None:
    run, spell = draw(arch, networks=networks), SPELLINGS[spelling]
    have, want = answers(renamed(run, spell), clip="norm:0.5"), answers(run, clip="norm:0.5")
    assert same_bits(have, {spell(n) if n in run.params else n: a for n, a in want.items()})
    curves = [
        seqlab.attenuation(arch, params, run.x, [6]).log_norm
        for params in (run.params, renamed(run, spell).params)
    ]
    assert np.array_equal(*curves)


def as_modules(name: str) -> str:
    """Of `named_parameters()`, where a layer within the cell is a module."""
    return re.sub("_(weight|bias)$", r".\1", name)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch not in GATED])
@pytest.mark.parametrize(
    "spell",
    [lambda name: f"blocks.3.{name}", as_modules, lambda name: f"blocks.3.{as_modules(name)}"],
)
def test_a_cell_of_layers_within_a_model(arch: str, spell: Callable[[str], str]) -> None:
    run = draw(arch)
    have, want = answers(renamed(run, spell)), answers(run)
    assert same_bits(have, {spell(n) if n in run.params else n: a for n, a in want.items()})


@pytest.mark.tiny
def test_a_parameter_given_twice_is_refused() -> None:
    """Under both of its names: one would be left out in silence."""
    run = draw("mingru")
    said = refusal(run.params | {"linear_z.weight": run.params["linear_z_weight"]}, "mingru")
    assert said.startswith("params: 'linear_z.weight' is not allowed; mingru has linear_z_weight")


@pytest.mark.tiny
@pytest.mark.parametrize("arch", GATED)
@pytest.mark.parametrize("networks", [0, 2])
def test_biases_left_out_are_zeros_without_a_gradient(arch: str, networks: int) -> None:
    """As with bias=False: they are no part of the norm that a rule on parameters clips, either."""
    full = draw(arch, networks=networks)
    for name in BIASES:
        full.params[name][:] = 0
    bare = full._replace(params={n: a for n, a in full.params.items() if n not in BIASES})
    for spell in (SPELLINGS["nn.LSTMCell"], SPELLINGS["nn.LSTM"]):
        have, want = answers(renamed(bare, spell)), answers(full)
        wanted = {spell(n) if n in full.params else n: want[n] for n in want if n not in BIASES}
        assert same_bits(have, wanted)
    free, clipped = answers(bare), answers(bare, clip="norm:0.01")
    for m in range(max(1, networks)):
        squares = 0.0
        for name in bare.params:
            value = clipped[name][m] if networks else clipped[name]
            squares += float(np.sum(value**2))
        assert np.sqrt(squares) == pytest.approx(0.01, rel=1e-14)
    assert not same_bits(free, clipped)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", GATED)
def test_one_bias_alone_is_refused(arch: str) -> None:
    for name in BIASES:
        run = draw(arch)
        del run.params[name]
        said = refusal(run.params, arch)
        assert said.startswith(f"params: lacks {name} of {arch}; weight_ih, weight_hh, bias_ih")


# More than one.


def picked(message: str, params: dict[str, Any]) -> dict[str, Any]:
    """What the expression in a message picks from the dictionary that was refused."""
    (expression,) = re.findall(r"\{k: v .*?\}", message)
    chosen: dict[str, Any] = eval(expression, {"params": params})
    return chosen


def layers(*suffixes: str, module: str = "") -> dict[str, Array]:
    params = draw("lstm").params
    return {f"{module}{name}{suffix}": params[name] for suffix in suffixes for name in params}


MANY = {
    "without the first": layers("_l1", "_l2"),
    "without one between": layers("_l0", "_l1", "_l3"),
    "both directions": layers("_l0", "_l0_reverse"),
    "both of two layers": layers("_l0", "_l0_reverse", "_l1", "_l1_reverse"),
    "without one between in a model": layers("_l0", "_l2", module="encoder.rnn."),
    "two modules": layers("_l0", module="a.rnn.") | layers("_l0", module="b.rnn."),
    "a module and a layer": layers("_l0") | layers("_l0", module="b.rnn."),
    "a module and more": layers("_l0", module="rnn.") | {"head.weight": np.ones((2, 3))},
}


@pytest.mark.tiny
@pytest.mark.parametrize("kind", MANY)
def test_several_that_are_no_stack_are_refused_with_how_to_pick_one(kind: str) -> None:
    run = draw("lstm")
    params = picked(refusal(MANY[kind]), MANY[kind])
    assert len(params) == 4
    have = seqlab.forward("lstm", params, run.x).output
    assert np.array_equal(have, seqlab.forward("lstm", run.params, run.x).output)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("params", "said"),
    [
        (layers("_l0", "_l2"), "'weight_ih_l2' is not allowed; one layer, or all from _l0 up, of"),
        (layers("_l0", "_l0_reverse"), "'weight_ih_l0_reverse' is not allowed; one layer, or all"),
        (layers("_l0_reverse"), "'weight_ih_l0_reverse' is not allowed; one layer, or all from"),
        (
            layers("_l0") | {"weight_hr_l0": np.ones((2, 3))},
            "'weight_hr_l0' is not allowed; one layer, or all from _l0 up, of one direction and w",
        ),
        (MANY["two modules"], "holds several modules, 'a.rnn', 'b.rnn'; one is allowed"),
        (layers("_l0") | {"extra": 1}, "'extra' is not allowed; lstm has weight_ih, weight_hh"),
        (layers("_l0") | {"weight_ih_l0_raw": 1}, "'weight_ih_l0_raw' is not allowed"),
        (layers("_l0") | {"bias_ho": 1}, "'bias_ho' is not allowed; lstm has"),
        ({"a\nb": 1}, r"'a\nb' is not allowed"),
        ({}, "lacks weight_ih, weight_hh of lstm"),
    ],
)
def test_names_that_are_not_of_one_layer_are_refused(params: dict[str, Any], said: str) -> None:
    assert refusal(params).startswith(f"params: {said}")


@pytest.mark.tiny
def test_many_modules_are_not_all_listed() -> None:
    params = {k: v for i in range(99) for k, v in layers("_l0", module=f"a{i}.").items()}
    said = refusal(params)
    assert len(said) < 300
    assert "'a7', ..." in said


@pytest.mark.tiny
def test_a_wrong_array_is_called_as_it_was_given() -> None:
    run = renamed(draw("gru"), SPELLINGS["within a model"])
    name = "encoder.rnn.bias_hh_l0"
    with pytest.raises(InputError, match=rf"^{name}: shape \(2,\) is not allowed"):
        seqlab.forward("gru", run.params | {name: np.ones(2)}, run.x)


# A module of a file.


NAMES = [*layers("_l0", module="a.rnn."), *layers("_l0", module="b.rnn."), "a.norm.weight", "head"]


@pytest.mark.tiny
@pytest.mark.parametrize("module", ["a.rnn", "a"])
def test_a_module_is_chosen_by_the_path_to_it(module: str) -> None:
    found = naming.of_file(CELLS["lstm"], NAMES, "m.pt", module)
    assert found == {name: f"a.rnn.{name}_l0" for name in draw("lstm").params}


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("names", "module", "said"),
    [
        (NAMES, None, "params: m.pt holds several modules, of which module chooses one: 'a.rnn',"),
        (NAMES, "c", "module: 'c' holds no lstm in m.pt; allowed: 'a.rnn', 'b.rnn'"),
        (NAMES, "a.rn", "module: 'a.rn' holds no lstm in m.pt; allowed: 'a.rnn', 'b.rnn'"),
        (NAMES, "a.norm", "module: 'a.norm' holds no lstm in m.pt; allowed: 'a.rnn', 'b.rnn'"),
        (["m." + n for n in NAMES], "m", "module: 'm' holds several lstm in m.pt; allowed: 'm.a.r"),
        (["head"], "a", "module: 'a' holds no lstm in m.pt; allowed: none"),
        ([*NAMES, "a.rnn.x"], "a", "params: m.pt, 'a.rnn.x' is not of lstm; it holds a module, of"),
        (NAMES[:1], "a", "params: m.pt lacks weight_hh of lstm"),
        (
            [*NAMES[:4], "head"],
            None,
            "params: m.pt, 'head' is not of lstm; it holds a module, ",
        ),
        (
            list(layers("_l0", "_l2")),
            None,
            "params: m.pt, 'weight_ih_l2' is not allowed; one layer",
        ),
    ],
)
def test_a_wrong_or_ambiguous_module_is_refused_with_what_there_is(
    names: list[str], module: str | None, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        naming.of_file(CELLS["lstm"], names, "m.pt", module)
    assert str(refused.value).startswith(said)


@pytest.mark.tiny
def test_layers_are_in_their_order_and_keep_their_endings() -> None:
    ends = [f"_l{layer}" for layer in (10, *range(10))]
    found = naming.of_file(CELLS["lstm"], layers(*ends, module="a."), "m.pt", "a")
    assert list(found)[:5] == [*(f"{name}_l0" for name in draw("lstm").params), "weight_ih_l1"]
    assert list(found)[-1] == "bias_hh_l10"
    assert all(given == f"a.{own}" for own, given in found.items())
    assert naming.layers_in(found) == 11
    assert naming.layers_in(naming.of_file(CELLS["lstm"], layers("_l1"), "m.pt", None)) == 1


@pytest.mark.tiny
def test_an_exact_module_goes_before_one_within_it() -> None:
    names = [*layers("", module="a."), *layers("", module="a.inner.")]
    found = naming.of_file(CELLS["lstm"], names, "m.pt", "a")
    assert found["weight_ih"] == "a.weight_ih"


# PyTorch itself.


@pytest.mark.parametrize("arch", GATED)
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_pytorch_goes_in_as_it_is(arch: str, bias: bool, torch: Any) -> None:
    """Its named parameters, its gradients by their names."""
    torch.manual_seed(1)
    layer = getattr(torch.nn, arch.upper())(3, 5, bias=bias, dtype=torch.float64)
    x = torch.randn(7, 2, 3, dtype=torch.float64, requires_grad=True)
    output, _ = layer(x)
    grad = torch.randn_like(output)
    output.backward(grad)
    for params in (dict(layer.named_parameters()), layer.state_dict()):
        trajectory = seqlab.forward(arch, params, x)
        gradients = seqlab.backward(trajectory, grad)
        want = {name: value.grad.numpy() for name, value in layer.named_parameters()}
        assert gradients.params.keys() == want.keys()
        for name, value in want.items():
            np.testing.assert_allclose(gradients.params[name], value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(gradients.x, x.grad.numpy(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"bidirectional": True}, {"proj_size": 2}])
def test_other_layers_of_pytorch_are_refused(options: dict[str, Any], torch: Any) -> None:
    layer = torch.nn.LSTM(2, 3, **options)
    assert "of one direction and without proj_size" in refusal(layer.state_dict())


@pytest.mark.parametrize("arch", GATED)
@pytest.mark.parametrize("layers", [2, 3])
def test_layers_of_pytorch_go_in_as_they_are(arch: str, layers: int, torch: Any) -> None:
    """Output, last state, and every gradient; dL/ds_t of every layer at every step as autograd has
    it between two calls of one step each."""
    torch.manual_seed(1)
    net = getattr(torch.nn, arch.upper())(3, 5, num_layers=layers, dtype=torch.float64)
    x = torch.randn(9, 2, 3, dtype=torch.float64, requires_grad=True)
    start = [torch.randn(layers, 2, 5, dtype=torch.float64, requires_grad=True) for _ in "hc"]
    initial = tuple(start) if arch == "lstm" else start[0]
    output, final = net(x, initial)
    grad = torch.randn_like(output)
    output.backward(grad)
    trajectory = seqlab.forward(arch, net.state_dict(), x, initial)
    gradients = seqlab.backward(trajectory, grad)
    have = {"output": trajectory.output, "x": gradients.x, **gradients.params}
    want = {"output": output, "x": x.grad, **{n: p.grad for n, p in net.named_parameters()}}
    for name, first, last, own in zip(
        CELLS[arch].parts, parts(gradients.initial), parts(trajectory.final), start, strict=False
    ):
        have |= {f"first {name}": first, f"last {name}": last}
        ends = final if arch == "lstm" else (final,)
        want |= {f"first {name}": own.grad, f"last {name}": ends[int(name == "cell")]}
    assert have.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_allclose(have[name], value.detach(), rtol=0, atol=1e-12, err_msg=name)

    readout = torch.randn(5, dtype=torch.float64)
    state, seen = None, []
    for x_t in x.detach():
        y, state = net(x_t[None], state)
        tensors = state if arch == "lstm" else (state,)
        for tensor in tensors:
            tensor.retain_grad()
        seen.append(tensors)
    (y[0] @ readout).sum().backward()
    found = seqlab.attenuation(arch, net.state_dict(), x.detach(), [9], readout=readout)
    for i, part in enumerate(CELLS[arch].parts):
        for layer in range(layers):
            norms = [float(tensors[i].grad[layer].norm()) for tensors in seen[-2::-1]]
            curve = found.parts[f"layer {layer} {part}"][0, 0]
            assert curve[1:9] == pytest.approx(np.log(norms), rel=0, abs=1e-12)
