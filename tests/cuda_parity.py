"""The CUDA kernels against the CPU's, at sizes small enough for the simulator.

`test_cuda.py` runs this file in a process of its own, since NUMBA_ENABLE_CUDASIM must be set before
the CUDA package is imported; with a GPU it runs as it is: `pytest tests/cuda_parity.py`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, KINDS, Run, answers, draw, relative_errors, same_bits

import seqlab
from seqlab import tape
from seqlab.cells import Sizes
from seqlab.errors import DeviceError, InputError
from seqlab.kernels.cuda import call, lstm, ssm, target
from seqlab.measure.lyapunov import frames, spectrum

Array = npt.NDArray[Any]

TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}
DTYPES = list(TOLERANCE)
# Rules on finished gradients never reach a kernel.
IN_CHAIN = ("step-norm:0.3", "step-value:0.05", "truncate:3", "truncate:1")
RULES = [(clip, dtype) for clip in IN_CHAIN for dtype in DTYPES]
RULES += [("norm:0.5", np.float64), ("value:0.05", np.float64)]
# One unit; more than the simulator's 8 lanes; more than its 32 threads.
SIZES = (
    {"hidden": 1, "inputs": 1, "state": 1, "steps": 1, "batch": 1},
    {"hidden": 9, "inputs": 2, "state": 3, "steps": 4, "batch": 5, "networks": 2},
    {"hidden": 35, "inputs": 3, "state": 2, "steps": 2, "batch": 1},
)


def agree(run: Run, dtype: type, **options: str) -> None:
    run = run.cast(dtype)
    errors = relative_errors(
        answers(run, backend="cuda", **options), answers(run, backend="cpu", **options)
    )
    assert max(errors.values()) < TOLERANCE[dtype], errors


@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"H={sizes['hidden']}")
def test_any_size(arch: str, activation: str, dtype: type, sizes: dict[str, int]) -> None:
    agree(draw(arch, **sizes), dtype, activation=activation)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("clip", "dtype"), RULES)
def test_clip_rules(arch: str, clip: str, dtype: type) -> None:
    agree(draw(arch, hidden=5, steps=5, batch=2), dtype, clip=clip)


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.3", "step-value:0.1", "truncate:2"])
def test_bundles_of_lengths(arch: str, clip: str) -> None:
    """Every part at every lag of every length, and how often the rule acted."""
    run = draw(arch, hidden=5, steps=5, batch=2, networks=2)
    have, want = (
        seqlab.attenuation(arch, run.params, run.x, [5, 2, 3], clip, backend=backend)
        for backend in ("cuda", "cpu")
    )
    for name in ("log_norm", "log_norm_hidden", "log_norm_cell", "log_norm_input"):
        ours, theirs = getattr(have, name), getattr(want, name)
        if theirs is not None:
            assert np.allclose(ours, theirs, rtol=0, atol=1e-10, equal_nan=True), name


@pytest.mark.parametrize("arch", ARCHS)
def test_a_whole_measurement(arch: str) -> None:
    options = {"arch": arch, "steps": 4, "hidden": 3, "inputs": 2, "networks": 2, "lengths": (2, 4)}
    options |= {"clip": ["none", "step-norm:0.3"], "spectrum": 2}
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
    size = {"lstm": 6, "ssm": 6}.get(arch, 3)
    exponents = []
    for backend in ("cuda", "cpu"):
        trajectory = seqlab.forward(arch, run.params, run.x, backend=backend)
        exponents.append(spectrum(trajectory.tape, frames(0, range(1), size, size)))
    assert np.allclose(*exponents, rtol=0, atol=1e-10)


@pytest.mark.parametrize("arch", ARCHS)
def test_time_in_pieces(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments, pieces of a call and chunks of the scan change sums over time at most; computed
    again instead of kept, not a bit."""
    run = draw(arch, hidden=3, steps=5, batch=2)
    whole = answers(run, backend="cuda")
    for module, name, value in (
        (tape, "SEGMENT_BYTES", 1),
        (tape, "MIN_SEGMENT", 3),
        (call, "LEFT_BYTES", 1),
        (ssm, "CHUNK", 2),
    ):
        monkeypatch.setattr(module, name, value)
    cut = answers(run, backend="cuda")
    for name in ("output", "x", *(n for n in whole if n.startswith("initial"))):
        assert np.array_equal(cut[name], whole[name]), name
    assert max(relative_errors(cut, whole).values()) < 1e-14
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    assert same_bits(answers(run, backend="cuda"), cut)


@pytest.mark.parametrize("arch", ARCHS)
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
    run = run._replace(x=0 * run.x, initial=0 * run.initial)
    run.params["bias_ih"][:] = run.params["bias_hh"][:] = 0
    have = answers(run.cast(dtype), "identity", clip, "cuda")
    want = answers(run.cast(dtype).cast(np.float64), "identity", clip, "cpu")
    for name, value in want.items():
        with np.errstate(over="ignore"):
            rounded = value.astype(dtype)
        smallest = np.finfo(dtype).smallest_normal  # below, digits are lost
        close = np.isclose(have[name], rounded, rtol=TOLERANCE[dtype], atol=smallest)
        assert close.all(), (name, have[name], value)


def test_what_does_not_fit_is_refused() -> None:
    """In one line that names the CPU as the way out, before any work."""
    sizes = Sizes(769, 1)
    shapes = {"weight_ih": (1, 4 * 769, 1), "weight_hh": (1, 4 * 769, 769)}
    params = {n: np.zeros(s) for n, s in shapes.items()}
    params |= {n: np.zeros((1, 4 * 769)) for n in ("bias_ih", "bias_hh")}
    weights = lstm.prepare(params, None)
    saved = lstm.save((1, 1, 1), sizes, np.dtype(float))
    with pytest.raises(InputError, match=r"^hidden: 769 is not allowed .* 768 .*backend cpu$"):
        lstm.forward(weights, np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 2, 769)), saved, 0)


class CudaAPIError(Exception):
    """The driver's error, by its name and code."""

    code = 2


def test_a_gpu_that_fails_says_so_in_one_line() -> None:
    spent = pytest.raises(
        DeviceError, match=r"^backend: cuda ran out of GPU memory; .*backend cpu$"
    )
    with spent, target.guarded():
        raise CudaAPIError
    lost = CudaAPIError("unknown error")
    lost.code = 999
    gone = pytest.raises(DeviceError, match=r"^backend: cuda lost the GPU .*backend cpu$")
    with gone, target.guarded():
        raise lost
    with pytest.raises(TypeError), target.guarded():
        raise TypeError
