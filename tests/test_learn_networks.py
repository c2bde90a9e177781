"""Losses and gradients of networks in training, against the naive ones, under every clip rule."""

import itertools
from typing import Any

import clips
import naive_training
import numpy as np
import numpy.typing as npt
import pytest
from drawn import KINDS, draw

from seqlab import rules
from seqlab.engine.sums import Sums
from seqlab.kernels.layout import unscaled
from seqlab.learning import networks as networks_module
from seqlab.learning.networks import Networks

Array = npt.NDArray[Any]

# Some hundred sums and products, each rounded by 1.1e-16; seen: 1e-14.
NEAR = 1e-11
AT = {"last": [22], "all": list(range(23)), "some": [0, 5, 6, 17], "first": [0]}
# Every rule and place on the cells as they come; other activations differ in the kernels alone.
CASES = [
    (arch, activation, clip, at)
    for arch, activation in KINDS
    for clip, at in itertools.product(("none", *clips.biting()), AT)
    if activation == "tanh" or (clip, at) == ("none", "some")
]


def squared(targets: Array, networks: range, y: Array) -> tuple[Array, Array]:
    """The sum of squared errors: great enough for every rule to act."""
    errors = y - targets[networks.start : networks.stop]
    return (errors**2).sum(axis=(1, 2, 3)), 2 * errors


def networks(arch: str, activation: str, count: int, dtype: str = "float64") -> tuple[Any, Any]:
    """An ensemble, and its run."""
    run = draw(arch, hidden=5, inputs=3, steps=23, batch=4, networks=count, seed=3)
    dice = np.random.default_rng(7)
    params = run.params | {
        "readout_weight": dice.normal(size=(count, 2, 5)),
        "readout_bias": dice.normal(size=(count, 2)),
    }
    params = {name: array.astype(dtype) for name, array in params.items()}
    chosen = activation if arch == "rnn" else None
    return Networks.of(arch, params, chosen), run


def clipped(found: Any, rule: Any) -> dict[str, Array]:
    sums, _ = found.sums.clipped(rule)
    return {name: unscaled(value, sums.exponent) for name, value in sums.values.items()}


@pytest.mark.parametrize(("arch", "activation", "clip", "at"), CASES)
def test_gradients_are_the_naive_ones(arch: str, activation: str, clip: str, at: str) -> None:
    trained, run = networks(arch, activation, 3)
    steps = AT[at]
    targets = np.random.default_rng(2).normal(size=(3, len(steps), 4, 2))
    rule = rules.parse(clip)
    found = trained.gradients(
        run.x, np.array(steps), lambda block, y: squared(targets, block, y), rule
    )
    have = clipped(found, rule)
    for m in range(3):
        params = {name: array[m] for name, array in trained.params.items()}

        def loss(y: Array, m: int = m) -> tuple[float, Array]:
            value, errors = squared(targets, range(m, m + 1), y[None])
            return float(value[0]), errors[0]

        value, want = naive_training.gradients(
            arch, params, run.x[m], steps, loss, activation, clip
        )
        assert found.loss[m] == pytest.approx(value, rel=NEAR)
        assert have.keys() == want.keys()
        for name, array in want.items():
            scale = np.abs(array).max()
            assert have[name][m] == pytest.approx(array, rel=0, abs=NEAR * scale), name
    nothing_left = (rule.kind, at) == ("truncate", "first")
    assert (found.fired > 0).all() == (rule.in_chain and not nothing_left)
    y = trained.outputs(run.x, np.array(steps))
    assert squared(targets, range(3), y)[0] == pytest.approx(found.loss, rel=NEAR)


@pytest.mark.tiny
def test_a_network_is_the_same_whatever_others_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, run = networks("lstm", "tanh", 3)
    targets = np.zeros((3, 1, 4, 2))
    at, rule = np.array([22]), rules.parse("step-norm:0.1")
    whole = trained.gradients(run.x, at, lambda b, y: squared(targets, b, y), rule)
    monkeypatch.setattr(
        networks_module.backends,
        "blocks",
        lambda backend, networks, each: [range(m, m + 1) for m in range(networks)],
    )
    for one in (
        trained.gradients(run.x, at, lambda b, y: squared(targets, b, y), rule),
        *(
            trained.subset(slice(m, m + 1)).gradients(
                run.x[m : m + 1], at, lambda b, y: squared(targets[:1], b, y), rule
            )
            for m in range(3)
        ),
    ):
        place = slice(None) if len(one.loss) == 3 else slice(m := seen(whole, one), m + 1)
        assert np.array_equal(one.loss, whole.loss[place])
        for name, value in one.sums.values.items():
            assert np.array_equal(value, whole.sums.values[name][place])


def seen(whole: Any, one: Any) -> int:
    """Which network it is, by its loss."""
    (place,) = np.flatnonzero(whole.loss == one.loss[0])
    return int(place)


@pytest.mark.tiny
@pytest.mark.parametrize("exponent", [-5000, -3, 0, 3, 900])
def test_gradients_in_log_scale_and_plain_ones_become_one(exponent: int) -> None:
    """Of a recurrent weight 0.75 x 2^exponent, of the readout's bias 0.5."""
    joined = networks_module.joined(
        Sums({"weight_hh": np.full((1, 2), 0.75)}, np.array([exponent])),
        {"readout_bias": np.full((1, 1), 0.5)},
    )
    have = {name: unscaled(value, joined.exponent) for name, value in joined.values.items()}
    assert have["readout_bias"].tolist() == [[0.5]]
    assert have["weight_hh"].tolist() == [[np.ldexp(0.75, exponent)] * 2]
