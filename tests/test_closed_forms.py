"""Every closed form of a gradient's attenuation that there is, at its tolerance, to lag 10,000.

Tolerances are those of the project's theory: of logs in nats, where not said otherwise.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from adjoints import FAR, curves, linear, linear_curve
from drawn import ARCHS, Run, draw

import seqlab
from seqlab.engine.backward import Sweep
from seqlab.engine.ensemble import gather
from seqlab.measure import measure
from seqlab.measure.lyapunov import SPREAD
from seqlab.rules import Rule
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]


def orthogonal(size: int, seed: int = 0) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


# Linear networks.


@pytest.mark.parametrize("gain", [0.5, 0.99, 1.0, 1.5])
@pytest.mark.parametrize("hidden", [1, 6, 64])
def test_scaled_orthogonal_network(gain: float, hidden: int) -> None:
    """tau ln g at every lag to 10,000, to 1e-8."""
    curve = linear_curve(gain * orthogonal(hidden), FAR)
    want = np.arange(FAR + 1) * math.log(gain)
    assert np.abs(curve - curve[0] - want).max() <= 1e-8


@pytest.mark.tiny
def test_scaled_orthogonal_network_over_a_few_steps() -> None:
    curve = linear_curve(0.5 * orthogonal(3), 40)
    assert np.abs(curve - curve[0] - np.arange(41) * math.log(0.5)).max() <= 1e-12


def test_tied_weights_decay_by_their_spectral_radius() -> None:
    """The slope tends to ln rho(W), to 1e-3 for each of eight matrices of any kind."""
    rng = np.random.default_rng(2)
    for gain in (0.7, 1.2):
        for hidden in (2, 5, 16, 64):
            weight = gain * rng.normal(size=(hidden, hidden)) / math.sqrt(hidden)
            curve = linear_curve(weight, FAR)
            rate = (curve[-1] - curve[0]) / FAR
            assert abs(rate - math.log(np.abs(np.linalg.eigvals(weight)).max())) <= 1e-3


# Gates.


def test_lstm_without_weights_forgets_by_its_bias() -> None:
    """(tau - 1) ln sigmoid(b) in the cell part, differences from lag 1, to 1e-12 + 2e-14 tau."""
    hidden, lags = 3, np.arange(1, FAR + 1)
    for bias in (-2.0, 0.0, 1.0, 5.0):
        params = {
            "weight_ih": np.zeros((4 * hidden, 1)),
            "weight_hh": np.zeros((4 * hidden, hidden)),
            "bias_ih": np.zeros(4 * hidden),
            "bias_hh": np.repeat([0.0, bias, 0.0, 0.0], hidden),
        }
        att = seqlab.attenuation("lstm", params, np.zeros((FAR, 1, 1)), [FAR])
        cell, tolerance = att.log_norm_cell[0, 0], 1e-12 + 2e-14 * lags
        want = -(lags - 1) * np.log1p(np.exp(-bias))
        assert (np.abs(cell[1:] - cell[1] - want) <= tolerance).all()
        assert (att.log_norm_hidden[0, 0, 1:] == -np.inf).all()
        # Lag 1: r o (1 - tanh(0)^2) f with o = 1/2.
        assert cell[1] == pytest.approx(math.log(0.5) - math.log1p(math.exp(-bias)), abs=1e-14)


def test_lstm_without_recurrence_carries_by_its_forget_gates() -> None:
    """a_c(tau) = r o_T (1 - tanh^2 c_T) prod f over the steps between, entry by entry, to 1e-10."""
    run = draw("lstm", hidden=5, inputs=2, steps=3000, batch=1)
    run.params["weight_hh"][:] = 0
    run.params["bias_hh"][5:10] -= 2
    p, readout = run.params, np.array([0.3, -1.2, 0.5, 2.0, -0.7])
    pre = run.x[:, 0] @ p["weight_ih"].T + p["bias_ih"] + p["bias_hh"]
    gates = 1 / (1 + np.exp(-pre))
    i, f, o = gates[:, :5], gates[:, 5:10], gates[:, 15:]
    c = np.zeros(5)
    for t in range(3000):
        c = f[t] * c + i[t] * np.tanh(pre[t, 10:15])
    start = readout * o[-1] * (1 - np.tanh(c) ** 2)
    behind = np.cumsum(np.log(f)[::-1], axis=0)  # ln of the product, by lag - 1
    att = seqlab.attenuation("lstm", p, run.x, [3000], readout=readout)
    logs = np.log(np.abs(start)) + behind
    want = np.logaddexp.reduce(2 * logs, axis=1) / 2
    assert want[-1] < -1000
    assert np.abs(att.log_norm_cell[0, 0, 1:] - want).max() <= 1e-10
    # Entry by entry where plain numbers reach: the first cell state's gradient.
    for steps in (1, 20, 200):
        near = run._replace(x=run.x[-steps:], grad=np.zeros((steps, 1, 5)))
        near.grad[-1] = readout
        g = seqlab.backward(
            seqlab.forward("lstm", p, near.x, (np.zeros((1, 5)), c_before(f, i, pre, steps))),
            near.grad,
        )
        assert g.initial[1][0] == pytest.approx(start * np.exp(behind[steps - 1]), rel=1e-10)


def c_before(f: Array, i: Array, pre: Array, steps: int) -> Array:
    """The cell state `steps` before the end, (1, H)."""
    c = np.zeros(f.shape[1])
    for t in range(len(f) - steps):
        c = f[t] * c + i[t] * np.tanh(pre[t, 10:15])
    return c[None]


# The selective scan.


def first_state_adjoints(run: Run, lengths: list[int], readout: Array) -> tuple[Array, Array]:
    """dL/ds_0 of the losses readout . y_T: directions (lengths, N, H), ln of their scales."""
    ensemble = gather(run.arch, run.params, run.x)
    tape = ensemble.tape("cpu")
    tape.run(lambda saved: None)
    falling = sorted(lengths, reverse=True)
    sweep = Sweep(tape, falling, Rule("none"), record=False, gradients=False)

    def loss(first: int, last: int) -> Array:
        ends = last in falling
        gradient = np.zeros((1, int(ends), 1, len(falling), len(readout)))
        if ends:
            gradient[:, 0, :, falling.index(last)] = readout
        return gradient

    sweep.run(loss)
    order = [falling.index(length) for length in lengths]
    adjoint, exponent = sweep.rows()
    return adjoint[0, 0, order], exponent[0, 0, order] * math.log(2)


def test_scan_carries_each_state_by_the_sum_of_its_steps() -> None:
    """ds_T/ds_0 = exp(A_n sum Delta) for every channel and state, to 1e-12 + 2e-14 T.

    Entries under 1e-280 of the norm may be zero.
    """
    lengths = [1, 10, 100, 1000, FAR]
    run = draw("ssm", hidden=6, inputs=2, state=4, steps=FAR, batch=1)
    run.params["A_log"][:] = np.log(np.arange(1, 5)) + 0.1 * run.params["A_log"]
    readout = np.array([0.3, -1.2, 0.5, 2.0, -0.7, 1.0])
    for shift, all_kept in ((-6.0, True), (0.0, False)):  # short steps and long ones
        run.params["dt_proj_bias"][:] = np.linspace(-2, 1, 6) + shift
        u = run.x[:, 0] @ run.params["in_proj_weight"].T
        mixed = u @ run.params["x_proj_weight"].T
        raw = mixed[:, :1] @ run.params["dt_proj_weight"].T + run.params["dt_proj_bias"]
        total = np.cumsum(np.logaddexp(0, raw), axis=0)
        direction, scale = first_state_adjoints(run, lengths, readout)
        for row, steps in enumerate(lengths):
            start = mixed[steps - 1, 5:, None] * readout  # C_T r
            carry = -np.exp(run.params["A_log"].T) * total[steps - 1]
            want = np.log(np.abs(start)) + carry
            norm = np.logaddexp.reduce(2 * want, axis=None) / 2
            representable = want - norm > math.log(1e-280)
            with np.errstate(divide="ignore"):
                have = np.log(np.abs(direction[row])) + scale[row]
            tolerance = 1e-12 + 2e-14 * steps
            assert (np.abs(have - want)[representable] <= tolerance).all()
            assert np.array_equal(np.sign(direction[row]), np.sign(start) * (direction[row] != 0))
            assert (have[~representable] - norm <= math.log(1e-279)).all()
        assert representable.all() == all_kept


# Bounds and sums.


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_no_step_beats_the_largest_singular_value(activation: str, slope: float) -> None:
    """||a_{t-1}|| <= sigma_max(W) max phi' ||a_t|| at every step, to a factor of 1 + 1e-12."""
    for hidden in (1, 9, 32):
        run = draw("rnn", hidden=hidden, steps=FAR, batch=1)
        run.params["weight_hh"] *= 2
        att = seqlab.attenuation("rnn", run.params, run.x, [FAR], activation=activation)
        most = slope * np.linalg.norm(run.params["weight_hh"], 2)
        assert (np.diff(att.log_norm[0, 0]) <= math.log(most) + math.log1p(1e-12)).all()


def test_lyapunov_exponents_add_up_to_the_determinant(tmp_path: Path) -> None:
    """Their sum is ln|det W| + <sum ln phi'> over time, for each network.

    A QR loses as many digits as its steps' product has condition, and takes steps that spread by
    SPREAD beyond what one of them does.
    """
    run = draw("rnn", hidden=7, inputs=2, steps=2000, batch=1, networks=3)
    np.savez(tmp_path / "w.npz", **run.params)
    np.save(tmp_path / "x.npy", run.x)
    spec = RunSpec.create(
        arch="rnn", params=tmp_path / "w.npz", input=tmp_path / "x.npy", spectrum=7, clip="none"
    )
    exponents = measure(spec).variables["lyapunov"].data
    h = seqlab.forward("rnn", run.params, run.x).output[:, :, 0]
    # ln(1 - tanh^2 a) by a itself, so that a saturated unit loses no digits.
    before = np.concatenate([np.zeros((3, 1, 7)), h[:, :-1]], axis=1)
    a = run.x[:, :, 0] @ run.params["weight_ih"].swapaxes(1, 2)
    a += before @ run.params["weight_hh"].swapaxes(1, 2)
    a += (run.params["bias_ih"] + run.params["bias_hh"])[:, None]
    slopes = -2 * np.logaddexp(a, -a) + 2 * math.log(2)
    want = np.linalg.slogdet(run.params["weight_hh"])[1] + slopes.sum(axis=2).mean(axis=1)
    assert (np.diff(exponents, axis=1) <= 0).all()
    steps = np.exp(slopes)[..., None] * run.params["weight_hh"][:, None]
    rounding = np.finfo(float).eps * math.exp(SPREAD) * np.linalg.cond(steps).mean(axis=1)
    assert (np.abs(exponents.sum(axis=1) - want) <= rounding).all()
    assert (rounding < 1e-7).all()


# Clip rules.


@pytest.mark.parametrize("arch", ARCHS)
def test_parameter_rules_leave_the_rate_alone(arch: str) -> None:
    """At most one common factor on the curve, 1e-14 on the rate; here not one bit."""
    spec = RunSpec.create(
        arch=arch,
        steps=300,
        hidden=8,
        inputs=4,
        networks=2,
        clip=["none", "norm:0.01", "value:0.01"],
    )
    variables = measure(spec).variables
    rates = variables["decay_rate"].data
    assert np.abs(rates - rates[:, :1]).max() <= 1e-14
    norms = variables["log_norm"].data
    assert np.array_equal(norms[:, 1], norms[:, 0], equal_nan=True)
    assert np.array_equal(norms[:, 2], norms[:, 0], equal_nan=True)
    assert (variables["clipped_fraction"].data == [0, 1, 1]).all()
    before = variables["log_param_grad_norm_before"].data
    after = variables["log_param_grad_norm_after"].data
    assert np.array_equal(before[:, 0], after[:, 0])
    assert after[:, 1] == pytest.approx(math.log(0.01), abs=1e-14)
    assert (after[:, 2] < before[:, 2]).all()


@pytest.mark.parametrize("gain", [1.01, 1.5, 4.0])
def test_step_norm_on_an_expanding_network_is_a_plateau(gain: float) -> None:
    """Exactly c after the clip and g c before it, to 1e-12, from the step on where it is reached.

    With W_ih = W_hh the input's gradient is the adjoint as it is handed over, before the clip.
    """
    hidden, threshold, steps = 6, 8.0, 2000
    weight = gain * orthogonal(hidden)
    att = seqlab.attenuation(
        "rnn",
        linear(weight, weight_ih=weight),
        np.zeros((steps, 1, hidden)),
        [steps],
        clip=f"step-norm:{threshold}",
        activation="identity",
    )
    after, before = att.log_norm[0, 0], att.log_norm_input[0, 0]
    first = math.floor(math.log(threshold) / math.log(gain)) + 1  # lag at which the rule fires
    rising = np.arange(first) * math.log(gain)
    assert np.abs(after[:first] - rising).max() <= 1e-12
    assert np.abs(after[first:] - math.log(threshold)).max() <= 1e-12
    assert np.abs(before[first:-1] - math.log(gain * threshold)).max() <= 1e-12


def test_clips_leave_a_contracting_chain_its_rate() -> None:
    """In-chain norm: untouched. In-chain value: an offset. No rule repairs vanishing."""
    weight, lags = 0.5 * orthogonal(6), np.arange(2001)
    free = linear_curve(weight, 2000)
    assert np.array_equal(linear_curve(weight, 2000, "step-norm:1"), free)
    valued = linear_curve(weight, 2000, "step-value:0.01")
    assert np.abs(valued[20:] - valued[20] - (lags[20:] - 20) * math.log(0.5)).max() <= 1e-10
    assert valued[20] < free[20] - 1


@pytest.mark.parametrize("arch", ARCHS)
def test_truncation_is_exact(arch: str) -> None:
    """Unchanged up to lag k, and exact zeros beyond, in every part."""
    run = draw(arch, hidden=5, steps=300, batch=2)
    readout = np.array([0.3, -1.2, 0.5, 2.0, -0.7])
    free = seqlab.attenuation(arch, run.params, run.x, [120, 300], readout=readout)
    for k in (1, 7, 100, 300):
        cut = seqlab.attenuation(
            arch, run.params, run.x, [120, 300], readout=readout, clip=f"truncate:{k}"
        )
        whole = curves(free)
        for name, curve in curves(cut).items():
            full = whole[name]
            assert np.array_equal(curve[..., : k + 1], full[..., : k + 1], equal_nan=True)
            for row, length in enumerate((120, 300)):
                last = length if name == "log_norm_input" else length + 1
                assert (curve[0, row, k + 1 : last] == -np.inf).all()
