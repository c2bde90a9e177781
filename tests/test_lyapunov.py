"""Lyapunov exponents at tiny sizes: exactly what QR of the product of Jacobians gives."""

import math
from typing import Any

import naive
import naive_spectrum
import numpy as np
import numpy.typing as npt
import pytest
from drawn import KINDS, Run, draw

from seqlab.cells import CELLS, Sizes
from seqlab.engine import tape
from seqlab.engine.ensemble import gather
from seqlab.measure.lyapunov import LONGEST, frames, spectrum

Array = npt.NDArray[Any]

pytestmark = pytest.mark.tiny


def exponents(run: Run, activation: str, first: Array) -> tuple[Array, list[int]]:
    """The lab's, (M, K), and its ticks."""
    ticks: list[int] = []
    forwards = gather(run.arch, run.params, run.x, activation=activation).tape("cpu")
    forwards.run(lambda saved: None)
    return spectrum(forwards, first, lambda steps, rows: ticks.append(steps * rows)), ticks


def from_the_product(run: Run, activation: str, first: Array) -> Array:
    """ln |R_kk| / T of one network, for Q R = (J_T ... J_1)^T times its first vectors.

    R is taken factor by factor, one step at a time: the product itself would lose its small ones.
    """
    state = naive.zero_state(run.arch, run.params, 1, float)
    starts = np.cumsum([0, *(part.size for part in state)])
    parts = (s + np.arange(p.size).reshape(p.shape) for s, p in zip(starts, state, strict=False))
    order = CELLS[run.arch].pack(tuple(parts)).ravel()
    total = []
    for b in range(run.x.shape[1]):
        vectors, logs = np.zeros_like(first), np.zeros(first.shape[1])
        vectors[order] = first
        steps = naive_spectrum.jacobians(
            run.arch, run.params, run.x[:, b : b + 1], activation=activation
        )
        for jacobian in steps[::-1]:
            vectors, r = np.linalg.qr(jacobian.T @ vectors)
            with np.errstate(divide="ignore"):
                logs += np.log(np.abs(np.diag(r)))
        total.append(logs)
    return np.sort(np.mean(total, axis=0) / len(run.x))[::-1]


# More than one vector of a network with dead units would be compared in its rounding: see below.
CASES = [(*kind, count) for kind in KINDS for count in (1, 3) if kind[1] != "relu" or count == 1]


@pytest.mark.parametrize(("arch", "activation", "count"), CASES)
def test_exponents_of_the_product(
    arch: str, activation: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several orthogonalisations and segments, for an ensemble and a batch."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    run = draw(arch, hidden=4, state=2, steps=20, batch=2, networks=2)
    size = math.prod(CELLS[arch].adjoint_shape(Sizes(4, 2, 2)))
    first = frames(0, range(2), size, count)
    have, ticks = exponents(run, activation, first)
    assert have.shape == (2, count)
    assert sum(ticks) == 20 * count
    for m in range(2):
        want = from_the_product(run.network(m), activation, first[m])
        assert have[m] == pytest.approx(want, rel=0, abs=1e-8)


def test_a_network_keeps_its_own_pace() -> None:
    """Bits do not depend on the other networks, however unlike they are."""
    run = draw("rnn", hidden=4, steps=60, batch=1, networks=3)
    run.params["weight_hh"] *= np.array([0.1, 1, 5])[:, None, None]
    first = frames(0, range(3), 4, 4)
    together, _ = exponents(run, "tanh", first)
    for m in range(3):
        alone, ticks = exponents(run.network(m), "tanh", first[m : m + 1])
        assert np.array_equal(together[m], alone[0])
        assert max(ticks) <= 4 * LONGEST
    # One vector never spreads: it goes as far as it may.
    _, ticks = exponents(run.network(0), "tanh", first[:1, :, :1])
    assert max(ticks) == LONGEST


def test_the_pace_follows_the_spread() -> None:
    """0.9 nats apart at each step: 7 steps until the last vector has three digits to lose."""
    run = draw("rnn", hidden=2, steps=16, batch=1)
    run.params["weight_hh"] = np.diag(np.exp([0.4, -0.5]))
    have, ticks = exponents(run, "identity", np.eye(2)[None])
    assert have[0] == pytest.approx([0.4, -0.5], abs=1e-14)
    assert ticks == [2 * steps for steps in (1, 7, 7, 1)]


def test_dead_directions_are_minus_infinity() -> None:
    """What rounding leaves of a direction at each step is no exponent."""
    run = draw("rnn", hidden=3, steps=10, batch=1)
    run.params["weight_hh"][:, 0] = 0  # no step hands anything to unit 0
    have, _ = exponents(run, "identity", frames(0, range(1), 3, 3))
    assert np.isfinite(have[0, :2]).all()
    assert have[0, 2] == -np.inf


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_a_product_has_as_many_exponents_as_its_rank(steps: int) -> None:
    """relu units that are never on: the rest is a network of its own, without them."""
    run = draw("rnn", hidden=6, steps=steps, batch=1)
    run.params["weight_hh"] *= 0.1
    run.params["bias_ih"][:] = [50, -50, 50, -50, 50, 50]  # on or off at every step
    first = frames(0, range(1), 6, 6)
    have, ticks = exponents(run, "relu", first)
    on = run.params["bias_ih"] > 0
    assert np.isneginf(have[0]).sum() == 6 - on.sum()
    # The adjoint of each step is W^T D; its powers have the exponents of W over the units on.
    want = np.log(np.abs(np.linalg.det(run.params["weight_hh"][np.ix_(on, on)])))
    if steps == 40:  # the first step and the last see the other units too
        assert have[0, : on.sum()].sum() == pytest.approx(want, abs=8 / steps)
    assert max(ticks) == 6  # no step foretells how many units the next one has


def test_a_network_that_is_half_dead_at_every_step() -> None:
    """Other units at other steps: what is lost once does not come back."""
    run = draw("rnn", hidden=16, steps=60, batch=1)
    have, _ = exponents(run, "relu", frames(0, range(1), 16, 16))
    slopes = naive.forward("rnn", run.params, run.x, activation="relu")["saved"]
    least = min(int(saved["slope"].sum()) for saved in slopes)
    alive = int(np.isfinite(have[0]).sum())
    assert 0 < alive <= least
    assert np.isneginf(have[0, alive:]).all()
    # No finite exponent is rounding: ln eps = -36 a step.
    assert have[0, :alive].min() > -8


def test_what_saturation_hides_is_not_called_dead() -> None:
    """Slopes as small as rounding itself: nothing can be told of the second direction."""
    run = draw("rnn", hidden=2, steps=8, batch=1)
    run.params["weight_hh"] *= 0.1
    run.params["bias_ih"][:] = [0.1, 25.0]
    have, _ = exponents(run, "tanh", frames(0, range(1), 2, 2))
    assert np.isfinite(have[0, 0])
    assert np.isnan(have[0, 1])


def test_first_vectors_are_orthonormal_and_each_network_s_own() -> None:
    have = frames(5, range(3), 6, 4)
    assert have.swapaxes(1, 2) @ have == pytest.approx(np.stack([np.eye(4)] * 3), abs=1e-14)
    assert np.array_equal(frames(5, range(1, 3), 6, 4), have[1:])
