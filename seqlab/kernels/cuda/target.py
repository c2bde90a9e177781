"""The one module that imports the CUDA package, and all that differs between a GPU and its
simulator (NUMBA_ENABLE_CUDASIM=1, which knows no warps and takes whole arrays back and forth).

Importing it raises ImportError with the reason where the package is missing or not the right one.
"""

import importlib.util
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import DeviceError
from seqlab.kernels.layout import on_gpu
from seqlab.wording import extra

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError(f"numba-cuda is not installed; {extra('cuda')}")
# Found through a .pth file that `pip install --target` leaves unread; without it Numba's own
# deprecated target would be taken in silence.
import _numba_cuda_redirector  # type: ignore[import-not-found]  # noqa: F401
from numba import cuda as package

Array = Any  # a device array; a NumPy array in the simulator
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if not SIMULATED and getattr(package, "implementation", None) != "NVIDIA":
    raise ImportError("numba.cuda is Numba's own deprecated target, not numba-cuda")
if not SIMULATED:
    from numba.cuda.core import config

    config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # one network is one block, and no mistake

# Threads that run in lockstep and exchange numbers without a barrier of the whole block. Few in
# the simulator, so that its small blocks hold several as a GPU's do.
LANES = 8 if SIMULATED else 32
THREADS = 32 if SIMULATED else 256  # in a block at most: any kernel's registers then fit
BLOCKS = 1 if SIMULATED else 1 << 16  # of a grid whose threads take several pieces each
SHARED_BYTES = 48 << 10  # a block's shared memory without opting in to more
OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


class _Simulated:
    """The names that kernels use, looked up in the simulated launch that is under way."""

    def __init__(self) -> None:
        self._barriers: dict[int, threading.Barrier] = {}
        self._shown: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        from numba.cuda.simulator import kernel

        return getattr(kernel._get_kernel_context(), name)

    def syncwarp(self) -> None:
        """A barrier of the LANES threads of one warp."""
        warp = self.threadIdx.x // LANES
        self._barriers.setdefault(warp, threading.Barrier(LANES)).wait(timeout=60)

    def shfl_xor_sync(self, mask: int, value: Any, distance: int) -> Any:
        """The value that the lane at `distance` (exclusive or) gave."""
        del mask  # always the whole warp
        thread = self.threadIdx.x
        self._shown[thread] = value
        self.syncwarp()
        other = self._shown[thread ^ distance]
        self.syncwarp()
        return other


cuda: Any = _Simulated() if SIMULATED else package


def unavailable() -> str | None:
    """Why no GPU can be used here; None if one can."""
    if SIMULATED or package.is_available():
        return None
    error = package.cuda_error()
    reason = " ".join(str(error).split()) if error else "the CUDA driver finds no GPU"
    return reason.rstrip(".")


def name() -> str:
    """What the GPU in use calls itself."""
    if SIMULATED:
        return "simulated"
    found = package.get_current_device().name
    return found.decode() if isinstance(found, bytes) else str(found)


def device(function: Callable) -> Any:
    """Compile a function that kernels call; in the simulator it is what it is."""
    return function if SIMULATED else package.jit(function, device=True)


def kernel(function: Callable) -> Any:
    """Compile a kernel at its first launch. No fast math: it flushes subnormals to zero."""
    if not SIMULATED:
        return package.jit(function)

    # Inside a tuple arrays stay NumPy's own: the simulator's wrappers are slow.
    def simulated(args: tuple[Any, ...]) -> None:
        with np.errstate(all="ignore"):  # overflow is a result
            function(*args)

    return package.jit(simulated)


def launch(kernel: Any, blocks: int, threads: int, *args: Any) -> None:
    """Start a kernel on a one-dimensional grid."""
    with guarded():
        kernel[blocks, threads](*((args,) if SIMULATED else args))


def block_size(lanes: int) -> int:
    """Threads for so many equal pieces of work: whole warps, up to THREADS."""
    return min(THREADS, -(-lanes // LANES) * LANES)


def grid(count: int) -> tuple[int, int]:
    """Blocks and threads for so many equal pieces, of which each thread takes every so many."""
    threads = block_size(count)
    return min(BLOCKS, -(-count // threads)), threads


def wait() -> None:
    """Return when the GPU has done all that was launched."""
    if not SIMULATED:
        with guarded():
            package.synchronize()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An uninitialised device array."""
    if SIMULATED:
        return np.zeros(shape, dtype)
    with guarded():
        return package.device_array(shape, dtype)


def to_device(array: NDArray) -> Array:
    """A contiguous copy on the device."""
    # Strides made anew: along an axis of one NumPy may have any, also 0, which Numba takes for an
    # array that is not contiguous and copies number by number.
    array = np.ascontiguousarray(array).reshape(-1).reshape(array.shape)
    if SIMULATED:
        return array.copy()
    with guarded():
        return package.to_device(array)


def to_host(array: Array, out: NDArray | None = None) -> NDArray:
    """A copy of a device array, into the contiguous `out` if given."""
    if SIMULATED:
        if out is None:
            return np.array(array)
        out[...] = array
        return out
    with guarded():
        return array.copy_to_host(out)


class _Borrowed:
    """A GPU's array that says where it is by DLPack, as one that says it by
    `__cuda_array_interface__`, which is what Numba takes."""

    def __init__(self, value: Any) -> None:
        from cuda.core.utils import StridedMemoryView  # type: ignore[import-not-found]

        view = StridedMemoryView.from_dlpack(value, stream_ptr=-1)  # no stream to wait for
        item = view.dtype.itemsize
        strides = view.strides and tuple(step * item for step in view.strides)
        self._owner = view
        self.__cuda_array_interface__ = {
            "shape": tuple(view.shape),
            "typestr": view.dtype.str,
            "data": (view.ptr, view.readonly),
            "strides": strides,
            "version": 3,
        }


class _Pretended:
    """In the simulator a GPU's memory is this machine's."""

    def __init__(self, value: Any) -> None:
        self.__array_interface__ = value.__cuda_array_interface__


class _Resident(np.ndarray):
    """A user's array on the simulated GPU: it says where it is, as real ones do."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.__array_interface__ | {"version": 3}


def resident(array: Array) -> Any:
    """A device array for a user, who can tell where it is."""
    return array.view(_Resident) if SIMULATED else array


def borrow(value: Any) -> Array:
    """A GPU's array as it is, without a copy."""
    if SIMULATED:
        return resident(np.asarray(_Pretended(value)))
    with guarded():
        own = hasattr(value, "__cuda_array_interface__")
        return package.as_cuda_array(value if own else _Borrowed(value))


def on_device(value: Any) -> Array:
    """A GPU's array as it is, another one copied there."""
    return borrow(value) if on_gpu(value) else to_device(value)


def in_kind(array: Array, like: Any) -> Any:
    """A device array for a caller who gave `like`: on the GPU if that is, else on the host."""
    return array if on_gpu(like) else to_host(array)


def _ldexp(x, exponent):
    """x * 2^exponent, for any int64 exponent."""
    power = np.int32(min(max(exponent, -5000), 5000))
    return math.ldexp(x, power)  # type: ignore[arg-type] # CUDA's takes an int32


def _ldexp_simulated(x, exponent):
    """The same, infinite where Python's own raises."""
    return np.ldexp(x, min(max(int(exponent), -5000), 5000))


ldexp: Any = _ldexp_simulated if SIMULATED else device(_ldexp)


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the driver's errors into DeviceError: one line that names the way out."""
    try:
        yield
    except Exception as error:
        code = getattr(error, "code", None)
        if type(error).__name__ not in ("CudaAPIError", "CudaDriverError"):
            raise
        what = "ran out of GPU memory" if code == OUT_OF_MEMORY else f"lost the GPU ({error})"
        raise DeviceError(f"backend: cuda {what}; fewer networks, or backend cpu") from error
