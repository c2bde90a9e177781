"""Which backend runs: `auto`, `cpu` or `cuda`. An explicit choice never falls back."""

from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import TypeVar

from seqlab.errors import InputError

Result = TypeVar("Result")

BACKENDS = ("cpu", "cuda")
CHOICES = ("auto", *BACKENDS)
AVAILABLE = "available"
ONLY_ON_CPU = ("selective_scan",)


def _cuda() -> str:
    """`available`, or the reason why no GPU can be used; here CUDA is first touched."""
    try:
        return import_module("seqlab.kernels.cuda.target").unavailable() or AVAILABLE
    except ImportError as error:
        return str(error)


def describe() -> dict[str, str]:
    """Each backend's name with `available`, or the reason why it is not."""
    return {"cpu": AVAILABLE, "cuda": _cuda()}


def resolve(backend: str, kernel: str = "") -> str:
    """The backend that a choice means here.

    `auto` is the CPU: the CUDA kernels have been compiled and simulated, and are not chosen for
    anybody before they have run on a GPU. `kernel` names what is to run, where it is not a cell.
    Raises InputError for an unknown name and for a backend that this machine does not have.
    """
    if backend not in CHOICES:
        raise InputError(f"backend: {backend!r} is unknown; allowed: {', '.join(CHOICES)}")
    if backend != "cuda":
        return "cpu"
    reason = f"it has no {kernel}" if kernel in ONLY_ON_CPU else _cuda()
    if reason != AVAILABLE:
        raise InputError(f"backend: cuda is not available: {reason}; allowed here: cpu, auto")
    return backend


def blocks(backend: str, networks: int, bytes_each: int) -> list[range]:
    """Networks cut into blocks that are worked on together, for one's saved trajectory in bytes.

    It changes no number: memory that is used again is warm, and every thread wants as many
    networks as the others.
    """
    package = import_module(f"seqlab.kernels.{backend}")
    count = -(-networks // max(1, package.BLOCK_BYTES // bytes_each))
    if networks >= package.workers():
        count = min(networks, -(-count // package.workers()) * package.workers())
    edges = [networks * i // count for i in range(count + 1)]
    return [range(first, last) for first, last in pairwise(edges)]


def at_once(backend: str, blocks: Sequence[range]) -> int:
    """How many of the blocks `over_blocks` works on at the same time."""
    workers = import_module(f"seqlab.kernels.{backend}").workers()
    return workers if len(blocks) >= workers else 1


def over_blocks(
    backend: str, blocks: Sequence[range], work: Callable[[range], Result]
) -> list[Result]:
    """[work(block) for block in blocks], `at_once` of them at the same time."""
    return import_module(f"seqlab.kernels.{backend}").side_by_side(work, blocks)


def kernels(backend: str, arch: str) -> ModuleType:
    """The kernels of one cell on a resolved backend."""
    return import_module(f"seqlab.kernels.{backend}.{arch}")
