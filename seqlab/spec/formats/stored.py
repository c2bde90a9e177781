"""An array in a file as its header describes it, before any of its numbers are read."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from numpy.typing import NDArray


@dataclass(frozen=True)
class Stored:
    """One array: its dtype by NumPy's name, its shape, the bytes that reading it takes at most, and
    what reads it while the file is open."""

    dtype: str
    shape: tuple[int, ...]
    bytes: int
    read: Callable[[], NDArray]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


Archive = dict[str, Stored]


class Unreadable(ValueError):
    """A file that is not what it should be, and why."""
