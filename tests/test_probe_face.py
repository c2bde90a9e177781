"""What `seqlab.probe` promises besides its numbers: what it refuses, in one line, and what can be
done with what it returns."""

import copy
import math
import random as dice
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probing import NEAR, SAME, ZEROS, X, lstm, random, routes
from probing import seeded as seeded  # it acts on every test

import seqlab
from seqlab.errors import InputError
from seqlab.spec.probed import ProbedSpec
from seqlab.study.store import Store

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `peers`)")
nn = torch.nn


def refused(*given: Any, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        seqlab.probe(*given, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


# Inputs and layers.


def test_inputs_are_probed_in_float64_by_a_copy() -> None:
    net, x = lstm(2, bidirectional=True).float(), random(25, 2, 3).float()
    before = copy.deepcopy(net.state_dict())
    found = seqlab.probe(net, x, wrt="input", lengths=[25, 8])
    assert (found.engine, found.dtype) == ("input", "float64")
    assert all(torch.equal(held, before[name]) for name, held in net.state_dict().items())
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    double, readout = copy.deepcopy(net).double(), torch.from_numpy(_unit(12))
    for row, steps in enumerate((25, 8)):
        leaf = x[:steps].double().requires_grad_()
        (double(leaf)[0][-1] * readout).sum().backward()
        wanted = leaf.grad.flatten(1).norm(dim=1).log().flip(0)
        np.testing.assert_allclose(found.log_norm[0, row, :steps], wanted, rtol=0, atol=NEAR)
    assert not found.underflow.any()
    assert seqlab.probe(net, x, wrt="input", dtype="float32").dtype == "float32"


def _unit(width: int) -> Any:
    from seqlab.measure.randomness import unit_readout

    return unit_readout(0, 0, width)


def test_zeros_of_inputs_are_below_the_smallest_number() -> None:
    class Fades(nn.Module):
        def forward(self, x: Any) -> Any:
            y = 0
            for x_t in x:
                y = y / 16 + x_t
            return y

    found = seqlab.probe(Fades(), random(300, 1, 3), wrt="input", lengths=[300, 200])
    assert found.underflow.tolist() == [[True, False]]
    falls = np.diff(found.log_norm[0, 0, :250])
    np.testing.assert_allclose(falls, -math.log(16), rtol=0, atol=SAME)
    assert np.isneginf(found.log_norm[0, 0, 275:]).all()  # 16^-269 is 2^-1076
    kept = found.variables["underflow"].data
    assert kept.tolist() == [[[False, True]]]  # there lengths rise
    faint = seqlab.probe(lambda x: x[0] + x[-1] * 1e-200 * 1e-200, random(3, 1, 3), wrt="input")
    assert np.isneginf(faint.log_norm[0, 0, 0])
    assert faint.underflow.all()  # a zero at lag 0 is none either


def test_layers_have_their_names_and_gradients() -> None:
    net = nn.Sequential(*(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(4))).double()
    x, readout = random(7, 5), random(5)
    found = seqlab.probe(net, x, wrt="layers", readout=readout)
    assert found.names == ("3", "2", "1", "0", "input of 0")[: len(found.lags)]
    outputs = [x.clone().requires_grad_()]
    for block in net:
        outputs.append(block(outputs[-1]))
    wanted = torch.autograd.grad((outputs[-1] * readout).sum(), outputs)
    logs = [float(gradient.norm().log()) for gradient in reversed(wanted)]
    np.testing.assert_allclose(found.log_norm[0, 0], logs, rtol=0, atol=NEAR)
    named = seqlab.probe(net, x, wrt=["3", "1"], readout=readout)
    assert named.names[:2] == ("3", "1")
    np.testing.assert_allclose(named.log_norm[0, 0, :2], [logs[0], logs[2]], rtol=0, atol=NEAR)
    both = seqlab.probe([net, copy.deepcopy(net)], x, wrt="layers", readout=readout)
    assert both.log_norm[0].tobytes() == both.log_norm[1].tobytes() == found.log_norm[0].tobytes()


@pytest.mark.parametrize("wrt", ["input", "layers", ["0"]])
def test_what_has_no_steps_refuses_what_is_for_steps(wrt: Any) -> None:
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4)).double(), random(5, 2, 3)
    for rule in ("step-norm:1", "step-value:1", "truncate:3"):
        assert refused(net, x, wrt=wrt, clip=rule).startswith(f"clip: '{rule}' is not allowed; ")
    assert seqlab.probe(net, x, wrt=wrt, clip="norm:1").clip == "norm:1"
    assert refused(net, x, wrt=wrt, every=2).startswith("every: 2 is not allowed; ")
    assert refused(net, x, torch.zeros(2), wrt=wrt).startswith("state: 'one' is not allowed; ")
    if wrt != "input":
        assert refused(net, x, wrt=wrt, lengths=[3]).startswith("lengths: [3] is not allowed; ")
        assert refused(net, x, wrt=wrt, time=0).startswith("time: 0 is not allowed; ")


# What is refused.


LSTM, TWO = lstm(), lstm(2)


class Mute(nn.Module):
    def forward(self, x: Any, state: Any = None) -> Any:
        raise ValueError("two\nlines")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *[({"time": time}, f"time: {time!r} is not") for time in (-1, 1, 2, True, "0", 0.0)],
        ({"time": 3}, "x: (20, 2, 3) is not"),
        *[({"wrt": wrt}, "wrt: ") for wrt in (5, None, [], {}, ["a"], [1], "y", b"0")],
        *[({"clip": rule}, "clip: ") for rule in (None, 5, "a", "step-norm:-1", ["none"])],
        *[({"lengths": n}, "lengths: ") for n in (5, [], [0], [21], [2.0], [True], [3, 3], "x")],
        *[({"every": n}, "every: ") for n in (0, -1, True, 1.0, "1", None, 21)],
        ({"every": 3, "lengths": [9, 10]}, "lengths: 10 is not allowed; multiples of every, 3"),
        *[({"dtype": dtype}, "dtype: ") for dtype in ("float16", 5, float, torch.bfloat16)],
        *[({"networks": n, "reset": str}, "networks: ") for n in (None, 0, True, 2.0)],
        *[({"networks": 2, "reset": reset}, "reset: ") for reset in (None, 5, str)],
        *[({"readout": r}, "readout: ") for r in (5, "a", np.ones(3), np.ones(6, int))],
        ({"readout": torch.ones(6) + 0j}, "readout: 'complex64 on cpu' is not"),
        ({"readout": torch.ones(6, device="meta")}, "readout: 'float32 on meta' is not"),
        ({"readout": torch.ones(6, dtype=torch.int64)}, "readout: 'int64 on cpu' is not"),
        ({"readout": np.ones(6), "loss": torch.sum}, "readout: 'one' is not"),
        *[({"loss": loss}, "loss: ") for loss in (5, lambda y: y, lambda y: 1.0)],
        ({"loss": lambda y: y.sum() * 1j}, "loss: "),
        ({"state": object()}, "state: 'object' is not"),
        ({"state": []}, "state: 'nothing' is not"),
        ({"state": (ZEROS + 0j,) * 2}, "state[0]: 'complex128' is not"),
        ({"state": (ZEROS[0],) * 2}, "x: '(20, 2, 3) of float64' is not"),
        ({"state": (ZEROS.float(),) * 2}, "x: '(20, 2, 3) of float64' is not"),
        ({"x": X.numpy()}, "x: 'ndarray' is not"),
        ({"x": nn.utils.rnn.pack_padded_sequence(X, [20, 9])}, "x: 'PackedSequence' is not"),
        ({"x": X.to_sparse()}, "x: 'sparse_coo' is not"),
        ({"x": X.float()}, "x: '(20, 2, 3) of float32' is not"),
        ({"x": X / 0}, "x: 'NaN or infinity' is not"),
        ({"x": torch.tensor(1.0)}, "x: () is not"),
        *[({"net": net}, "net: ") for net in (5, None, "a", nn.LSTM, [], [None], {})],
        *[({"net": net}, "net: ") for net in (nn.Linear(3, 3), nn.ModuleList([LSTM]))],
        ({"net": Mute()}, "net: 'Mute' is not"),
        ({"net": nn.LSTM(3, 6, device="meta"), "x": X.to("meta")}, "devices: 'meta' is not"),
        ({"net": nn.LazyLinear(3)}, "net: 'parameters without numbers' is not"),
        ({"net": [LSTM, TWO]}, "net: 'weight_ih_l1 of network 1' is not"),
        ({"net": [LSTM, lstm(bias=False)]}, "net: 'bias_ih_l0 of network 1' is not"),
        ({"net": [LSTM, lstm(batch_first=True)]}, "net: 'batch_first of network 1' is not"),
        ({"net": [LSTM, lstm(), lstm().float()]}, "net: 'weight_ih_l0 of network 2' is not"),
        ({"net": [nn.RNN(3, 6), nn.RNN(3, 6, nonlinearity="relu")]}, "net: 'nonlinearity of "),
        ({"net": [LSTM, nn.GRU(3, 6)]}, "net: 'LSTM, GRU' is not"),
        ({"net": [LSTM], "networks": 2}, "networks: 2 is not"),
        ({"net": lambda x, h: h, "dtype": "float32"}, "dtype: 'float32' is not"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_in_one_line(options: dict[str, Any], said: str) -> None:
    for net in (LSTM, TWO):
        given = {"net": net, "x": X} | options
        if "x" in options and net is TWO and not isinstance(options["x"], torch.Tensor):
            given["net"] = lstm(batch_first=True)  # x is not looked at before it is known as one
        assert refused(**given).startswith(said)


def test_a_line_of_progress_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    seqlab.probe(LSTM, X, progress=False)
    assert capsys.readouterr() == ("", "")
    seqlab.probe(LSTM, X, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("\r100%  kernels ")
    assert err.endswith(" \r")


@pytest.mark.parametrize("wrt", ["input", "layers"])
@pytest.mark.parametrize("net", [5, nn.LSTM, nn.ModuleList([LSTM]), Mute(), nn.Linear(4, 4)])
def test_what_cannot_be_called_is_refused_by_every_route(wrt: str, net: Any) -> None:
    said = refused(net, X, wrt=wrt)
    assert said.startswith(("x: ", "net: ", "wrt: "))


def test_parameters_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        net = lstm(2)
    assert refused(net, X).startswith("net: 'parameters made in inference mode' is not allowed; ")
    assert np.isfinite(seqlab.probe(copy.deepcopy(net), X).log_norm).all()


def test_any_mixture_of_wrong_values_is_refused_in_one_line() -> None:
    """Each draw has right and wrong values, one wrong one at least: never another error."""
    pools: dict[str, tuple[list[Any], list[Any]]] = {
        "net": ([LSTM, TWO, [lstm(), lstm()]], [None, "net", [], [LSTM, TWO], nn.LSTM, Mute()]),
        "x": ([X], [None, X.numpy(), X[0, 0], X * math.nan, X[:0], X + 0j, [X]]),
        "state": ([None], [ZEROS.half(), 5, object(), (ZEROS, ZEROS.float()), {}]),
        "readout": ([None, np.ones(6)], [np.ones(7), "a", np.ones((2, 2, 6)), torch.ones(6) + 0j]),
        "loss": ([None], [5, "a", lambda y: y]),
        "lengths": ([None, [4, 20], "2,4"], [[0], [], 3, [40], ["a"], "a:b", [4, 4], [None]]),
        "every": ([1, 2], [0, -2, None, "2", 1.5, 50]),
        "wrt": (["state", "input"], ["states", 5, None, [], ["a"], [None]]),
        "clip": (["none", "norm:1"], ["clip", None, 1.0, "truncate:0", "step-norm:0"]),
        "dtype": ([None, "float64", "float32"], ["int", 3, [], torch.int64]),
        "time": ([None, 0], [-1, 7, "a", True, [0]]),
        "networks": ([None], [0, -1, "2", 3]),
        "reset": ([None], [5, lambda net: None]),
        "progress": ([None], [5, "a"]),
    }
    draw = dice.Random(3)
    for _ in range(300):
        wrong = draw.sample(list(pools), draw.choice([1, 1, 2, 3]))
        options = {name: draw.choice(pools[name][name in wrong]) for name in pools}
        try:
            said = refused(**options)
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error} of {options}") from error
        name = said.partition(":")[0].partition("[")[0].partition(".")[0]
        assert name in {*pools, "devices"}, said


def test_weights_that_are_drawn_at_every_look_are_refused() -> None:
    class Noise(nn.Module):
        def forward(self, weight: Any) -> Any:
            return weight + torch.randn_like(weight)

    net = nn.GRU(3, 6, dtype=torch.float64)
    nn.utils.parametrize.register_parametrization(net, "weight_hh_l0", Noise())
    assert refused(net, X).startswith("module: 'another state at its second call' is not allowed")


def test_a_model_without_a_state_is_told_what_to_probe() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = lstm()

        def forward(self, x: Any) -> Any:
            return self.inner(x)[0]

    told = refused(Tagger(), random(5, 2, 3))
    assert "takes 2 positional arguments but 3 were given" in told
    assert "is probed by the recurrent module in it, or by forward(self, x, state=None)" in told


# What can be done with it.


def test_a_horizon_of_every_nth_lag_says_so() -> None:
    net, x = lstm(), random(40, 2, 3)
    legend = "horizon        first {} at which the median"
    assert legend.format("lag") in seqlab.probe(net, x).summary()
    assert legend.format("multiple of 10") in seqlab.probe(net, x, every=10).summary()


@pytest.mark.parametrize("route", routes())
def test_every_route_has_what_results_have(route: str, here: Path) -> None:
    _, probe = routes()[route]()
    found = probe()
    assert found.engine == (route if route != "layers" else "autograd")
    assert all(len(line) <= 80 for line in found.summary().splitlines())
    assert found.to_json()["spec"]["engine"] == found.engine
    assert len(found.to_dataframe())
    found.plot("curve.svg")
    assert Path("curve.svg").stat().st_size > 1000
    found.save("kept")
    (loaded,) = Store(Path("kept")).results(warnings.warn)
    assert loaded.spec == found.spec
    assert len(seqlab.load("kept"))


def test_every_second_lag_is_kept_as_such(here: Path) -> None:
    found = seqlab.probe(lstm(2), X, every=np.int64(2))
    (loaded,) = Store(found.save("kept").parent).results(warnings.warn)
    assert loaded.spec.every == 2
    assert found.to_json()["spec"]["every"] == 2


def test_a_loss_whose_gradient_is_nan_is_named() -> None:
    for value in (math.nan, math.inf):
        said = refused(LSTM, X, loss=lambda y, value=value: (y * value).sum())
        assert said.startswith("loss: 'a gradient of NaN or infinity' is not allowed; ")


def test_a_spec_names_what_was_probed() -> None:
    spec = seqlab.probe(LSTM, X).spec
    for name in ("name", "engine", "content"):
        fields = {one: getattr(spec, one) for one in ("name", "steps", "engine", "content")}
        with pytest.raises(InputError, match=f"^{name}: None is not allowed; "):
            ProbedSpec.of(**{one: value for one, value in fields.items() if one != name})


# Taps.


@pytest.mark.parametrize(("dtype", "within"), [("float32", 1e-5), ("float64", 1e-10)])
def test_taps_find_what_a_probe_finds(dtype: str, within: float, here: Path) -> None:
    """The same loop, in decades; to -411, where no dtype holds the gradient itself.

    Of float32 each step rounds by about 3 * 6e-8, in a random walk of 1,900 steps 8e-6, which is
    3.4e-6 decades; at the far end it is promised to be less than 2.4e-6 off.
    """
    cell = nn.LSTMCell(3, 6).to(getattr(torch, dtype))
    x, readout = random(1900, 1, 3).to(getattr(torch, dtype)), _unit(6)

    def loop(tap: Callable[..., Any]) -> list[Any]:
        cell.zero_grad()
        state = tuple(torch.zeros(1, 6, dtype=x.dtype) for _ in "hc")
        state = tap(*state)
        for x_t in x:
            state = tap(*cell(x_t, state))
        (state[0] * state[0].new_tensor(readout)).sum().backward()
        return [parameter.grad.clone() for parameter in cell.parameters()]

    with seqlab.taps() as tapped:
        gradients = loop(seqlab.tap)
    plain = loop(lambda *state: state)
    assert all(map(torch.equal, gradients, plain))
    found = tapped.attenuation
    wanted = seqlab.probe(cell, x, readout=readout, dtype="float64")

    def close(one: Any, other: Any, within: float) -> None:
        decades = one / math.log(10), other / math.log(10)
        np.testing.assert_allclose(*decades, rtol=0, atol=within)

    assert wanted.log_norm[0, 0, -1] / math.log(10) < -411
    assert (found.dtype, found.lags[-1], found.name) == (dtype, 1900, "taps")
    close(found.log_norm, wanted.log_norm, within)
    close(found.log_norm[0, 0, -1], wanted.log_norm[0, 0, -1], 2.4e-6)
    for part, of in zip(found.parts.values(), wanted.parts.values(), strict=True):
        close(part, of, within)
    assert "taps" in found.summary()
    found.plot("taps.svg")
    assert Path("taps.svg").stat().st_size > 1000
