"""The bare selective scan on CUDA, arrays that live on a GPU, and what a GPU refuses; see
cuda_parity.py."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import cases, draw

import seqlab
from seqlab.cells import Sizes
from seqlab.engine import tape
from seqlab.errors import DeviceError, InputError
from seqlab.kernels.backends import cells_of
from seqlab.kernels.cuda import (
    arrays,
    diagonal,
    selective_scan,
    target,
)
from seqlab.kernels.cuda.cells import lstm
from seqlab.kernels.layout import on_gpu, unscaled

Array = npt.NDArray[Any]
ARCHS = cells_of("cuda")
TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}
DTYPES = list(TOLERANCE)


SCANS = [  # sequences, channels, states, steps: around a warp's lanes, a block, a chunk
    (1, 1, 1, 1),
    (2, 3, 2, 5),
    (1, 9, 3, 7),
    (2, 35, 1, 4),
]
CHOICES = [
    {},
    {"D", "delta_bias", "delta_softplus"},
    {"z"},
    {"D", "z", "delta_bias", "delta_softplus", "initial_state"},
]


def scan_arguments(size: tuple[int, int, int, int], given: set[str], dtype: type) -> dict[str, Any]:
    batch, channels, states, length = size
    rng = np.random.default_rng(list(size))
    steps = (batch, channels, length)
    drawn: dict[str, Array] = {
        "u": rng.normal(size=steps),
        "delta": rng.normal(-1, 1, steps)
        if "delta_softplus" in given
        else rng.uniform(0, 1, steps),
        "A": -rng.uniform(0.2, 4, (channels, states)),
        "B": rng.normal(size=(batch, states, length)),
        "C": rng.normal(size=(batch, states, length)),
        "D": rng.normal(size=channels),
        "z": rng.normal(size=steps),
        "delta_bias": rng.uniform(0, 1, channels),
        "initial_state": rng.normal(size=(batch, channels, states)),
    }
    kept = {n: v.astype(dtype) for n, v in drawn.items() if len(n) == 1 and n not in "Dz"}
    kept |= {n: drawn[n].astype(dtype) for n in ("delta", *(given & drawn.keys()))}
    return {**kept, "delta_softplus": "delta_softplus" in given}


@pytest.mark.parametrize("size", SCANS, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("given", CHOICES, ids=lambda given: "-".join(sorted(given)) or "bare")
def test_selective_scan(
    size: tuple[int, int, int, int],
    dtype: type,
    given: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forward and every gradient, in chunks of three steps and launches of two chunks."""
    monkeypatch.setattr(diagonal, "CHUNK", 3)
    each = 2 * 3 * size[1] * size[2] * np.dtype(dtype).itemsize
    monkeypatch.setattr(selective_scan, "PATH_BYTES", 2 * each)
    arguments = scan_arguments(size, given, dtype)
    compare_scans(arguments, arguments, TOLERANCE[dtype])


def compare_scans(remote: dict[str, Any], arguments: dict[str, Any], tolerance: float) -> None:
    """CUDA on `remote` against the CPU on the same numbers."""
    y, last = seqlab.selective_scan(**arguments, return_last_state=True, backend="cpu")
    have = seqlab.selective_scan(**remote, return_last_state=True, backend="cuda")
    for got, want in zip(have, (y, last), strict=True):
        assert np.abs(got - want).max() <= tolerance * np.abs(want).max()
    grad, handed = (
        np.cos(np.arange(part.size, dtype=part.dtype)).reshape(part.shape) for part in (y, last)
    )
    ours, theirs = (
        seqlab.selective_scan_backward(grad, **given, grad_last_state=handed, backend=backend)
        for given, backend in ((remote, "cuda"), (arguments, "cpu"))
    )
    for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state"):
        got, want = getattr(ours, name), getattr(theirs, name)
        assert (got is None) == (want is None) == (name not in arguments), name
        if want is not None:
            assert got.shape == want.shape, name
            assert got.dtype == want.dtype, name
            # Of what a sum is made of, not of what it comes to.
            size = max(np.abs(want).max(), 1e-3)
            assert np.abs(got - want).max() <= tolerance * size, name


class OnGpu:
    """An array that says that it lives on a GPU, as CuPy's and PyTorch's do."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__cuda_array_interface__ = array.__array_interface__ | {"version": 3}


@pytest.mark.skipif(not target.SIMULATED, reason="the array is this machine's own")
def test_arrays_of_a_gpu() -> None:
    """Read where they are, by `auto` too; looked at as carefully as any; refused by the CPU."""
    arguments = scan_arguments((2, 3, 2, 5), {"D"}, np.float64)
    remote = {n: OnGpu(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
    compare_scans(remote, arguments, 1e-10)
    y = seqlab.selective_scan(**remote)
    assert np.array_equal(y, seqlab.selective_scan(**arguments, backend="cuda"))
    for backend, name, value, words in (
        ("cpu", "u", remote["u"], r"^backend: cpu takes no arrays of a GPU"),
        ("cuda", "u", OnGpu(np.full((2, 3, 5), np.nan)), r"^u: NaN"),
        ("cuda", "B", OnGpu(np.zeros((2, 2, 4))), r"^B: shape"),
        ("cuda", "B", OnGpu(np.zeros((2, 2, 5), np.float32)), r"^B: dtype"),
        ("cuda", "C", OnGpu(np.zeros((2, 2, 10))[:, :, ::2]), r"^C: strides"),
    ):
        with pytest.raises(InputError, match=words):
            seqlab.selective_scan(**remote | {name: value}, backend=backend)


@pytest.mark.skipif(not target.SIMULATED, reason="the array is this machine's own")
@pytest.mark.parametrize(
    ("arch", "networks"),
    cases(("lstm", 2), ("ssm", 0), slow=[(arch, 0) for arch in ARCHS if arch != "ssm"]),
)
def test_cells_take_arrays_of_a_gpu(
    arch: str, networks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `auto`, which then is CUDA; the answers are those for the same numbers on the host, over
    two segments. What has an axis of time never goes over the host."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(tape, "MIN_SEGMENT", 2)
    run = draw(arch, hidden=3, steps=3, batch=2, networks=networks)
    params: dict[str, Any] = {name: OnGpu(value) for name, value in run.params.items()}
    x: Any = OnGpu(run.x)
    known = seqlab.forward(arch, run.params, run.x, backend="cuda")
    local = seqlab.backward(known, run.grad)
    curve = seqlab.attenuation(arch, run.params, run.x, [1, 2], backend="cuda").log_norm_input
    carried: list[tuple[int, ...]] = []
    for name in ("to_device", "to_host"):
        real = getattr(arrays, name)
        monkeypatch.setattr(
            arrays, name, lambda array, real=real: carried.append(array.shape) or real(array)
        )
    trajectory = seqlab.forward(arch, params, x)
    assert trajectory.backend == "cuda"
    assert on_gpu(trajectory.output)
    assert np.array_equal(trajectory.output, known.output)
    remote = seqlab.backward(trajectory, OnGpu(run.grad))
    assert on_gpu(remote.x)
    assert np.array_equal(remote.x, local.x)
    assert all(np.array_equal(remote.params[n], local.params[n]) for n in params)
    lags = seqlab.attenuation(arch, params, x, [1, 2])
    assert np.array_equal(lags.log_norm_input, curve, equal_nan=True)
    assert not carried
    assert np.array_equal(seqlab.backward(trajectory, run.grad).x, local.x)  # a host's, for once
    for name, value, words in (
        ("x", OnGpu(np.full(run.x.shape, np.nan)), "^x: NaN"),
        ("x", OnGpu(run.x[..., :1]), "^weight_ih|^in_proj_weight|^x: strides"),
    ):
        with pytest.raises(InputError, match=words):
            seqlab.forward(arch, params, **{name: value})
    with pytest.raises(InputError, match=r"^grad_output: shape"):
        seqlab.backward(trajectory, OnGpu(run.grad[..., :2].copy()))
    with pytest.raises(InputError, match=r"^backend: cpu takes no arrays of a GPU"):
        seqlab.attenuation(arch, params, x, [3], backend="cpu")


@pytest.mark.parametrize("real", DTYPES)
def test_rows_are_scaled(real: type) -> None:
    """By powers of two, to zero and infinity beyond the dtype's range."""
    rng = np.random.default_rng(3)
    rows, exponent = (
        rng.normal(size=(2, 3, 5)).astype(real),
        np.array([[0, 3, -9], [1, -4000, 5000]]),
    )
    want = unscaled(rows, exponent)
    have = target.to_device(rows)
    arrays.scale(have, exponent)
    assert np.array_equal(target.to_host(have), want)


def test_what_does_not_fit_is_refused() -> None:
    """In one line that names the CPU as the way out, before any work."""
    sizes = Sizes(769, 1)
    shapes = {"weight_ih": (1, 4 * 769, 1), "weight_hh": (1, 4 * 769, 769)}
    params = {n: np.zeros(s) for n, s in shapes.items()}
    params |= {n: np.zeros((1, 4 * 769)) for n in ("bias_ih", "bias_hh")}
    weights = lstm.prepare(params, None)
    saved = lstm.save((1, 1, 1), sizes, np.dtype(float))
    with pytest.raises(InputError, match=r"^hidden: 769 is not allowed .* 768 .*backend cpu$"):
        lstm.forward(weights, np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 2, 769)), saved)


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
