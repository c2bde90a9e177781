"""What claims read off results, each against its definition."""

import math

import numpy as np
import pytest

import seqlab
from seqlab.claims.readings import reading
from seqlab.errors import InputError
from seqlab.numbers.estimate import of_variance


def test_readings_are_what_the_curve_says() -> None:
    """Of a linear network that keeps a half, exactly."""
    given = {"arch": "rnn", "activation": "identity", "init": "orthogonal", "clip": "none"}
    half = seqlab.run(**given, gain=0.5, steps=20, networks=6)
    told = {
        "decades": 20 * math.log10(0.5),
        "decades_per_link": math.log10(0.5),
        "factor": 0.5,
        "rate": math.log(0.5),
        "horizon@1e-3": 10,
        "largest": 20 * math.log10(0.5),
        "rules_apart": 0,
    }
    for name, number in told.items():
        found = reading(name).of(half)
        assert found.value == pytest.approx(number, rel=1e-12), name
        assert found.low <= found.value + 1e-12
        assert found.high >= found.value - 1e-12
    third = seqlab.run(**given, gain=1 / 3, steps=20, networks=6)
    apart = reading("decades_per_link").of(half, third)
    assert apart.value == pytest.approx(math.log10(1.5), rel=1e-12)


def test_the_share_of_networks_that_learn() -> None:
    made = seqlab.learn(arch="rnn", steps=4, updates=300, networks=4, clip="none", hidden=16)
    solved = made.variables["solved_at"].data[:, 0, 0] >= 0
    found = reading("solved_share").of(made)
    assert found.value == solved.mean()
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_readings_of_stacks_in_training() -> None:
    made = seqlab.train(activation="tanh", depths=[3], width=8, networks=6, updates=40, solved=0.01)
    data = {name: one.data for name, one in made.variables.items()}
    moved, loss = data["log_moved"][:, 0, 0] / math.log(10), data["loss"][:, 0, 0]
    told = {
        "accuracy": data["test_accuracy"][:, 0, 0],
        "test_loss": data["test_loss"][:, 0, 0],
        "decades_trained": data["log_norm_trained"][:, 0, 0, 3] / math.log(10),
        "moved_apart": moved[:, 2] - moved[:, 0],
        "first_part@0.25": (loss[:, 0] - loss[:, 9]) / (loss[:, 0] - loss.min(axis=1)),
    }
    for name, sample in told.items():
        assert reading(name).of(made).value == pytest.approx(np.median(sample), rel=1e-12), name
    assert reading("log_updates").of(made).value == math.inf
    easy = seqlab.train(activation="tanh", depths=[1], width=8, networks=6, updates=300, lr=0.03)
    after = np.median(easy.variables["solved_at"].data)
    assert after > 0
    assert reading("log_updates").of(easy).value == pytest.approx(math.log10(after), rel=1e-2)


def test_a_variance_has_the_interval_of_a_normal_law() -> None:
    """Of 2,000 samples of ten numbers of variance 4 it holds the truth 95 times in 100, within
    three standard errors of that share."""
    dice = np.random.default_rng(0)
    found = [of_variance(dice.normal(3, 2, 10)) for _ in range(2000)]
    share = np.mean([one.low < 4 < one.high for one in found])
    assert share == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))
    assert np.mean([one.value for one in found]) == pytest.approx(4, rel=0.05)


def test_readings_of_layers() -> None:
    made = seqlab.depth(depth=6, width=40, activation="relu", init="he", networks=8, batch=4)
    data = made.variables
    dead = data["dead_units"].data
    lag = data["lag"].data
    assert reading("dead_units@6").of(made).value == dead[:, lag == 0].mean()
    assert reading("dead_units@1").of(made).value == dead[:, lag == 5].mean()
    over = (data["zero_units"].data[:, lag < 6] > 0.5).mean()
    assert reading("half_dead").of(made).value == pytest.approx(over, rel=1e-12)
    square = np.median(data["log_mean_square"].data[:, lag == 0]) / math.log(10)
    assert reading("mean_square@6").of(made).value == pytest.approx(square, rel=1e-12)
    norms = data["log_weight_grad_norm"].data[:, 0] / math.log(10)
    under = (norms[:, lag < 6] < norms[:, lag < 6].max(axis=1)[:, None] + math.log10(0.9)).mean(1)
    assert reading("layers_under@0.9").of(made).value == pytest.approx(np.median(under), rel=1e-12)
    assert under.mean() > 0
    with pytest.raises(InputError, match="reading: lag -3 is not kept"):
        reading("dead_units@9").of(made)
