"""The naive Jacobians and Lyapunov exponents, against complex steps and closed forms."""

import naive
import naive_spectrum
import numpy as np
import pytest
from naive import Array
from naive_runs import CELLS, ROUNDING, TINY, draw_run, linear, orthogonal


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_jacobians_are_the_complex_step(arch: str, activation: str) -> None:
    params, x, initial, _ = draw_run(arch, steps=3, batch=1)
    have = naive_spectrum.jacobians(arch, params, x, initial, activation)
    states = naive.forward(arch, params, x, initial, activation)["states"]
    for t, jacobian in enumerate(have):
        for k, part in enumerate(states):
            before = [p[t] for p in states]
            for column, index in enumerate(np.ndindex(part[t].shape)):
                moved = part[t].astype(complex)
                moved[index] += 1j * TINY
                after = naive.CELLS[arch].step(
                    params, x[t], (*before[:k], moved, *before[k + 1 :]), activation
                )[0]
                want = np.concatenate([np.asarray(p).imag.ravel() for p in after]) / TINY
                have_column = jacobian[:, k * part[t].size + column]
                assert have_column == pytest.approx(want, rel=ROUNDING, abs=ROUNDING)


def test_lyapunov_spectrum_of_a_symmetric_linear_chain() -> None:
    """ln|eigenvalue|: exactly from the eigenframe, from a generic one after an O(1/T) transient."""
    values = np.array([1.2, -0.9, 0.5, 0.1])
    vectors = orthogonal(4)
    params = linear(vectors @ np.diag(values) @ vectors.T)
    x = np.zeros((500, 1, 1))
    want = np.log(np.abs(values[:3]))
    exact = naive_spectrum.lyapunov("rnn", params, x, 3, "identity", frame=vectors[:, :3])
    assert exact == pytest.approx(want, rel=0, abs=1e-12)
    generic = naive_spectrum.lyapunov("rnn", params, x, 3, "identity")
    assert generic == pytest.approx(want, rel=0, abs=5 / 500)


def test_lyapunov_exponents_of_an_ssm_are_its_mean_decays() -> None:
    """A diagonal Jacobian: the axes never turn, so only a generic frame finds the largest."""
    params, x, _, _ = draw_run("ssm", steps=300, batch=1, hidden=2)
    decay = np.stack([saved["decay"] for saved in naive.forward("ssm", params, x)["saved"]])
    want = np.sort(np.log(decay).mean(axis=0).ravel())[::-1][:2]
    # Transient of O(1/T) with the frame's angles as its constant.
    assert naive_spectrum.lyapunov("ssm", params, x, 2) == pytest.approx(want, rel=0, abs=5 / 300)


@pytest.mark.parametrize("frame", [None, np.eye(5)])
def test_lyapunov_sum_of_a_tanh_rnn(frame: Array | None) -> None:
    """All exponents add up to ln|det W| + <sum ln phi'>, from any frame."""
    params, x, _, _ = draw_run("rnn", steps=200, batch=1, hidden=5)
    h = naive.forward("rnn", params, x)["output"]
    before = np.concatenate([np.zeros((1, 1, 5)), h[:-1]])
    a = x @ params["weight_ih"].T + before @ params["weight_hh"].T
    slopes = np.log(np.cosh(a + params["bias_ih"] + params["bias_hh"]) ** -2.0)
    want = np.linalg.slogdet(params["weight_hh"])[1] + slopes.sum(axis=2).mean()
    exponents = naive_spectrum.lyapunov("rnn", params, x, 5, frame=frame)
    assert (np.diff(exponents) <= 0).all()
    assert exponents.sum() == pytest.approx(want, rel=0, abs=1e-10)
