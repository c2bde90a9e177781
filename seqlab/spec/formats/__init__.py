"""Files of arrays: what they hold, known before any of it is read."""

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqlab.spec.formats import checkpoint, npz, safetensors
from seqlab.spec.formats.memory import PLACE, InMemory
from seqlab.spec.formats.stored import Archive, Stored, Unreadable

__all__ = [
    "PLACE",
    "SUFFIXES",
    "UNREADABLE",
    "Archive",
    "InMemory",
    "Source",
    "Stored",
    "Unreadable",
    "keeps_order",
    "opened",
]

Source = str | os.PathLike[str] | InMemory  # where arrays are: a file's path, or here

CHECKPOINTS, SAFETENSORS = (".pt", ".pth"), ".safetensors"
SUFFIXES = (".npz", SAFETENSORS, *CHECKPOINTS)
# What a file raises that is not what it should be.
UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    EOFError,
    MemoryError,
    RecursionError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def opened(path: Source) -> Iterator[Archive | Stored]:
    """A file's arrays by name, or its one array; they can be read until the file is closed.
    What is in memory is opened the same way.

    PyTorch's and safetensors' files go by their suffix, NumPy's by how they begin. Raises OSError,
    and one of UNREADABLE, as reading does too; Unreadable says why.
    """
    if isinstance(path, InMemory):
        yield path.opened()
        return
    if path == PLACE:
        raise Unreadable("a program gave its arrays, and no file has them; give them again")
    with open(path, "rb") as file:
        suffix = Path(path).suffix.lower()
        if suffix in CHECKPOINTS:
            yield checkpoint.archive(path)
        elif suffix == SAFETENSORS:
            yield safetensors.archive(file)
        else:
            start = file.read(len(npz.ARRAY))
            file.seek(0)
            if start.startswith(npz.ARCHIVE):
                yield npz.archive(file)
            elif start == npz.ARRAY:
                yield npz.array(file)
            else:
                raise Unreadable("it is no file of arrays of numbers")


def keeps_order(path: Source) -> bool:
    """Whether a file has its arrays in the order in which they were given: safetensors' own
    library sorts them."""
    return isinstance(path, InMemory) or Path(path).suffix.lower() != SAFETENSORS
