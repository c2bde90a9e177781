"""Files that are there whole or not at all."""

import os
import secrets
import shutil
import tempfile
from pathlib import Path

from seqlab.errors import InputError

_PROBE = bytes(64 * 1024)


class WriteError(OSError):
    """What was measured could not be kept; the message is one line that says where and why."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk, or leave no trace: an older file then stays.

    Folders are made where they are missing. Raises WriteError.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(draft, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def require_writable(option: str, path: Path, size: int) -> None:
    """Refuse a file of at most `size` bytes that could not be written, leaving nothing behind.

    Raises InputError that begins with the option's name.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "a folder is in the way")
        folder = _nearest(path.parent)
        with tempfile.TemporaryFile(dir=folder) as probe:
            if shutil.disk_usage(folder).free < size:
                raise OSError(None, f"the disk has less than {size / 2**20:.1f} MiB left")
            probe.write(_PROBE)
            probe.flush()
            os.fsync(probe.fileno())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InputError(f"{option}: cannot write {path}: {reason}") from None


def _nearest(folder: Path) -> Path:
    """The folder, or what is there of it."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return folder


def _flush_folder(folder: Path) -> None:
    """Make a renaming last; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
