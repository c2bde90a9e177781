"""Locks on single bytes of an open file, of whichever kind the system has."""

import errno
import os
from importlib import import_module
from typing import Any

_WINDOWS_BYTES = 2**31  # the C runtime's offsets there have 31 bits


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


_posix, _windows = _module("fcntl"), _module("msvcrt")


def lock(file: int, byte: int) -> bool:
    """Lock a byte of a file descriptor's file; False while another process has it.

    The system drops the lock when the process ends. True, and no lock, where there are none.
    """
    try:
        if _posix is not None:
            _posix.lockf(file, _posix.LOCK_EX | _posix.LOCK_NB, 1, byte)
        elif _windows is not None:
            _lock_here(file, byte, _windows.LK_NBLCK)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def unlock(file: int, byte: int) -> None:
    """Drop a lock. Raises OSError where there was none, on some systems."""
    if _posix is not None:
        _posix.lockf(file, _posix.LOCK_UN, 1, byte)
    elif _windows is not None:
        _lock_here(file, byte, _windows.LK_UNLCK)


def _lock_here(file: int, byte: int, how: int) -> None:
    """Windows locks from where the file is read; bytes beyond its end too."""
    os.lseek(file, byte % _WINDOWS_BYTES, os.SEEK_SET)
    _windows.locking(file, how, 1)
