"""NumPy's own files: one array (.npy), or a zip archive of some (.npz)."""

import io
import os
import zipfile
from collections.abc import Callable
from typing import IO, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from seqlab.spec.formats.stored import Archive, Stored, Unreadable
from seqlab.values import named

ARCHIVE, ARRAY = b"PK", npy.MAGIC_PREFIX
_HEADER = 1 << 14  # bytes, more than any header of numbers has
_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def array(file: BinaryIO) -> Stored:
    """The array of an open .npy file. Raises Unreadable where its size is not what it says."""

    def read() -> NDArray:
        file.seek(0)
        return _read(file)

    return _described(file, os.fstat(file.fileno()).st_size, read)


def archive(file: BinaryIO) -> Archive:
    """The arrays of an open .npz file by name. Raises Unreadable, and what zipfile raises."""
    members = zipfile.ZipFile(file)
    found: Archive = {}
    for info in members.infolist():
        name = info.filename.removesuffix(".npy")
        if name in found:
            raise Unreadable(f"it holds {name} twice")
        if name == info.filename:
            raise Unreadable(f"{name} in it is no array")

        def read(info: zipfile.ZipInfo = info) -> NDArray:
            with members.open(info) as member:
                return _read(member)

        with members.open(info) as member:
            found[name] = _described(member, info.file_size, read)
    return found


def _described(file: IO[bytes], size: int, read: Callable[[], NDArray]) -> Stored:
    start = io.BytesIO(file.read(_HEADER))  # a header may claim to be of any length
    shape, fortran, dtype = _READERS[npy.read_magic(start)](start)
    if dtype.hasobject:
        raise Unreadable("it holds Python objects")
    stored = Stored(named(dtype), shape, 0, read)
    data = stored.size * dtype.itemsize
    if min(shape, default=0) < 0 or start.tell() + data != size:
        raise Unreadable(f"its header says {data} bytes of data, it holds {size - start.tell()}")
    # What is stored by columns is turned into rows beside it.
    return Stored(stored.dtype, shape, data * (2 if fortran else 1), read)


def _read(file: IO[bytes]) -> NDArray:
    return np.asarray(npy.read_array(file, allow_pickle=False), order="C")
