"""Deep stacks through the engine, against the naive stacks and PyTorch."""

import math
from collections.abc import Sequence
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
import stacked
from naive_depth import Array, Stack
from reference import stacks
from stacked import Run, Way, largest_error, readout

NEWEST, LN2 = "densenet", math.log(2.0)
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])
# Of sums of tens of terms through five layers: some hundred roundings, and as many more where few
# rows or units are normalised. Seen: 4e-14 and 1.4e-5.
NEAR = {np.float64: 1e-12, np.float32: 2e-4}


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
    """The last state, the input's gradient and every parameter's, to 1e-10; seen: 1e-15."""
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
