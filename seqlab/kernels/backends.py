"""Which backend runs: `auto`, `cpu` or `cuda`. An explicit choice never falls back."""

from importlib import import_module
from types import ModuleType

from seqlab.errors import InputError

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


def networks_at_once(backend: str, bytes_each: int) -> int:
    """Networks to take together when each one's saved trajectory has so many bytes.

    It changes no number: memory that is used again is warm, and every thread needs a network.
    """
    package = import_module(f"seqlab.kernels.{backend}")
    return int(max(package.fewest_networks(), package.BLOCK_BYTES // bytes_each))


def kernels(backend: str, arch: str) -> ModuleType:
    """The kernels of one cell on a resolved backend."""
    return import_module(f"seqlab.kernels.{backend}.{arch}")
