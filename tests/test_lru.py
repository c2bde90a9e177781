"""The linear recurrent unit: its draws and options, and all that is known of it: a mode's adjoint
falls by |lambda| a step."""

import math
from pathlib import Path
from typing import Any

import naive_spectrum
import numpy as np
import numpy.typing as npt
import pytest
from drawn import answers, draw

import seqlab
from seqlab.cells import CELLS, Draw, Sizes
from seqlab.errors import InputError
from seqlab.measure import measure
from seqlab.numbers.modes import ar1_sensitivity, ring_square
from seqlab.report.checklist import training_note
from seqlab.spec.learn import LearnSpec
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]
CELL = CELLS["lru"]
RING = ("r_min", "r_max", "max_phase")


def measured(**options: Any) -> dict[str, Array]:
    """The variables of an unclipped run."""
    spec = RunSpec.create(arch="lru", clip="none", **options)
    return {name: variable.data for name, variable in measure(spec).variables.items()}


def given(folder: Path, params: dict[str, Array], x: Array, **options: Any) -> dict[str, Array]:
    """The same of one's own arrays."""
    np.savez(folder / "w.npz", **params)
    np.save(folder / "x.npy", x)
    return measured(params=folder / "w.npz", input=folder / "x.npy", **options)


def drawn(sizes: Sizes, **options: Any) -> dict[str, Array]:
    return CELL.draw(np.random.default_rng(1), sizes, Draw(**options))


# Draws.


@pytest.mark.tiny
@pytest.mark.parametrize(("low", "high", "phase"), [(0.0, 1.0, 6.28), (0.9, 0.999, 0.3)])
def test_draws_are_those_of_the_reference(low: float, high: float, phase: float) -> None:
    """|lambda|^2 and the phase are uniform, gamma = sqrt(1 - |lambda|^2), matrices are normal; each
    mean and variance within four standard errors."""
    options = {} if high == 1 else {"r_min": low, "r_max": high, "max_phase": phase}
    sizes = Sizes(1000, 4)
    params = drawn(sizes, **options)
    square = np.exp(-2 * np.exp(params["nu_log"]))
    for uniform in (
        (square - low**2) / (high**2 - low**2),
        np.exp(params["theta_log"]) / phase,
    ):
        assert 0 <= uniform.min() < 0.01
        assert 0.99 < uniform.max() <= 1 + 1e-12
        assert uniform.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 1000))
        assert uniform.var() == pytest.approx(1 / 12, rel=4 * math.sqrt(0.8 / 1000))
    assert np.exp(2 * params["gamma_log"]) == pytest.approx(1 - square, abs=1e-14)
    variances = {"B_re": 1 / 8, "B_im": 1 / 8, "C_re": 1 / 1000, "C_im": 1 / 1000, "D": 1 / 4}
    for name, variance in variances.items():
        value = params[name]
        assert value.shape == CELL.shapes(sizes)[name]
        assert abs(value.mean()) < 4 * math.sqrt(variance / value.size)
        assert value.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / value.size))
        assert np.abs(value).max() > 2.5 * math.sqrt(variance)
    for one, other in (("B_re", "B_im"), ("C_re", "C_im"), ("B_re", "D")):
        mixed = np.corrcoef(params[one].ravel(), params[other].ravel())[0, 1]
        assert abs(mixed) < 4 / math.sqrt(params[one].size)


@pytest.mark.tiny
def test_an_input_scale_is_that_of_b_x_and_of_d_x() -> None:
    """White noise gives B x, both parts together, and D x variance s^2; the default is s = 1. Other
    numbers are as they were."""
    sizes = Sizes(400, 10)
    plain, scaled, silent = (drawn(sizes, input_scale=scale) for scale in (None, 2.0, 0.0))
    unit = drawn(sizes, input_scale=1.0)
    for name, value in plain.items():
        assert np.array_equal(value, unit[name])
        factor = 2 if name in ("B_re", "B_im", "D") else 1
        assert np.array_equal(scaled[name], factor * value)
        assert np.array_equal(silent[name], value * (factor == 1))
    of_b = np.square(plain["B_re"]).sum() + np.square(plain["B_im"]).sum()
    assert of_b / 400 == pytest.approx(1, rel=4 * math.sqrt(2 / 8000))
    assert np.square(plain["D"]).sum() / 400 == pytest.approx(1, rel=4 * math.sqrt(2 / 4000))


@pytest.mark.tiny
def test_modes_near_the_unit_circle_keep_their_digits() -> None:
    """A ring of a width of 1e-12: gamma and nu are those of the same 1 - |lambda|^2."""
    params = drawn(Sizes(500, 1), r_min=1 - 1e-12)
    assert all(np.isfinite(value).all() for value in params.values())
    left, decay = np.exp(2 * params["gamma_log"]), np.exp(params["nu_log"])
    assert left / 2 == pytest.approx(decay, rel=1e-11)
    assert 0 < left.min() < 0.02 * left.max()
    assert left.max() == pytest.approx(2e-12, rel=0.02)


# Options.


@pytest.mark.tiny
def test_the_ring_s_options() -> None:
    """The reference's defaults; nothing where they mean nothing."""
    for make, more in ((RunSpec, {"steps": 20}), (LearnSpec, {"steps": 20})):
        plain = make.create(arch="lru", **more)
        assert [getattr(plain, name) for name in RING] == [0.0, 1.0, 6.28]
        assert [name for name in plain.to_dict() if name in RING] == list(RING)
        told = make.create(arch="lru", r_min=0.0, r_max=1.0, max_phase=6.28, **more)
        assert told.hash == plain.hash != make.create(arch="lru", r_min=0.5, **more).hash
        other = make.create(arch="rnn", **more)
        assert [getattr(other, name) for name in RING] == [None] * 3
        assert make.from_dict(told.to_dict()) == told


@pytest.mark.tiny
@pytest.mark.parametrize("make", [RunSpec, LearnSpec])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r_min": 0.5, "r_max": 0.5}, "r_min: 0.5 .* 0 <= r_min < r_max <= 1 .* r_max is 0.5"),
        ({"r_min": 0.9, "r_max": 0.1}, "r_min: 0.9 .* r_max is 0.1"),
        ({"r_max": 1.5}, "r_max: 1.5 is not allowed; a number above 0, up to 1"),
        ({"r_max": 0.0}, "r_max: 0"),
        ({"r_min": 1.0}, "r_min: 1.* from 0 to under 1"),
        ({"r_min": -0.1}, "r_min: -0.1"),
        ({"max_phase": 0}, "max_phase: 0 is not allowed; a number above 0, up to 2 pi"),
        ({"max_phase": 6.3}, "max_phase: 6.3"),
        ({"r_min": math.nan}, "r_min: nan"),
        ({"arch": "gru", "r_min": 0.1}, "r_min: 0.1 means nothing for gru; it is for lru"),
        ({"gain": 2.0}, "gain: 2.0 means nothing for lru"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        make.create(**{"arch": "lru", "steps": 20} | options)


@pytest.mark.tiny
def test_one_s_own_weights_have_no_ring(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **draw("lru").params)
    spec = RunSpec.create(arch="lru", steps=4, params=tmp_path / "w.npz")
    assert [getattr(spec, name) for name in RING] == [None] * 3
    for name, value in zip(RING, (0.5, 0.5, 1.0), strict=True):
        with pytest.raises(InputError, match=f"^{name}: .* beside params, which are not drawn"):
            RunSpec.create(arch="lru", steps=4, params=tmp_path / "w.npz", **{name: value})


@pytest.mark.tiny
def test_a_checklist_says_why_it_has_no_units() -> None:
    told = {arch: training_note(LearnSpec.create(arch=arch, steps=9)) for arch in ("lru", "ssm")}
    assert told["lru"].endswith("for the states are linear and have no slope to lose")
    assert told["ssm"].endswith("to lose, and Delta is drawn where softplus is flat")


def test_a_run_draws_what_it_is_asked_for() -> None:
    """One mode in a narrow ring: the rate is known before the run."""
    have = measured(steps=50, hidden=1, inputs=1, networks=3, r_min=0.7, r_max=0.70001)
    assert have["decay_rate"] == pytest.approx(math.log(0.7), abs=2e-5)


# What a mode keeps.


SIZES = np.array([0.2, 0.5, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-9, 1 - 1e-12])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_each_mode_falls_by_the_size_of_its_eigenvalue(dtype: type) -> None:
    """At every lag to 10,000, whatever the phase.

    A step has the roundings of lambda's two parts, which are the same at every step, of four
    products and of two sums: within 4 halves of a last digit of the mode's norm. The logarithm of
    the norm is rounded to its own last digit.
    """
    steps, modes = 10_000, len(SIZES)
    run = draw("lru", hidden=modes, inputs=1, steps=steps, batch=1)
    run.params["nu_log"] = np.log(-np.log(SIZES))
    run.params["theta_log"] = np.log(np.linspace(0.01, 6.0, modes))
    run.params["C_re"], run.params["C_im"] = np.eye(modes), 0.5 * np.eye(modes)
    run.x[:] = 0
    run = run.cast(dtype)
    several = {name: np.stack([value] * modes) for name, value in run.params.items()}
    readout = np.eye(modes, dtype=dtype)[:, None]  # one mode of each network
    att = seqlab.attenuation(
        "lru", several, np.stack([run.x] * modes), [steps], readout=readout
    ).log_norm[:, 0]
    want = -np.exp(run.params["nu_log"].astype(float))[:, None] * np.arange(steps + 1)
    room = 2 * np.finfo(dtype).eps * np.arange(steps + 1)
    room = room + 4 * np.finfo(float).eps * (1 + np.abs(want))
    assert (np.abs(att - att[:, :1] - want) <= room).all()
    assert want[0, -1] < -16_000
    assert want[-1, -1] > -1e-7


def test_phases_change_no_norm() -> None:
    """Of the whole state; of its real and imaginary parts they do."""
    run = draw("lru", hidden=6, steps=60, batch=2)
    curves = []
    for phase in (0.1, 2.0):
        run.params["theta_log"][:] = math.log(phase)
        curves.append(seqlab.attenuation("lru", run.params, run.x, [60]))
    one, other = curves
    assert one.log_norm == pytest.approx(other.log_norm, abs=60 * 1e-15)
    for part in ("real", "imag"):
        assert np.abs(one.parts[part] - other.parts[part]).max() > 0.1


@pytest.mark.tiny
@pytest.mark.parametrize("nu_log", [7.0, 800.0])
def test_an_eigenvalue_beyond_range_is_told_from_a_zero(tmp_path: Path, nu_log: float) -> None:
    """exp(-exp(7)) is no number: the gradient is lost, and lambda's own is zero. Nor is exp(800):
    nothing is known of its rate."""
    run = draw("lru", steps=6, batch=1)
    run.params["nu_log"][:] = nu_log
    have = given(tmp_path, run.params, run.x)
    assert have["underflow"].all()
    want = -math.exp(nu_log) if nu_log == 7 else math.nan
    assert have["theory"] == pytest.approx(want, rel=1e-14, nan_ok=True)
    found = answers(run)
    assert all(np.isfinite(value).all() for value in found.values())
    assert not found["nu_log"].any()
    assert not found["theta_log"].any()
    run.params["nu_log"][1:] = -1  # one of three
    have = given(tmp_path, run.params, run.x)
    assert not have["underflow"].any()
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-14)
    run.params["C_re"][:, 1:] = run.params["C_im"][:, 1:] = 0  # of which the loss sees that one
    assert seqlab.attenuation("lru", run.params, run.x, [6]).underflow.all()


@pytest.mark.tiny
def test_a_loss_that_the_state_does_not_see() -> None:
    """With C = 0 the output is D x: its gradients are D's and the input's alone."""
    run = draw("lru", steps=5)
    run.params["C_re"][:] = run.params["C_im"][:] = 0
    found = answers(run)
    assert found["output"] == pytest.approx(run.x @ run.params["D"].T, abs=1e-15)
    assert found["x"] == pytest.approx(run.grad @ run.params["D"], abs=1e-15)
    assert found["D"] == pytest.approx(np.einsum("tbh,tbi->hi", run.grad, run.x), abs=1e-14)
    for name in ("nu_log", "theta_log", "gamma_log", "B_re", "B_im", "initial_0", "initial_1"):
        assert not found[name].any()
    assert found["C_re"].any()
    att = seqlab.attenuation("lru", run.params, run.x, [5])
    assert (att.log_norm[0, 0] == -np.inf).all()
    assert not att.underflow.any()


# Theory.


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("steps", [3, 100])
def test_the_rate_is_known_from_the_eigenvalues(steps: int, dtype: str, tolerance: float) -> None:
    """Exactly, over any number of steps and whatever the input: see the roundings of a step
    above."""
    for drive in ("white", "zeros"):
        options = {"steps": steps, "hidden": 9, "inputs": 2, "networks": 2, "dtype": dtype}
        have = measured(drive=drive, **options)
        assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=tolerance)


@pytest.mark.tiny
def test_the_rate_of_one_s_own_arrays(tmp_path: Path) -> None:
    mine = draw("lru", hidden=5, steps=40, batch=3, networks=2)
    have = given(tmp_path, mine.params, mine.x)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-14)


def test_exponents_are_the_logarithms_of_sizes(tmp_path: Path) -> None:
    """Each twice, for a mode's real and imaginary part, but for a transient of O(1/T) with the
    frame's angles as its constant; their sum is that of ln |det| at every step."""
    mine = draw("lru", hidden=3, inputs=2, steps=1000, batch=1)
    have = given(tmp_path, mine.params, mine.x, spectrum=6)["lyapunov"][0]
    logs = np.sort(np.repeat(-np.exp(mine.params["nu_log"]), 2))[::-1]
    assert have.sum() == pytest.approx(logs.sum(), abs=1e-12)
    assert have == pytest.approx(logs, abs=5 / 1000)
    by_hand = naive_spectrum.lyapunov("lru", mine.params, mine.x, 6)
    assert by_hand == pytest.approx(logs, abs=5 / 1000)


@pytest.mark.tiny
def test_the_mean_over_a_ring() -> None:
    """Against a midpoint sum over the uniform |lambda|^2; the horizon at a thousandth."""
    low, high, cells = 0.9, 0.999, 200_000
    square = low**2 + (np.arange(cells) + 0.5) / cells * (high**2 - low**2)
    for lag in (0, 1, 10, 1000, 3650):
        # The midpoint rule's error is (width of a cell)^2 / 24 times the second derivative.
        bound = 1e-9 + (lag / cells) ** 2 / 24 * 1e2
        assert ring_square(low, high, lag) == pytest.approx((square**lag).mean(), rel=bound)
    rms = np.sqrt(ring_square(low, high, np.arange(5000)))
    assert int(np.argmax(rms < 1e-3)) == 3641
    assert ring_square(0.0, 1.0, np.arange(4)) == pytest.approx(1 / np.arange(1.0, 5.0))


def test_the_horizon_of_a_ring() -> None:
    """Modes are drawn whatever C is: over networks the mean of the squared norm, over that at lag
    0, is just the ring's mean, here within four standard errors, and so is where it falls under
    1e-6, a thousandth of the norm."""
    low, high, networks = 0.9, 0.999, 1024
    rng, how = np.random.default_rng(3), Draw(r_min=low, r_max=high)
    several = [CELL.draw(rng, Sizes(16, 1), how) for _ in range(networks)]
    params = {name: np.stack([one[name] for one in several]) for name in several[0]}
    x = np.zeros((networks, 4200, 1, 1))
    log = seqlab.attenuation("lru", params, x, [4200]).log_norm[:, 0]
    square = np.exp(2 * (log - log[:, :1]))
    mean, error = square.mean(axis=0), square.std(axis=0, ddof=1) / math.sqrt(networks)
    want = ring_square(low, high, np.arange(len(mean)))
    for lag in (1, 10, 100, 1000, 2000, 3641):
        assert abs(mean[lag] - want[lag]) < 4 * error[lag]
        assert 0 < error[lag] < 0.25 * want[lag]
    horizon = int(np.argmax(mean < 1e-6))
    slope = -np.diff(np.log(want))[3641]
    assert horizon == pytest.approx(3641, abs=4 * error[3641] / want[3641] / slope + 1)


@pytest.mark.parametrize(("size", "rho"), [(0.9, 0.5), (0.9, -0.5), (0.5, 0.9)])
def test_the_mean_square_of_an_eigenvalue_s_gradient(size: float, rho: float) -> None:
    """Zucchet & Orvieto 2024, figure 1A, from the lab's own gradients over stationary AR(1)
    inputs, within four standard errors; `verify` has it without chance."""
    rng, networks, steps = np.random.default_rng(7), 4000, 120
    noise = rng.standard_normal((networks, steps))
    x = noise.copy()
    for t in range(1, steps):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    params = {name: np.zeros((networks, *s)) for name, s in CELL.shapes(Sizes(1, 1)).items()}
    params["nu_log"][:] = math.log(-math.log(size))
    params["theta_log"][:] = -800  # a real lambda
    params["B_re"][:] = params["C_re"][:] = 1
    grad = np.zeros((networks, steps, 1, 1))
    grad[:, -1] = 1
    g = seqlab.backward(seqlab.forward("lru", params, x[:, :, None, None]), grad)
    square = np.square(g.params["nu_log"][:, 0] / (size * math.log(size)))
    error = square.std(ddof=1) / math.sqrt(networks)
    want = ar1_sensitivity(size, rho)
    assert square.mean() == pytest.approx(want, abs=4 * error)
    assert error < 0.05 * want
    by_hand = sum(  # the double sum that it closes
        j * k * size ** (j + k - 2) * rho ** abs(j - k)
        for j in range(1, 400)
        for k in range(1, 400)
    )
    assert want == pytest.approx(by_hand, rel=1e-12)


def test_the_ring_that_keeps_a_tenth() -> None:
    """`reach` finds the smallest r_min, and a run there has what was asked for."""
    found = seqlab.reach(
        arch="lru", vary="r_min", keep=0.1, steps=100, hidden=8, inputs=1, networks=7
    )
    (answer,) = found.answers
    assert answer.rising
    assert 0.0 < answer.value < 0.99
    kept = answer.result.variables["log_norm"].data[:, 0, -1, -1]
    assert math.exp(np.median(kept)) == pytest.approx(0.1, rel=1e-3)
