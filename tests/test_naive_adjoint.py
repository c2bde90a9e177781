"""The naive adjoint at every lag, against Jacobians, gradients and closed forms."""

import math

import naive
import naive_adjoint
import naive_spectrum
import numpy as np
import pytest
from naive_runs import CELLS, CHAIN_RULES, ROUNDING, draw, draw_run, linear, orthogonal


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_curve_is_the_product_of_jacobians(arch: str, activation: str) -> None:
    params, x, _, _ = draw_run(arch, steps=8, batch=1)
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve(arch, params, x, readout, activation)
    run = naive.forward(arch, params, x, None, activation)
    local = naive.CELLS[arch].loss(run["saved"][-1], readout[None])
    adjoint = np.concatenate([part.ravel() for part in local])
    steps = naive_spectrum.jacobians(arch, params, x, None, activation)
    for lag in range(9):
        if lag:
            adjoint = adjoint @ steps[8 - lag]
        with np.errstate(divide="ignore"):
            assert curve["log_norm"][lag] == pytest.approx(
                np.log(np.linalg.norm(adjoint)), rel=ROUNDING, abs=ROUNDING
            )
            names = list(naive.CELLS[arch].parts(params))
            for name, part in zip(names, np.split(adjoint, len(names)), strict=True):
                assert len(names) == 1 or curve[f"log_norm_{name}"][lag] == pytest.approx(
                    np.log(np.linalg.norm(part)), rel=ROUNDING, abs=ROUNDING
                )


@pytest.mark.parametrize(("arch", "activation"), CELLS)
@pytest.mark.parametrize("clip", ["none", *CHAIN_RULES])
def test_curve_is_the_gradient_of_the_last_output(arch: str, activation: str, clip: str) -> None:
    """Within float64's range: the input part at every lag, the state part where backward ends."""
    params, x, _, _ = draw_run(arch, steps=6, batch=3)
    readout = np.random.default_rng(2).normal(size=(3, 3))
    curve = naive_adjoint.adjoint_curve(arch, params, x, readout, activation, clip)
    gy = np.zeros((6, 3, 3))
    gy[-1] = readout
    back = naive.backward(arch, params, x, gy, None, activation, clip)
    with np.errstate(divide="ignore"):
        by_lag = np.log(np.linalg.norm(back["x"], axis=(1, 2)))[::-1]
        at_start = np.log(np.linalg.norm(np.ravel(back["initial"])))
    assert curve["log_norm_input"][:6] == pytest.approx(by_lag, rel=ROUNDING, abs=ROUNDING)
    assert math.isnan(curve["log_norm_input"][6])
    assert curve["log_norm"][6] == pytest.approx(at_start, rel=ROUNDING, abs=ROUNDING)


def test_scaled_orthogonal_chain_far_below_float64() -> None:
    """tau ln g at every lag to 10,000. Rounding: 1e4 products, each a few 1e-16."""
    steps = 10_000
    readout = np.array([0.6, 0.0, -0.8])
    curve = naive_adjoint.adjoint_curve(
        "rnn", linear(0.5 * orthogonal(3)), np.zeros((steps, 1, 1)), readout, "identity"
    )
    assert curve["log_norm"] == pytest.approx(np.arange(steps + 1) * math.log(0.5), rel=0, abs=1e-8)
    assert (curve["log_norm_input"][:-1] == -np.inf).all()


def test_lstm_without_weights_forgets_by_its_bias() -> None:
    """Cell part from lag 1: (tau - 1) ln sigmoid(b), to e^-2600; 1e-12 + 2e-14 tau as specified."""
    hidden, steps = 3, 2000
    zero = np.zeros(4 * hidden)
    forget = zero.copy()
    forget[hidden : 2 * hidden] = -1.0
    params = {
        "weight_ih": np.zeros((4 * hidden, 1)),
        "weight_hh": np.zeros((4 * hidden, hidden)),
        "bias_ih": zero,
        "bias_hh": forget,
    }
    curve = naive_adjoint.adjoint_curve("lstm", params, np.zeros((steps, 1, 1)), np.ones(hidden))
    cell = curve["log_norm_cell"]
    lags = np.arange(1, steps + 1)
    want = -(lags - 1) * math.log(1 + math.e)
    assert (np.abs(cell[1:] - cell[1] - want) <= 1e-12 + 2e-14 * lags).all()
    # Lag 0: the readout is all hidden. Lag 1: r o (1 - tanh(0)^2) f, with o = 1/2.
    assert curve["log_norm_hidden"][0] == pytest.approx(math.log(math.sqrt(3)), rel=1e-14)
    assert cell[0] == -np.inf
    assert cell[1] == pytest.approx(math.log(math.sqrt(3) / 2 / (1 + math.e)), rel=1e-14)
    assert (curve["log_norm_hidden"][1:] == -np.inf).all()


def test_lstm_without_recurrence_carries_by_its_forget_gates() -> None:
    """a_c(tau) = r o_T (1 - tanh^2 c_T) prod f, elementwise."""
    params, x, _, _ = draw_run("lstm", steps=40, batch=1)
    params["weight_hh"] = np.zeros_like(params["weight_hh"])
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve("lstm", params, x, readout)
    run = naive.forward("lstm", params, x)
    pre = x[:, 0] @ params["weight_ih"].T + params["bias_ih"] + params["bias_hh"]
    forget, output = 1 / (1 + np.exp(-pre[:, 3:6])), 1 / (1 + np.exp(-pre[-1, 9:]))
    c_last = run["states"][1][-1, 0]
    adjoint = readout * output * (1 - np.tanh(c_last) ** 2)
    for lag in range(1, 41):
        adjoint = adjoint * forget[40 - lag]
        assert curve["log_norm_cell"][lag] == pytest.approx(
            math.log(np.linalg.norm(adjoint)), abs=1e-10
        )


def test_ssm_carries_by_the_sum_of_its_steps() -> None:
    """ds_T/ds_t = exp(A sum Delta), for each channel and state; readout through C_T."""
    steps = 2000
    params, rng = draw("ssm")
    params["dt_proj_bias"] += 3.0  # long enough steps to leave float64's range
    x = rng.normal(size=(steps, 1, 2))
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve("ssm", params, x, readout)
    u = x[:, 0] @ params["in_proj_weight"].T
    projected = u @ params["x_proj_weight"].T
    raw = projected[:, :1] @ params["dt_proj_weight"].T + params["dt_proj_bias"]
    behind = np.concatenate([np.zeros((1, 3)), np.cumsum(np.logaddexp(0, raw)[::-1], axis=0)])
    start = readout[:, None] * projected[-1, 3:]
    logs = np.log(np.abs(start)) - np.exp(params["A_log"]) * behind[:, :, None]
    want = np.logaddexp.reduce(2 * logs.reshape(steps + 1, -1), axis=1) / 2
    assert want[-1] < -800
    tolerance = 1e-12 + 2e-14 * np.arange(steps + 1)
    # The tolerance is of a rate; the sum itself rounds at 1e-16 of its size.
    assert (np.abs(curve["log_norm"] - want) <= tolerance + 1e-14 * np.abs(want)).all()


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_no_step_beats_the_largest_singular_value(activation: str, slope: float) -> None:
    params, x, _, _ = draw_run("rnn", steps=50, batch=1, hidden=6)
    curve = naive_adjoint.adjoint_curve("rnn", params, x, np.ones(6), activation)
    most = slope * np.linalg.norm(params["weight_hh"], 2)
    assert (np.diff(curve["log_norm"]) <= math.log(most) + 1e-12).all()
