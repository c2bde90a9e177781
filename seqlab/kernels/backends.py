"""Which backend runs: `auto`, `cpu` or `cuda`. An explicit choice never falls back."""

from importlib import import_module
from types import ModuleType

from seqlab.errors import InputError

BACKENDS = ("cpu",)
CHOICES = ("auto", *BACKENDS, "cuda")
NO_CUDA = "this version of seqlab has no CUDA kernels"


def describe() -> dict[str, str]:
    """Each backend's name with `available`, or the reason why it is not."""
    return {"cpu": "available", "cuda": NO_CUDA}


def resolve(backend: str) -> str:
    """The backend that a choice means here.

    Raises InputError for an unknown name and for a backend that this machine does not have.
    """
    if backend not in CHOICES:
        raise InputError(f"backend: {backend!r} is unknown; allowed: {', '.join(CHOICES)}")
    if backend == "auto":
        return BACKENDS[0]
    reason = describe()[backend]
    if reason != "available":
        raise InputError(f"backend: {backend} is not available: {reason}; allowed here: cpu, auto")
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
