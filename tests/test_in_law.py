"""The sampler in law against matrices that are drawn, against exact laws, and against itself."""

import math
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array, Stack

from seqlab.errors import InputError
from seqlab.measure import in_law
from seqlab.measure.in_law import Law, Sampled, sample
from seqlab.measure.law_parts import Value, activation, norms, residual, true_scale
from seqlab.numbers.activations import find_activation
from seqlab.numbers.depth import he_relu_law, linear_law

WIDTH, DEPTH, DRAWN, SAMPLED = 12, 10, 300, 3000


def totals(sampled: Sampled) -> Array:
    """Of the longest length."""
    curve = sampled.curves[-1]
    return np.asarray(curve[:, -1] - curve[:, 0])


def drawn(stack: Stack, init: str, gain: float, bias: float) -> Array:
    """By network: the total; ln of the mean square of h, of |dL/dW| and |dL/db| in the middle."""
    rows = []
    for m in range(DRAWN):
        rng = np.random.default_rng([m, 23])
        layers = naive.draw(rng, stack, DEPTH, WIDTH, init, gain)
        for params in layers if bias else ():
            params["bias"] = bias * rng.normal(size=WIDTH)
        path = naive.forward(rng.normal(size=(1, WIDTH)), stack, layers)
        readout = rng.normal(size=(1, WIDTH))
        seen = naive.adjoints(path, stack, readout / np.linalg.norm(readout))
        middle = DEPTH // 2
        log, grads = seen.gradients[middle]
        rows.append(
            [
                seen.log_norm[-1] - seen.log_norm[0],
                math.log(np.mean(path.states[DEPTH - middle] ** 2)),
                log + math.log(np.linalg.norm(grads["weight"])),
                log + math.log(np.linalg.norm(grads["bias"])),
            ]
        )
    return np.array(rows)


def sampled_alike(stack: Stack, init: str, gain: float, bias: float) -> Array:
    """The same of the sampler."""
    law = Law(
        stack.arch,
        stack.activation,
        WIDTH,
        1 / 3 if init == "pytorch" else gain**2,
        1 / math.sqrt(3 * WIDTH) if init == "pytorch" else bias,
        init == "pytorch",
        init == "orthogonal",
        stack.norm,
        stack.place,
        stack.outside,
        stack.alpha,
    )
    have = sample(law, range(SAMPLED), 5, [DEPTH], [DEPTH // 2])
    columns = (have.log_square, have.log_norm_weight, have.log_norm_bias)
    return np.stack([totals(have), *(column[:, 0] for column in columns)], axis=1)


@pytest.mark.parametrize(
    ("stack", "init", "gain", "bias"),
    [
        (Stack("mlp", "tanh"), "normal", 1.5, 0.3),
        (Stack("mlp", "tanh"), "orthogonal", 1.5, 0.3),
        (Stack("mlp", "sigmoid"), "pytorch", 1.0, 0.0),
        (Stack("mlp", "elu"), "pytorch", 1.0, 0.0),
        (Stack("mlp", "silu", "layer"), "normal", 1.0, 0.5),
        (Stack("mlp", "prelu", "layer"), "orthogonal", 1.0, 0.0),
        (Stack("resnet", "prelu", alpha=0.7), "normal", 1.4, 0.0),
        (Stack("resnet", "tanh", alpha=0.7), "orthogonal", 1.4, 0.5),
        (Stack("resnet", "prelu", outside=False), "normal", 1.4, 0.5),
        (Stack("resnet", "gelu", outside=False), "orthogonal", 1.0, 0.0),
        (Stack("resnet", "prelu", "layer"), "normal", 1.4, 0.5),
        (Stack("resnet", "tanh", "layer", outside=False), "normal", 1.4, 0.5),
        (Stack("resnet", "tanh", "layer", outside=False), "orthogonal", 1.4, 0.0),
        (Stack("resnet", "prelu", "layer", "post"), "normal", 1.4, 0.5),
        (Stack("resnet", "prelu", "layer", "post", outside=False), "normal", 1.4, 0.5),
        (Stack("resnet", "sigmoid", "layer", "post"), "orthogonal", 2.0, 0.0),
    ],
)
def test_agrees_with_matrices_in_mean_and_variance(
    stack: Stack, init: str, gain: float, bias: float
) -> None:
    """Of the total, and of what is told of a layer in the middle: 4 errors of the difference. The
    error of a variance is that of the mean of squared distances. PyTorch's uniform weights, whose
    fourth moment counts in the order of 1/n^2, have 1/n^2 a layer more; a mean square that a norm
    makes one is so but for rounding."""
    samples = [f(stack, init, gain, bias) for f in (drawn, sampled_alike)]
    more = DEPTH / WIDTH**2 if init == "pytorch" else 1e-13
    for power in (1, 2):
        values = samples if power == 1 else [np.square(x - x.mean(axis=0)) for x in samples]
        means = [x.mean(axis=0) for x in values]
        error = np.sqrt(sum(x.var(axis=0) / len(x) for x in values))
        assert (np.abs(means[0] - means[1]) <= 4 * error + more).all(), power


@pytest.mark.tiny
@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("width", [4, 6, 64])
def test_he_s_relu_has_its_exact_law(width: int, orthogonal: bool) -> None:
    """Mean, variance and zeros, 4 errors."""
    networks, depth = 4000, 20
    have = totals(
        sample(Law("mlp", "relu", width, 2.0, orthogonal=orthogonal), range(networks), 3, [depth])
    )
    law = he_relu_law(width, orthogonal)
    dead = 1 - (1 - law.zero) ** depth
    assert abs(np.isneginf(have).mean() - dead) <= 4 * math.sqrt(dead * (1 - dead) / networks)
    logs = have[np.isfinite(have)]
    assert len(logs) + np.isneginf(have).sum() == networks
    squares = np.square(logs - logs.mean())
    for values, want in ((logs, depth * law.mean), (squares, depth * law.variance)):
        error = values.std() / math.sqrt(len(logs))
        assert abs(values.mean() - want) <= 4 * error


@pytest.mark.tiny
def test_linear_stacks() -> None:
    """Orthogonal: k ln g at every lag, beyond the range of floats; Gaussian: its exact law."""
    for gain in (0.5, 3.0):
        law = Law("mlp", "identity", 4, gain**2, orthogonal=True)
        (curve,) = sample(law, range(2), 0, [10_000]).curves
        assert curve[:, 0] == pytest.approx(0, abs=1e-15)
        want = np.arange(10_001) * math.log(gain)
        assert curve == pytest.approx(np.stack([want, want]), abs=1e-8)
    have = totals(sample(Law("mlp", "identity", 8, 1.0), range(2000), 1, [30]))
    law = linear_law(8)
    assert abs(have.mean() - 30 * law.mean) <= 4 * math.sqrt(30 * law.variance / 2000)


@pytest.mark.tiny
def test_a_dead_layer_is_exactly_zero_from_there_on() -> None:
    have = sample(Law("mlp", "relu", 2, 2.0), range(50), 0, [30], range(31))
    curve = have.curves[0]
    dead = np.isneginf(curve)
    assert dead[:, -1].any()
    assert not np.isnan(curve).any()
    assert (dead[:, 1:] >= dead[:, :-1]).all()
    # The first layer, seen from below, whose units are all off; above it all are.
    gone = have.zero_share == 1
    assert (gone.any(axis=1) == dead[:, -1]).all()
    assert np.isneginf(have.log_square[gone]).all()
    assert np.isneginf(have.log_norm_weight[gone]).all()


@pytest.mark.tiny
def test_stacks_that_vanish_keep_their_logarithms() -> None:
    """relu at sw2 = 1/4: h and the adjoint leave the range of floats, at equal pace."""
    depth, n = 3000, 16
    have = sample(Law("mlp", "relu", n, 0.25), range(30), 0, [depth], [0, depth])
    alive = np.isfinite(totals(have))
    want = depth * (he_relu_law(n).mean + math.log(1 / 8) / 2)
    error = math.sqrt(depth * he_relu_law(n).variance / alive.sum())
    grown = (have.log_square[:, 0] - have.log_square[:, 1])[alive] / 2
    for found in (totals(have)[alive], grown):
        assert found.mean() < -2500
        assert abs(found.mean() - want) <= 4 * error


LAWS = {
    "mlp": Law("mlp", "tanh", 5, 1.5, 0.2),
    "layer": Law("mlp", "silu", 5, 1.5, 0.2, True, True, "layer"),
    "resnet": Law("resnet", "relu", 5, 1.5, alpha=0.3),
}


def same(one: Sampled, other: Sampled) -> bool:
    """To the last bit, nan where it is nan."""
    pairs = zip([*one.curves, *one[1:]], [*other.curves, *other[1:]], strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.tiny
@pytest.mark.parametrize("name", LAWS)
def test_a_network_does_not_depend_on_the_others(name: str, monkeypatch: Any) -> None:
    law, lengths, lags = LAWS[name], [3, 40], [0, 7, 40]
    whole = sample(law, range(6), 9, lengths, lags)
    one = sample(law, range(4, 5), 9, lengths, lags)
    rows = Sampled([c[4:5] for c in whole.curves], *(array[4:5] for array in whole[1:]))
    assert same(one, rows)
    monkeypatch.setattr(in_law, "_AT_ONCE", 10)  # two networks at once
    assert same(sample(law, range(6), 9, lengths, lags), whole)


@pytest.mark.tiny
@pytest.mark.parametrize("name", LAWS)
def test_pieces_that_are_drawn_again_give_the_same_numbers(name: str, monkeypatch: Any) -> None:
    law, lengths, lags = LAWS[name], [3, 40, 51], [0, 7, 51]
    monkeypatch.setattr(in_law, "_PIECE", 5 * 8)  # eight layers a piece
    whole = sample(law, range(3), 9, lengths, lags)
    for kept in (0, 8 * in_law._SAVED * 3 * 5 * 8 * 2):  # none, and two pieces
        monkeypatch.setattr(in_law, "KEPT_BYTES", max(kept, 8 * 5 * 7))
        assert same(sample(law, range(3), 9, lengths, lags), whole)


@pytest.mark.tiny
def test_lengths_share_the_forward_pass_and_are_what_they_are_alone() -> None:
    law = LAWS["mlp"]
    both = sample(law, range(3), 9, [20, 100], [80])
    alone = sample(law, range(3), 9, [20], [0])
    assert np.array_equal(both.curves[0], alone.curves[0])
    assert np.array_equal(both.log_square, alone.log_square)  # a deeper one begins alike
    assert not np.array_equal(both.curves[1][:, :21], both.curves[0])


@pytest.mark.tiny
def test_what_is_told_of_layers() -> None:
    """At lag T there is no layer; |dL/dW| = |dL/db| |h| of the layer below, for a plain stack."""
    have = sample(LAWS["mlp"], range(3), 9, [10], range(11))
    assert np.isnan(have.log_norm_weight[:, -1]).all()
    assert np.isfinite(have.log_norm_weight[:, :-1]).all()
    log_h = (have.log_square + math.log(5)) / 2
    product = have.log_norm_bias[:, :-1] + log_h[:, 1:]
    assert have.log_norm_weight[:, :-1] == pytest.approx(product, abs=1e-12)
    half = sample(Law("mlp", "relu", 4000, 2.0), range(1), 0, [3], [0])
    assert half.zero_share[0, 0] == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(4000))


@pytest.mark.tiny
def test_ticks_add_up_to_all_layers() -> None:
    ticks: list[int] = []
    sample(LAWS["mlp"], range(7), 0, [3, 2000], tick=lambda layers, rows: ticks.append(layers))
    assert sum(ticks) == 7 * (2000 + 2003)


@pytest.mark.tiny
def test_norms_of_numbers_whose_squares_leave_the_range() -> None:
    x = np.array([[3e-200, 4e-200], [3e200, 4e200], [0.0, 0.0], [3.0, 4.0]])
    assert norms(x)[:, 0] == pytest.approx([5e-200, 5e200, 0, 5], rel=1e-14, abs=0)


@pytest.mark.tiny
@pytest.mark.parametrize("exponent", [-3, 0, 5])
def test_the_scales_of_a_sum_need_not_be_alike(exponent: int) -> None:
    h = Value(np.array([[0.5, -0.75]]), np.array([[exponent]]))
    tanh = find_activation("tanh")
    total, _ = residual(h, 0.5, lambda z: activation(z, tanh))
    z = true_scale(h)
    assert true_scale(total) == pytest.approx(z + 0.5 * np.tanh(z), rel=1e-15)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("law", "name"),
    [
        (Law("densenet", "relu", 8, 2.0), "arch"),
        (Law("mlp", "relu", 8, 2.0, norm="batch"), "norm"),
        (Law("mlp", "relu", 2, 2.0, norm="layer"), "hidden"),
        (Law("mlp", "elo", 8, 2.0), "activation"),
    ],
)
def test_blocks_without_a_sampler_are_refused(law: Law, name: str) -> None:
    with pytest.raises(InputError, match=rf"^{name}: [^\n]* is not allowed; [^\n]*$"):
        sample(law, range(1), 0, [3])


@pytest.mark.slow
def test_a_hundred_thousand_layers() -> None:
    """relu at He's variance: the exact law at a depth where floats end many times over."""
    depth = 100_000
    have = totals(sample(Law("mlp", "relu", 64, 2.0), range(1), 0, [depth]))
    law = he_relu_law(64)
    assert abs(have[0] - depth * law.mean) <= 4 * math.sqrt(depth * law.variance)
