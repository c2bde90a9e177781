"""Where numbers leave their range: saturated units, underflow, overflow, and very long sums.

A saturated unit's slope is small and never zero; a zero that comes from a factor beyond the dtype's
range is told from a true one; NaN stays NaN; a million float32 numbers keep their sum.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

import clips
import naive
import naive_adjoint
import numpy as np
import numpy.typing as npt
import pytest
from adjoints import curves
from drawn import ARCHS, KINDS, Run, answers, bias_of, draw, relative_errors, truth

import seqlab

DTYPES = (np.float64, np.float32)
SATURATING = [kind for kind in KINDS if kind[1] not in ("relu", "identity")]


def latch(weight: float, steps: int, dtype: npt.DTypeLike, bias: float = 0.0) -> Run:
    """One unit, h = phi(weight h + bias + x), pushed once by 1."""
    params = {"weight_ih": [[1.0]], "weight_hh": [[weight]], "bias_ih": [bias], "bias_hh": [0.0]}
    x = np.zeros((steps, 1, 1))
    x[0] = 1
    named = {name: np.array(value) for name, value in params.items()}
    return Run("rnn", named, x, (np.zeros((1, 1)),), np.zeros((steps, 1, 1))).cast(dtype)


# Saturated units.


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("weight", [18.0, 25.0])
def test_a_tanh_latch(weight: float, sign: int, dtype: type) -> None:
    """At h = 1 each step multiplies by w 4 E/(1 + E)^2, E = exp(-2 w): ln(4 w) - 2 w."""
    run = latch(weight, 60, dtype)
    have = seqlab.attenuation("rnn", run.params, sign * run.x, [60]).log_norm[0, 0, :50]
    step = math.log(4 * weight) - 2 * weight  # -31.7233 and -45.3948; E is below 1e-15
    # The pre-activation is rounded, which E feels 2 w times; so is the log itself.
    rounding = 4 * weight * float(np.finfo(dtype).eps) + 4e-16 * np.abs(have).max()
    assert np.abs(np.diff(have) - step).max() <= rounding


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("z", [40.0, -40.0])
def test_a_sigmoid_unit_held_far_out(z: float, dtype: type) -> None:
    """phi'(z) = exp(-40)/(1 + exp(-40))^2 on both sides, with a weight that z does not feel."""
    run = latch(1e-20, 12, dtype, bias=z)
    run.x[:] = 0
    have = seqlab.attenuation("rnn", run.params, run.x, [10], activation="sigmoid").log_norm[0, 0]
    rounding = 160 * float(np.finfo(dtype).eps) + 4e-16 * np.abs(have).max()
    assert np.abs(np.diff(have) - math.log(1e-20) + 40).max() <= rounding


def saturated(arch: str, far: float) -> Run:
    """Gates and units that are pushed to both sides, each by another distance up to `far`."""
    run = draw(arch, hidden=6, inputs=2, state=3, steps=12, batch=2)
    bias = bias_of(run)
    bias += np.resize([far, -far, far / 2, -far / 2, 0], bias.shape)
    return run


@pytest.mark.tiny
@pytest.mark.parametrize(("arch", "activation"), SATURATING)
@pytest.mark.parametrize("far", [20.0, 40.0, 90.0])
def test_curves_of_saturated_cells(arch: str, activation: str, far: float) -> None:
    """Each part at each lag, to 1e-9 nat: e^-90 multiplies an error of 1e-16 in z by 90. What an
    sLSTM's gates get is the difference of c's and n's shares, which are equal but for what a step
    changes in c/n: little where the gates are shut, so that half of the digits are gone."""
    run = saturated(arch, far)
    want = naive_adjoint.adjoint_curve(arch, run.params, run.x, run.grad[-1], activation)
    have = seqlab.attenuation(
        arch, run.params, run.x, [len(run.x)], readout=run.grad[-1], activation=activation
    )
    ours = curves(have)
    for name, curve in want.items():
        near = 1e-6 if arch == "slstm" and name in ("log_norm_hidden", "log_norm_input") else 1e-9
        assert np.allclose(ours[name][0, 0], curve, rtol=0, atol=near, equal_nan=True), name
    assert np.isfinite(want["log_norm"]).all()


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ["lstm", "gru", "mingru", "slstm"])
@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 40.0), (np.float32, 20.0)])
def test_each_gradient_of_one_saturated_unit(arch: str, dtype: type, far: float) -> None:
    """Every gate on either side: each entry of every gradient, however small.

    One step of grus: after it h is as close to n as rounding lets it, and h - n is noise.
    """
    run = draw(arch, hidden=1, inputs=1, steps=2 if arch == "lstm" else 1, batch=1)
    bias = bias_of(run)
    for signs in itertools.product([1, -1], repeat=bias.size):
        bias[:] = far * np.array(signs)
        single = run.cast(dtype)
        have, want = answers(single), truth(single.cast(np.float64))
        # The rounding of z, which the exponentials show whole.
        tolerance = 100 * far * float(np.finfo(dtype).eps)
        for name, value in want.items():
            known = value != 0
            assert np.abs(have[name] / np.where(known, value, 1) - 1)[known].max() <= tolerance, (
                name,
                signs,
            )


def test_sixty_four_units_at_gain_1000() -> None:
    """Most slopes are beyond every range; the rate is made by those that are not."""
    run = draw("rnn", hidden=64, inputs=4, steps=40, batch=1)
    run.params["weight_hh"] *= 1000
    want = naive_adjoint.adjoint_curve("rnn", run.params, run.x, run.grad[-1])["log_norm"]
    have = seqlab.attenuation("rnn", run.params, run.x, [40], readout=run.grad[-1, 0])
    # z is a sum of 64 numbers of size 1000: its rounding is near 1e-12, and e^-2z shows it whole.
    assert np.abs(have.log_norm[0, 0] - want).max() <= 1e-9
    assert -60 < want[-1] / 40 < -20


# What no factor of the dtype can hold.


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "weight"), [(np.float64, 400.0), (np.float32, 60.0)])
def test_a_slope_beyond_range_is_no_plain_zero(dtype: type, weight: float) -> None:
    run = latch(weight, 20, dtype)
    have = seqlab.attenuation("rnn", run.params, run.x, [20, 5])
    assert (have.log_norm[0, 0, 1:20] == -np.inf).all()
    assert have.underflow.tolist() == [[True, True]]


@pytest.mark.tiny
@pytest.mark.parametrize("arch", [arch for arch in ARCHS if arch != "rnn"])  # it has no gates
def test_a_whole_step_beyond_range(arch: str) -> None:
    """Gates closed so far that nothing of any unit passes."""
    run = draw(arch, hidden=3, steps=6)
    naive.CELLS[arch].shut(run.params)
    have = seqlab.attenuation(arch, run.params, run.x, [6])
    assert have.log_norm[0, 0, -1] == -np.inf
    assert have.underflow.all()


@pytest.mark.tiny
def test_true_zeros_are_zeros() -> None:
    """No recurrent weights, a cut chain, dead units: a zero says so, however saturated."""
    run = draw("rnn", hidden=3, steps=8)
    still = run.params | {"weight_hh": np.zeros((3, 3))}
    dead = run.params | {"bias_ih": np.full(3, -100.0)}
    for params, options in (
        (still, {}),
        (run.params, {"clip": "truncate:3"}),
        (dead, {"activation": "relu"}),
    ):
        have = seqlab.attenuation("rnn", params, run.x, [8], **options)
        assert have.log_norm[0, 0, -1] == -np.inf
        assert not have.underflow.any()


def test_a_run_counts_what_is_beyond_range(tmp_path: Any) -> None:
    """Two networks of three, and only their longest lag is asked."""
    weights = [400.0, 18.0, 400.0]
    runs = [latch(weight, 20, np.float64) for weight in weights]
    params = {name: np.stack([run.params[name] for run in runs]) for name in runs[0].params}
    np.savez(tmp_path / "w.npz", **params)
    np.save(tmp_path / "x.npy", runs[0].x)
    files = {"params": tmp_path / "w.npz", "input": tmp_path / "x.npy"}
    result = seqlab.run(arch="rnn", clip="none", **files)
    (found,) = result.to_json()["curves"]
    assert (found["zeros"], found["underflows"], found["overflows"]) == (0, 2, 0)
    said = "rnn, none: the gradient at lag 20 is under the range of float64 in 2 of 3 networks"
    assert said in " ".join(result.summary().split())


# Overflow.


def test_an_overflow_of_the_state_is_no_zero() -> None:
    """relu at gain 3: the state passes 1e308 after some 700 steps."""
    result = seqlab.run(
        arch="rnn", activation="relu", init="he", gain=3, steps=1500, networks=4, hidden=16
    )
    for entry in result.to_json()["curves"]:
        assert (entry["zeros"], entry["underflows"], entry["overflows"]) == (0, 0, 4)


@pytest.mark.tiny
def test_relu_of_infinities() -> None:
    """relu(-inf) is 0, and a unit that is off passes nothing on: no NaN comes of it."""
    run = latch(-1.0, 4, np.float64)
    run.params["weight_ih"][:], run.x[0] = 1e200, 1e200
    with np.errstate(all="ignore"):  # without the JIT NumPy warns
        forward = seqlab.forward("rnn", run.params, run.x, activation="relu")
        g = seqlab.backward(forward, np.ones_like(forward.output))
    assert forward.output[:, 0, 0].tolist() == [np.inf, 0, 0, 0]
    assert g.x[:, 0, 0].tolist() == [1e200, 0, 0, 0]


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", ["none", *clips.alike(1, 9)])
def test_nan_stays_nan(clip: str, dtype: type) -> None:
    """One unit's state overflows to NaN; what it reaches is NaN after every rule, never zero."""
    run = draw("rnn", hidden=3, steps=6, batch=1)
    run.params["weight_hh"][:] = [[-1, 1, 0], [1, -1, 0], [0, 0, 0.5]]
    run.params["weight_ih"][:2] = 1
    run = run.cast(dtype)
    run.x[0] = np.finfo(dtype).max
    with np.errstate(all="ignore"):
        forward = seqlab.forward("rnn", run.params, run.x, activation="relu")
        assert np.isnan(forward.output[2:, 0, :2]).all()
        g = seqlab.backward(forward, run.grad, clip=clip)
        curve = seqlab.attenuation("rnn", run.params, run.x, [6], clip, activation="relu")
    assert np.isnan(g.x[:3]).all()
    assert np.isnan(g.params["weight_hh"][:2, :2]).all()
    assert np.isnan(curve.log_norm[0, 0, 1:]).all()
    assert not curve.underflow.any()


# Long sums.


def sums_over(arch: str, steps: int, constant: bool) -> float:
    """Largest error of float32's parameter gradients, each relative to its largest entry."""
    states = 2 if constant else naive.CELLS[arch].states
    run = draw(arch, hidden=8, inputs=4, state=states, steps=steps, batch=1)
    if constant:
        run.x[:], run.grad[:] = 0.1, 0.1
    single = answers(run.cast(np.float32))
    double = answers(run.cast(np.float32).cast(np.float64))
    names: Iterable[str] = run.params
    if constant:  # other gradients of one step have lost three digits
        names = naive.CELLS[arch].at_rest or names
    kept = [{name: found[name] for name in names} for found in (single, double)]
    return max(relative_errors(*kept).values())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("constant", [True, False])
def test_sums_over_many_steps(arch: str, constant: bool) -> None:
    """1e-6 of the largest: pieces of 64 terms in float32 lose up to half of that."""
    assert sums_over(arch, 60_000, constant) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("constant", [True, False])
def test_sums_over_a_million_steps(arch: str, constant: bool) -> None:
    assert sums_over(arch, 1_000_000, constant) <= 1e-6


@pytest.mark.parametrize(
    "length", [60_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=str
)
def test_sums_of_the_selective_scan(length: int) -> None:
    """All 0.1: D's gradient is 0.01 L; that of the bias the sum of delta's own."""
    tenth = np.float32(0.1)
    shapes = {"u": (2, length), "delta": (2, length), "B": (3, length), "C": (3, length)}
    given = {name: np.full((1, *shape), tenth) for name, shape in shapes.items()}
    given |= {"A": np.full((2, 3), -tenth), "D": np.full(2, tenth), "delta_bias": np.full(2, tenth)}
    g = seqlab.selective_scan_backward(np.full((1, 2, length), tenth), **given)
    assert pytest.approx(np.full(2, float(tenth) ** 2 * length), rel=1e-6) == g.D
    assert g.delta_bias == pytest.approx(g.delta.sum(axis=(0, 2), dtype=float), rel=1e-6)


def test_sums_over_many_channels() -> None:
    """The gradients of B and C are sums over channels: in float32 to 1e-6 too."""
    rng = np.random.default_rng(3)
    shapes = {"u": (1, 20_000, 2), "delta": (1, 20_000, 2), "A": (20_000, 1), "B": (1, 1, 2)}
    shapes |= {"C": (1, 1, 2), "grad_y": (1, 20_000, 2)}
    given = {n: rng.uniform(0.1, 0.2, shape).astype(np.float32) for n, shape in shapes.items()}
    single = seqlab.selective_scan_backward(**given)
    double = seqlab.selective_scan_backward(**{n: v.astype(float) for n, v in given.items()})
    for name in ("B", "C"):
        assert getattr(single, name) == pytest.approx(getattr(double, name), rel=1e-6)
