"""A user's own weights and sequence: read from files, checked, and known by their content."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Cell, Sizes
from seqlab.errors import InputError
from seqlab.fields import nearest, shown

# What numpy raises for a file that is not what it should be.
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class ArrayFile:
    """A file of arrays: equal when the content is, wherever the file lies."""

    path: str = field(compare=False)
    sha256: str

    def __str__(self) -> str:
        return self.path


def load_params(path: str | PathLike[str], sha256: str | None = None) -> dict[str, NDArray]:
    """The arrays of a `.npz` file by name, as stored.

    Raises InputError where the file is not one, and where its content has another digest than
    `sha256`.
    """
    loaded = _load("params", path)
    if not isinstance(loaded, dict):
        raise InputError(f"params: {path} holds one array; a .npz archive is needed")
    _require_digest("params", path, loaded, sha256)
    return loaded


def load_input(path: str | PathLike[str], sha256: str | None = None) -> NDArray:
    """The one array of a `.npy` file, as stored: (T, B, I) or (M, T, B, I).

    Raises InputError where the file is not one, and where its content has another digest than
    `sha256`.
    """
    loaded = _load("input", path)
    if isinstance(loaded, dict):
        raise InputError(f"input: {path} is an archive; one array in a .npy file is needed")
    _require_digest("input", path, {"input": loaded}, sha256)
    return loaded


def digest(arrays: Mapping[str, NDArray]) -> str:
    """SHA-256 over names, dtypes, shapes and values, whatever the file around them."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        sha.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        sha.update(array.reshape(-1).view(np.uint8).data)
    return sha.hexdigest()


def check_values(name: str, path: str, arrays: Mapping[str, NDArray], dtype: str) -> None:
    """Refuse another dtype than the run's, NaN and infinity."""
    for key, array in arrays.items():
        where = path if key == name else f"{path}, {key}"
        if array.dtype != np.dtype(dtype):
            raise InputError(f"{name}: {where} is {array.dtype}; allowed: {dtype}, the run's dtype")
        if not np.isfinite(array).all():
            raise InputError(f"{name}: {where} has NaN or infinity; finite numbers are needed")


def sizes_of_params(cell: Cell, path: str, arrays: Mapping[str, NDArray]) -> dict[str, int]:
    """The fields that the arrays fix: hidden, inputs, networks, and state where the cell has it.

    Raises InputError for missing or unexpected arrays, and for shapes that do not fit together.
    """
    axes = {name: len(shape) for name, shape in cell.shapes(Sizes(1, 1, 1)).items()}
    for name in arrays:
        if name not in axes:
            known = nearest(name, axes) or f"; its parameters are {', '.join(axes)}"
            raise InputError(f"params: {path}, {shown(name)} is not of {cell.name}{known}")
    lacking = [name for name in axes if name not in arrays]
    if lacking:
        raise InputError(f"params: {path} lacks {', '.join(lacking)} of {cell.name}")
    leading = arrays[lead].shape[:1] if arrays[lead := next(iter(axes))].ndim > axes[lead] else ()
    for name, count in axes.items():
        if arrays[name].ndim != count + len(leading) or arrays[name].size == 0:
            raise InputError(
                f"params: {path}, {name} has shape {arrays[name].shape}; allowed: {count} axes in "
                f"every {name}, or one leading axis of networks on all arrays, none of them empty"
            )
    sizes = cell.sizes(dict(arrays))
    for name, shape in cell.shapes(sizes).items():
        if arrays[name].shape != leading + shape:
            raise InputError(
                f"params: {path}, {name} has shape {arrays[name].shape}; "
                f"{leading + shape} goes with the other arrays"
            )
    found = {"hidden": sizes.hidden, "inputs": sizes.inputs, "networks": (*leading, 1)[0]}
    return found | ({"state": sizes.state} if "state" in cell.options else {})


def sizes_of_input(path: str, array: NDArray) -> dict[str, int]:
    """The fields that a sequence fixes: steps, inputs, and networks where it has that axis.

    Raises InputError for another number of axes and for an empty one.
    """
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise InputError(
            f"input: {path} has shape {array.shape}; allowed: (T, B, I) or (M, T, B, I), none empty"
        )
    *networks, steps, _, inputs = array.shape
    return {"steps": steps, "inputs": inputs} | ({"networks": networks[0]} if networks else {})


def _load(name: str, path: str | PathLike[str]) -> Any:
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except OSError as error:
        reason = error.strerror or "not a file of arrays"
    except _UNREADABLE:
        reason = "not a file of arrays of numbers"
    raise InputError(f"{name}: cannot read {path}: {reason}")


def _require_digest(
    name: str, path: str | PathLike[str], arrays: Mapping[str, NDArray], sha256: str | None
) -> None:
    if sha256 is not None and digest(arrays) != sha256:
        raise InputError(f"{name}: {path} has changed since the spec was made")
