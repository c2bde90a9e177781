"""The CUDA kernels against the CPU's, at sizes small enough for the simulator.

`test_cuda.py` runs the files cuda_parity*.py in a process of their own, since NUMBA_ENABLE_CUDASIM
must be set before the CUDA package is imported; with a GPU they run as they are: `pytest
tests/cuda_parity*.py`.
"""

import math
from typing import Any

import clips
import naive
import numpy as np
import numpy.typing as npt
import pytest
from adjoints import curves
from drawn import KINDS as EVERY_KIND
from drawn import (
    Run,
    answers,
    bias_of,
    cases,
    draw,
    draw_layered,
    parts,
    public,
    relative_errors,
    same_bits,
)
from faces import faults

import seqlab
from seqlab import rules
from seqlab.cells import CELLS, Sizes
from seqlab.engine import tape
from seqlab.kernels.backends import cells_of
from seqlab.kernels.cuda import call, diagonal
from seqlab.measure.lyapunov import frames, spectrum

Array = npt.NDArray[Any]


ARCHS = cells_of("cuda")
KINDS = [kind for kind in EVERY_KIND if kind[0] in ARCHS]

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}
DTYPES = list(TOLERANCE)
# Rules on finished gradients never reach a kernel.
IN_CHAIN = (*clips.biting(rules.IN_CHAIN), "truncate:1")
AFTER = clips.biting(rules.AFTER)
# One unit; more than the simulator's 8 lanes; more than its 32 threads.
ONE = {"hidden": 1, "inputs": 1, "state": 1, "steps": 1, "batch": 1}
SEVERAL = {"hidden": 9, "inputs": 2, "state": 3, "steps": 3, "batch": 3, "networks": 2}
FEW = {"hidden": 10, "inputs": 2, "state": 3, "steps": 2, "batch": 2}
MANY = {"hidden": 35, "inputs": 3, "state": 2, "steps": 2, "batch": 1}


def some_everyday(*archs: str) -> list[Any]:
    """All cells, of which these are the everyday ones."""
    return cases(*archs, slow=[(arch,) for arch in ARCHS if arch not in archs])


def agree(run: Run, dtype: type, **options: str) -> None:
    run = run.cast(dtype)
    errors = relative_errors(
        answers(run, backend="cuda", **options), answers(run, backend="cpu", **options)
    )
    assert max(errors.values()) < TOLERANCE[dtype], errors


def test_every_module_offers_what_the_contract_says() -> None:
    assert faults("cuda") == []


@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    cases(
        (SEVERAL, np.float64),
        (FEW, np.float32),
        (MANY, np.float64),
        slow=[(ONE, np.float64), *((sizes, np.float32) for sizes in (ONE, SEVERAL, MANY))],
    ),
    ids=lambda value: f"H={value['hidden']}" if isinstance(value, dict) else value.__name__,
)
def test_any_size(arch: str, activation: str, dtype: type, sizes: dict[str, int]) -> None:
    agree(draw(arch, **sizes), dtype, activation=activation)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("clip", "dtype"),
    cases(("step-norm:0.3", np.float64), slow=[("none", np.float32), ("none", np.float64)]),
)
def test_several_layers(arch: str, clip: str, dtype: type) -> None:
    """What each layer hands to the one below comes at exponents of its own."""
    run = draw_layered(arch, 2, hidden=3, steps=4, batch=2)
    agree(run, dtype, clip=clip)
    run, found = run.cast(dtype), []
    for backend in ("cuda", "cpu"):
        att = seqlab.attenuation(arch, run.params, run.x, [2, 4], clip=clip, backend=backend)
        found.append([att.log_norm, att.log_norm_input, *att.parts.values()])
    for ours, theirs in zip(*found, strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE[dtype], nan_ok=True)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("clip", "dtype"),
    cases(
        *((clip, np.float64) for clip in IN_CHAIN),
        slow=[(clip, np.float32) for clip in IN_CHAIN] + [(clip, np.float64) for clip in AFTER],
    ),
)
def test_clip_rules(arch: str, clip: str, dtype: type) -> None:
    agree(draw(arch, hidden=5, steps=5, batch=2), dtype, clip=clip)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    "clip", cases("none", slow=[(clip,) for clip in clips.biting(rules.IN_CHAIN)])
)
def test_bundles_of_lengths(arch: str, clip: str) -> None:
    """Every part at every lag of every length, and how often the rule acted."""
    run = draw(arch, hidden=5, steps=5, batch=2, networks=2)
    have, want = (
        seqlab.attenuation(arch, run.params, run.x, [5, 2, 3], clip, backend=backend)
        for backend in ("cuda", "cpu")
    )
    ours = curves(have)
    for name, theirs in curves(want).items():
        assert np.allclose(ours[name], theirs, rtol=0, atol=1e-10, equal_nan=True), name


@pytest.mark.parametrize("arch", some_everyday("lstm"))
def test_a_whole_measurement(arch: str) -> None:
    options = {"arch": arch, "steps": 4, "hidden": 3, "inputs": 2, "networks": 2, "lengths": (2, 4)}
    options |= {"clip": ["none", "step-norm:0.3"], "spectrum": 2, "truncation": 0.9}
    have, want = (seqlab.run(**options, backend=backend) for backend in ("cuda", "cpu"))
    assert have.backend == "cuda"
    for name, variable in want.variables.items():
        if np.issubdtype(variable.data.dtype, np.number):
            ours = have.variables[name].data
            assert np.allclose(ours, variable.data, rtol=1e-10, atol=1e-10, equal_nan=True), name


@pytest.mark.parametrize("arch", ARCHS)
def test_every_direction_of_the_state(arch: str) -> None:
    """As many rows as the state has entries, without a loss on the way."""
    run = draw(arch, hidden=3, state=2, steps=4, batch=1)
    size = math.prod(CELLS[arch].adjoint_shape(Sizes(3, 2, 2)))
    exponents = []
    for backend in ("cuda", "cpu"):
        trajectory = seqlab.forward(arch, run.params, run.x, backend=backend)
        exponents.append(spectrum(trajectory.tape, frames(0, range(1), size, size)))
    assert np.allclose(*exponents, rtol=0, atol=1e-10)


@pytest.mark.parametrize("arch", some_everyday("rnn", "ssm"))  # one of each loop over time
def test_time_in_pieces(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments of whole chunks and pieces of a call change sums over time at most; computed again
    instead of kept, not a bit."""
    run = draw(arch, hidden=3, steps=5, batch=2)
    monkeypatch.setattr(diagonal, "CHUNK", 2)
    whole = answers(run, backend="cuda")
    for module, name, value in (
        (tape, "SEGMENT_BYTES", 1),
        (tape, "MIN_SEGMENT", 4),
        (call, "KEPT_BYTES", 1),
    ):
        monkeypatch.setattr(module, name, value)
    cut = answers(run, backend="cuda")
    assert max(relative_errors(cut, answers(run, backend="cpu")).values()) < TOLERANCE[np.float64]
    for name in ("output", "x", *(n for n in whole if n.startswith("initial"))):
        assert np.array_equal(cut[name], whole[name]), name
    assert max(relative_errors(cut, whole).values()) < 1e-14
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    assert same_bits(answers(run, backend="cuda"), cut)


def test_a_chunks_last_state_is_the_steps_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what the chunks joined to, which has other last bits: a launch may end there."""
    run = draw("ssm", hidden=5, steps=5, batch=2, networks=2).cast(np.float32)
    monkeypatch.setattr(diagonal, "CHUNK", 2)
    whole = answers(run, backend="cuda")["x"]
    monkeypatch.setattr(call, "KEPT_BYTES", 1)
    assert np.array_equal(answers(run, backend="cuda")["x"], whole)


@pytest.mark.parametrize("arch", some_everyday("rnn", "ssm"))
def test_an_ensemble_is_its_networks(arch: str) -> None:
    """Bit for bit, whatever the number of networks."""
    run = draw(arch, hidden=5, steps=3, batch=3, networks=3)
    together = answers(run, clip="step-norm:0.3", backend="cuda")
    alone = answers(run.network(1), clip="step-norm:0.3", backend="cuda")
    assert same_bits({name: value[1] for name, value in together.items()}, alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("clip", ["none", "step-norm:1e-30", "step-value:1e-30"])
@pytest.mark.parametrize("power", [-60, 0, 60])
def test_chains_that_leave_the_range(dtype: type, clip: str, power: int) -> None:
    """A step's factor of 2^power, losses at every step: as in float64 on the CPU, rounded."""
    run = draw("rnn", hidden=2, inputs=1, steps=5, batch=1)
    run.params["weight_hh"] = np.ldexp(np.linalg.qr(run.params["weight_hh"])[0], power)
    run = run._replace(x=0 * run.x, state=(0 * run.initial,))
    run.params["bias_ih"][:] = run.params["bias_hh"][:] = 0
    have = answers(run.cast(dtype), "identity", clip, "cuda")
    want = answers(run.cast(dtype).cast(np.float64), "identity", clip, "cpu")
    for name, value in want.items():
        with np.errstate(over="ignore"):
            rounded = value.astype(dtype)
        smallest = np.finfo(dtype).smallest_normal  # below, digits are lost
        close = np.isclose(have[name], rounded, rtol=TOLERANCE[dtype], atol=smallest)
        assert close.all(), (name, have[name], value)


@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize(("dtype", "far"), [(np.float64, 40.0), (np.float32, 12.0)])
def test_saturated_units(arch: str, activation: str, dtype: type, far: float) -> None:
    """One unit, each gate far out on one side or the other: each entry of every gradient, however
    small, by its ratio. The rounding of z shows whole in what is small."""
    run = draw(arch, hidden=1, inputs=1, state=1, steps=1, batch=1)
    bias = bias_of(run)
    for sign in (1, -1):
        bias[:] = sign * np.resize([far, -far, far / 2, -far / 2], bias.shape)
        single = run.cast(dtype)
        have, want = (answers(single, activation, backend=backend) for backend in ("cuda", "cpu"))
        for name, value in want.items():
            known = value != 0
            ratio = have[name][known] / value[known]
            assert np.abs(ratio - 1).max(initial=0) <= 100 * far * np.finfo(dtype).eps, name


@pytest.mark.parametrize("arch", ARCHS)
def test_a_slope_beyond_range_is_no_plain_zero(arch: str) -> None:
    run = draw(arch, hidden=3, steps=4, batch=1)
    naive.CELLS[arch].shut(run.params)
    have = seqlab.attenuation(arch, run.params, run.x, [4], backend="cuda")
    assert have.log_norm[0, 0, -1] == -np.inf
    assert have.underflow.all()


@pytest.mark.parametrize("clip", ["none", "step-norm:1", "step-value:1"])
def test_nan_stays_nan(clip: str) -> None:
    """An overflow of two relu units; the third is well."""
    run = draw("rnn", hidden=3, steps=4, batch=1)
    run.params["weight_hh"][:] = [[-1, 1, 0], [1, -1, 0], [0, 0, 0.5]]
    run.params["weight_ih"][:2] = 1
    run.x[0] = np.finfo(float).max
    forward = seqlab.forward("rnn", run.params, run.x, activation="relu", backend="cuda")
    assert np.isnan(forward.output[2:, 0, :2]).all()
    g = seqlab.backward(forward, run.grad, clip)
    assert np.isnan(g.x[:2]).all()
    curve = seqlab.attenuation(
        "rnn", run.params, run.x, [4], clip, activation="relu", backend="cuda"
    )
    assert np.isnan(curve.log_norm[0, 0, 1:]).all()


@pytest.mark.parametrize("arch", ARCHS)
def test_losses_of_any_size(arch: str) -> None:
    """At each step, so large that the adjoint is rescaled."""
    run = draw(arch, hidden=2, inputs=1, steps=2, batch=1)
    agree(run._replace(grad=np.ldexp(run.grad, 100)), np.float64)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.3"])
def test_last_states_and_their_gradients(arch: str, clip: str) -> None:
    run = draw(arch, hidden=5, steps=3, batch=2, networks=2)
    found = []
    for backend in ("cuda", "cpu"):
        forward = seqlab.forward(arch, run.params, run.x, run.initial, backend=backend)
        g = seqlab.backward(forward, run.grad, clip, grad_final=public(run.state))
        states = (*parts(forward.final), *parts(g.initial))
        found.append({"x": g.x, **{f"{i}": part for i, part in enumerate(states)}})
    errors = relative_errors(*found)
    assert max(errors.values()) < TOLERANCE[np.float64], errors


@pytest.mark.parametrize("arch", ARCHS)
def test_the_input_may_change_before_the_way_back(arch: str) -> None:
    run = draw(arch, hidden=3, steps=3, batch=1)
    want = answers(run, backend="cuda")
    forward = seqlab.forward(arch, run.params, run.x, run.initial, backend="cuda")
    run.x[:] = 0
    for value in run.params.values():
        value[:] = 0
    have = seqlab.backward(forward, run.grad)
    assert np.array_equal(have.x, want["x"])
    assert all(np.array_equal(have.params[name], want[name]) for name in run.params)
