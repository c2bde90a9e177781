"""Which runs a sweep is on, so that another sweep of the same store leaves them alone.

A claim is a lock on one byte of the store's file `.lock`, the byte that the run's hash names. The
system drops it when its process ends, however that ends; on a network file system it holds between
machines as far as that system's locks do. Where there are none every claim is granted: a run may
then be measured twice, and still leaves one result. On Windows, which has fewer bytes to lock, two
runs may share one: the second then waits for the first.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from seqlab.study import byte_locks
from seqlab.study.files import WriteError

FILE = ".lock"
_DIGITS = 15  # of the hash: the largest offset that every system takes has 63 bits


class Claims:
    """The runs that this process is on; a context manager, around the whole of a sweep."""

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WriteError(f"cannot write {folder / FILE}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def take(self, run: str) -> bool:
        """Whether the run of this hash is ours from now on; False while another sweep has it."""
        return byte_locks.lock(self._file, _byte(run))

    def drop(self, run: str) -> None:
        """Let others have it."""
        with suppress(OSError):
            byte_locks.unlock(self._file, _byte(run))


def _byte(run: str) -> int:
    return int(run[:_DIGITS], 16)
