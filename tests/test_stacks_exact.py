"""What is exact of deep stacks, by the lab's kernels."""

import math
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
import stacked
from naive_depth import ACTIVATIONS, Array, Stack
from stack_runs import create, measured, slopes, taken
from stacked import Run, readout

from seqlab.kernels import backends
from seqlab.measure.curves import sweep_curves
from seqlab.measure.stack_networks import Networks
from seqlab.numbers.activations import find_activation
from seqlab.rules import UNCLIPPED

LN2 = math.log(2.0)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])


def curve(run: Run, rule: str = "none", seed: int = 2) -> Array:
    """ln of the norm by lag, relative to lag 0, (M, L + 1)."""
    logs = run.back([readout(run, seed=seed)], rule=rule).curves[0]
    return np.asarray(logs - logs[:, :1])


def made(
    stack: Stack,
    init: str = "he",
    width: int = 8,
    depth: int = 20,
    rows: int = 1,
    dtype: Any = np.float64,
    biases: bool = False,
) -> tuple[Run, list[stacked.Network]]:
    layers = stacked.networks(stack, 2, depth, width, init)
    if not biases:
        layers = [[p | {"bias": 0 * p["bias"]} for p in network] for network in layers]
    return Run(stack, layers, stacked.inputs(2, rows, width), dtype), layers


@pytest.mark.parametrize("gain", [0.5, 1.25])
def test_orthogonal_layers_scale_the_gradient_by_their_gain(gain: float) -> None:
    """At every lag to 10,000, far beyond the range of floats: from inputs of zero, whose way
    forward would leave it. Rounding: 10,000 layers of some 1e-16."""
    stack, depth = Stack("mlp", "identity"), 10_000
    layers = naive.draw(np.random.default_rng(0), stack, depth, 4, "orthogonal", gain)
    run = Run(stack, [layers], np.zeros((1, 1, 4)))
    want = np.arange(depth + 1) * math.log(gain)
    assert curve(run)[0] == pytest.approx(want, rel=0, abs=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_layer_exceeds_its_bound(name: str) -> None:
    """sigma_max(W) sup |phi'|."""
    run, layers = made(Stack("mlp", name), rows=3)
    steepest = find_activation(name).steepest
    for steps, network in zip(np.diff(curve(run)), layers, strict=True):
        for step, params in zip(steps, reversed(network), strict=True):
            most = np.linalg.svd(params["weight"])[1][0] * steepest
            assert step <= math.log(most) + 1e-12


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("alpha", [0.1, -0.02])
def test_a_residual_block_changes_no_more_than_its_branch(alpha: float, outside: bool) -> None:
    """|ratio - 1| <= |alpha| sigma_max(W) sup |phi'|."""
    run, layers = made(Stack("resnet", "gelu", outside=outside, alpha=alpha), rows=3)
    steepest = find_activation("gelu").steepest
    for steps, network in zip(np.diff(curve(run)), layers, strict=True):
        for step, params in zip(steps, reversed(network), strict=True):
            most = abs(alpha) * np.linalg.svd(params["weight"])[1][0] * steepest
            assert abs(math.expm1(step)) <= most * (1 + 1e-12)


HOMOGENEOUS = ("identity", "relu", "leaky", "prelu")


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("arch", ["mlp", "resnet", "densenet"])
def test_euler_s_identity(arch: str, name: str) -> None:
    """Without biases the function is homogeneous of degree one: <g_l, h_l> is the same number
    everywhere; of a densenet, over all features that there are."""
    run, _ = made(Stack(arch, name, alpha=0.6), rows=3)
    for m in range(2):
        pairs = enumerate(run.by_lag(readout(run)))
        values = [np.sum(g[m] * run.state(run.of.depth - lag, m)) for lag, g in pairs]
        assert len(values) == run.of.depth + 1
        assert np.array(values) == pytest.approx(values[0], rel=1e-10)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_every_layer_s_gradient_is_as_long_along_its_weights(name: str) -> None:
    """<dL/dW_l, W_l> is the same number for every layer of a plain stack (Du, Hu & Lee 2018)."""
    run, layers = made(Stack("mlp", name), rows=3)
    way = run.back([readout(run)])
    for m, network in enumerate(layers):
        values = []
        for layer, params in enumerate(network):
            weights = params["weight"].ravel()
            values.append(float(way.gradient(layer, m)[: weights.size] @ weights))
        assert np.array(values) == pytest.approx(values[0], rel=1e-10)


def test_under_layer_norm_the_state_s_own_direction_does_not_count() -> None:
    """Plain, no bias, eps = 0: <g_l, h_l> = 0 below the loss; and what goes into a norm, of one
    input the gradient of the biases, has nothing along 1 and along z."""
    run, layers = made(Stack("mlp", "tanh", "layer"))
    depth, way = run.of.depth, run.back([readout(run)])
    for m, network in enumerate(layers):
        for lag, g in enumerate(run.by_lag(readout(run))[1:], 1):
            h = run.state(depth - lag, m)
            size = np.linalg.norm(g[m]) * np.linalg.norm(h)
            assert abs(np.sum(g[m] * h)) <= 1e-12 * size
        for layer, params in enumerate(network):
            delta, size = way.gradient(layer, m)[-8:], np.linalg.norm(way.gradient(layer, m)[-8:])
            z = params["weight"] @ run.state(layer, m)[0]
            assert abs(delta.sum()) <= 1e-12 * size
            assert abs(delta @ (z - z.mean())) <= 1e-12 * size * np.linalg.norm(z)


def test_batch_norm_lets_nothing_through_along_one_and_along_its_input() -> None:
    """Over the batch, for every unit: dL/db = sum of delta, and (dL/dW) w = sum of delta z. To
    1e-12 of the gradient of all weights."""
    run, layers = made(Stack("mlp", "relu", "batch"), rows=7, depth=8)
    way = run.back([readout(run)])
    for m, network in enumerate(layers):
        for layer, params in enumerate(network):
            gradient = way.gradient(layer, m)
            weights, biases = gradient[:64].reshape(8, 8), gradient[64:]
            size = np.linalg.norm(weights)
            assert np.abs(biases).max() <= 1e-12 * size
            along = np.sum(weights * params["weight"], axis=1)
            assert np.abs(along).max() <= 1e-12 * size * np.linalg.norm(params["weight"])


def test_batch_norm_does_not_know_the_weights_scale() -> None:
    """But for the input, which is seen through weights that are as much larger."""
    stack, curves, squares = Stack("mlp", "relu", "batch"), [], []
    layers, x = stacked.networks(stack, 1, 12, 8, "normal"), stacked.inputs(1, 9, 8)
    for scale in (math.sqrt(1 / 3), 1.0, math.sqrt(2), 8.0):
        scaled = [[p | {"weight": scale * p["weight"]} for p in network] for network in layers]
        run = Run(stack, scaled, x)
        curves.append(curve(run)[0, :-1])
        squares.append(run.looked[0][0][0, 1:, 0])
    for a, b in zip(curves, squares, strict=True):
        assert a == pytest.approx(curves[1], abs=1e-12)
        assert b == pytest.approx(squares[1], abs=1e-12)


@pytest.mark.tiny
@DTYPES
@pytest.mark.parametrize("name", ["relu", "gelu", "tanh"])
def test_batch_norm_of_two_inputs_lets_nothing_through(name: str, dtype: Any) -> None:
    """An exact zero from the first norm on, which is no underflow, and so is what weights get."""
    run, _ = made(Stack("mlp", name, "batch"), rows=2, dtype=dtype)
    way = run.back([readout(run)])
    assert np.isfinite(way.curves[0][:, 0]).all()
    assert np.isneginf(way.curves[0][:, 1:]).all()
    assert np.isneginf(way.weights[0][:, :-1]).all()
    assert not way.last[0].any()
    assert not way.lost.any()


@pytest.mark.tiny
def test_a_zero_of_slopes_that_underflow_is_said_to_be_none() -> None:
    """Sigmoid's at -800, which float64 does not have."""
    stack = Stack("mlp", "sigmoid")
    layers = [{"weight": np.eye(3), "bias": np.full(3, -800.0)} for _ in range(2)]
    way = Run(stack, [layers], np.zeros((1, 1, 3))).back([np.ones((1, 1, 3))])
    assert np.isneginf(way.curves[0][0, 1:]).all()
    assert way.lost.all()


def test_a_sigmoid_stack_is_a_tanh_stack_in_disguise() -> None:
    """W = 4 V and b = -sum_j W_ij/2: h = (1 + tanh)/2, and the same adjoint layer by layer."""
    rng = np.random.default_rng(9)
    hyperbolic = naive.draw(rng, Stack("mlp", "tanh"), 20, 10, "pytorch")
    hyperbolic = [p | {"bias": np.zeros(10)} for p in hyperbolic]
    logistic = [
        {"weight": 4 * p["weight"], "bias": -2 * p["weight"].sum(axis=1)} for p in hyperbolic
    ]
    x = rng.normal(size=(1, 1, 10))
    tanh = Run(Stack("mlp", "tanh"), [hyperbolic], x)
    sigmoid = Run(Stack("mlp", "sigmoid"), [logistic], (1 + x) / 2)
    for layer in range(1, 21):
        assert sigmoid.state(layer) == pytest.approx((1 + tanh.state(layer)) / 2, abs=1e-14)
    assert curve(tanh) == pytest.approx(curve(sigmoid), abs=1e-12)
    assert -30 < curve(tanh)[0, -1] < -5


def test_the_weight_gradient_of_one_input_is_a_product() -> None:
    """||dL/dW_l|| = ||delta_l|| ||h_{l-1}||, and ||dL/db_l|| = ||delta_l||."""
    stack = Stack("mlp", "tanh")
    layers, x = stacked.networks(stack, 2, 20, 8), stacked.inputs(2, 1, 8)
    run = Run(stack, layers, x, entries=False)
    way = run.back([readout(run)])
    for m in range(2):
        for layer in range(20):
            weight, bias = way.gradient(layer, m)
            h = np.linalg.norm(run.state(layer, m))
            assert weight == pytest.approx(bias * h, rel=1e-13)


@pytest.mark.parametrize("outside", [True, False])
def test_branches_that_do_nothing_leave_the_gradient_alone(outside: bool) -> None:
    run, _ = made(Stack("resnet", "relu", alpha=0.0, outside=outside), rows=3)
    assert not curve(run).any()


def test_dense_layers_without_weights_leave_the_gradient_alone() -> None:
    layers = [{"weight": np.zeros((4, 4 * (i + 1))), "bias": np.zeros(4)} for i in range(3)]
    run = Run(Stack("densenet", "relu"), [layers], np.ones((1, 2, 4)))
    logs = run.back([np.ones((1, 2, 16))]).curves[0][0]
    assert (logs == logs[0]).all()
    assert math.isfinite(logs[0])


@pytest.mark.parametrize("rule", ["norm:1e-3", "value:1e-3"])
def test_rules_on_the_parameters_gradients_leave_the_curve(rule: str) -> None:
    run, _ = made(Stack("mlp", "relu"))
    np.testing.assert_array_equal(curve(run), curve(run, rule))


# Of whole runs.


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
