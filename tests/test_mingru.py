"""The minimal GRU: its draws, and all that is known of it: a step keeps 1 - z of each unit."""

import math
from pathlib import Path
from typing import Any

import naive
import naive_spectrum
import numpy as np
import numpy.typing as npt
import pytest
from drawn import draw
from scipy.special import spence

import seqlab
from seqlab.cells import CELLS, Draw, Sizes
from seqlab.measure import measure
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]
CELL = CELLS["mingru"]


def measured(**options: Any) -> dict[str, Array]:
    """The variables of an unclipped run."""
    spec = RunSpec.create(arch="mingru", clip="none", **options)
    return {name: variable.data for name, variable in measure(spec).variables.items()}


def given(folder: Path, params: dict[str, Array], x: Array, **options: Any) -> dict[str, Array]:
    """The same of one's own arrays."""
    np.savez(folder / "w.npz", **params)
    np.save(folder / "x.npy", x)
    return measured(params=folder / "w.npz", input=folder / "x.npy", **options)


def kept(params: dict[str, Array], x: Array) -> Array:
    """ln(1 - z) = -ln(1 + e^a) at each step, in the longest floats that there are."""
    a = x @ params["linear_z_weight"].T + params["linear_z_bias"]
    return -np.logaddexp(np.longdouble(0), a.astype(np.longdouble))


# Draws.


@pytest.mark.tiny
def test_draws_are_those_of_two_linear_layers() -> None:
    """U(+-1/sqrt I), weights and biases; or weights of variance s^2/I and no biases."""
    sizes = Sizes(1000, 4)
    params = CELL.draw(np.random.default_rng(1), sizes, Draw())
    for value in params.values():
        assert 0.49 < np.abs(value).max() <= 0.5
        # Standard errors of the mean and, relative, of the variance; four of them.
        assert abs(value.mean()) < 4 * math.sqrt(1 / 12 / value.size)
        assert value.var() == pytest.approx(1 / 12, rel=4 * math.sqrt(0.8 / value.size))
    scaled = CELL.draw(np.random.default_rng(1), sizes, Draw(input_scale=2.0))
    for layer in ("linear_z", "linear_h"):
        weight = scaled[f"{layer}_weight"]
        assert weight.var() == pytest.approx(1.0, rel=4 * math.sqrt(2 / weight.size))
        assert not scaled[f"{layer}_bias"].any()
    assert not np.array_equal(scaled["linear_z_weight"], scaled["linear_h_weight"])


# What a unit keeps.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_each_unit_keeps_the_product_of_its_gates(dtype: type) -> None:
    """At every lag to 10,000, from gates that are shut to the last digit to such as leave e^-36.

    A step's factor has 3 roundings of a sum of 3 products a, which it feels z times, and some 8 of
    its own; the curve's own logarithm is rounded once.
    """
    steps, centres = 10_000, np.array([-40.0, -36.0, -20.0, -3.0, 0.0, 3.0, 20.0, 36.0])
    run = draw("mingru", hidden=8, inputs=2, steps=steps, batch=1)
    run.params["linear_z_bias"][:] = centres
    run = run.cast(dtype)
    several = {name: np.stack([value] * 8) for name, value in run.params.items()}
    readout = np.eye(8, dtype=dtype)[:, None]  # one unit of each network
    att = seqlab.attenuation(
        "mingru", several, np.stack([run.x] * 8), [steps], readout=readout
    ).log_norm[:, 0]
    wide = run.cast(np.float64)
    logs = kept(wide.params, wide.x[:, 0])[::-1]
    want = np.cumsum(logs, axis=0).T
    rounding = np.finfo(dtype).eps / 2
    a = np.abs(centres)[:, None] + 5
    bound = (3 * a * (1 - np.exp(logs.T.astype(float))) + 8) * rounding
    room = np.cumsum(bound, axis=1) + 2 * np.finfo(float).eps * np.abs(want)
    assert (att[:, 0] == 0).all()
    assert (np.abs(att[:, 1:] - want) <= room).all()
    assert want[0, -1] > -1e-10
    assert want[-1, -1] < -350_000


@pytest.mark.tiny
def test_a_gate_beyond_range_is_told_from_a_zero(tmp_path: Path) -> None:
    """At a = 800, 1 - z is no number: the gradient is lost, and nothing is known of its rate."""
    run = draw("mingru", steps=6, batch=1)
    run.params["linear_z_bias"][:] = 800
    have = given(tmp_path, run.params, run.x)
    assert have["underflow"].all()
    assert np.isnan(have["theory"])
    run.params["linear_z_bias"][1:] = -1  # one of three
    have = given(tmp_path, run.params, run.x)
    assert not have["underflow"].any()
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-14)


# Theory.


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
@pytest.mark.parametrize("steps", [3, 100])
def test_the_rate_is_known_from_the_mean_logs(steps: int, dtype: str, tolerance: float) -> None:
    """Exactly, over any number of steps: rounded once a step, and once more by what is summed."""
    have = measured(steps=steps, hidden=9, inputs=2, networks=2, dtype=dtype)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=tolerance)


@pytest.mark.tiny
def test_the_rate_of_one_s_own_arrays(tmp_path: Path) -> None:
    """Several sequences, each with gates of its own."""
    mine = draw("mingru", hidden=5, steps=40, batch=3, networks=2)
    have = given(tmp_path, mine.params, mine.x)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-14)


@pytest.mark.tiny
def test_without_input_or_bias_half_is_kept() -> None:
    have = measured(steps=50, hidden=4, networks=2, input_scale=0.0)
    assert have["decay_rate"] == pytest.approx(-math.log(2), abs=1e-15)
    assert have["theory"] == pytest.approx(-math.log(2), abs=1e-15)


def test_exponents_are_the_mean_logs(tmp_path: Path) -> None:
    """They add up to the mean of ln |det J|; each is a unit's mean, but for a transient of O(1/T)
    with the frame's angles as its constant."""
    mine = draw("mingru", hidden=4, inputs=3, steps=1000, batch=1)
    have = given(tmp_path, mine.params, mine.x, spectrum=4)["lyapunov"][0]
    means = kept(mine.params, mine.x[:, 0]).mean(axis=0).astype(float)
    assert have.sum() == pytest.approx(means.sum(), abs=1e-12)
    assert have == pytest.approx(np.sort(means)[::-1], abs=5 / 1000)
    by_hand = naive_spectrum.lyapunov("mingru", mine.params, mine.x, 4)
    assert by_hand == pytest.approx(np.sort(means)[::-1], abs=5 / 1000)


def test_the_mean_exponent_of_biases_alone() -> None:
    """Of b = U(+-c), c = 1/sqrt I: E ln(1 - sigmoid(b)) = (Li2(-e^c) - Li2(-e^-c))/(2 c), to four
    standard errors of 64 networks of 64 units."""
    have = measured(steps=20, inputs=4, networks=64, drive="zeros", spectrum=64)["lyapunov"]
    c = 0.5
    want = (spence(1 + math.exp(c)) - spence(1 + math.exp(-c))) / (2 * c)
    assert want == pytest.approx(-math.log(2) - c**2 / 24, abs=c**4 / 960)  # its series
    spread = have.mean(axis=1).std(ddof=1) / 8
    assert have.mean() == pytest.approx(want, abs=4 * spread)
    assert 0 < spread < 0.004


def test_the_horizon_as_initialised() -> None:
    """Biases and noise leave little more than half of a unit: a thousandth at lag 10 for exactly
    half, seen at 11, and a millionth at 22."""
    have = measured(steps=100)
    assert have["horizon"].tolist() == [[4, 11, 22]]


# Gradients.


@pytest.mark.tiny
def test_an_open_gate_hands_the_candidate_on() -> None:
    """At a = 40 the state is the candidate to the last digit, and dL/dc the loss's own gradient."""
    run = draw("mingru", steps=4)
    run.params["linear_z_bias"][:] = 40
    trajectory = seqlab.forward("mingru", run.params, run.x, run.initial)
    c = run.x @ run.params["linear_h_weight"].T + run.params["linear_h_bias"]
    assert trajectory.output == pytest.approx(c, abs=1e-15)
    g = seqlab.backward(trajectory, run.grad)
    assert g.params["linear_h_bias"] == pytest.approx(run.grad.sum(axis=(0, 1)), abs=1e-14)
    saved = naive.forward("mingru", run.params, run.x, run.state)["saved"]
    assert min(float(np.abs(step["a_z"]).min()) for step in saved) > 30
