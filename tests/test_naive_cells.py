"""The naive cells forward and back, against derivatives and PyTorch's answers."""

import math
from typing import Any

import naive
import naive_adjoint
import naive_functions
import numpy as np
import pytest
from naive import Params
from naive_runs import CELLS, ROUNDING, assert_close, complex_step, draw_run, named_parts, parts_of
from reference import cases

PARITY = 1e-9  # what the project promises of every implementation against PyTorch; seen: 2e-12


# Forward.


@pytest.mark.parametrize(
    "case",
    [c for c in cases.cases() if c.steps <= 17 and c.hidden <= 33],
    ids=lambda case: case.name,
)
def test_parity_with_pytorch(case: cases.Case) -> None:
    drawn = cases.draw(case)
    # Sums of up to 1e4 terms of order 1, by whatever order of summation.
    assert cases.checksum(drawn) == pytest.approx(
        cases.stored(case.kind)[f"{case.name}/inputs"], rel=1e-10, abs=1e-10
    ), "the generator's stream has changed: make the reference files again"
    run = naive.forward(case.arch, drawn.params, drawn.x, drawn.state, case.activation)
    back = naive.backward(
        case.arch, drawn.params, drawn.x, drawn.grad_output, drawn.state, case.activation
    )
    answers = cases.named(run["output"], back["params"], back["x"], back["initial"])
    errors = cases.relative_errors(case, answers)
    assert max(errors.values()) <= PARITY, errors


def test_parity_sees_one_wrong_entry() -> None:
    case = cases.Case("lstm", 17, 3, 5, 33)
    drawn = cases.draw(case)
    run = naive.forward(case.arch, drawn.params, drawn.x, drawn.state)
    back = naive.backward(case.arch, drawn.params, drawn.x, drawn.grad_output, drawn.state)
    gradient = back["params"]["weight_hh"]
    gradient[50, 17] += 1e-8 * np.linalg.norm(gradient)
    answers = cases.named(run["output"], back["params"], back["x"], back["initial"])
    errors = cases.relative_errors(case, answers)
    assert errors["weight_hh"] > PARITY
    assert errors["weight_ih"] <= PARITY


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_the_long_parity_cases_are_neither_dead_nor_exploding(kind: str) -> None:
    """At H = 33 and T = 300 the chain from the last step to the first must still be seen."""
    case = cases.Case(kind, 300, 1, 5, 33)
    drawn = cases.draw(case)
    readout = np.full(33, 33**-0.5)
    curve = naive_adjoint.adjoint_curve(case.arch, drawn.params, drawn.x, readout, case.activation)
    assert -30 < curve["log_norm"][300] < 5


def test_elementwise_functions_hold_in_their_tails() -> None:
    """No overflow, and the leading term exp(-|a|) where 1 - sigmoid(a) would be 0."""
    far = np.array([-700.0, 700.0])
    small = math.exp(-700)
    assert naive_functions.sigmoid(far) == pytest.approx([small, 1], rel=ROUNDING, abs=0)
    assert naive_functions.sigmoid_slope(far) == pytest.approx([small, small], rel=ROUNDING, abs=0)
    assert naive_functions.tanh_slope(far / 2) == pytest.approx(
        [4 * small] * 2, rel=ROUNDING, abs=0
    )
    assert naive_functions.softplus(far) == pytest.approx([small, 700], rel=ROUNDING, abs=0)
    with np.errstate(over="raise"):
        assert naive_functions.sigmoid(2 * far).tolist() == [0, 1]
        assert naive_functions.softplus(2 * far).tolist() == [0, 1400]


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_forward_keeps_the_initial_state_and_every_state(arch: str, activation: str) -> None:
    params, x, initial, _ = draw_run(arch, steps=5, batch=2)
    whole = naive.forward(arch, params, x, initial, activation)
    middle = tuple(part[3] for part in whole["states"])
    rest = naive.forward(arch, params, x[3:], middle, activation)
    assert np.array_equal(rest["output"], whole["output"][3:])
    for part, start, again in zip(whole["states"], initial, rest["states"], strict=True):
        assert np.array_equal(part[0], start)
        assert np.array_equal(again, part[3:])
    if "hidden" in naive.CELLS[arch].parts(params):
        assert np.array_equal(whole["states"][0][1:], whole["output"])


# Gradients.


@pytest.mark.parametrize(("arch", "activation"), CELLS)
@pytest.mark.parametrize("sizes", [{"hidden": 3}, {"hidden": 17, "inputs": 1, "state": 1}])
def test_backward_is_the_complex_step(arch: str, activation: str, sizes: dict[str, int]) -> None:
    """Every parameter, the input, the initial state. Width 17 gives the ssm a Delta rank of 2."""
    params, x, initial, gy = draw_run(arch, steps=3, batch=2, **sizes)

    def loss(a: Params) -> Any:  # a cell reads only the names that are its own
        return (forward(a)["output"] * gy).sum()

    def forward(a: Params) -> dict[str, Any]:
        return naive.forward(arch, a, a["x"], parts_of(a), activation)

    have = naive.backward(arch, params, x, gy, initial, activation)
    assert have["params"].keys() == params.keys()
    answers = have["params"] | {"x": have["x"]} | named_parts(have["initial"])
    want = complex_step(loss, params | {"x": x} | named_parts(initial))
    for name, gradient in want.items():
        assert_close(answers[name], gradient)


@pytest.mark.parametrize("arch", naive.CELLS)
def test_a_gradient_of_the_last_state(arch: str) -> None:
    """By the complex step, in the first state."""
    params, x, start, silence = draw_run(arch, steps=3, batch=2, hidden=3)
    rng = np.random.default_rng(9)
    last = tuple(rng.normal(size=part.shape) for part in start)
    silence = np.zeros_like(silence)
    have = naive.backward(arch, params, x, silence, start, grad_final=last)

    def loss(a: Params) -> Any:
        states = naive.forward(arch, params, x, parts_of(a))["states"]
        return sum((g * part[-1]).sum() for g, part in zip(last, states, strict=True))

    wanted = complex_step(loss, named_parts(start)).values()
    for part, want in zip(have["initial"], wanted, strict=True):
        assert_close(part, want)
