"""The peers, each in a module that alone names its package.

A module may have `gradients(problem)`, `study(problem)`, `scan(problem)`, `stacks(problem)` and
`training(problem)`, which give its sides.
"""

from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import Any

from seqlab.bench.race import Side
from seqlab.errors import InputError
from seqlab.wording import extra

ON_CPU = {"torch": "with_torch", "jax": "with_jax", "mambapy": "with_mambapy"}
ON_GPU = {"cudnn": "with_cudnn"}
PEERS = ON_CPU | ON_GPU

PACKAGES = ("torch", "jax", "jaxlib", "mambapy")


def load(names: Sequence[str]) -> list[ModuleType]:
    """The modules of these peers. Raises InputError for an unknown or missing one."""
    return [_load(name) for name in names]


def _load(name: str) -> ModuleType:
    if name not in PEERS:
        raise InputError(f"peers: {name!r} is unknown; allowed: {', '.join(PEERS)}")
    try:
        return import_module(f"{__name__}.{PEERS[name]}")
    except ModuleNotFoundError as error:
        raise InputError(
            f"peers: {name} needs {error.name}, which is not installed: {extra('peers')}"
        ) from None


def versions() -> dict[str, str]:
    """The versions of those that are installed, without importing them."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def sides(peers: Sequence[ModuleType], contest: str, problem: Any) -> list[Side]:
    """The sides of all peers that take part in a contest."""
    return [
        side for peer in peers if hasattr(peer, contest) for side in getattr(peer, contest)(problem)
    ]
