"""Trained networks on sequences they never saw, of another length."""

import re
from typing import Any

import naive
import numpy as np
import pytest
from courses import LOSSES, NEAR, Array, data, naive_course, same, small

import seqlab
from seqlab.errors import InputError
from seqlab.learning.batches import batch_of
from seqlab.measure.randomness import Purpose
from seqlab.spec.learn import LearnSpec

BATCHES = 3
TESTS = ("test_loss", "test_accuracy")


@pytest.fixture(autouse=True)
def few_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqlab.learning.held_out.TESTED_BY", 25 * BATCHES)


def naive_test(spec: LearnSpec, m: int, length: int, params: dict[str, Array]) -> list[float]:
    """Mean loss and share of right answers at the steps past those of training."""
    own = {name: array for name, array in params.items() if not name.startswith("readout_")}
    losses, right = [], []
    for part in range(1, 1 + BATCHES):
        batch = batch_of(
            spec.trained_on, spec.seed, m, part, spec.test_length, 25, Purpose.HELD_OUT
        )
        hidden = naive.forward(spec.arch, own, batch.x, activation=spec.activation or "tanh")
        past = [k for k, step in enumerate(batch.at) if step >= length] or range(len(batch.at))
        y = np.stack(
            [
                hidden["output"][batch.at[k]] @ params["readout_weight"].T + params["readout_bias"]
                for k in past
            ]
        )
        targets = np.stack([batch.targets[k] for k in past])
        losses.append(LOSSES[spec.trained_on.loss](targets)(y)[0])
        if spec.trained_on.classifies:
            right.append(np.mean(y.argmax(axis=-1) == targets))
    return [float(np.mean(found)) for found in (losses, right) if found]


@pytest.mark.parametrize(
    ("arch", "task", "tested"),
    [
        ("gru", "parity", 9),
        ("rnn", "parity", 5),
        ("lstm", "temporal-order", 12),
        ("ssm", "latch", 9),
    ],
)
def test_a_test_is_that_of_each_network_alone(arch: str, task: str, tested: int) -> None:
    """Of lengths 5 and 7: both, one or none of them shorter than the test."""
    given: dict[str, Any] = {"lengths": [5, 7], "clip": ["none", "norm:0.01"], "lr": 0.01}
    spec = small(arch=arch, task=task, test_length=tested, **given)
    found = data(spec)
    for place, length in enumerate(spec.lengths):
        for rule, clip in enumerate(spec.clip):
            for m in range(2):
                lone = naive_course(spec, m, length, clip)
                wanted = naive_test(spec, m, length, lone["params"])
                have = [found[name][m, rule, place] for name in TESTS if name in found]
                assert have == pytest.approx(wanted, rel=NEAR)
    assert ("test_accuracy" in found) == (task != "latch")
    # And nothing else of training is another number for it.
    plain = data(small(arch=arch, task=task, **given))
    same({name: array for name, array in found.items() if name not in TESTS}, plain)


def test_a_network_that_has_ended_fails_its_test() -> None:
    """Beside one that goes on: rules keep it from the rate that ends the others."""
    spec = small(
        task="parity",
        optimizer="sgd",
        lr=3e38,  # the range of float32
        clip=["none", "norm:1e-38"],
        dtype="float32",
        test_length=9,
    )
    found = data(spec)
    ended = found["diverged_at"] >= 0
    assert ended[:, 0].all()
    assert not ended[:, 1].any()
    assert np.isposinf(found["test_loss"][ended]).all()
    assert (found["test_accuracy"][ended] == 0).all()
    assert np.isfinite(found["test_loss"][~ended]).all()
    assert (found["test_accuracy"][~ended] > 0.2).all()


def test_a_network_that_counts_parity_does_so_at_any_length() -> None:
    """What is learned on ten steps holds on forty."""
    result = seqlab.learn(
        arch="gru",
        task="parity",
        lengths=[10],
        hidden=16,
        networks=2,
        lr=0.01,
        solved=0.01,
        clip="none",
        test_length=40,
    )
    assert result.variables["test_accuracy"].data.min() > 0.9
    (entry,) = result.to_json()["curves"]
    assert entry["test_accuracy_by_length"] == [entry["test_accuracy"]]
    line = rf"^none, 10, tested at 40 +\S+ +{100 * entry['test_accuracy']:.1f}%$"
    assert re.search(line, result.summary(), re.MULTILINE)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"task": "teacher"}, "test_length: 9 is not allowed; teacher:0.9 is another one at every"),
        ({"task": "temporal-order", "test_length": 4}, "4 is not allowed; temporal-order needs 5"),
        ({"test_length": 0}, "test_length: 0 is not allowed; a whole number"),
    ],
)
def test_what_cannot_be_tested_is_refused(given: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        small(**{"lengths": [5, 7], "test_length": 9} | given)
