"""Optimisers of an ensemble, against PyTorch's of each network."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from reference import optimisers as reference
from reference.optimisers import LOOPS, RATES, SHAPES, UPDATES, Arrays, Loop

from seqlab.errors import InputError
from seqlab.learning.optimisers import OPTIMISERS, Optimiser, cosine

pytestmark = pytest.mark.tiny

NETWORKS = 3
KINDS: dict[str, Any] = {
    **OPTIMISERS,
    "momentum": partial(OPTIMISERS["sgd"], momentum=0.9),
    "annealed": partial(OPTIMISERS["adam"], anneal_over=6),
}


def clipped(loop: Loop, gradients: Arrays) -> Arrays:
    """What PyTorch's clips leave of the gradients of a network."""
    if loop.clip == "value":
        return {name: np.clip(g, -loop.threshold, loop.threshold) for name, g in gradients.items()}
    if loop.clip == "norm":
        norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
        factor = min(1.0, loop.threshold / (norm + 1e-6))
        return {name: g * factor for name, g in gradients.items()}
    return gradients


@pytest.mark.parametrize("key", LOOPS)
def test_updates_are_pytorchs(key: str) -> None:
    """Parameters after each update, both networks at once. Every number is a sum of at most 20
    changes, each of some ten roundings: 200 of 1e-16, and a margin, of the largest."""
    loop = LOOPS[key]
    parameters = {name: np.zeros((len(RATES), *shape)) for name, shape in SHAPES.items()}
    given = {"momentum": loop.momentum} if loop.momentum else {}
    over = UPDATES if loop.schedule == "cosine" else None
    ours = OPTIMISERS[loop.optimiser](parameters, RATES, over, **given)
    with np.load(reference.FILE) as archive:
        want = {name: archive[f"{key}/{name}"] for name in SHAPES}
    for k, gradients in enumerate(reference.gradients()):
        each = [
            clipped(loop, {name: g[m] for name, g in gradients.items()}) for m in range(len(RATES))
        ]
        ours.update(parameters, {name: np.stack([one[name] for one in each]) for name in SHAPES})
        for name, found in parameters.items():
            for m in range(len(RATES)):
                scale = np.abs(want[name][k, m]).max()
                assert scale > 0
                assert np.abs(found[m] - want[name][k, m]).max() < 1e-12 * scale


def test_the_references_differ() -> None:
    """So that parity with one of them is parity with no other."""
    with np.load(reference.FILE) as archive:
        last = [archive[f"{key}/weight"][-1] for key in LOOPS]
    for place, one in enumerate(last):
        for other in last[:place]:
            assert np.abs(one / other - 1).max() > 1e-4


def begun(dtype: str = "float32", networks: int = NETWORKS) -> Arrays:
    rng = np.random.default_rng(1)
    shapes = {"weight": (5, 4), "bias": (5,), "scale": ()}
    return {
        name: rng.normal(size=(NETWORKS, *shape)).astype(dtype)[:networks]
        for name, shape in shapes.items()
    }


def gradient(update: int, dtype: str = "float32") -> Arrays:
    rng = np.random.default_rng([2, update])
    return {
        name: (10.0 ** rng.uniform(-9, 1, x.shape) * rng.normal(size=x.shape)).astype(dtype)
        for name, x in begun().items()
    }


def go_on(ours: Optimiser, parameters: Arrays, updates: range, dtype: str = "float32") -> None:
    for k in updates:
        ours.update(parameters, gradient(k, dtype))


def bits(arrays: Arrays) -> dict[str, bytes]:
    return {name: x.tobytes() for name, x in arrays.items()}


RATES_OF_THREE = np.array([1e-3, 0.02, 0.3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_when_resumed(kind: str, dtype: str) -> None:
    """From a state that has been in a file; and what goes on does not change a state taken."""
    through, stopped = begun(dtype), begun(dtype)
    whole, first = (KINDS[kind](x, RATES_OF_THREE) for x in (through, stopped))
    go_on(whole, through, range(7), dtype)
    go_on(first, stopped, range(3), dtype)
    state = first.state()
    kept = {name: x.copy() for name, x in state.items()}
    resumed = KINDS[kind](stopped, 1.0)  # its rates are the state's
    go_on(first, {name: x.copy() for name, x in stopped.items()}, range(3, 5), dtype)
    assert bits(state) == bits(kept)
    resumed.restore(state)
    go_on(resumed, stopped, range(3, 7), dtype)
    assert bits(state) == bits(kept)
    assert bits(stopped) == bits(through)
    assert bits(resumed.state()) == bits(whole.state())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bits_without_the_others(kind: str, dtype: str) -> None:
    """Two of three networks go on; one goes alone from the start, its rate a number; and the
    gradients are left as they were."""
    whole, fewer = begun(dtype), begun(dtype)
    alone = {name: x[1:2].copy() for name, x in whole.items()}
    a, b = (KINDS[kind](x, RATES_OF_THREE) for x in (whole, fewer))
    c = KINDS[kind](alone, float(RATES_OF_THREE[1]))
    mask = np.array([False, True, True])
    for k in range(6):
        if k == 2:
            b.keep(mask)
            fewer = {name: x[mask] for name, x in fewer.items()}
        some = mask if k >= 2 else ~np.zeros(3, bool)
        gradients = gradient(k, dtype)
        before = bits(gradients)
        change = a.update(whole, gradients)
        assert bits(gradients) == before
        b.update(fewer, {name: g[some] for name, g in gradients.items()})
        c.update(alone, {name: g[1:2] for name, g in gradients.items()})
        assert {x.dtype for x in change.values()} == {np.dtype(dtype)}
    for name, x in whole.items():
        assert x[mask].tobytes() == fewer[name].tobytes()
        assert x[1:2].tobytes() == alone[name].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_stays_in_its_network(kind: str) -> None:
    clean, ill = begun(), begun()
    a, b = (KINDS[kind](x, RATES_OF_THREE) for x in (clean, ill))
    for k in range(3):
        gradients = gradient(k)
        a.update(clean, gradients)
        gradients["weight"][1, 0] = [np.inf, -np.inf, np.nan, 3e38][
            : len(gradients["weight"][1, 0])
        ]
        b.update(ill, gradients)
    for name in clean:
        assert clean[name][[0, 2]].tobytes() == ill[name][[0, 2]].tobytes()
    assert not np.isfinite(ill["weight"][1, 0, :3]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_returned_has_been_added(kind: str) -> None:
    parameters = begun()
    ours = KINDS[kind](parameters, RATES_OF_THREE)
    for k in range(3):
        before = {name: x.copy() for name, x in parameters.items()}
        arrays = dict(parameters)
        changes = ours.update(parameters, gradient(k))
        for name, x in parameters.items():
            assert x is arrays[name]
            assert np.array_equal(x, before[name] + changes[name])
            assert changes[name].any()


def test_a_cosine_falls_from_one_to_none_and_stays() -> None:
    assert cosine(0, 8) == 1
    assert cosine(4, 8) == pytest.approx(0.5, abs=1e-15)
    assert cosine(2, 8) == pytest.approx((1 + math.sqrt(0.5)) / 2, abs=1e-15)
    assert cosine(8, 8) == cosine(9, 8) == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": 0.0}, "rate: 0.0 is not allowed; a number above 0, or one a network"),
        ({"rate": math.nan}, "rate: nan is not allowed; a number above 0, or one a network"),
        ({"rate": [1.0, 2.0]}, "rate: [1.0, 2.0] is not allowed; a number above 0, or one a net"),
        ({"anneal_over": 0}, "anneal_over: 0 is not allowed; a number of updates from 1 up, or no"),
        ({"momentum": 1.0}, "momentum: 1.0 is not allowed; from 0 to under 1"),
        ({"momentum": -0.1}, "momentum: -0.1 is not allowed; from 0 to under 1"),
    ],
)
def test_a_wrong_option_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        OPTIMISERS["sgd"](begun(), **given)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"a": np.zeros((2, 3)), "b": np.zeros((3, 3))},
        {"a": np.zeros(2), "b": np.zeros(2, "float32")},
        {"a": np.zeros(2, int)},
    ],
)
def test_parameters_of_no_ensemble_are_refused(parameters: Arrays) -> None:
    with pytest.raises(InputError, match="of one M, all float32 or float64"):
        OPTIMISERS["adam"](parameters)


def test_a_mask_or_state_of_another_optimiser_is_refused() -> None:
    ours = OPTIMISERS["adam"](begun())
    before = bits(ours.state())
    with pytest.raises(InputError, match=r"kept: .* a mask \(3,\)"):
        ours.keep([True, False])
    others = [
        OPTIMISERS["rmsprop"](begun()),
        OPTIMISERS["adam"](begun("float64")),
        OPTIMISERS["adam"](begun(networks=2)),
    ]
    for other in others:
        with pytest.raises(InputError, match=r"^state: .* is not allowed; this optimiser's own"):
            ours.restore(other.state())
    assert bits(ours.state()) == before
