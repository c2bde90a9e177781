"""A little training of deep stacks, against central differences and a naive trainer."""

import math
from typing import Any

import naive_depth as naive
import numpy as np
import pytest

from seqlab.learning.optimisers import ADAM_RATE, BETAS, EPS, SGD_RATE, Adam
from seqlab.learning.stacks import Classifiers, train, train_some
from seqlab.spec.stack import StackSpec
from seqlab.tasks import CLASSES

STACKS: dict[str, dict[str, Any]] = {
    "mlp": {"arch": "mlp", "activation": "tanh", "init": "he"},
    "resnet": {"arch": "resnet", "activation": "gelu", "norm": "layer"},
    "densenet": {"arch": "densenet", "activation": "tanh", "init": "normal"},
    "transformer": {"arch": "transformer", "activation": "gelu", "tokens": 5, "heads": 2},
}
ORDER = {  # of a layer's numbers
    "transformer": (
        "self_attn.in_proj_weight",
        "self_attn.in_proj_bias",
        "self_attn.out_proj.weight",
        "self_attn.out_proj.bias",
        "linear1.weight",
        "linear1.bias",
        "linear2.weight",
        "linear2.bias",
    )
}


def spec_of(name: str, **given: Any) -> StackSpec:
    rows = {} if name == "transformer" else {"batch": 6}
    fields = {"steps": 3, "hidden": 8, "networks": 3, **rows, **STACKS[name], **given}
    return StackSpec.create(**fields)


@pytest.mark.tiny
@pytest.mark.parametrize("name", STACKS)
def test_gradients_are_those_of_central_differences(name: str) -> None:
    """Along a unit direction in all weights at once. With steps of 1e-4 a central difference misses
    by 1e-8/6 times a third derivative of order one, and by 1e-16/1e-4 for rounding."""
    networks = Classifiers(spec_of(name), range(1))
    _, found = networks.gradients()
    rng = np.random.default_rng(0)
    stack, numbers, of_head = networks.networks.stack, *networks.networks.params.values()
    inner, head = rng.normal(size=numbers.shape), rng.normal(size=of_head.shape)
    for layer in range(stack.depth):  # the room after a smaller layer's numbers is none
        inner[:, layer, stack.numbers(layer) :] = 0
    size = math.sqrt(np.sum(inner**2) + np.sum(head**2))
    inner, head = inner / size, head / size
    along = np.sum(found["layers"] * inner) + np.sum(found["head"] * head)
    losses = []
    step = 1e-4
    for way in (2 * step, -step):  # forward by a step from where it stood, then back by two
        numbers += inner * (step if way > 0 else -2 * step)
        of_head += head * (step if way > 0 else -2 * step)
        losses.append(networks.gradients()[0][0])
    difference = (losses[0] - losses[1]) / (2 * step)
    assert abs(difference) > 1e-3
    assert abs(along - difference) < 1e-8


def parted(name: str, numbers: np.ndarray, width: int, layer: int) -> naive.Gradients:
    """One layer's numbers as the naive blocks have them, sharing their memory."""
    drawn = naive.draw(np.random.default_rng(0), naive.Stack(STACKS[name]["arch"]), 3, width, "he")
    found, place = {}, 0
    for key in ORDER.get(name, ("weight", "bias")):
        shape = drawn[layer][key].shape
        found[key] = numbers[place : place + math.prod(shape)].reshape(shape)
        place += math.prod(shape)
    return found


class NaiveAdam:
    """Kingma & Ba 2015, Algorithm 1, entry by entry, in the order of its lines."""

    def __init__(self) -> None:
        self.m: dict[tuple[int, ...], float] = {}
        self.v: dict[tuple[int, ...], float] = {}
        self.t = 0

    def change(self, gradient: np.ndarray) -> np.ndarray:
        self.t += 1
        beta1, beta2 = BETAS
        found = np.zeros(gradient.shape)
        for place, g in np.ndenumerate(gradient):
            self.m[place] = beta1 * self.m.get(place, 0.0) + (1 - beta1) * float(g)
            self.v[place] = beta2 * self.v.get(place, 0.0) + (1 - beta2) * float(g) ** 2
            m_hat = self.m[place] / (1 - beta1**self.t)
            v_hat = self.v[place] / (1 - beta2**self.t)
            found[place] = -ADAM_RATE * m_hat / (math.sqrt(v_hat) + EPS)
        return found


class NaiveSgd:
    def change(self, gradient: np.ndarray) -> np.ndarray:
        return -SGD_RATE * gradient


@pytest.mark.tiny
def test_adam_is_its_algorithm() -> None:
    """To a few roundings; gradients from far above its eps to far under it."""
    rng = np.random.default_rng(1)
    parameters = {"x": np.zeros(8)}
    ours, theirs = Adam(parameters), NaiveAdam()
    scale = 10.0 ** -np.arange(0, 24, 3)
    for _ in range(10):
        gradient = scale * rng.normal(size=8)
        want = theirs.change(gradient)
        found = ours.update(parameters, {"x": gradient})
        np.testing.assert_allclose(found["x"], want, rtol=1e-13)
    assert abs(want[0]) > 1e-4  # near the rate
    assert abs(want[-1]) < 1e-13  # the rate times gradient over eps


@pytest.mark.tiny
@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
@pytest.mark.parametrize("name", STACKS)
def test_training_is_the_naive_one(name: str, optimiser: str) -> None:
    """Losses and median ratios of four updates; sums of some hundred terms in another order, which
    Adam's division enlarges where a gradient is small: 1e-9."""
    spec, updates = spec_of(name), 4
    begun = Classifiers(spec, range(1))
    width, stack = spec.hidden, begun.networks.stack
    numbers, heads = begun.networks.params.values()
    of = naive.Stack(
        spec.arch,
        spec.activation.partition(":")[0],
        spec.norm or "none",
        spec.place or "pre",
        spec.order != "inside",
        stack.alpha,
        stack.heads,
    )
    x = begun.x[0, :, 0] if name == "transformer" else begun.x[0, 0]
    layers = [parted(name, numbers[0, k].copy(), width, k) for k in range(spec.steps)]
    head, labels = heads[0].copy(), begun.labels[0, 0]
    new = NaiveSgd if optimiser == "SGD" else NaiveAdam
    states = [{key: new() for key in layer} for layer in layers]
    of_head, losses, ratios = new(), [], []
    for _ in range(updates):
        path = naive.forward(x, of, layers)
        out = path.states[-1]
        seen = out.mean(axis=0, keepdims=True) if name == "transformer" else out
        logits = seen @ head
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        losses.append(-np.log(shares[rows, labels]).mean())
        errors = (shares - np.eye(CLASSES)[labels]) / len(labels)
        readout = errors @ head.T
        if name == "transformer":
            readout = np.repeat(readout, len(out), axis=0) / len(out)
        back = naive.adjoints(path, of, readout)
        ratios.append([])
        for k, (log, gradients) in enumerate(reversed(back.gradients)):
            moved, weights = 0.0, 0.0
            for key, gradient in gradients.items():
                change = states[k][key].change(gradient * math.exp(log))
                if "weight" in key:
                    moved += np.sum(change**2)
                    weights += np.sum(layers[k][key] ** 2)
                layers[k][key] += change
            ratios[-1].append(math.sqrt(moved / weights))
        head += of_head.change(seen.T @ errors)
    found = train_some(spec, optimiser, range(1), updates)
    np.testing.assert_allclose(found.loss[0], losses, rtol=1e-9)
    np.testing.assert_allclose(found.ratio[0], np.median(ratios, axis=0), rtol=1e-9)


@pytest.mark.tiny
def test_labels_are_a_linear_teacher_s_and_a_guess_is_their_entropy() -> None:
    networks = Classifiers(spec_of("mlp", batch=64), range(2))
    assert set(np.unique(networks.labels)) == set(range(CLASSES))
    found = train_some(spec_of("mlp", batch=64), "SGD", range(2), 1)
    for labels, guess in zip(networks.labels, found.guess, strict=True):
        shares = np.bincount(labels[0], minlength=CLASSES) / 64
        assert guess == pytest.approx(-np.sum(shares * np.log(shares)), rel=1e-12)


@pytest.mark.parametrize("name", STACKS)
def test_the_same_bits_for_any_threads_and_a_network_alone(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a size whose work is shared out."""
    spec = spec_of(name, hidden=32, steps=4, networks=4)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    two = train_some(spec, "Adam", range(4), 5)
    alone = train_some(spec, "Adam", range(2, 3), 5)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    one = train_some(spec, "Adam", range(4), 5)
    for a, b, c in zip(two, one, alone, strict=True):
        assert a.tobytes() == b.tobytes()
        assert a[2:3].tobytes() == c.tobytes()


@pytest.mark.tiny
def test_only_the_first_networks_are_trained_and_progress_is_said() -> None:
    said: list[tuple[float, str]] = []
    found = train(spec_of("mlp", networks=9), 2, lambda *what: said.append(what))
    assert list(found) == ["SGD", "Adam"]
    assert {one.loss.shape for one in found.values()} == {(4, 2)}
    assert {one.ratio.shape for one in found.values()} == {(4, 3)}
    assert said[0] == (0.0, "training with SGD")
    assert said[-1] == (1.0, "trained")
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions)


@pytest.mark.tiny
def test_a_gradient_under_the_range_moves_nothing() -> None:
    """Thirty layers of sigmoid lose some 25 decades, sixty 51: float32 ends at 10^-45, where the
    first layers' steps are zero, exactly."""
    given = {"activation": "sigmoid", "init": "pytorch", "steps": 60, "networks": 1}
    single, double = (
        train_some(spec_of("mlp", dtype=dtype, **given), "SGD", range(1), 3).ratio[0]
        for dtype in ("float32", "float64")
    )
    assert single[0] == 0
    assert 0 < double[0] < 1e-45
    # While both have it, it is the same: float32 keeps 24 bits, 60 layers lose a few.
    np.testing.assert_allclose(single[-20:], double[-20:], rtol=1e-3)


@pytest.mark.tiny
def test_what_overflows_is_a_result() -> None:
    """Eight units of variance one enlarge by sqrt 8 a layer: 10^361 after 800."""
    spec = spec_of("mlp", activation="identity", init="unit-normal", steps=800, networks=1)
    found = train_some(spec, "SGD", range(1), 3)
    assert np.isnan(found.loss).all()
    assert np.isnan(found.ratio).all()


@pytest.mark.tiny
def test_norms_do_not_end_where_squares_do() -> None:
    """Some 210 decades over 250 layers, whose squares float64 has not."""
    spec = spec_of("mlp", activation="sigmoid", init="pytorch", steps=250, networks=1)
    ratio = train_some(spec, "SGD", range(1), 1).ratio[0]
    assert 0 < ratio[0] < 1e-180
    assert (ratio > 0).all()
