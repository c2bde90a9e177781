"""The naive deep stacks against central differences, exact identities and theory."""

import math

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import ACTIVATIONS, Array, Path, Stack
from reference import stacks

from seqlab.numbers import depth
from seqlab.numbers.activations import find_activation, kurtosis

ROWS, WIDTH, DEPTH = 5, 6, 3


def made(stack: Stack, init: str = "pytorch", width: int = WIDTH, **sizes: int) -> Path:
    """A stack that has been through, from normal inputs."""
    rng = np.random.default_rng(7)
    layers = naive.draw(rng, stack, sizes.get("depth", DEPTH), width, init)
    h = rng.normal(size=(sizes.get("rows", ROWS), width))
    return naive.forward(h, stack, layers)


@pytest.mark.parametrize("name", stacks.STACKS)
def test_gradients_are_central_differences(name: str) -> None:
    """Of the input and of every parameter of every block, along a random direction."""
    stack = stacks.STACKS[name]
    rng = np.random.default_rng(3)
    layers = naive.draw(rng, stack, DEPTH, WIDTH, "pytorch")
    h = rng.normal(size=(ROWS, WIDTH))
    path = naive.forward(h, stack, layers)
    readout = rng.normal(size=path.states[-1].shape)
    seen = naive.adjoints(path, stack, readout)

    def loss() -> float:
        return float(np.sum(readout * naive.forward(h, stack, layers).states[-1]))

    def along(array: Array) -> tuple[Array, float]:
        direction = rng.normal(size=array.shape)
        before, values = array.copy(), []
        for sign in (1, -1):
            array[...] = before + sign * 1e-6 * direction
            values.append(loss())
        array[...] = before
        return direction, (values[0] - values[1]) / 2e-6

    scale = float(np.linalg.norm(readout))
    checked = 0
    for params, (log, grads) in zip(reversed(layers), seen.gradients, strict=True):
        assert params.keys() == grads.keys()
        for key, array in params.items():
            direction, want = along(array)
            have = float(np.sum(direction * grads[key])) * math.exp(log)
            assert have == pytest.approx(want, rel=1e-6, abs=1e-8 * scale), key
            checked += 1
    assert checked == DEPTH * len(layers[0])
    direction, want = along(h)
    log, g = seen.states[-1]
    have = float(np.sum(direction * g)) * math.exp(log)
    assert have == pytest.approx(want, rel=1e-6, abs=1e-8 * scale)


@pytest.mark.parametrize("name", stacks.STACKS)
def test_gradients_are_pytorch_s(name: str) -> None:
    """The last state, the input's gradient and every parameter's; 1e-12, softmax and erf by other
    programs: some units in the last place through six blocks."""
    drawn = stacks.draw(name)
    path = naive.forward(drawn.x, stacks.STACKS[name], drawn.layers)
    seen = naive.adjoints(path, stacks.STACKS[name], drawn.readout)
    grads = [
        {key: value * math.exp(log) for key, value in part.items()}
        for log, part in reversed(seen.gradients)
    ]
    log, g = seen.states[-1]
    answers = stacks.flat(path.states[-1], g * math.exp(log), grads)
    errors = stacks.relative_errors(name, answers)
    assert max(errors.values()) <= 1e-12, errors


def curve(path: Path, stack: Stack, seed: int = 0) -> Array:
    """ln of the norm by lag, relative to lag 0, for a random readout."""
    readout = np.random.default_rng(seed).normal(size=path.states[-1].shape)
    logs = naive.adjoints(path, stack, readout).log_norm
    return np.asarray(logs - logs[0])


def test_orthogonal_layers_scale_the_gradient_by_their_gain() -> None:
    """At every lag to 10,000: far beyond the range of floats."""
    stack, gain, width, layers = Stack("mlp", "identity"), 0.5, 4, 10_000
    rng = np.random.default_rng(0)
    path = naive.forward(
        rng.normal(size=(1, width)),
        stack,
        naive.draw(rng, stack, layers, width, "orthogonal", gain),
    )
    assert curve(path, stack) == pytest.approx(np.arange(layers + 1) * math.log(gain), abs=1e-8)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_no_layer_exceeds_its_bound(name: str) -> None:
    """sigma_max(W) sup |phi'|."""
    stack = Stack("mlp", name)
    rng = np.random.default_rng(1)
    layers = naive.draw(rng, stack, 30, 8, "he")
    steps = np.diff(curve(naive.forward(rng.normal(size=(3, 8)), stack, layers), stack))
    steepest = find_activation(name).steepest
    for step, params in zip(steps, reversed(layers), strict=True):
        most = np.linalg.svd(params["weight"])[1][0] * steepest
        assert step <= math.log(most) + 1e-12


HOMOGENEOUS = ("identity", "relu", "leaky", "prelu")


@pytest.mark.parametrize("name", HOMOGENEOUS)
@pytest.mark.parametrize("arch", ["mlp", "resnet", "densenet"])
def test_euler_s_identity(arch: str, name: str) -> None:
    """Without biases the function is homogeneous of degree one: <g_l, h_l> is the same number
    everywhere."""
    stack = Stack(arch, name, alpha=0.6)
    path = made(stack, "he", width=16, depth=20)
    readout = np.random.default_rng(5).normal(size=path.states[-1].shape)
    states = zip(naive.adjoints(path, stack, readout).states, reversed(path.states), strict=True)
    values = np.array([np.sum(g * h) * math.exp(log) for (log, g), h in states])
    assert values == pytest.approx(values[0], rel=1e-10)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_every_layer_s_gradient_is_as_long_along_its_weights(name: str) -> None:
    """<dL/dW_l, W_l> is the same number for every layer of a plain stack (Du, Hu & Lee 2018)."""
    stack = Stack("mlp", name)
    rng = np.random.default_rng(2)
    layers = naive.draw(rng, stack, 20, 16, "he")
    path = naive.forward(rng.normal(size=(ROWS, 16)), stack, layers)
    seen = naive.adjoints(path, stack, rng.normal(size=(ROWS, 16)))
    values = np.array(
        [
            float(np.sum(grads["weight"] * params["weight"])) * math.exp(log)
            for (log, grads), params in zip(seen.gradients, reversed(layers), strict=True)
        ]
    )
    assert values == pytest.approx(values[0], rel=1e-10)


def test_a_norm_leaves_nothing_along_one_and_along_its_output() -> None:
    rng = np.random.default_rng(4)
    for kind, axis in (("layer", 1), ("batch", 0)):
        z, g = rng.normal(size=(2, 7, 8))
        out, back = naive.norm(z, kind, 0.0)
        before = back(g)[0]
        size = np.linalg.norm(before)
        assert np.abs(before.sum(axis=axis)).max() <= 1e-12 * size
        assert np.abs((before * out).sum(axis=axis)).max() <= 1e-12 * size
        assert np.abs((before * z).sum(axis=axis)).max() <= 1e-12 * size


def test_under_layer_norm_the_state_s_own_direction_does_not_count() -> None:
    """Plain, no bias, eps = 0: <g_l, h_l> = 0 below the loss."""
    stack = Stack("mlp", "tanh", "layer")
    path = made(stack, "he", depth=10)
    readout = np.random.default_rng(0).normal(size=path.states[-1].shape)
    states = naive.adjoints(path, stack, readout).states[1:]
    for (_, g), h in zip(states, reversed(path.states[:-1]), strict=True):
        assert abs(np.sum(g * h)) <= 1e-12 * np.linalg.norm(g) * np.linalg.norm(h)


def test_batch_norm_does_not_know_the_weights_scale() -> None:
    stack = Stack("mlp", "relu", "batch")
    rng = np.random.default_rng(6)
    layers = naive.draw(rng, stack, 12, 8, "normal")
    h = rng.normal(size=(9, 8))
    curves = []
    for scale in (math.sqrt(1 / 3), 1.0, math.sqrt(2), 8.0):
        scaled = [params | {"weight": scale * params["weight"]} for params in layers]
        curves.append(curve(naive.forward(h, stack, scaled), stack))
    # But for the input: it is seen through weights that are as much larger.
    assert all(c[:-1] == pytest.approx(curves[1][:-1], abs=1e-12) for c in curves)


def test_batch_norm_of_two_inputs_lets_nothing_through() -> None:
    stack = Stack("mlp", "tanh", "batch")
    steps = curve(made(stack, "he", rows=2), stack)
    assert steps[0] == 0
    assert np.isneginf(steps[1:]).all()


def test_a_sigmoid_stack_is_a_tanh_stack_in_disguise() -> None:
    """W = 4 V and b = -sum_j W_ij/2: h = (1 + tanh)/2, and the same adjoint layer by layer."""
    rng = np.random.default_rng(9)
    hyperbolic = naive.draw(rng, Stack("mlp", "tanh"), 20, 10, "pytorch")
    hyperbolic = [{"weight": p["weight"], "bias": np.zeros(10)} for p in hyperbolic]
    logistic = [
        {"weight": 4 * p["weight"], "bias": -2 * p["weight"].sum(axis=1)} for p in hyperbolic
    ]
    x = rng.normal(size=(1, 10))
    tanh = naive.forward(x, Stack("mlp", "tanh"), hyperbolic)
    sigmoid = naive.forward((1 + x) / 2, Stack("mlp", "sigmoid"), logistic)
    for a, b in zip(tanh.states[1:], sigmoid.states[1:], strict=True):
        assert b == pytest.approx((1 + a) / 2, abs=1e-14)
    one, other = curve(tanh, Stack("mlp", "tanh")), curve(sigmoid, Stack("mlp", "sigmoid"))
    assert one == pytest.approx(other, abs=1e-12)


def test_the_weight_gradient_of_one_input_is_a_product() -> None:
    """||dL/dW_l|| = ||delta_l|| ||h_{l-1}||, and ||dL/db_l|| = ||delta_l||."""
    stack = Stack("mlp", "tanh")
    path = made(stack, rows=1)
    seen = naive.adjoints(path, stack, np.ones((1, WIDTH)))
    for (_, grads), h in zip(seen.gradients, reversed(path.states[:-1]), strict=True):
        weight, bias = (np.linalg.norm(grads[name]) for name in ("weight", "bias"))
        assert weight == pytest.approx(bias * np.linalg.norm(h), rel=1e-13)


def test_branches_that_do_nothing_leave_the_gradient_alone() -> None:
    stack = Stack("resnet", "relu", alpha=0.0)
    assert not curve(made(stack, "he"), stack).any()
    dense = Stack("densenet", "relu")
    layers = [{"weight": np.zeros((4, 4 * (i + 1))), "bias": np.zeros(4)} for i in range(3)]
    path = naive.forward(np.ones((2, 4)), dense, layers)
    logs = naive.adjoints(path, dense, np.ones((2, 16))).log_norm
    assert (logs == logs[0]).all()


def rates(stack: Stack, init: str, width: int, blocks: int, networks: int, **how: float) -> Array:
    """The total of each network, one input of mean square one."""
    totals = []
    rows = int(how.get("rows", 1))
    for m in range(networks):
        rng = np.random.default_rng([m, 11])
        layers = naive.draw(rng, stack, blocks, width, init)
        h = rng.normal(size=(rows, width))
        h *= math.sqrt(width) / np.linalg.norm(h, axis=1, keepdims=True)
        path = naive.forward(h, stack, layers)
        totals.append(curve(path, stack, seed=m)[-1])
    return np.array(totals)


@pytest.mark.parametrize(
    ("name", "init", "sw2", "sb2"),
    [
        ("relu", "he", 2, 0),
        ("tanh", "xavier", 1, 0),
        ("sigmoid", "xavier", 1, 0),
        ("tanh", "pytorch", 1 / 3, 1 / 3),
        ("relu", "pytorch", 1 / 3, 1 / 3),
        ("silu", "he", 2, 0),
    ],
)
def test_plain_stacks_do_what_theory_says(name: str, init: str, sw2: float, sb2: float) -> None:
    """The sum over layers with the shift of the width, within 4 errors and 1/2n a layer."""
    width, blocks = 32, 30
    phi = find_activation(name)
    totals = rates(Stack("mlp", name), init, width, blocks, 120)
    plain = depth.plain_stack(phi, sw2, sb2 / width, blocks)
    shift = sum(depth.width_shift(kurtosis(phi, q), width) for q in plain.q)
    error = totals.std(ddof=1) / math.sqrt(len(totals))
    assert abs(totals.mean() - plain.total - shift) <= 4 * error + blocks * 0.5 / width


@pytest.mark.parametrize(
    ("stack", "init", "want"),
    [
        (Stack("resnet", "tanh"), "xavier", ("residual", 1, True)),
        (Stack("resnet", "relu", outside=False), "he", ("residual", 2, False)),
        (Stack("resnet", "relu", "layer"), "he", ("pre", 2, True)),
        (Stack("resnet", "relu", "layer", outside=False), "he", ("pre", 2, False)),
        (Stack("resnet", "sigmoid", "layer", "post", False), "xavier", ("post", 1, False)),
        (Stack("resnet", "tanh", "layer", "post"), "xavier", ("post", 1, True)),
    ],
)
def test_residual_stacks_do_what_theory_says(
    stack: Stack, init: str, want: tuple[str, float, bool]
) -> None:
    width, blocks = 48, 20
    kind, sw2, outside = want
    phi = find_activation(stack.activation)
    if kind == "post":
        total = blocks * math.log(depth.post_norm_factor(phi, sw2, 1, outside)) / 2
    else:
        theory = depth.residual_stack if kind == "residual" else depth.pre_norm_stack
        total = theory(phi, sw2, 1, blocks, outside).total
    totals = rates(stack, init, width, blocks, 80)
    error = totals.std(ddof=1) / math.sqrt(len(totals))
    assert abs(totals.mean() - total) <= 4 * error + 2 * blocks / width


def test_dense_stacks_do_what_theory_says() -> None:
    stack, width, blocks = Stack("densenet", "relu"), 32, 12
    totals = rates(stack, "he", width, blocks, 80)
    error = totals.std(ddof=1) / math.sqrt(len(totals))
    assert abs(totals.mean() - math.log(blocks + 1) / 2) <= 4 * error + 0.05


def test_batch_norm_explodes_as_theory_says() -> None:
    """Between lag 3 and the second last: the first norm sees raw data."""
    stack, width, blocks, rows = Stack("mlp", "relu", "batch"), 192, 25, 8
    slopes = []
    for m in range(12):
        rng = np.random.default_rng([m, 13])
        layers = naive.draw(rng, stack, blocks, width, "he")
        path = naive.forward(rng.normal(size=(rows, width)), stack, layers)
        logs = curve(path, stack, seed=m)
        slopes.append((logs[-2] - logs[3]) / (len(logs) - 5))
    want = math.log(depth.batch_norm_factor(find_activation("relu"), rows)) / 2
    error = np.std(slopes, ddof=1) / math.sqrt(len(slopes))
    assert abs(np.mean(slopes) - want) <= 4 * error + 0.003


def test_what_is_counted_of_activations() -> None:
    h = np.array([[0.0, 1.0, 0.0, -2.0], [0.0, 0.0, 3.0, 1.0]])
    assert naive.shares(h) == {"zero": 0.5, "dead": 0.25, "always_on": 0.25}
    assert naive.cosine(np.array([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(math.sqrt(0.5))
