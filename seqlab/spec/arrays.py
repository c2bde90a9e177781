"""A user's own weights and sequence: read from files, checked, and known by their content.

A file is opened, what its headers say is checked, and only what fits is read.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Cell, Sizes, in_layers
from seqlab.errors import InputError
from seqlab.host import GIB, available_memory
from seqlab.spec import formats, naming
from seqlab.spec.formats import PLACE, Archive, InMemory, Source, Stored
from seqlab.wording import refuse


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays, or a program's own: equal when the content is, wherever it lies."""

    path: str = field(compare=False)
    sha256: str
    given: InMemory | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, source: Source) -> "ArrayFile":
        """What is there, not read yet."""
        if isinstance(source, InMemory):
            return cls(PLACE, "", source)
        return cls(os.path.abspath(source), "")

    @property
    def source(self) -> Source:
        """Where to read it."""
        return self.path if self.given is None else self.given

    def __str__(self) -> str:
        return self.path


def _array_file(name: str, value: Any) -> str | ArrayFile | None:
    """A path, still to be read, or the record of a file that was; None for what is neither."""
    if isinstance(value, ArrayFile):
        return value
    if isinstance(value, Mapping) and set(value) == {"path", "sha256"}:
        return ArrayFile(str(value["path"]), str(value["sha256"]))
    return str(os.fspath(value)) if isinstance(value, str | os.PathLike) else None


def named_arrays(name: str, value: Any) -> str | ArrayFile | InMemory:
    """A file, or arrays by name in memory. Raises InputError for anything else."""
    if (file := _array_file(name, value)) is not None:
        return file
    if not isinstance(value, Mapping):
        raise refuse(name, value, "the path of a file, or a dictionary of arrays by name")
    return InMemory(dict(value))


def one_array(name: str, value: Any) -> str | ArrayFile | InMemory:
    """A file, or one array in memory. Raises InputError for anything else."""
    if (file := _array_file(name, value)) is not None:
        return file
    if not (hasattr(value, "shape") or isinstance(value, list | tuple)):
        raise refuse(name, value, "the path of a file, or an array")
    return InMemory(value)


def load_params(
    cell: Cell, path: Source, sha256: str | None = None, module: str | None = None
) -> dict[str, NDArray]:
    """A cell's parameters in a file by the cell's own names, as stored; biases may be left out.

    Raises InputError where the file does not hold them, and where their content has another digest
    than `sha256`.
    """
    with opened_params(cell, path, module) as stored:
        loaded = read("params", path, stored)
    require_digest("params", path, loaded, sha256)
    return loaded


def load_input(path: Source, sha256: str | None = None) -> NDArray:
    """The one array of a `.npy` file, as stored: (T, B, I) or (M, T, B, I).

    Raises InputError where the file is not one, and where its content has another digest than
    `sha256`.
    """
    with opened_input(path) as stored:
        loaded = read("input", path, stored)
    require_digest("input", path, loaded, sha256)
    return loaded["input"]


@contextmanager
def opened_params(cell: Cell, path: Source, module: str | None = None) -> Iterator[Archive]:
    """A cell's parameters in a file, or in one module of a model's, by the cell's own names.

    None is read before it is asked for. Raises InputError where the file does not hold them.
    """
    with opened_archive("params", path) as found:
        given = naming.of_file(cell, found, str(path), module)
        yield {own: found[name] for own, name in given.items()}


@contextmanager
def opened_archive(name: str, path: Source) -> Iterator[Archive]:
    """The named arrays of a file. Raises InputError."""
    with _opened(name, path) as found:
        if isinstance(found, Stored):
            raise InputError(
                f"{name}: {path} holds one array; named ones are needed, in a file of "
                f"{', '.join(formats.SUFFIXES)}"
            )
        yield found


@contextmanager
def opened_input(path: Source) -> Iterator[Archive]:
    """The one array of a `.npy` file under the name `input`. Raises InputError."""
    with _opened("input", path) as found:
        if not isinstance(found, Stored):
            raise InputError(f"input: {path} is an archive; one array in a .npy file is needed")
        yield {"input": found}


def read(name: str, path: Source, stored: Archive) -> dict[str, NDArray]:
    """The numbers of arrays in an open file, as stored.

    Raises InputError where they would not fit in memory, and where the file is not as it says.
    """
    needed, available = sum(array.bytes for array in stored.values()), available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"{name}: {path} would take {needed / GIB:.1f} GiB of memory; {available / GIB:.1f} "
            f"GiB is available"
        )
    with _explained(name, path):
        return {key: array.read() for key, array in stored.items()}


def digest(arrays: Mapping[str, NDArray]) -> str:
    """SHA-256 over names, dtypes, shapes and values, whatever the file around them."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        sha.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def check_dtypes(name: str, path: Source, stored: Mapping[str, Stored], dtype: str) -> None:
    """Refuse another dtype than the run's."""
    for key, array in stored.items():
        if array.dtype != dtype:
            where = _within(name, path, key)
            raise InputError(f"{name}: {where} is {array.dtype}; allowed: {dtype}, the run's dtype")


def check_finite(name: str, path: Source, loaded: Mapping[str, NDArray]) -> None:
    """Refuse NaN and infinity."""
    for key, array in loaded.items():
        if not np.isfinite(array).all():
            where = _within(name, path, key)
            raise InputError(f"{name}: {where} has NaN or infinity; finite numbers are needed")


def _within(name: str, path: Source, key: str) -> str:
    return str(path) if key == name else f"{path}, {key}"


def sizes_of_params(cell: Cell, path: Source, stored: Mapping[str, Stored]) -> dict[str, int]:
    """The fields that the arrays fix: hidden, inputs, networks, layers, and the cell's state.

    Raises InputError for shapes that do not fit together.
    """
    layers = naming.layers_in(stored)
    cell = in_layers(cell, layers)
    axes = {name: len(shape) for name, shape in cell.shapes(Sizes(1, 1, 1)).items()}
    first = next(iter(stored))
    leading = stored[first].shape[:1] if stored[first].ndim > axes[first] else ()
    for name, array in stored.items():
        if array.ndim != axes[name] + len(leading) or array.size == 0:
            raise InputError(
                f"params: {path}, {name} has shape {array.shape}; allowed: {axes[name]} axes in "
                f"every {name}, or one leading axis of networks on all arrays, none of them empty"
            )
    shaped: Any = dict(stored)
    sizes = cell.sizes(shaped)
    shapes = cell.shapes(sizes)
    for name, array in stored.items():
        if array.shape != leading + shapes[name]:
            raise InputError(
                f"params: {path}, {name} has shape {array.shape}; "
                f"{leading + shapes[name]} goes with the other arrays"
            )
    found = {"hidden": sizes.hidden, "inputs": sizes.inputs, "networks": (*leading, 1)[0]}
    found["layers"] = layers
    return found | ({"state": sizes.state} if "state" in cell.options else {})


def sizes_of_input(path: Source, array: Stored) -> dict[str, int]:
    """The fields that a sequence fixes: steps, inputs, and networks where it has that axis.

    Raises InputError for another number of axes and for an empty one.
    """
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise InputError(
            f"input: {path} has shape {array.shape}; allowed: (T, B, I) or (M, T, B, I), none empty"
        )
    *networks, steps, _, inputs = array.shape
    return {"steps": steps, "inputs": inputs} | ({"networks": networks[0]} if networks else {})


@contextmanager
def _opened(name: str, path: Source) -> Iterator[Archive | Stored]:
    with ExitStack() as stack:
        with _explained(name, path):
            found = stack.enter_context(formats.opened(path))
        yield found


@contextmanager
def _explained(name: str, path: Source) -> Iterator[None]:
    """Whatever a file raises that is not what it should be, as InputError."""
    try:
        yield
        return
    except InputError:
        raise
    except formats.Unreadable as error:
        reason = " ".join(str(error).split())
    except OSError as error:
        reason = error.strerror or "not a file of arrays"
    except formats.UNREADABLE:
        reason = "not a file of arrays of numbers"
    raise InputError(f"{name}: cannot read {path}: {reason}")


def require_digest(
    name: str, path: Source, arrays: Mapping[str, NDArray], sha256: str | None
) -> None:
    """Refuse arrays of another digest. Raises InputError."""
    if sha256 is not None and digest(arrays) != sha256:
        raise InputError(f"{name}: {path} has changed since the spec was made")
