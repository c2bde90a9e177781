"""backward() where plain numbers end: losses far apart, chains that leave the range."""

from typing import Any

import naive
import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, PARITY, Run, answers, draw, relative_errors, truth

Array = npt.NDArray[Any]

LONG_DOUBLE = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp <= 1024, reason="needs a long double with a longer exponent"
)


def scaled_identity(gain: float, hidden: int = 2) -> dict[str, Array]:
    return {
        "weight_ih": np.eye(hidden),
        "weight_hh": gain * np.eye(hidden),
        "bias_ih": np.zeros(hidden),
        "bias_hh": np.zeros(hidden),
    }


@pytest.mark.tiny
def test_gradients_beyond_the_range_are_zero_or_infinite() -> None:
    """0.5^n is right down to the last subnormal; 2^n becomes infinite, never NaN."""
    steps = 90
    grad = np.zeros((steps, 1, 2))
    grad[-1] = [[2.0**-1000, -(2.0**-1000)]]
    run = Run("rnn", scaled_identity(0.5), np.zeros((steps, 1, 2)), (np.zeros((1, 2)),), grad)
    g = answers(run, "identity")
    powers = np.ldexp(1.0, -1000 - np.arange(steps)[::-1])
    assert np.array_equal(g["x"][:, 0], np.stack([powers, -powers], axis=1))
    assert powers[0] == 0.0
    assert powers[15] == 2.0**-1074
    grad[-1] = [[2.0**1000, -(2.0**1000)]]
    with np.errstate(over="ignore"):  # without the JIT NumPy's scalars warn
        g = answers(run._replace(params=scaled_identity(2.0), grad=grad), "identity")
    assert np.array_equal(g["initial_0"], [[np.inf, -np.inf]])
    assert np.array_equal(g["bias_hh"], [np.inf, -np.inf])
    assert np.array_equal(g["x"][-24:, 0, 0], np.ldexp(1.0, 1000 + np.arange(24)[::-1]))
    assert np.array_equal(g["x"][-25, 0], [np.inf, -np.inf])


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("sizes", [(0, 0, -200, 150, 0, -100, 300), (0, 200, -300, 0, 90, 0, -250)])
def test_losses_of_very_different_sizes(arch: str, sizes: tuple[int, ...]) -> None:
    """What a step gives keeps its digits whether the chain behind it is far larger or smaller."""
    run = draw(arch, steps=len(sizes), batch=2)
    run = run._replace(grad=run.grad * np.ldexp(1.0, sizes)[:, None, None])
    have, want = answers(run), truth(run)
    for t in range(len(sizes)):
        error = np.abs(have["x"][t] - want["x"][t]).max()
        assert error <= PARITY * np.abs(want["x"][t]).max(), t
    assert max(relative_errors(have, want).values()) < PARITY
    # Each loss alone: its share of every sum over time, none of which another hides.
    for t in range(len(sizes)):
        alone = run._replace(grad=np.where(np.arange(len(sizes))[:, None, None] == t, run.grad, 0))
        assert max(relative_errors(answers(alone), truth(alone)).values()) < PARITY, t


def extended_truth(run: Run, activation: str = "tanh") -> dict[str, Array]:
    """The naive reference with an exponent that has room, rounded to float64 at the end."""
    with np.errstate(over="ignore", under="ignore"):
        want = truth(run.cast(np.longdouble), activation)
        return {name: value.astype(np.float64) for name, value in want.items()}


@LONG_DOUBLE
@pytest.mark.parametrize("gain", [0.25, 1.0, 4.0])
def test_losses_all_along_a_chain_that_leaves_the_range(gain: float) -> None:
    """A loss at each step, sizes from 2^-900 to 2^900 against the chain: extended range tells."""
    steps, rng = 1200, np.random.default_rng(3)
    run = draw("rnn", hidden=3, inputs=2, steps=steps, batch=1)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    run.params["weight_hh"] = gain * q
    run = run._replace(x=np.zeros_like(run.x), state=(np.zeros((1, 3)),))
    run.params["bias_ih"][:] = 0
    run.params["bias_hh"][:] = 0
    sizes = np.ldexp(1.0, np.linspace(-900, 900, steps).astype(int))
    for order in (sizes, sizes[::-1]):
        loud = run._replace(grad=run.grad * order[:, None, None])
        have = answers(loud, "identity")
        plain = extended_truth(loud, "identity")
        for name in ("x", "initial_0", "bias_hh"):
            finite = np.isfinite(plain[name])
            assert np.array_equal(np.isfinite(have[name]), finite), name
            value, exact = np.where(finite, [have[name], plain[name]], 0)
            step = (len(exact), -1)  # of time, for x
            error = np.abs(value - exact).reshape(step).max(axis=1)
            assert (error <= 1e-11 * np.abs(exact).reshape(step).max(axis=1)).all(), name


@LONG_DOUBLE
@pytest.mark.parametrize("arch", ARCHS)
def test_one_loss_at_the_end_of_a_chain_that_dies(arch: str) -> None:
    """Far below the smallest number there are still losses, all zero: they must stay zeros."""
    run = draw(arch, steps=1500, batch=2)
    run.grad[:-1] = 0
    naive.CELLS[arch].fade(run.params)
    errors = relative_errors(answers(run), extended_truth(run))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
def test_a_scan_without_input_at_some_steps() -> None:
    """x = 0 makes C = 0: the state does not see the loss there, but the input does, through D."""
    run = draw("ssm", steps=5, batch=3)
    run.x[-1] = run.x[1] = 0
    want = truth(run)
    assert np.abs(want["x"][-1]).min() > 0
    errors = relative_errors(answers(run), want)
    assert max(errors.values()) < PARITY, errors
