"""Sequences in pieces: a last state to go on from, and its gradient on the way back.

What was given may change or go between both ways: a trajectory has arrays of its own.
"""

from typing import Any

import naive
import naive_scan
import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, KINDS, Run, draw, parts, public, relative_errors
from reference.cases import named

import seqlab
from seqlab import InputError

Array = npt.NDArray[Any]

PARITY = 1e-9
# Products go back and forth and inputs are projected in whole blocks of steps: pieces of whole
# blocks fall as they do in one piece.
BLOCK = 16


def final_gradient(run: Run) -> tuple[Array, ...]:
    """A gradient of the last state, by parts."""
    rng = np.random.default_rng(7)
    return tuple(rng.normal(size=part.shape) for part in run.state)


@pytest.mark.tiny
@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.5", "truncate:2", "norm:0.1"])
def test_the_last_state_and_its_gradient(arch: str, activation: str, clip: str) -> None:
    run = draw(arch, hidden=4, steps=5)
    final = final_gradient(run)
    forward = seqlab.forward(arch, run.params, run.x, run.initial, activation)
    states = naive.forward(arch, run.params, run.x, run.state, activation)["states"]
    last = naive.CELLS[arch].of_lab(parts(forward.final))
    for have, want in zip(last, states, strict=True):
        assert have == pytest.approx(want[-1], rel=PARITY, abs=PARITY)
    g = seqlab.backward(forward, run.grad, clip, public(final))
    truth = naive.backward(
        arch, run.params, run.x, run.grad, run.state, activation, clip, grad_final=final
    )
    none = np.zeros(0)
    have = named(none, g.params, g.x, parts(g.initial))
    want = named(none, truth["params"], truth["x"], truth["initial"])
    errors = relative_errors(
        {k: have[k] for k in have if k != "output"}, {k: want[k] for k in want if k != "output"}
    )
    assert max(errors.values()) <= PARITY, errors


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("networks", [0, 2])
@pytest.mark.parametrize("clip", ["none", "step-value:0.3"])
def test_two_halves_are_the_whole(arch: str, networks: int, clip: str) -> None:
    """Outputs, states and gradients of the input bit for bit; sums over time to rounding."""
    run = draw(arch, hidden=9, inputs=3, state=3, steps=6 * BLOCK, batch=3, networks=networks)
    cut = 2 * BLOCK
    whole = seqlab.forward(arch, run.params, run.x, run.initial)
    first = seqlab.forward(arch, run.params, run.x[..., :cut, :, :], run.initial)
    second = seqlab.forward(arch, run.params, run.x[..., cut:, :, :], first.final)
    output = np.concatenate([first.output, second.output], axis=-3)
    assert np.array_equal(output, whole.output)
    for have, want in zip(parts(second.final), parts(whole.final), strict=True):
        assert np.array_equal(have, want)
    want = seqlab.backward(whole, run.grad, clip)
    later = seqlab.backward(second, run.grad[..., cut:, :, :], clip)
    earlier = seqlab.backward(first, run.grad[..., :cut, :, :], clip, later.initial)
    assert np.array_equal(np.concatenate([earlier.x, later.x], axis=-3), want.x)
    for have, exact in zip(parts(earlier.initial), parts(want.initial), strict=True):
        assert np.array_equal(have, exact)
    sums = {name: earlier.params[name] + later.params[name] for name in want.params}
    errors = relative_errors(sums, want.params)
    assert max(errors.values()) <= 1e-13, errors


@pytest.mark.parametrize("arch", ARCHS)
def test_a_long_sequence_step_by_step(arch: str) -> None:
    """Pieces of any lengths, to rounding."""
    run = draw(arch, hidden=5, steps=40, batch=2)
    state, outputs = run.initial, []
    for first, last in ((0, 1), (1, 4), (4, 23), (23, 40)):
        piece = seqlab.forward(arch, run.params, run.x[first:last], state)
        outputs.append(piece.output)
        state = piece.final
    want = seqlab.forward(arch, run.params, run.x, run.initial).output
    assert np.concatenate(outputs) == pytest.approx(want, rel=0, abs=1e-13 * np.abs(want).max())


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_steps_keep_their_bits_however_many_follow(arch: str, dtype: type) -> None:
    """Within a block of steps too, whose inputs are projected together, however wide they are."""
    run = draw(arch, hidden=33, inputs=64, steps=21, batch=1).cast(dtype)
    whole = seqlab.forward(arch, run.params, run.x, run.initial).output
    for count in (1, 2, 5, 17, 20):
        part = seqlab.forward(arch, run.params, run.x[:count], run.initial).output
        assert np.array_equal(part, whole[:count]), count


@pytest.mark.tiny
def test_a_last_gradient_that_does_not_fit_is_refused() -> None:
    run = draw("lstm", hidden=3)
    forward = seqlab.forward("lstm", run.params, run.x)
    for bad in (run.initial[0], (run.initial[0],), (np.zeros((2, 4)), np.zeros((2, 4)))):
        with pytest.raises(InputError, match=r"^grad_final.*needed|^grad_final.*takes a tuple"):
            seqlab.backward(forward, run.grad, "none", bad)
    gru = draw("gru", hidden=3)
    with pytest.raises(InputError, match=r"^grad_final: NaN"):
        seqlab.backward(
            seqlab.forward("gru", gru.params, gru.x), gru.grad, grad_final=np.full((2, 3), np.nan)
        )


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("networks", [0, 2])
def test_what_was_given_may_change_before_the_way_back(arch: str, networks: int) -> None:
    """Input, parameters and first state: the gradient is that of what went in."""
    run = draw(arch, hidden=5, steps=20, networks=networks)
    want = seqlab.backward(seqlab.forward(arch, run.params, run.x, run.initial), run.grad)
    forward = seqlab.forward(arch, run.params, run.x, run.initial)
    run.x[:] = 0
    for array in (*run.params.values(), *run.state):
        array[:] = np.nan
    forward.output[:] = 5
    for part in parts(forward.final):
        part[:] = 6
    have = seqlab.backward(forward, run.grad)
    assert np.array_equal(have.x, want.x)
    for name, array in want.params.items():
        assert np.array_equal(have.params[name], array), name


# The bare scan.


def scan(length: int, dtype: npt.DTypeLike = np.float64) -> dict[str, Array]:
    """Arguments of a scan with everything, and gradients of what it gives."""
    rng = np.random.default_rng(4)
    batch, channels, states = 2, 70, 3
    shapes = {
        "u": (batch, channels, length),
        "delta": (batch, channels, length),
        "A": (channels, states),
        "B": (batch, states, length),
        "C": (batch, states, length),
        "D": (channels,),
        "z": (batch, channels, length),
        "delta_bias": (channels,),
        "initial_state": (batch, channels, states),
    }
    drawn = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    drawn["A"] *= -np.sign(drawn["A"])
    for name in ("delta", "delta_bias"):
        drawn[name] = np.abs(drawn[name])
    return drawn


def piece(arguments: dict[str, Array], steps: slice) -> dict[str, Array]:
    """Some steps of everything that has steps."""
    return {
        name: np.ascontiguousarray(value[..., steps]) if value.ndim == 3 else value
        for name, value in arguments.items()
        if name != "initial_state"
    }


@pytest.mark.parametrize("softplus", [True, False])
def test_a_scan_from_a_state_and_back(softplus: bool) -> None:
    arguments = scan(35) | {"delta_softplus": softplus}
    rng = np.random.default_rng(5)
    grad_y, grad_last = rng.normal(size=(2, 70, 35)), rng.normal(size=(2, 70, 3))
    y, last = seqlab.selective_scan(**arguments, return_last_state=True)
    assert y == pytest.approx(naive_scan.selective_scan(**arguments), rel=0, abs=1e-11)
    step, _ = naive_scan.scan_delta(arguments["delta"], arguments["delta_bias"], softplus)
    initial = arguments["initial_state"]
    states = naive_scan.scan_states(arguments["u"], step, arguments["A"], arguments["B"], initial)
    assert last == pytest.approx(states[-1], rel=0, abs=1e-11 * np.abs(states[-1]).max())
    have = seqlab.selective_scan_backward(grad_y, **arguments, grad_last_state=grad_last)
    want = naive_scan.selective_scan_backward(grad_y, **arguments, grad_last_state=grad_last)
    found = {name: getattr(have, name) for name in want}
    assert max(relative_errors(found, want).values()) <= PARITY
    assert seqlab.selective_scan(**arguments) == pytest.approx(y, rel=0, abs=0)


def test_a_scan_in_two_pieces_is_the_whole() -> None:
    """Bit for bit at a whole chunk; gradients chain."""
    arguments = scan(80)
    grad_y, cut = np.random.default_rng(6).normal(size=(2, 70, 80)), 2 * BLOCK
    y, last = seqlab.selective_scan(**arguments, return_last_state=True)
    head = piece(arguments, slice(0, cut)) | {"initial_state": arguments["initial_state"]}
    y0, middle = seqlab.selective_scan(**head, return_last_state=True)
    tail = piece(arguments, slice(cut, None)) | {"initial_state": middle}
    y1, end = seqlab.selective_scan(**tail, return_last_state=True)
    assert np.array_equal(np.concatenate([y0, y1], axis=2), y)
    assert np.array_equal(end, last)
    want = seqlab.selective_scan_backward(grad_y, **arguments)
    later = seqlab.selective_scan_backward(np.ascontiguousarray(grad_y[..., cut:]), **tail)
    earlier = seqlab.selective_scan_backward(
        np.ascontiguousarray(grad_y[..., :cut]), **head, grad_last_state=later.initial_state
    )
    for name in ("u", "delta", "B", "C", "z"):
        both = np.concatenate([getattr(earlier, name), getattr(later, name)], axis=2)
        assert np.array_equal(both, getattr(want, name)), name
    assert np.array_equal(earlier.initial_state, want.initial_state)
    for name in ("A", "D", "delta_bias"):
        both = getattr(earlier, name) + getattr(later, name)
        assert both == pytest.approx(getattr(want, name), rel=1e-12, abs=1e-12), name


@pytest.mark.tiny
def test_a_state_of_zeros_is_no_state() -> None:
    arguments = scan(18, np.float32)
    arguments["initial_state"][:] = 0
    alone = {name: value for name, value in arguments.items() if name != "initial_state"}
    assert np.array_equal(seqlab.selective_scan(**arguments), seqlab.selective_scan(**alone))
    grad_y = np.ones((2, 70, 18), np.float32)
    assert seqlab.selective_scan_backward(grad_y, **alone).initial_state is None
    have = seqlab.selective_scan_backward(grad_y, **arguments).initial_state
    assert have.dtype == np.float32
    with pytest.raises(InputError, match=r"^grad_last_state: shape"):
        seqlab.selective_scan_backward(grad_y, **alone, grad_last_state=np.zeros((2, 70), "f"))
