"""Deep stacks in training: each network's updates are those of one trained alone, by hand and in
PyTorch."""

from typing import Any

import naive_training
import numpy as np
import numpy.typing as npt
import pytest
from reference import trained_stacks as reference
from stacked import flat

from seqlab import rules
from seqlab.layers.stack import Stack
from seqlab.learning.optimisers import OPTIMISERS
from seqlab.learning.stack_networks import StackNetworks
from seqlab.learning.trainer import Trainer
from seqlab.tasks.task import Batch

Array = npt.NDArray[Any]

# 15 updates, each of some thousand roundings of 1.1e-16, which an optimiser's division by a small
# gradient's root may enlarge.
NEAR = 1e-9
RULES = ["none", "norm:0.1", "value:0.01", "step-norm:0.01", "step-value:0.001", "truncate:1"]
AT = np.array([0])  # answers of the last step, which are all that there are


def stack_of(name: str) -> Stack:
    of = reference.STACKS[name]
    tokens = reference.TOKENS if of.arch == "transformer" else 0
    return Stack(
        of.arch,
        reference.DEPTH,
        reference.WIDTH,
        reference.ROWS * (tokens or 1),
        of.activation,
        of.norm,
        of.place,
        of.outside,
        of.alpha,
        of.heads,
        of.eps,
        tokens,
    )


def numbers(name: str, params: dict[str, Array]) -> dict[str, Array]:
    """Parameters by PyTorch's names as the lab has them."""
    stack = stack_of(name)
    layers = np.zeros((stack.depth, stack.most_numbers))
    for layer in range(stack.depth):
        own = {n.partition(".")[2]: a for n, a in params.items() if n.startswith(f"{layer}.")}
        row = flat(stack.arch, own)
        layers[layer, : len(row)] = row
    return {"layers": layers, "head": params["head"]}


def trainer(name: str, optimiser: str, clips: list[str]) -> Trainer:
    """One network for each rule, all alike."""
    first = numbers(name, reference.named(*reference.start(name)))
    params = {n: np.stack([array] * len(clips)) for n, array in first.items()}
    options = {"momentum": reference.MOMENTUM} if optimiser == "sgd" else {}
    steps = OPTIMISERS[optimiser](params, reference.RATES[optimiser], **options)
    return Trainer(
        StackNetworks(stack_of(name), params),
        "cross-entropy",
        [rules.parse(clip) for clip in clips],
        steps,
    )


def batches(name: str, count: int) -> list[Batch]:
    return [
        Batch(np.stack([x] * count), np.stack([classes[np.newaxis]] * count), AT)
        for x, classes in reference.batches(name)
    ]


def check(of: str, have: dict[str, Array], m: int, want: dict[str, Array], clip: str) -> None:
    """The gradient of a bias that a batch norm takes away again is rounding alone, which Adam and
    RMSprop divide by their eps of 1e-8: there 1e-6 is asked for."""
    idle = np.zeros(want["layers"].shape, bool)
    if reference.STACKS[of].norm == "batch":
        idle[:, -reference.WIDTH :] = True
    for name, array in want.items():
        near = NEAR * np.abs(array).max()
        room = np.where(idle, 1e-6, near) if name == "layers" else near
        assert (np.abs(have[name][m] - array) <= room).all(), (clip, name)


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("name", reference.STACKS)
def test_training_is_pytorchs(name: str, optimiser: str) -> None:
    """One network for each clip rule, in one ensemble."""
    kept = np.load(reference.FILE)
    clips = ["none" if c is None else f"{rule}:{c}" for rule, c in reference.CLIPS.items()]
    own = trainer(name, optimiser, clips)
    losses = np.array([own.update(batch).loss for batch in batches(name, len(clips))])
    for m, rule in enumerate(reference.CLIPS):
        key = reference.Loop(name, optimiser, rule).key
        assert losses[:, m] == pytest.approx(kept[f"{key}/loss"], rel=NEAR)
        parts = {k.removeprefix(f"{key}/"): v for k, v in kept.items() if k.startswith(f"{key}/")}
        check(name, own.parameters(), m, numbers(name, parts), rule)
    assert len(set(losses[-1])) == len(clips)  # every rule has acted


@pytest.mark.parametrize("optimiser", list(OPTIMISERS))
@pytest.mark.parametrize("name", reference.STACKS)
def test_updates_are_the_naive_ones(name: str, optimiser: str) -> None:
    """Rules inside the chain too, which act on all inputs of a batch together."""
    own = trainer(name, optimiser, RULES)
    seen = [own.update(batch) for batch in batches(name, len(RULES))]
    options = {"momentum": reference.MOMENTUM} if optimiser == "sgd" else {}
    last = []
    for m, clip in enumerate(RULES):
        params = reference.named(*reference.start(name))
        change = naive_training.OPTIMISERS[optimiser](reference.RATES[optimiser], **options)
        losses = []
        for x, classes in reference.batches(name):
            loss, found = naive_training.stack_gradients(
                reference.STACKS[name],
                params,
                x,
                naive_training.cross_entropy(classes[np.newaxis]),
                clip,
            )
            losses.append(loss)
            params = {n: params[n] + step for n, step in change(found).items()}
        assert [one.loss[m] for one in seen] == pytest.approx(losses, rel=NEAR)
        check(name, own.parameters(), m, numbers(name, params), clip)
        last.append(losses[-1])
    assert len({round(loss, 12) for loss in last}) == len(RULES)  # every rule has acted
    fired = np.array([one.fired for one in seen])
    assert not fired[:, 0].any()
    assert (fired[:, 1:5] > 0).any(axis=0).all()
    assert set(np.unique(fired[:, 1:3])) <= {0.0, 1.0}


@pytest.mark.parametrize("name", reference.STACKS)
def test_a_network_s_bits_do_not_depend_on_threads_or_on_others(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = ["none", "step-norm:0.01", "norm:0.1", "none"]
    found = {}
    for threads in ("2", "1"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        own = trainer(name, "adam", clips)
        found[threads] = [own.update(batch) for batch in batches(name, len(clips))][-1]
    alone = trainer(name, "adam", clips[1:2])
    seen = [alone.update(batch) for batch in batches(name, 1)][-1]
    for two, one, other in zip(found["2"], found["1"], seen, strict=True):
        assert two.tobytes() == one.tobytes()
        assert two[1:2].tobytes() == other.tobytes()


@pytest.mark.tiny
def test_a_network_that_diverges_ends_and_the_others_go_on() -> None:
    own, data = trainer("mlp", "sgd", ["none"] * 3), batches("mlp", 3)
    for batch in data[4:]:
        batch.x[1] = np.inf
    seen = [own.update(batch) for batch in data]
    assert own.alive.tolist() == [True, False, True]
    assert np.isnan(seen[-1].loss[1])
    other = trainer("mlp", "sgd", ["none"])
    for batch in batches("mlp", 1):
        other.update(batch)
    for name, array in own.parameters().items():
        assert np.isfinite(array[1]).all()
        assert array[2].tobytes() == other.parameters()[name][0].tobytes()
