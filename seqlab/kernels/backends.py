"""Which backend runs: `auto`, `cpu` or `cuda`. An explicit choice never falls back."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.kernels.contract import (
    Array,
    Backend,
    CellKernels,
    ScanKernels,
    StackKernels,
    TimeArrays,
)
from seqlab.kernels.layout import on_gpu
from seqlab.layers.stack import Stack
from seqlab.values import as_float

Result = TypeVar("Result")

BACKENDS = ("cpu", "cuda")
CHOICES = ("auto", *BACKENDS)
STACKS = ("cpu",)  # the backends that have deep stacks
AVAILABLE = "available"


def _cuda() -> str:
    """`available`, or the reason why no GPU can be used; here CUDA is first touched."""
    try:
        return import_module("seqlab.kernels.cuda.target").unavailable() or AVAILABLE
    except ImportError as error:
        return str(error)


def describe() -> dict[str, str]:
    """Each backend's name with `available`, or the reason why it is not."""
    return {"cpu": AVAILABLE, "cuda": _cuda()}


def cells_of(backend: str) -> tuple[str, ...]:
    """The cells that a backend has kernels for, in the registry's order; touches no CUDA."""
    return tuple(arch for arch in CELLS if has_cell(backend, arch))


@cache
def has_cell(backend: str, arch: str) -> bool:
    """Whether a backend has kernels for a cell; touches no CUDA."""
    return find_spec(f"seqlab.kernels.{backend}.cells.{arch}") is not None


def having(arch: str) -> tuple[str, ...]:
    """The backends that have kernels for a cell, the one that `auto` would rather take first.

    Raises InputError where none has.
    """
    found = tuple(backend for backend in BACKENDS if has_cell(backend, arch))
    if not found:
        raise InputError(f"backend: none has {arch}")
    return found


def require_cell(backend: str, arch: str) -> None:
    """Refuse a choice of backend that has no kernels for a cell, on whatever machine.

    Raises InputError, which names the backends that have them.
    """
    found = having(arch)
    if backend not in ("auto", *found):
        raise InputError(f"backend: {backend} has no {arch}; it is on {', '.join(found)}")


def resolve(backend: str, *arrays: Any, arch: str | None = None) -> str:
    """The backend that a choice means here, for these arrays, and for this cell if one is named.

    `auto` is the CPU, but CUDA for arrays that live on a GPU and for a cell that the CPU lacks: a
    GPU was faster for 128 networks, not for 16 (experiments/cuda).
    Raises InputError for an unknown name, for a backend that lacks the cell or that this machine
    does not have, and for the CPU when an array is on a GPU.
    """
    if backend not in CHOICES:
        raise InputError(f"backend: {backend!r} is unknown; allowed: {', '.join(CHOICES)}")
    remote = any(map(on_gpu, arrays))
    if backend == "cpu" and remote:
        raise InputError("backend: cpu takes no arrays of a GPU; allowed for them: cuda, auto")
    chosen = "cuda" if remote else backend
    if chosen == "auto":
        chosen = BACKENDS[0] if arch is None else having(arch)[0]
    if arch is not None:
        require_cell(chosen, arch)
    if chosen == "cuda" and (reason := _cuda()) != AVAILABLE:
        raise InputError(f"backend: cuda is not available: {reason}; allowed here: cpu, auto")
    return chosen


def gpu_name() -> str:
    """What the GPU in use calls itself."""
    name: str = import_module("seqlab.kernels.cuda.target").name()
    return name


def gpu_view(value: Any) -> Any:
    """A GPU's array as one of the CUDA package, without a copy."""
    return import_module("seqlab.kernels.cuda.target").borrow(as_float(value))


def from_gpu(value: Any) -> NDArray:
    """A GPU's array as a NumPy array."""
    return import_module("seqlab.kernels.cuda.target").to_host(gpu_view(value))


def to_gpu(array: NDArray) -> Any:
    """A NumPy array as one of the CUDA package, on the GPU."""
    return import_module("seqlab.kernels.cuda.target").to_device(array)


def wait_for_gpu() -> None:
    """Return when the GPU has done all that was asked of it."""
    import_module("seqlab.kernels.cuda.target").wait()


def gpu_array(name: str, value: Any) -> Any:
    """A GPU's array as it is; InputError unless it is contiguous, without NaN or infinity."""
    array = gpu_view(value)
    if not array.flags["C_CONTIGUOUS"]:
        raise InputError(f"{name}: strides are not allowed on a GPU; a contiguous array is needed")
    if array.size and not import_module("seqlab.kernels.cuda.linalg").finite(array):
        raise InputError(f"{name}: NaN or infinity is not allowed; finite numbers are needed")
    return array


def arrays(backend: str) -> TimeArrays:
    """What the drivers do with arrays along time on a resolved backend."""
    return cast(TimeArrays, import_module(f"seqlab.kernels.{backend}.arrays"))


def until(array: Array, steps: int) -> Array:
    """The first steps of (M, T, B, W), where it lives."""
    whole = steps == array.shape[1]
    part: Array
    if on_gpu(array) and not whole:
        gpu = import_module("seqlab.kernels.cuda.arrays")
        part = gpu.resident(gpu.cut(array, 0, steps))
    else:
        part = array if whole else array[:, :steps]
    return part


def _package(backend: str) -> Backend:
    return cast(Backend, import_module(f"seqlab.kernels.{backend}"))


def blocks(backend: str, networks: int, bytes_each: int) -> list[range]:
    """Networks cut into blocks that are worked on together, for one's saved trajectory in bytes.

    It changes no number: memory that is used again is warm, and every thread wants as many
    networks as the others.
    """
    count = _blocks(backend, networks, bytes_each)
    edges = [networks * i // count for i in range(count + 1)]
    return [range(first, last) for first, last in pairwise(edges)]


def networks_at_once(backend: str, networks: int, bytes_each: int) -> int:
    """How many networks at most are in the blocks that are worked on at the same time: told without
    the blocks, of which a run that has no room may have a thousand million."""
    count = _blocks(backend, networks, bytes_each)
    most = workers(backend)
    return -(-networks // count) * (most if count >= most else 1)


def _blocks(backend: str, networks: int, bytes_each: int) -> int:
    package = _package(backend)
    count = -(-networks // max(1, package.BLOCK_BYTES // bytes_each))
    if networks >= package.workers():
        count = min(networks, -(-count // package.workers()) * package.workers())
    return count


def workers(backend: str) -> int:
    """Blocks of networks that a resolved backend works on at once."""
    return _package(backend).workers()


def at_once(backend: str, blocks: Sequence[range]) -> int:
    """How many of the blocks `over_blocks` works on at the same time."""
    most = workers(backend)
    return most if len(blocks) >= most else 1


def over_blocks(
    backend: str, blocks: Sequence[range], work: Callable[[range], Result]
) -> list[Result]:
    """[work(block) for block in blocks], `at_once` of them at the same time."""
    return _package(backend).side_by_side(work, blocks)


def ahead(
    backend: str, tasks: int, work: Callable[..., Result], *arguments: Any
) -> "Future[Result] | None":
    """work(*arguments), of kernels with so many tasks, on a thread that has nothing to do; None
    where there is none."""
    return _package(backend).ahead(tasks, work, *arguments)


def kernels(backend: str, arch: str) -> CellKernels:
    """The kernels of one cell on a resolved backend."""
    return cast(CellKernels, import_module(f"seqlab.kernels.{backend}.cells.{arch}"))


def resolve_stack(backend: str) -> str:
    """The backend that a choice means for deep stacks. Raises InputError where it has none."""
    if backend in BACKENDS and backend not in STACKS:
        raise InputError(f"backend: {backend} has no deep stacks; they are on {', '.join(STACKS)}")
    return STACKS[0] if backend == "auto" else resolve(backend)


def stack_kernels(backend: str, stack: Stack, entries: bool = False) -> StackKernels:
    """The kernels of a deep stack on a resolved backend; with `entries` a step back leaves the
    gradients of its layer's numbers, else their norms."""
    kernels: StackKernels = import_module(f"seqlab.kernels.{backend}.stack").StackKernels(
        stack, entries
    )
    return kernels


def scan_kernels(backend: str) -> ScanKernels:
    """The kernels of the selective scan alone, on a resolved backend."""
    return cast(ScanKernels, import_module(f"seqlab.kernels.{backend}.selective_scan"))
