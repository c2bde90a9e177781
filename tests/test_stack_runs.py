"""Whole runs of deep stacks: every number of a small one against NumPy, theory in small ensembles,
draws, the range of numbers, memory."""

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import naive_depth as naive
import numpy as np
import pytest
import stacked
from naive_depth import Array
from naive_rules import read_rule
from test_stack_theory import SIMULATED

import seqlab
from seqlab.errors import InputError
from seqlab.kernels import backends, memory
from seqlab.layers.draws import Draw, draw_map, moments
from seqlab.layers.parts import Linear
from seqlab.measure import stack_cost, stack_networks
from seqlab.measure.curves import sweep_curves
from seqlab.measure.stack_cost import memory_bytes
from seqlab.measure.stack_networks import Networks
from seqlab.measure.stack_theory import prediction
from seqlab.measure.stacks import measure
from seqlab.numbers.activations import find_activation
from seqlab.numbers.depth import he_relu_law
from seqlab.rules import UNCLIPPED
from seqlab.spec.stack import StackSpec

NEAR = 1e-10  # of logs and shares against NumPy; seen: 1e-12


def create(**given: Any) -> StackSpec:
    """A small spec."""
    small = {"arch": "mlp", "steps": 6, "hidden": 8, "networks": 2, "clip": ["none"]}
    return StackSpec.create(**small | given)


def measured(spec: StackSpec) -> dict[str, Array]:
    return {name: np.asarray(v.data) for name, v in measure(spec).variables.items()}


class Taken(NamedTuple):
    """What a spec draws, as the naive stacks have it: by network the layers and the inputs (rows,
    units), and by network and length the loss's readout (rows, units)."""

    stack: naive.Stack
    layers: list[stacked.Network]
    x: list[Array]
    readouts: list[list[Array]]


def taken(spec: StackSpec) -> Taken:
    of, networks = spec.stack, Networks(spec)
    layers = []
    for m in range(spec.networks):
        network = []
        for layer in range(spec.steps):
            numbers, start, parts = networks.layer(m, layer), 0, {}
            names = iter(stacked.ORDER.get(spec.arch, stacked.TWO))
            for one in of.maps(layer):
                for shape in ((one.outputs, one.inputs), (one.outputs,)):
                    size = math.prod(shape)
                    parts[next(names)] = numbers[start : start + size].reshape(shape)
                    start += size
            assert start == len(numbers)
            network.append(parts)
        layers.append(network)
    kernels = backends.stack_kernels("cpu", of)
    block = networks.block(range(spec.networks), "cpu", kernels, 1)
    columns, rows = kernels.columns(np.dtype(spec.dtype)), of.rows
    state = block.tape.state.reshape(spec.networks, of.units, columns)
    readout = block.readout.reshape(spec.networks, len(spec.lengths), of.units, columns)
    assert not readout[..., rows:].any()
    readouts = []
    for m in range(spec.networks):
        born = [of.width * (n + 1) if of.grows else of.units for n in spec.lengths]
        readouts.append([readout[m, k, :n, :rows].T for k, n in enumerate(born)])
        assert not any(readout[m, k, n:].any() for k, n in enumerate(born))
    stack = naive.Stack(
        of.arch, of.activation, of.norm, of.place, of.outside, of.alpha, of.heads, of.eps
    )
    return Taken(stack, layers, [s[: of.width, :rows].T for s in state], readouts)


def joined(parts: list[Array]) -> float:
    """ln of the norm of vectors of which the logs of all entries are given."""
    logs = 2 * np.concatenate([part.ravel() for part in parts])
    largest = logs.max()
    if np.isneginf(largest):
        return -math.inf
    return float(largest + math.log(np.exp(logs - largest).sum())) / 2


def logs_of(scale: float, grads: naive.Gradients) -> list[Array]:
    with np.errstate(divide="ignore"):
        return [scale + np.log(np.abs(g)) for g in grads.values()]


def slopes(path: naive.Path, stack: naive.Stack, layers: stacked.Network) -> list[Array]:
    """phi'(z) of every block's activation (rows, units), from what goes into it."""
    slope, found = naive.ACTIVATIONS[stack.activation][1], []

    def normed(h: Array) -> Array:
        kind = "layer" if stack.arch == "transformer" else stack.norm
        return h if kind == "none" else naive.norm(h, kind, stack.eps)[0]

    for h, params in zip(path.states, layers, strict=False):
        if stack.arch == "transformer":
            inner = {k.removeprefix("self_attn."): v for k, v in params.items()}
            pre = stack.place == "pre"
            seen = naive.attention(normed(h) if pre else h, inner, stack.heads)[0]
            h = h + stack.alpha * seen
            z = normed(h) @ params["linear1.weight"].T + params["linear1.bias"]
        elif stack.arch == "resnet":
            h = normed(h) if stack.place == "pre" else h
            z = h @ params["weight"].T + params["bias"] if stack.outside else h
        else:
            z = normed(h @ params["weight"].T + params["bias"])
        found.append(slope(z))
    return found


RULES = ["none", "norm:0.1", "value:0.01", "step-norm:0.5", "step-value:0.05", "truncate:2"]
SPECS: dict[str, dict[str, Any]] = {
    "mlp": {"batch": 3, "clip": RULES, "lengths": [2, 6]},
    "one input": {"batch": 1, "activation": "tanh", "clip": RULES, "inputs": 5},
    "batch norm": {"batch": 5, "norm": "batch", "clip": RULES, "bias_scale": 0.5, "init": "he"},
    "resnet": {"arch": "resnet", "batch": 4, "norm": "layer", "order": "inside", "alpha": "sqrt"},
    "post": {"arch": "resnet", "batch": 4, "norm": "group:4", "place": "post", "inputs": 11},
    "densenet": {"arch": "densenet", "batch": 4, "readout": "all", "clip": RULES},
    "densenet last": {"arch": "densenet", "batch": 4, "readout": "last", "lengths": [3, 6]},
    "transformer": {"arch": "transformer", "tokens": 5, "heads": 2, "clip": RULES},
    "last token": {"arch": "transformer", "tokens": 5, "heads": 2, "readout": "last"},
    "post norm": {"arch": "transformer", "tokens": 3, "heads": 4, "place": "post", "steps": 3},
}


@pytest.mark.parametrize("name", SPECS)
def test_every_number_of_a_run_is_numpy_s(name: str) -> None:
    spec = create(**SPECS[name])
    have, want = measured(spec), taken(spec)
    lags, depth = have["lag"], spec.steps
    assert lags.tolist() == list(range(depth + 1))  # all are kept of so few
    for m, network in enumerate(want.layers):
        path = naive.forward(want.x[m], want.stack, network)
        states = [h[:, -spec.hidden :] for h in path.states[::-1]]  # by lag; the newest features
        squares = [math.log(np.mean(h**2)) for h in states]
        assert have["log_mean_square"][m] == pytest.approx(squares, abs=NEAR)
        if spec.rows > 1:
            cosines = [math.nan if (h == 0).all(axis=1).any() else naive.cosine(h) for h in states]
            assert have["cosine"][m] == pytest.approx(cosines, abs=NEAR, nan_ok=True)
        else:
            assert np.isnan(have["cosine"][m]).all()
        seen = slopes(path, want.stack, network)[::-1]
        least = 0.05 * find_activation(spec.activation).steepest
        shares = {
            "zero_units": [np.mean(s == 0) for s in seen],
            "dead_units": [np.mean((s == 0).all(axis=0)) for s in seen],
            "always_on_units": [np.mean((s != 0).all(axis=0)) for s in seen],
            "saturated_units": [np.mean(np.abs(s) < least) for s in seen],
        }
        for share, values in shares.items():
            assert have[share][m, :-1] == pytest.approx(np.array(values), abs=1e-15), share
            assert math.isnan(have[share][m, -1])
        for r, rule in enumerate(spec.clip):
            assert_rule(have, want, spec, m, r, rule)


def assert_rule(
    have: dict[str, Array], want: Taken, spec: StackSpec, m: int, r: int, rule: str
) -> None:
    """Curves and gradients of one network under one rule."""
    depth = spec.steps
    for k, length in enumerate(spec.lengths):
        path = naive.forward(want.x[m], want.stack, want.layers[m][:length])
        seen = naive.adjoints(path, want.stack, want.readouts[m][k], rule)
        assert seen.log_norm[0] == pytest.approx(0, abs=NEAR)  # of a densenet's newest features
        curve = have["log_norm"][m, r, k]
        assert curve[: length + 1] == pytest.approx(seen.log_norm, abs=NEAR)
        assert np.isnan(curve[length + 1 :]).all()
        every = [logs_of(*pair) for pair in seen.gradients]
        both = [joined(parts) for parts in every]
        assert have["log_norm_input"][m, r, k, :length] == pytest.approx(both, abs=NEAR)
    for part in ("weight", "bias"):
        logs = [
            joined(logs_of(scale, {k: g for k, g in grads.items() if k.endswith(part)}))
            for scale, grads in seen.gradients
        ]
        table = have[f"log_{part}_grad_norm"][m, r]
        if part == "bias" and spec.norm == "batch":
            assert (table[:depth] < -25).all()  # what rounding leaves of zero
        else:
            assert table[:depth] == pytest.approx(logs, abs=NEAR)
        assert math.isnan(table[depth])
    whole = [log for logs in every for log in logs]
    kind, threshold = read_rule(rule)
    unclipped = naive.adjoints(path, want.stack, want.readouts[m][-1])
    free = [log for pair in unclipped.gradients for log in logs_of(*pair)]
    before, after, acted = joined(free), joined(whole), 0.0
    if kind == "norm":
        after, acted = min(before, math.log(threshold)), float(before > math.log(threshold))
    if kind == "value":
        clipped = [np.minimum(log, math.log(threshold)) for log in free]
        after, acted = joined(clipped), float(max(log.max() for log in free) > math.log(threshold))
    assert have["log_param_grad_norm_before"][m, r] == pytest.approx(before, abs=NEAR)
    assert have["log_param_grad_norm_after"][m, r] == pytest.approx(after, abs=NEAR)
    if kind in ("norm", "value", "none"):
        assert have["clipped_fraction"][m, r] == acted


def far_clips(entries: bool) -> list[str]:
    """Thresholds under all numbers, over most, and between."""
    values = ["value:1e-300", "value:1e-3", "value:1e200"] if entries else []
    return ["none", "norm:1e-3", "norm:1e250", *values]


def assert_far(spec: StackSpec, want: Taken) -> list[float]:
    """The norm of all parameters' gradients before and after each rule, to 1e-9 of a log of some
    thousand; returns ln of the norm of each layer's, from the loss back."""
    have = measured(spec)
    path = naive.forward(want.x[0], want.stack, want.layers[0])
    seen = naive.adjoints(path, want.stack, want.readouts[0][0])
    every = [logs_of(*pair) for pair in seen.gradients]
    logs = [log for pair in every for log in pair]
    before = joined(logs)
    assert have["log_param_grad_norm_before"][0] == pytest.approx(before, rel=1e-12, abs=1e-9)
    for r, rule in enumerate(spec.clip):
        kind, threshold = read_rule(rule)
        after = before
        if kind == "norm":
            after = min(before, math.log(threshold))
        if kind == "value":
            after = joined([np.minimum(log, math.log(threshold)) for log in logs])
        found = have["log_param_grad_norm_after"][0, r]
        assert found == pytest.approx(after, rel=1e-12, abs=1e-9), rule
    return [joined(pair) for pair in every]


FAR = pytest.mark.parametrize("entries", [True, False], ids=["value", "norms"])


@FAR
def test_gradients_that_vanish_beyond_the_range(entries: bool) -> None:
    """Sigmoid's, which fall by decades a layer; the states do not."""
    spec = create(
        activation="sigmoid", steps=500, hidden=4, batch=1, networks=1, lengths=[500],
        clip=far_clips(entries),
    )  # fmt: skip
    by_layer = assert_far(spec, taken(spec))
    assert by_layer[-1] < -400 * math.log(10)


@FAR
def test_gradients_that_explode_beyond_the_range(entries: bool, here: Path) -> None:
    """The states of a linear stack fall to 1e-150 and rise to 1e150: between, biases get 1e300."""
    rng = np.random.default_rng(5)
    weights = {}
    for layer in range(250):
        scale = 0.1 if layer < 150 else 1000.0
        weights[f"{layer}.weight"] = scale * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    np.savez("far.npz", **weights)
    spec = create(
        activation="identity", steps=250, hidden=3, batch=1, networks=1, lengths=[250],
        clip=far_clips(entries), params="far.npz",
    )  # fmt: skip
    by_layer = assert_far(spec, taken(spec))
    assert max(by_layer) > 299 * math.log(10)


# The same bits.


def assert_equal(have: dict[str, Array], want: dict[str, Array]) -> None:
    assert have.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(have[name], value, err_msg=name)


BITS = {
    "mlp": {"batch": 3, "norm": "batch", "clip": RULES, "steps": 40, "spectrum": 3},
    "densenet": {"arch": "densenet", "batch": 3, "clip": RULES, "steps": 40},
    "transformer": {"arch": "transformer", "tokens": 3, "heads": 2, "steps": 40},
}


@pytest.mark.parametrize("name", BITS)
def test_runs_are_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any threads and blocks of networks; kept or drawn and computed again; and the first
    networks of more."""
    spec = create(**BITS[name], networks=4)
    want = measured(spec)
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        assert_equal(measured(spec), want)
    drawn: list[int] = []
    layer = Networks.layer

    def counted(self: Networks, m: int, number: int) -> Array:
        drawn.append(number)
        return layer(self, m, number)

    monkeypatch.setattr(Networks, "layer", counted)
    monkeypatch.setattr("seqlab.engine.tape.SEGMENT_BYTES", 1)
    assert_equal(measured(spec), want)
    assert len(drawn) == 4 * 40
    drawn.clear()
    monkeypatch.setattr(stack_networks, "KEPT_BYTES", 0)
    assert_equal(measured(spec), want)
    assert len(drawn) >= 2 * 4 * 40
    alone = measured(create(**BITS[name], networks=1))
    for field in ("log_norm", "log_weight_grad_norm", "log_mean_square", "decay_rate"):
        np.testing.assert_array_equal(alone[field], want[field][:1])


@pytest.mark.parametrize("arch", ["mlp", "resnet", "densenet", "transformer"])
def test_a_deeper_stack_begins_like_a_shorter_one(arch: str) -> None:
    """Its layers, and what is seen of them: what lies so far from the inputs."""
    short, long = create(arch=arch, steps=5), create(arch=arch, steps=9)
    for layer in range(5):
        for m in range(2):
            numbers = Networks(short).layer(m, layer)
            np.testing.assert_array_equal(Networks(long).layer(m, layer), numbers)
    one, other = measured(short), measured(long)
    for name in ("log_mean_square", "zero_units", "always_on_units"):
        np.testing.assert_array_equal(other[name][:, -6:], one[name][:, -6:], err_msg=name)


# What is exact of a run.


def test_orthogonal_layers_at_every_lag_of_a_run() -> None:
    """k ln g to lag 10,000; 10,000 layers of some 1e-16. The states vanish on the way: exact zeros,
    and so the weights' gradients, while the adjoint goes on."""
    gain, steps = 0.5, 10_000
    spec = create(
        activation="identity", init="orthogonal", gain=gain, steps=steps, hidden=3, batch=1,
        networks=1, lengths=[steps],
    )  # fmt: skip
    networks, kernels = Networks(spec), backends.stack_kernels("cpu", spec.stack)
    block = networks.block(range(1), "cpu", kernels, 1)
    block.tape.run(lambda saved: None)
    curves = sweep_curves(block.tape, spec.lengths, block.readout, UNCLIPPED)
    want = np.arange(steps + 1) * math.log(gain)
    assert curves.state[0][0] == pytest.approx(want, rel=0, abs=1e-8)
    assert not curves.lost.any()


@pytest.mark.parametrize(
    "given",
    [
        {"activation": "tanh"},
        {"activation": "sigmoid", "init": "he"},
        {"arch": "resnet", "activation": "identity", "alpha": 0.5},
    ],
)
def test_the_exponents_of_one_input_add_up_to_the_determinants(given: dict[str, Any]) -> None:
    """Of as many directions as units: the mean over layers of ln |det J|."""
    spec = create(**given, batch=1, spectrum=8)
    have, want = measured(spec), taken(spec)
    for m, network in enumerate(want.layers):
        path, logs = naive.forward(want.x[m], want.stack, network), []
        for params, slope in zip(network, slopes(path, want.stack, network), strict=True):
            jacobian = slope[0][:, np.newaxis] * params["weight"]
            if want.stack.arch == "resnet":
                jacobian = np.eye(8) + want.stack.alpha * jacobian
            logs.append(np.linalg.slogdet(jacobian)[1])
        assert have["lyapunov"][m].sum() == pytest.approx(np.mean(logs), rel=1e-10)


def test_the_exponents_of_a_batch_are_of_all_inputs_together() -> None:
    """Without a norm the Jacobian is one block an input."""
    spec = create(activation="tanh", batch=3, hidden=4, spectrum=12)
    have, want = measured(spec), taken(spec)
    for m, network in enumerate(want.layers):
        path, total = naive.forward(want.x[m], want.stack, network), 0.0
        for params, slope in zip(network, slopes(path, want.stack, network), strict=True):
            total += 3 * np.linalg.slogdet(params["weight"])[1] + np.log(slope).sum()
        assert have["lyapunov"][m].sum() == pytest.approx(total / spec.steps, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["relu", "gelu"])
def test_batch_norm_of_two_inputs_is_a_zero_and_no_underflow(name: str, dtype: str) -> None:
    have = measured(create(norm="batch", batch=2, activation=name, dtype=dtype))
    assert (have["log_norm"][..., 0] == 0).all()
    assert np.isneginf(have["log_norm"][..., 1:]).all()
    assert not have["underflow"].any()


# Theory.


class Rates(NamedTuple):
    """Of the totals over all layers: their mean, its standard error, their variance."""

    mean: float
    error: float
    variance: float


def rates(spec: StackSpec) -> Rates:
    totals = measured(spec)["decay_rate"][:, 0] * spec.steps
    assert np.isfinite(totals).all()
    return Rates(
        float(totals.mean()), float(totals.std(ddof=1)) / math.sqrt(len(totals)), totals.var(ddof=1)
    )


# What is allowed beside four standard errors, in nats, of so many layers and units: half a unit's
# share of a layer where theory has the width's correction, two where it has none; of a densenet
# what its sum leaves out.
Allowed = Callable[[int, int], float]
CORRECTED: Allowed = lambda layers, units: 0.5 * layers / units  # noqa: E731
FIRST: Allowed = lambda layers, units: 2 * layers / units  # noqa: E731
DENSE: Allowed = lambda layers, units: 0.05  # noqa: E731
RESIDUAL = {"arch": "resnet", "init": "xavier", "activation": "tanh"}
ENSEMBLES: dict[str, tuple[dict[str, Any], Allowed]] = {
    "tanh at Xavier": ({"activation": "tanh", "init": "xavier"}, CORRECTED),
    "relu by default": ({}, CORRECTED),
    "gelu at He": ({"activation": "gelu", "init": "he", "steps": 8}, CORRECTED),
    "orthogonal tanh": ({"activation": "tanh", "init": "orthogonal"}, CORRECTED),
    "layer norm": ({"activation": "tanh", "norm": "layer", "init": "xavier"}, CORRECTED),
    "biases": ({"activation": "tanh", "init": "he", "bias_scale": 0.3}, CORRECTED),
    "first layer": ({"activation": "tanh", "init": "he", "inputs": 3, "steps": 6}, CORRECTED),
    "residual": (RESIDUAL, FIRST),
    "pre": ({"arch": "resnet", "init": "he", "norm": "layer"}, FIRST),
    "post": (RESIDUAL | {"norm": "layer", "place": "post"}, FIRST),
    "inside": ({"arch": "resnet", "init": "he", "order": "inside", "alpha": "sqrt"}, FIRST),
    "dense": ({"arch": "densenet", "init": "he", "steps": 10}, DENSE),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_small_ensembles_do_what_theory_says(name: str) -> None:
    given, allowed = ENSEMBLES[name]
    spec = create(**{"steps": 20, "hidden": 32, "batch": 1, "networks": 100} | given)
    have, want = rates(spec), prediction(spec)
    assert not want.why or allowed is not CORRECTED
    beside = allowed(spec.steps, spec.hidden)
    assert abs(have.mean - want.total) <= 4 * have.error + beside


@pytest.mark.parametrize("init", ["he", "orthogonal"])
def test_relu_of_one_input_has_an_exact_law(init: str) -> None:
    """Mean and variance of 40 layers of 9 units, and the share of networks that are dead, to four
    errors; of the totals, nearly normal, the variance has the error v sqrt(2/M)."""
    steps, width, networks = 40, 9, 800
    given = {"gain": math.sqrt(2)} if init == "orthogonal" else {}
    spec = create(
        steps=steps, hidden=width, networks=networks, batch=1, init=init, lengths=[steps], **given
    )
    totals = measured(spec)["decay_rate"][:, 0] * steps
    law, alive = he_relu_law(width, init == "orthogonal"), totals[np.isfinite(totals)]
    zero = 1 - (1 - 2.0**-width) ** steps
    assert np.isneginf(totals[~np.isfinite(totals)]).all()
    dead = 1 - len(alive) / networks
    assert abs(dead - zero) <= 4 * math.sqrt(zero / networks)
    variance = alive.var(ddof=1)
    assert abs(alive.mean() - steps * law.mean) <= 4 * math.sqrt(variance / len(alive))
    want = steps * law.variance
    assert abs(variance - want) <= 4 * want * math.sqrt(2 / len(alive)) * 1.2
    exact = prediction(spec).exact
    assert exact is not None
    assert exact == pytest.approx((steps * law.mean, want, zero), rel=1e-9)


def test_half_of_all_relu_are_zero() -> None:
    """Of a draw without biases every unit is at zero with probability 1/2, given the layer before:
    a mean over networks, which are independent."""
    spec = create(steps=10, hidden=32, networks=100, batch=4, init="he")
    shares = measured(spec)["zero_units"][:, :-1]
    error = shares.std(axis=0, ddof=1) / math.sqrt(spec.networks)
    assert (np.abs(shares.mean(axis=0) - 0.5) <= 4.5 * error).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_batch_norm_explodes_as_theory_says(activation: str) -> None:
    """Between lag 3 and the second last: the first norm sees raw data."""
    spec = create(
        steps=25, hidden=192, batch=8, networks=12, norm="batch", init="he", activation=activation
    )
    logs = measured(spec)["log_norm"][:, 0, -1]
    slopes = (logs[:, -2] - logs[:, 3]) / (logs.shape[1] - 5)
    deeper = StackSpec.create(**spec.to_dict() | {"steps": 26, "lengths": [26]})
    want = prediction(deeper).total - prediction(spec).total
    error = slopes.std(ddof=1) / math.sqrt(len(slopes))
    assert abs(slopes.mean() - want) <= 4 * error + 0.003


@pytest.mark.parametrize("place", ["pre", "post"])
def test_transformers_do_what_theory_says(place: str) -> None:
    """A quarter of a nat with the norms before the branches, 0.3 and L/n with them after."""
    spec = create(
        arch="transformer", steps=12, hidden=64, tokens=16, heads=4, networks=12, place=place
    )
    have, want = rates(spec), prediction(spec)
    allowed = 0.25 if place == "pre" else 0.3 + spec.steps / spec.hidden
    assert abs(have.mean - want.total) <= 4 * have.error + allowed


def test_identical_inputs_die_together() -> None:
    """Dead units of He relu in batches of 32 of 256 units: 0, 0.089 and 0.408 after 1, 5 and 50
    layers (the integral over pairs of inputs, whose correlation grows), to 0.03."""
    spec = create(steps=50, hidden=256, batch=32, networks=12, init="he", lengths=[50])
    dead = measured(spec)["dead_units"].mean(axis=0)
    for layer, share in (
        (1, 0.0),
        (2, 0.0055),
        (5, 0.0892),
        (10, 0.2016),
        (20, 0.3092),
        (50, 0.4079),
    ):
        assert abs(dead[50 - layer] - share) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("init", SIMULATED)
def test_plain_stacks_are_as_simulated(init: str) -> None:
    """50 layers of 64 units by another program, to four errors of both; 0.05 for inputs of which
    the mean square is not one, but varies by a sixth."""
    for activation, (total, error) in SIMULATED[init].items():
        given = {"steps": 50, "hidden": 64, "batch": 1, "networks": 300, "lengths": [50]}
        have = rates(create(init=init, activation=activation, **given))
        assert abs(have.mean - total) <= 4 * math.hypot(have.error, error) + 0.05, activation


# Draws.

INITS = ("pytorch", "xavier", "he", "normal", "unit-normal", "orthogonal")


@pytest.mark.parametrize("shape", [(40, 40), (20, 80), (80, 20)])
@pytest.mark.parametrize("init", INITS)
def test_variances_of_draws(init: str, shape: tuple[int, int]) -> None:
    """Of 30 maps: means to five errors of a normal law's, 1/sqrt(N), variances to five of its
    sqrt(2/N) and less."""
    outputs, inputs = shape
    gain = None if init == "pytorch" else 1.5
    how, of = Draw(init, gain, None), Linear(outputs, inputs)
    drawn = [draw_map(np.random.default_rng(seed), of, how) for seed in range(30)]
    weights = np.stack([w for w, _ in drawn])
    variance = {
        "pytorch": 1 / (3 * inputs),
        "xavier": 1.5**2 * 2 / (inputs + outputs),
        "he": 1.5**2 * 2 / inputs,
        "normal": 1.5**2 / inputs,
        "unit-normal": 1.5**2,
        "orthogonal": 1.5**2 / max(shape),
    }[init]
    assert abs(weights.mean()) <= 5 * math.sqrt(variance / weights.size)
    assert weights.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / weights.size))
    known = moments(of, how)
    assert known.sw2 == pytest.approx(inputs * variance, rel=1e-12)
    biases = np.stack([b for _, b in drawn])
    bound = 1 / math.sqrt(inputs)
    if init == "pytorch":
        assert np.abs(weights).max() <= bound
        assert np.abs(weights).max() == pytest.approx(bound, rel=1e-3)
        assert np.abs(biases).max() <= bound
        assert biases.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / biases.size))
        assert known.sb2 == pytest.approx(variance)
    else:
        assert not biases.any()
        assert known.sb2 == 0
    if init == "orthogonal":
        one = weights[0] / 1.5
        gram = one @ one.T if outputs <= inputs else one.T @ one
        assert gram == pytest.approx(np.eye(min(shape)), abs=1e-14)


def test_orthogonal_maps_are_haar_s() -> None:
    """The trace of Haar's Q has mean 0 and variance 1; a QR whose signs are not made right, a
    diagonal that leans to one side."""
    how = Draw("orthogonal")
    traces = [
        np.trace(draw_map(np.random.default_rng(seed), Linear(6, 6), how)[0]) for seed in range(600)
    ]
    assert abs(np.mean(traces)) <= 4 / math.sqrt(600)
    assert np.var(traces) == pytest.approx(1, rel=4 * math.sqrt(2 / 600))


@pytest.mark.parametrize("init", INITS)
def test_biases_that_are_asked_for(init: str) -> None:
    how = Draw(init, None, 0.25)
    biases = np.stack(
        [draw_map(np.random.default_rng(seed), Linear(50, 7), how)[1] for seed in range(40)]
    )
    assert biases.std() == pytest.approx(0.25, rel=5 / math.sqrt(2 * biases.size))
    assert np.abs(biases).max() > 0.5  # a normal law's, not a bounded one's
    assert moments(Linear(50, 7), how).sb2 == 0.0625


@pytest.mark.parametrize("init", ["pytorch", "xavier"])
def test_a_transformer_s_draws(init: str) -> None:
    """As torch.nn.TransformerEncoderLayer makes them, or all of Xavier's law."""
    given = {} if init == "pytorch" else {"gain": 0.5}
    spec = create(arch="transformer", hidden=40, steps=3, tokens=2, init=init, networks=1, **given)
    for params in taken(spec).layers[0]:
        bounds = {
            "self_attn.in_proj_weight": math.sqrt(6 / (40 + 120)),
            "self_attn.out_proj.weight": 1 / math.sqrt(40),
            "linear1.weight": 1 / math.sqrt(40),
            "linear1.bias": 1 / math.sqrt(40),
            "linear2.weight": 1 / math.sqrt(160),
            "linear2.bias": 1 / math.sqrt(160),
        }
        if init == "xavier":
            bounds = {
                "self_attn.in_proj_weight": 0.5 * math.sqrt(6 / 80),
                "self_attn.out_proj.weight": 0.5 * math.sqrt(6 / 80),
                "linear1.weight": 0.5 * math.sqrt(6 / 200),
                "linear2.weight": 0.5 * math.sqrt(6 / 200),
            }
        for name, values in params.items():
            bound = bounds.get(name, 0.0)
            assert np.abs(values).max() <= bound
            # The largest of N uniform numbers: nearer to the bound than 12/N but for e^-12.
            assert np.abs(values).max() >= bound * (1 - 12 / values.size), name


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"init": "normal", "gain": 1e39}, "gain: 1e+39 is not allowed"),
        ({"init": "normal", "bias_scale": 1e39}, "bias_scale: 1e+39 is not allowed"),
        ({"bias_scale": 1e39}, "bias_scale: 1e+39 is not allowed"),
        ({"arch": "transformer", "init": "xavier", "gain": 1e39}, "gain: 1e+39 is not allowed"),
    ],
)
def test_what_float32_cannot_hold_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        measure(create(**given, dtype="float32"))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    measure(create(**given, dtype="float64"))


@pytest.mark.parametrize(
    ("given", "square"),
    [
        ({"init": "normal", "arch": "resnet"}, 1.0),
        ({"init": "he", "arch": "resnet", "gain": 0.5}, 0.5),
        ({"init": "he"}, 1.0),  # half of a square of two: a layer of relu
        ({"arch": "resnet"}, (1 + 1 / 25) / 3),
        ({"init": "normal", "norm": "layer"}, 0.5),
    ],
)
def test_behind_a_first_layer(given: dict[str, Any], square: float) -> None:
    """The mean square of what it makes of normal inputs; and that theory begins there. To five
    errors of its mean over networks."""
    spec = create(**given, inputs=25, hidden=64, networks=80, steps=1, batch=4)
    squares = np.exp(measured(spec)["log_mean_square"][:, -1])
    error = squares.std(ddof=1) / math.sqrt(len(squares))
    assert abs(squares.mean() - square) <= 5 * error
    assert error < 0.05 * square


# Memory.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "given",
    [
        {"steps": 100, "hidden": 64, "batch": 32, "networks": 6},
        {"steps": 400, "hidden": 16, "batch": 1, "networks": 4},
        {"steps": 40, "hidden": 64, "batch": 32, "norm": "batch", "spectrum": 4},
        {"steps": 60, "hidden": 64, "batch": 8, "clip": ["none", "value:1"]},
        {"arch": "densenet", "steps": 40, "hidden": 16, "batch": 8},
        {"arch": "transformer", "steps": 16, "hidden": 32, "tokens": 16},
    ],
    ids=lambda given: given.get("arch", "mlp"),
)
def test_estimates_of_memory_hold_and_are_not_idle(
    given: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least what is taken at the peak, at most three times as much; of several threads the peaks
    need not meet."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
    measure(create(**given | {"steps": 3, "networks": 2}))  # compiles, imports, fills caches
    spec = create(**given)
    peak = peak_of(spec)
    assert peak <= memory_bytes(spec) <= 3 * threads * peak


def test_estimates_of_what_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are drawn and computed again, in ten pieces."""
    for module in (stack_networks, stack_cost):
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    monkeypatch.setattr("seqlab.engine.tape.SEGMENT_BYTES", 1 << 20)
    spec = create(steps=300, hidden=32, batch=32, networks=2)
    measure(create(steps=3, hidden=32, batch=32, networks=2))
    peak = peak_of(spec)
    assert peak <= memory_bytes(spec) <= 3 * 2 * peak
    assert memory_bytes(spec) < spec.networks * spec.steps * stack_cost._layer_bytes(spec)


def peak_of(spec: StackSpec) -> int:
    """Bytes that a run holds at its peak, from none that are kept."""
    memory.release()
    tracemalloc.start()
    try:
        measure(spec)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


TINY: list[dict[str, Any]] = [
    {"arch": "mlp", "inputs": 3, "norm": "group:2", "batch": 2, "spectrum": 2},
    {"arch": "mlp", "inputs": 1, "norm": "batch", "batch": 3, "init": "orthogonal"},
    {"arch": "mlp", "activation": "tanh", "batch": 1, "params": "own.npz"},
    {"arch": "resnet", "batch": 2, "inputs": 3},
    {"arch": "densenet", "batch": 2, "readout": "last"},
    {"arch": "transformer", "tokens": 2, "heads": 1, "readout": "last"},
    {"arch": "transformer", "tokens": 2, "heads": 2, "init": "xavier"},
]


@pytest.mark.tiny
@pytest.mark.parametrize("given", TINY, ids=lambda given: given["arch"])
def test_tiny_runs(given: dict[str, Any], here: Path) -> None:
    """The public call: as many numbers as were asked for, and no more memory than was said."""
    weights = {f"{layer}.weight": np.eye(2) for layer in range(2)}
    np.savez("own.npz", **weights, **{"0.bias": np.ones(2)})
    spec = create(**given, steps=2, hidden=2, networks=1, clip=["none", "value:1", "step-norm:1"])
    result = seqlab.run(**{k: v for k, v in spec.to_dict().items() if v is not None})
    assert result.variables["log_norm"].data.shape == (1, 3, 1, 3)
    assert not np.isnan(result.variables["log_norm"].data).any()
    assert memory_bytes(spec) > 0


@pytest.mark.tiny
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_tiny_spectrum(activation: str) -> None:
    """Whose directions may die, or may not."""
    exponents = measured(create(activation=activation, batch=1, hidden=3, spectrum=3))["lyapunov"]
    assert exponents.shape == (2, 3)
    assert (exponents[:, :-1] >= exponents[:, 1:]).all()
    assert np.isneginf(exponents).any() == (activation == "relu")
