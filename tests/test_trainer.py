"""An ensemble in training: each network's updates are those of one trained alone, by hand."""

from typing import Any

import naive_training
import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, draw
from reference import training

from seqlab import rules
from seqlab.learning.networks import Networks
from seqlab.learning.optimisers import OPTIMISERS
from seqlab.learning.trainer import Trainer
from seqlab.tasks.task import Batch

Array = npt.NDArray[Any]
Params = dict[str, Array]

# 20 updates, each of some thousand roundings of 1.1e-16, which training may enlarge a little.
NEAR = 1e-9
UPDATES = 20
RULES = ["none", "norm:1", "norm:0.1", "value:0.05", "step-norm:0.1", "step-value:0.02"]


def start(arch: str, count: int) -> Params:
    run = draw(arch, hidden=5, inputs=3, networks=count, seed=3)
    dice = np.random.default_rng(7)
    return run.params | {
        "readout_weight": dice.normal(size=(count, 2, 5)),
        "readout_bias": dice.normal(size=(count, 2)),
    }


def batches(count: int, updates: int = UPDATES, classes: bool = False) -> list[Batch]:
    dice = np.random.default_rng(1)
    found = []
    for _ in range(updates):
        x = dice.normal(size=(count, 9, 4, 3))
        if classes:
            targets = dice.integers(2, size=(count, 2, 4))
        else:
            targets = dice.normal(size=(count, 2, 4, 2))
        found.append(Batch(x, targets, np.array([5, 8])))
    return found


def trained(arch: str, names: list[str], optimiser: str, rate: float, kind: str) -> Any:
    """The trainer of one network for each rule after all updates, what each showed, and what the
    naive ones come to."""
    count = len(names)
    params, data = start(arch, count), batches(count, classes=kind == "cross-entropy")
    of = naive_training.squared if kind == "squared" else naive_training.cross_entropy
    wanted = []
    for m, clip in enumerate(names):
        own = {name: array[m].copy() for name, array in params.items()}
        change = naive_training.OPTIMISERS[optimiser](rate)
        losses = []
        for batch in data:
            loss = of(batch.targets[m])
            value, found = naive_training.gradients(
                arch, own, batch.x[m], batch.at.tolist(), loss, "tanh", clip
            )
            losses.append(value)
            for name, step in change(found).items():
                own[name] = own[name] + step
        wanted.append((losses, own))
    nets = Networks.of(arch, params, "tanh" if arch == "rnn" else None)
    trainer = Trainer(
        nets, kind, [rules.parse(name) for name in names], OPTIMISERS[optimiser](params, rate)
    )
    return trainer, [trainer.update(batch) for batch in data], wanted


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("optimiser", "rate", "kind"), [("sgd", 1e-3, "squared"), ("adam", 0.01, "cross-entropy")]
)
def test_updates_are_those_of_each_network_alone(
    arch: str, optimiser: str, rate: float, kind: str
) -> None:
    trainer, seen, wanted = trained(arch, RULES, optimiser, rate, kind)
    have = trainer.parameters()
    for m, (losses, own) in enumerate(wanted):
        assert [one.loss[m] for one in seen] == pytest.approx(losses, rel=NEAR)
        for name, array in own.items():
            scale = np.abs(array).max()
            assert have[name][m] == pytest.approx(array, rel=0, abs=NEAR * scale), (m, name)
    assert trainer.alive.all()
    fired = np.array([one.fired for one in seen])
    assert not fired[:, 0].any()
    assert (fired[:, 2] == 1).any()  # of those on finished gradients, whether it acted
    assert set(np.unique(fired[:, 1:4])) <= {0.0, 1.0}


@pytest.mark.tiny
def test_the_rule_stands_between_the_backward_pass_and_the_update() -> None:
    """Nothing moves further than rate x threshold by SGD, however great the gradient is."""
    params = start("rnn", 1)
    before = {name: array.copy() for name, array in params.items()}
    batch = batches(1)[0]
    trainer = Trainer(
        Networks.of("rnn", params, "tanh"),
        "squared",
        [rules.parse("norm:0.001")],
        OPTIMISERS["sgd"](params, 1.0),
    )
    seen = trainer.update(batch._replace(targets=1e6 * batch.targets))
    moved = [trainer.parameters()[name] - array for name, array in before.items()]
    assert np.sqrt(sum((step**2).sum() for step in moved)) == pytest.approx(0.001, rel=1e-9)
    assert np.exp(seen.log_norm[0]) > 1e6
    assert seen.fired[0] == 1


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
def test_a_network_that_diverges_ends_and_the_others_go_on(optimiser: str) -> None:
    names = ["none", "none", "norm:1"]
    params, data = start("gru", 3), batches(3)
    alone = {name: array[[0, 2]].copy() for name, array in params.items()}
    broken = [batch._replace(targets=batch.targets.copy()) for batch in data]
    for batch in broken[4:]:
        batch.targets[1] = np.inf
    make = OPTIMISERS[optimiser]
    trainer = Trainer(
        Networks.of("gru", params), "squared", list(map(rules.parse, names)), make(params, 0.01)
    )
    others = Trainer(
        Networks.of("gru", alone),
        "squared",
        list(map(rules.parse, ["none", "norm:1"])),
        make(alone, 0.01),
    )
    kept = None
    for update, batch in enumerate(broken):
        if update == 4:
            kept = {name: array[1] for name, array in trainer.parameters().items()}
        seen = trainer.update(batch)
        other = others.update(Batch(batch.x[[0, 2]], batch.targets[[0, 2]], batch.at))
        assert np.array_equal(seen.loss[[0, 2]], other.loss)
        assert np.array_equal(seen.log_norm[[0, 2]], other.log_norm)
        if update == 4:
            assert not np.isfinite(seen.loss[1])
        elif update > 4:
            assert np.isnan(seen.loss[1])
    assert trainer.alive.tolist() == [True, False, True]
    assert kept is not None
    for name, array in trainer.parameters().items():
        assert np.array_equal(array[1], kept[name])
        assert np.array_equal(array[[0, 2]], others.parameters()[name])


# In PyTorch's own hands: nn.RNN, nn.LSTM, nn.GRU, and the scan step by step.


@pytest.mark.parametrize("arch", training.CELLS)
@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
def test_training_is_pytorchs(arch: str, optimiser: str) -> None:
    """One network for each clip rule, in one ensemble."""
    kept = np.load(training.FILE)
    rates, own = training.RATES, training.start(arch)
    params = {name: np.stack([array] * len(training.CLIPS)) for name, array in own.items()}
    names = ["none" if c is None else f"{name}:{c}" for name, c in training.CLIPS.items()]
    options = {"momentum": training.MOMENTUM} if optimiser == "sgd" else {}
    trainer = Trainer(
        Networks.of(arch, params, "tanh" if arch == "rnn" else None),
        "cross-entropy",
        [rules.parse(name) for name in names],
        OPTIMISERS[optimiser](params, rates[optimiser], **options),
    )
    losses = []
    for x, classes in training.batches():
        batch = (np.stack([array] * len(names)) for array in (x, classes))
        losses.append(trainer.update(Batch(*batch, np.array(training.AT))).loss)
    have = trainer.parameters()
    for m, clip in enumerate(training.CLIPS):
        key = training.Loop(arch, optimiser, clip).key
        assert np.array(losses)[:, m] == pytest.approx(kept[f"{key}/loss"], rel=NEAR)
        for name in own:
            want = kept[f"{key}/{name}"]
            scale = np.abs(want).max()
            assert have[name][m] == pytest.approx(want, rel=0, abs=NEAR * scale), (clip, name)
    assert len(set(np.array(losses)[-1])) == len(names)  # every rule has acted
