"""Deep stacks through the engine: against the naive ones and PyTorch, and what is exact of them."""

import math
from collections.abc import Sequence
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
import stacked
from naive_depth import ACTIVATIONS, Array, Stack
from reference import stacks
from stacked import Run, Way, largest_error, readout

from seqlab.engine import tape as tapes
from seqlab.kernels.cpu import threads
from seqlab.numbers.activations import find_activation

NEWEST, LN2 = "densenet", math.log(2.0)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
# Of sums of tens of terms through five layers: some hundred roundings, and as many more where few
# rows or units are normalised. Seen: 2e-13 and 1e-4.
NEAR = {np.float64: 1e-11, np.float32: 2e-3}


def rounded(layers: Sequence[stacked.Network], dtype: Any) -> list[stacked.Network]:
    """The same numbers for both sides."""
    return [
        [{k: v.astype(dtype).astype(float) for k, v in layer.items()} for layer in network]
        for network in layers
    ]


def assert_naive(
    run: Run,
    stack: Stack,
    layers: Sequence[stacked.Network],
    x: Array,
    readouts: Sequence[Array],
    lengths: Sequence[int],
    rule: str = "none",
) -> Way:
    """States, curves at every lag of every length, norms of every layer's gradients, the gradients
    themselves and the input's."""
    near = NEAR[run.dtype.type]
    way = run.back(readouts, lengths, rule)
    for m, network in enumerate(layers):
        for k, length in enumerate(lengths):
            path = naive.forward(x[m], stack, network[:length])
            for layer, state in enumerate(path.states):
                assert largest_error(run.state(layer, m), state) <= near
            want = naive.adjoints(path, stack, readouts[k][m], rule)
            assert way.curves[k][m] == pytest.approx(want.log_norm, abs=near)
            flats = [stacked.flat(stack.arch, grads) for _, grads in want.gradients]
            scales = [log for log, _ in want.gradients]
            with np.errstate(divide="ignore"):
                norms = [math.log(np.linalg.norm(g) or 0) if g.any() else -math.inf for g in flats]
            norms = [norm + log for norm, log in zip(norms, scales, strict=True)]
            assert way.weights[k][m, :-1] == pytest.approx(norms, abs=near)
            log, g = want.states[-1]
            have = way.last[0][m, k] * np.exp(way.last[1][m, k] - log)
            assert largest_error(have, g[:, : run.of.width]) <= near
            if length == run.of.depth:
                for layer, grads in enumerate(flats[::-1]):
                    assert_gradient(run, way, m, layer, grads, scales[length - 1 - layer], near)
    return way


def assert_gradient(
    run: Run, way: Way, m: int, layer: int, want: Array, scale: float, near: float
) -> None:
    """One layer's, times e^scale: its entries, or the norms of all weights and all biases."""
    values, exponent = way.gradients[layer]
    have = values[m].astype(float) * math.exp(exponent[m] * LN2 - scale)
    if not run.entries:
        parts, start = [0.0, 0.0], 0
        for one in run.of.maps(layer):
            for i, count in enumerate((one.outputs * one.inputs, one.outputs)):
                parts[i] = math.hypot(parts[i], np.linalg.norm(want[start : start + count]))
                start += count
        want = np.array(parts)
    assert largest_error(have, want) <= near


CASES: dict[str, Stack] = stacks.STACKS | {
    "mlp-batch": Stack("mlp", "tanh", "batch"),
    "mlp-layer": Stack("mlp", "tanh", "layer"),
    "mlp-group": Stack("mlp", "tanh", "group:2"),
    "resnet-group-pre": Stack("resnet", "relu", "group:2", alpha=-0.7, outside=False),
    "resnet-group-post": Stack("resnet", "relu", "group:2", "post", alpha=2.0),
    "densenet-batch": Stack("densenet", "relu", "batch"),
    "densenet-group": Stack("densenet", "relu", "group:2"),
    "transformer-alpha-pre": Stack("transformer", "gelu", alpha=0.5, heads=2),
    "transformer-alpha-post": Stack("transformer", "relu", place="post", alpha=0.5, heads=6),
}


@DTYPES
@pytest.mark.parametrize("name", CASES)
def test_everything_is_as_of_the_naive_stack(name: str, dtype: Any) -> None:
    """Several networks and several lengths at once, sizes that fill no vector."""
    stack, count, lengths = CASES[name], 2, [2, 3, 5]
    layers = rounded(stacked.networks(stack, count, 5, 12), dtype)
    x = stacked.inputs(count, 5, 12).astype(dtype).astype(float)
    run = Run(stack, layers, x, dtype, entries=name in stacks.STACKS)
    readouts = [readout(run, length).astype(dtype).astype(float) for length in lengths]
    assert_naive(run, stack, layers, x, readouts, lengths)


@pytest.mark.tiny
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("arch", ["mlp", "resnet", "densenet", "transformer"])
def test_tiny_stacks(arch: str, rows: int) -> None:
    stack = Stack(arch, "relu", "layer" if arch == "resnet" else "none", eps=1e-3)
    layers, x = stacked.networks(stack, 2, 3, 3), stacked.inputs(2, rows, 3)
    run = Run(stack, layers, x)
    assert_naive(run, stack, layers, x, [readout(run, 2), readout(run, 3)], [2, 3])


@pytest.mark.tiny
def test_tiny_batch_norm() -> None:
    stack = Stack("mlp", "relu", "batch")
    layers, x = stacked.networks(stack, 1, 2, 3), stacked.inputs(1, 4, 3)
    run = Run(stack, layers, x, entries=False)
    assert_naive(run, stack, layers, x, [readout(run)], [2])


@DTYPES
@pytest.mark.parametrize("width", [1, 3, 7, 33])
@pytest.mark.parametrize("rows", [1, 3, 7, 33])
@pytest.mark.parametrize("arch", ["mlp", "densenet"])
def test_any_size(arch: str, rows: int, width: int, dtype: Any) -> None:
    stack = Stack(arch, "tanh")
    layers = rounded(stacked.networks(stack, 1, 3, width), dtype)
    x = stacked.inputs(1, rows, width).astype(dtype).astype(float)
    run = Run(stack, layers, x, dtype)
    assert_naive(run, stack, layers, x, [readout(run).astype(dtype).astype(float)], [3])


@pytest.mark.parametrize("name", stacks.STACKS)
def test_gradients_are_pytorch_s(name: str) -> None:
    """The last state, the input's gradient and every parameter's, to 1e-10; seen: 1e-14."""
    drawn, stack = stacks.draw(name), stacks.STACKS[name]
    run = Run(stack, [drawn.layers], drawn.x[np.newaxis])
    way = run.back([drawn.readout[np.newaxis]])
    grads = []
    for layer, params in enumerate(drawn.layers):
        values, start, parts = way.gradient(layer), 0, {}
        for key in stacked.ORDER.get(stack.arch, stacked.TWO):
            parts[key] = values[start : start + params[key].size].reshape(params[key].shape)
            start += params[key].size
        grads.append({key: parts[key] for key in params})
    x = way.last[0][0, 0] * math.exp(way.last[1][0, 0])
    answers = stacks.flat(run.state(stacks.DEPTH), x, grads)
    errors = stacks.relative_errors(name, answers)
    assert max(errors.values()) <= 1e-10, errors


# A shorter stack is the beginning of a longer one.


@DTYPES
@pytest.mark.parametrize(
    "name", ["mlp-relu-layer", "resnet-batch-pre-inside", "transformer-pre-gelu"]
)
def test_a_shorter_stack_is_a_run_of_its_own(name: str, dtype: Any) -> None:
    """The same bits at every lag, beside whatever other lengths."""
    stack, layers = CASES[name], stacked.networks(CASES[name], 2, 5, 12)
    x = stacked.inputs(2, 3, 12)
    run = Run(stack, layers, x, dtype)
    readouts = [readout(run, length) for length in (1, 2, 5)]
    way = run.back(readouts, [1, 2, 5])
    for k, length in enumerate((1, 2, 5)):
        own = Run(stack, [network[:length] for network in layers], x, dtype)
        alone = own.back([readouts[k]])
        np.testing.assert_array_equal(way.curves[k], alone.curves[0])
        np.testing.assert_array_equal(way.weights[k], alone.weights[0])
        np.testing.assert_array_equal(way.last[0][:, k], alone.last[0][:, 0])


@pytest.mark.parametrize("newest", [True, False], ids=["last", "all"])
def test_a_shorter_dense_stack_is_a_run_of_its_own(newest: bool) -> None:
    """Beside features that are not born yet; sums over a longer state are taken in another order,
    and only what decides of a rescaling is such a sum."""
    stack, lengths = CASES["densenet-layer"], (1, 2, 5)
    layers, x = stacked.networks(stack, 2, 5, 7), stacked.inputs(2, 3, 7)
    run = Run(stack, layers, x)
    readouts = [readout(run, length, last=newest) for length in lengths]
    way = assert_naive(run, stack, layers, x, readouts, lengths)
    for k, length in enumerate(lengths):
        own = Run(stack, [network[:length] for network in layers], x)
        alone = own.back([readouts[k]])
        np.testing.assert_array_equal(way.curves[k], alone.curves[0])
        np.testing.assert_array_equal(way.weights[k], alone.weights[0])


# What is exact.


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


# Clip rules.


@DTYPES
@pytest.mark.parametrize(
    "rule", ["step-norm:1", "step-norm:0.02", "step-value:0.1", "step-value:1e-3", "truncate:2"]
)
@pytest.mark.parametrize(
    "name",
    ["mlp-tanh", "mlp-relu-batch", "resnet-group-post", "densenet-none", "transformer-alpha-pre"],
)
def test_rules_inside_the_chain(name: str, rule: str, dtype: Any) -> None:
    """On the adjoint of all units and rows together."""
    stack, lengths = CASES[name], [3, 7]
    layers = rounded(stacked.networks(stack, 2, 7, 12), dtype)
    x = stacked.inputs(2, 5, 12).astype(dtype).astype(float)
    run = Run(stack, layers, x, dtype)
    readouts = [readout(run, length).astype(dtype).astype(float) for length in lengths]
    way = assert_naive(run, stack, layers, x, readouts, lengths, rule)
    kind, _, threshold = rule.partition(":")
    if kind == "truncate":
        assert (way.fired[:, 1] == 1).all()
        assert np.isneginf(way.curves[1][:, 3:]).all()
        assert np.isfinite(way.curves[1][:, :3]).all()
    if kind == "step-norm" and stack.arch != NEWEST:
        assert (way.curves[1][:, 1:] <= math.log(float(threshold)) + NEAR[dtype]).all()


def test_a_norm_s_clip_is_a_plateau() -> None:
    """g Q, g > 1: every layer is clipped to the threshold."""
    stack = Stack("mlp", "identity")
    layers = naive.draw(np.random.default_rng(0), stack, 50, 4, "orthogonal", 1.5)
    run = Run(stack, [layers], np.ones((1, 1, 4)))
    way = run.back([readout(run)], rule="step-norm:1.25")
    assert way.curves[0][0, 1:] == pytest.approx(np.full(50, math.log(1.25)), abs=1e-13)
    assert way.fired == 50


@pytest.mark.parametrize("rule", ["norm:1e-3", "value:1e-3"])
def test_rules_on_the_parameters_gradients_leave_the_curve(rule: str) -> None:
    run, _ = made(Stack("mlp", "relu"))
    np.testing.assert_array_equal(curve(run), curve(run, rule))


# The same bits.

WIDE = {
    "mlp": Stack("mlp", "relu", "layer"),
    "resnet": Stack("resnet", "relu", "batch", outside=False),
    "densenet": Stack("densenet", "relu"),
    "transformer": Stack("transformer", "relu", heads=4),
}


def bits(run: Run) -> list[Array]:
    """All that a run leaves."""
    depth = run.of.depth
    lengths = [depth // 2, depth]
    way = run.back([readout(run, length) for length in lengths], lengths)
    gradients = [part for pair in way.gradients for part in pair]
    looked = [np.concatenate([one[i] for one in run.looked], axis=1) for i in (1,)]
    states = [run.state(layer, m) for layer in (1, depth) for m in range(run.tape.networks)]
    return [*way.curves, *way.weights, *gradients, *way.last, *looked, *states]


def assert_same(have: list[Array], want: list[Array]) -> None:
    assert len(have) == len(want)
    for one, other in zip(have, want, strict=True):
        np.testing.assert_array_equal(one, other)


@DTYPES
@pytest.mark.parametrize("entries", [True, False], ids=["entries", "norms"])
@pytest.mark.parametrize("arch", WIDE)
def test_threads_and_repeats_change_nothing(
    arch: str, entries: bool, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So large that kernels are shared."""
    stack = WIDE[arch]
    layers, x = stacked.networks(stack, 2, 2, 160, "pytorch"), stacked.inputs(2, 64, 160)
    woken: list[int] = []
    start = threads.start

    def counted(*arguments: Any) -> Any:
        woken.append(1)
        return start(*arguments)

    monkeypatch.setattr(threads, "start", counted)
    found = []
    for count in (1, 2, 3, 2):
        monkeypatch.setenv("NUMBA_NUM_THREADS", str(count))
        found.append(bits(Run(stack, layers, x, dtype, entries)))
        assert bool(woken) == (count > 1)
    for other in found[1:]:
        assert_same(other, found[0])


@DTYPES
@pytest.mark.parametrize("entries", [True, False], ids=["entries", "norms"])
@pytest.mark.parametrize("arch", WIDE)
def test_a_network_does_not_know_the_others(arch: str, entries: bool, dtype: Any) -> None:
    """150 units: gradients in ten panels, whose squares are added up."""
    stack, width = WIDE[arch], 148
    layers, x = stacked.networks(stack, 5, 2, width), stacked.inputs(5, 3, width)
    whole = Run(stack, layers, x, dtype, entries)
    alone = Run(stack, layers[3:4], x[3:4], dtype, entries)
    seeded = readout(whole)
    together, own = whole.back([seeded]), alone.back([seeded[3:4]])
    np.testing.assert_array_equal(whole.state(2, 3), alone.state(2, 0))
    np.testing.assert_array_equal(together.curves[0][3:4], own.curves[0])
    np.testing.assert_array_equal(together.weights[0][3:4], own.weights[0])
    for (a, exponent), (b, other) in zip(together.gradients, own.gradients, strict=True):
        np.testing.assert_array_equal(a[3:4], b)
        np.testing.assert_array_equal(exponent[3:4], other)


@pytest.mark.parametrize("depth", [40, 48])
@pytest.mark.parametrize("arch", WIDE)
def test_segments_change_nothing(arch: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept or computed again, whole or in pieces of sixteen layers, the last one shorter or not."""
    stack = WIDE[arch]
    layers, x = stacked.networks(stack, 2, depth, 8), stacked.inputs(2, 5, 8)
    whole = bits(Run(stack, layers, x))
    assert_same(bits(Run(stack, layers, x, budget=0)), whole)
    monkeypatch.setattr(tapes, "SEGMENT_BYTES", 1)
    for budget in (1 << 30, 0):
        run = Run(stack, layers, x, budget=budget)
        assert len(run.tape.starts) == 3
        assert run.tape.keeps_all == bool(budget)
        assert_same(bits(run), whole)


@pytest.mark.parametrize("arch", WIDE)
def test_calls_of_one_layer_change_nothing(arch: str) -> None:
    run = Run(WIDE[arch], stacked.networks(WIDE[arch], 2, 5, 8), stacked.inputs(2, 5, 8))
    last = run.by_lag(readout(run))[-1]
    way = run.back([readout(run)])
    scale = np.rint(way.last[1][:, 0] / LN2).astype(int)
    np.testing.assert_array_equal(np.ldexp(way.last[0][:, 0], scale[:, None, None]), last)
