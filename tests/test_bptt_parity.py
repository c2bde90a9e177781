"""forward() and backward(): against PyTorch, the naive reference, differences and themselves."""

from collections.abc import Iterator
from typing import Any

import naive
import numpy as np
import numpy.typing as npt
import pytest
from drawn import (
    ARCHS,
    KINDS,
    PARITY,
    Run,
    answers,
    draw,
    parts,
    relative_errors,
    same_bits,
    truth,
)
from reference import cases

import seqlab
from seqlab.cells import CELLS

Array = npt.NDArray[Any]
DIFFERENCE = 1e-6  # of central differences; seen: 3e-10


# Against PyTorch and the naive reference.


@pytest.mark.parametrize("case", list(cases.cases()), ids=lambda case: case.name)
def test_parity_with_pytorch(case: cases.Case) -> None:
    """Output and every gradient, at every size of the reference files."""
    drawn = cases.draw(case)
    run = Run(case.arch, *drawn)
    errors = cases.relative_errors(case, answers(run, case.activation))
    assert max(errors.values()) < PARITY, errors


def sizes_of(arch: str) -> Iterator[dict[str, int]]:
    """Around every block of the kernels: 4 rows, 8 depths, 16 steps of a chunk or projection."""
    states = (1, 4, 16, 17) if "state" in CELLS[arch].options else (1,)
    for hidden in (1, 7, 16, 17, 33):
        for state in states:
            for batch, steps, inputs in ((1, 1, 1), (3, 2, 5), (2, 16, 1), (1, 33, 3)):
                yield {
                    "hidden": hidden,
                    "state": state,
                    "batch": batch,
                    "steps": steps,
                    "inputs": inputs,
                }


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_any_size_with_a_random_first_state(arch: str, activation: str) -> None:
    for sizes in sizes_of(arch):
        run = draw(arch, **sizes)
        errors = relative_errors(answers(run, activation), truth(run, activation))
        assert max(errors.values()) < PARITY, (sizes, errors)


@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("batch", [4, 5, 9])
def test_sequences_that_share_the_weights(arch: str, activation: str, batch: int) -> None:
    """From four sequences on they go in groups, the last one short."""
    run = draw(arch, hidden=13, inputs=3, state=5, steps=20, batch=batch)
    errors = relative_errors(answers(run, activation), truth(run, activation))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("batch", [1, 5])
def test_small_runs_against_the_naive_loops(arch: str, activation: str, batch: int) -> None:
    run = draw(arch, hidden=9, inputs=2, state=3, steps=3, batch=batch)
    errors = relative_errors(answers(run, activation), truth(run, activation))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_state_left_out_is_zero(arch: str) -> None:
    run = draw(arch)
    free = seqlab.forward(arch, run.params, run.x)
    given = seqlab.forward(arch, run.params, run.x, run.each(np.zeros_like).initial)
    assert np.array_equal(free.output, given.output)
    assert same_bits(
        cases.named(free.output, *gradient_parts(seqlab.backward(free, run.grad))),
        cases.named(given.output, *gradient_parts(seqlab.backward(given, run.grad))),
    )


def gradient_parts(g: Any) -> tuple[dict[str, Array], Array, Any]:
    return g.params, g.x, parts(g.initial)


# Against differences of the compiled kernels themselves.


def perturbed(value: Array, step: float) -> Array:
    """Copies of an array (2n, ...), entry k up by `step` in copy k and down in copy n + k."""
    bumps = step * np.eye(value.size).reshape(-1, *value.shape)
    return np.concatenate([value + bumps, value - bumps])


def differences(run: Run, activation: str, step: float) -> dict[str, Array]:
    """Central differences of sum(output * grad), all entries of one array as one ensemble."""
    given = {**run.params, "x": run.x}
    given |= {f"initial_{k}": start for k, start in enumerate(run.state)}
    result = {}
    for name, value in given.items():
        bumped = {
            key: perturbed(value, step) if key == name else np.stack([array] * 2 * value.size)
            for key, array in given.items()
        }
        params = {key: bumped[key] for key in run.params}
        state = tuple(bumped[f"initial_{k}"] for k in range(len(run.state)))
        initial = run._replace(state=state).initial
        output = seqlab.forward(run.arch, params, bumped["x"], initial, activation).output
        loss = (output * run.grad).sum(axis=(1, 2, 3))
        slopes = (loss[: value.size] - loss[value.size :]) / (2 * step)
        result[name] = slopes.reshape(value.shape)
    return result


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_gradients_are_central_differences(arch: str, activation: str) -> None:
    """Every entry of every parameter, of x and of the first state."""
    run, step = draw(arch, hidden=4, inputs=2, state=3, steps=5, batch=2), 1e-5
    if activation == "relu":
        saved = naive.forward(arch, run.params, run.x, run.state, activation)
        before = np.concatenate([run.initial[None], saved["output"][:-1]])
        a = run.x @ run.params["weight_ih"].T + before @ run.params["weight_hh"].T
        a += run.params["bias_ih"] + run.params["bias_hh"]
        assert np.abs(a).min() > 500 * step  # away from kinks
    have = answers(run, activation)
    del have["output"]
    errors = relative_errors(have, differences(run, activation, step))
    assert max(errors.values()) < DIFFERENCE, errors


# Ensembles, dtypes, arrays as they come.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("batch", [1, 4])
def test_an_ensemble_is_its_networks(arch: str, batch: int) -> None:
    """Bit for bit, whatever the number of networks."""
    run = draw(arch, hidden=5, steps=4, batch=batch, networks=3)
    together = answers(run, clip="step-norm:0.3")
    for m in range(3):
        alone = answers(run.network(m), clip="step-norm:0.3")
        assert same_bits({name: value[m] for name, value in together.items()}, alone)


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_float32_is_float64_rounded(arch: str, activation: str) -> None:
    """Answers are float32, and off by 32 of its rounding errors, 2^-24 each (seen: 7)."""
    run = draw(arch, hidden=17, inputs=5, state=4, steps=40, batch=2).cast(np.float32)
    short, long = answers(run, activation), answers(run.cast(np.float64), activation)
    assert {value.dtype for value in short.values()} == {np.dtype(np.float32)}
    errors = relative_errors({n: v.astype(np.float64) for n, v in short.items()}, long)
    assert max(errors.values()) < 32 * 2.0**-24, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_arrays_of_any_stride_and_nothing_is_overwritten(arch: str) -> None:
    run = draw(arch, networks=2)
    tripled = [np.repeat(a, 3, axis=-1)[..., ::3] for a in (*run.params.values(), run.x, run.grad)]
    strided = run._replace(
        params=dict(zip(run.params, tripled, strict=False)), x=tripled[-2], grad=tripled[-1]
    )
    before = [a.copy() for a in tripled]
    want = answers(run)
    assert same_bits(answers(strided), want)
    assert all(np.array_equal(a, b) for a, b in zip(tripled, before, strict=True))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_trajectory_can_be_gone_back_over_again(arch: str) -> None:
    run = draw(arch)
    trajectory = seqlab.forward(arch, run.params, run.x, run.initial)
    first = seqlab.backward(trajectory, run.grad)
    seqlab.backward(trajectory, 3 * run.grad, clip="step-value:0.1")
    again = seqlab.backward(trajectory, run.grad)
    assert same_bits(
        cases.named(trajectory.output, *gradient_parts(first)),
        cases.named(trajectory.output, *gradient_parts(again)),
    )
    assert trajectory.backend == "cpu"
