"""A result's bytes: self-describing netCDF-3 with a checksum over every byte but its own.

netCDF-3 has no 64-bit integers: whole numbers, which are lags of at most 2^31 - 1 steps, are
stored as int32 and read back as int64; where a lag of -1 means never, flag_values and flag_meanings
say so. Strings are character arrays, as xarray writes and decodes them. The checksum is
the SHA-256 of the file with the 64 characters of the `checksum` attribute set to zero bytes.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from seqlab.errors import InputError
from seqlab.numbers.variables import NEVER, Variable

if TYPE_CHECKING:  # SciPy's takes as long to import as a short run takes
    from scipy.io import netcdf_file, netcdf_variable

LARGEST_ARRAY = 2**31 - 4  # bytes of one variable in a netCDF-3 file

_64_BIT_OFFSETS = 2
_DIGITS = 64
# The attribute as the header holds it: its name with its length, the type (2: characters), its
# length. No text in a file can look like this: it has zero bytes.
_CHECKSUM = b"\0\0\0\x08checksum\0\0\0\x02" + _DIGITS.to_bytes(4, "big")

Attributes = Mapping[str, str | float]


class DamagedResult(InputError):
    """A result file that is not, byte for byte, what was written."""


def encode(variables: Mapping[str, Variable], attributes: Attributes) -> bytes:
    """The whole file. Equal variables and attributes give equal bytes."""
    from scipy.io import netcdf_file

    buffer = io.BytesIO()
    file = netcdf_file(buffer, "w", version=_64_BIT_OFFSETS)
    _put_attributes(file, {"checksum": "0" * _DIGITS, **attributes})
    for name, variable in variables.items():
        _put_variable(file, name, variable)
    file.flush()
    data = bytearray(buffer.getvalue())
    buffer.close()  # SciPy's own close would write everything once more
    start = data.index(_CHECKSUM) + len(_CHECKSUM)
    data[start : start + _DIGITS] = _digest(data, start).encode()
    return bytes(data)


def decode(data: bytes) -> tuple[dict[str, Variable], dict[str, str | float]]:
    """The variables and attributes that `encode` was given.

    Raises DamagedResult, before anything is parsed, unless the checksum fits.
    """
    start = data.find(_CHECKSUM) + len(_CHECKSUM)
    if start < len(_CHECKSUM):
        raise DamagedResult("damaged, or not a seqlab result: it has no checksum")
    if data[start : start + _DIGITS] != _digest(data, start).encode():
        raise DamagedResult("damaged: its checksum does not fit its content")
    from scipy.io import netcdf_file

    with netcdf_file(io.BytesIO(data), "r", mmap=False) as file:
        attributes = {name: _attribute(value) for name, value in _attributes(file)}
        variables = {name: _get_variable(found) for name, found in file.variables.items()}
    return variables, attributes


def _digest(data: bytes | bytearray, start: int) -> str:
    blanked = bytearray(data)
    blanked[start : start + _DIGITS] = bytes(_DIGITS)
    return hashlib.sha256(blanked).hexdigest()


def _put_variable(file: "netcdf_file", name: str, variable: Variable) -> None:
    data, dims = variable.data, list(variable.dims)
    attributes: dict[str, Any] = {"long_name": variable.long_name, "units": variable.units}
    if data.dtype.kind == "U":
        encoded = np.char.encode(data, "utf-8")
        data = encoded[..., np.newaxis].view("S1")
        dims.append(f"{name}_characters")
        attributes = {"long_name": variable.long_name, "_Encoding": "utf-8"}
    elif data.dtype.kind == "i":
        data = data.astype(np.int32)
    if variable.never:
        attributes |= {"flag_values": np.int32(NEVER), "flag_meanings": "never"}
    for dim, size in zip(dims, data.shape, strict=True):
        if dim not in file.dimensions:
            file.createDimension(dim, size)
    stored = file.createVariable(name, data.dtype, tuple(dims))
    stored[...] = data
    _put_attributes(stored, attributes)


def _put_attributes(owner: "netcdf_file | netcdf_variable", attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        # A bare Python float would be stored in single precision.
        setattr(owner, name, value.encode() if isinstance(value, str) else np.asarray(value)[()])


def _get_variable(stored: "netcdf_variable") -> Variable:
    attributes = {name: _attribute(value) for name, value in _attributes(stored)}
    data, dims = stored.data, stored.dimensions
    if data.dtype.kind == "S":
        joined = np.ascontiguousarray(data).view(f"S{data.shape[-1]}")[..., 0]
        data, dims = np.char.decode(joined, "utf-8"), dims[:-1]
    else:
        data = data.astype(np.int64 if data.dtype.kind == "i" else np.float64)
    units, long_name = attributes.get("units", "1"), attributes["long_name"]
    never = attributes.get("flag_meanings") == "never"
    return Variable(tuple(dims), data, str(units), str(long_name), never)


def _attributes(owner: Any) -> Iterable[tuple[str, Any]]:
    return owner._attributes.items()  # SciPy has no public list of them


def _attribute(value: Any) -> str | float:
    """An attribute as Python has it."""
    return value.decode() if isinstance(value, bytes) else float(value)
