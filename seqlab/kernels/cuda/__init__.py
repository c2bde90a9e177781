"""The kernels on a GPU; nothing is imported from CUDA until a cell or `target` is."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BLOCK_BYTES = 1 << 30  # of trajectories in flight: what a tape keeps without computing it again


def workers() -> int:
    """Blocks of networks that are worked on at once: each takes the whole GPU."""
    return 1


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[work(item) for item in items]."""
    return [work(item) for item in items]


def ahead(tasks: int, work: Callable[..., Any], *arguments: Any) -> None:
    """Nothing: the GPU has one queue."""
    del tasks, work, arguments
