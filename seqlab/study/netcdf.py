"""A result's bytes: self-describing netCDF-3 with a checksum over every byte but its own.

netCDF-3 has no 64-bit integers: whole numbers, which are lags of at most 2^31 - 1 steps, are
stored as int32 and read back as int64; where a lag of -1 means never, flag_values and flag_meanings
say so. Strings are character arrays, as xarray writes and decodes them. The checksum is
the SHA-256 of the file with the 64 characters of the `checksum` attribute set to zero bytes.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.numbers.variables import NEVER, Variable

if TYPE_CHECKING:
    from scipy.io import netcdf_variable

LARGEST_ARRAY = 2**31 - 4  # bytes of one variable in a netCDF-3 file

_64_BIT_OFFSETS = 2
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_KINDS = {"S": 2, "i": 4, "d": 6}  # of numbers, by NumPy's letter
_DIGITS = 64
# The attribute as the header holds it: its name with its length, the type (2: characters), its
# length. No text in a file can look like this: it has zero bytes.
_CHECKSUM = b"\0\0\0\x08checksum\0\0\0\x02" + _DIGITS.to_bytes(4, "big")

Attributes = Mapping[str, str | float]


class DamagedResult(InputError):
    """A result file that is not, byte for byte, what was written."""


def encode(variables: Mapping[str, Variable], attributes: Attributes) -> bytes:
    """The whole file. Equal variables and attributes give equal bytes.

    They are those that SciPy writes, whose import takes longer than a short run.
    """
    stored = {name: _stored(name, variable) for name, variable in variables.items()}
    lengths = {dim: size for s in stored.values() for dim, size in s.lengths.items()}
    # SciPy's order: the largest first.
    names = sorted(stored, key=lambda name: stored[name].data.shape, reverse=True)
    dims = b"".join(_text(name) + _int(size) for name, size in lengths.items())
    header = [
        b"CDF" + bytes([_64_BIT_OFFSETS]) + _int(0),
        _list(_DIMENSION, len(lengths), dims),
        _attribute_list({"checksum": "0" * _DIGITS, **attributes}),
    ]
    order = list(lengths)
    heads, bodies = [], []
    for name in names:
        one = stored[name]
        ids = b"".join(_int(order.index(dim)) for dim in one.lengths)
        kind = _int(_KINDS[one.data.dtype.char])
        heads.append(
            _text(name) + _int(len(one.lengths)) + ids + _attribute_list(one.attributes) + kind
        )
        bodies.append(_padded(one.data.astype(one.data.dtype.newbyteorder(">")).tobytes()))
    place = sum(map(len, header)) + 8 + sum(len(head) + 12 for head in heads)
    for i, body in enumerate(bodies):
        heads[i] += _int(len(body)) + place.to_bytes(8, "big")
        place += len(body)
    data = bytearray(b"".join([*header, _list(_VARIABLE, len(names), b"".join(heads)), *bodies]))
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
        attributes = {name: _plain(value) for name, value in _attributes(file)}
        variables = {name: _get_variable(found) for name, found in file.variables.items()}
    return variables, attributes


def _digest(data: bytes | bytearray, start: int) -> str:
    blanked = bytearray(data)
    blanked[start : start + _DIGITS] = bytes(_DIGITS)
    return hashlib.sha256(blanked).hexdigest()


class _Stored(NamedTuple):
    """A variable as a file has it: float64, int32 or single characters."""

    data: NDArray
    lengths: dict[str, int]
    attributes: dict[str, Any]


def _stored(name: str, variable: Variable) -> _Stored:
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
    return _Stored(data, dict(zip(dims, data.shape, strict=True)), attributes)


def _int(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _text(text: str) -> bytes:
    content = text.encode()
    return _int(len(content)) + _padded(content)


def _list(tag: int, count: int, content: bytes) -> bytes:
    return (_int(tag) + _int(count) if count else bytes(8)) + content


def _attribute_list(attributes: Mapping[str, Any]) -> bytes:
    content = b""
    for name, value in attributes.items():
        content += _text(name)
        if isinstance(value, str):
            content += _int(_KINDS["S"]) + _text(value or "\0")  # none is empty, as in NumPy
        else:
            number = np.asarray(value)
            content += _int(_KINDS[number.dtype.char]) + _int(1)
            content += number.astype(number.dtype.newbyteorder(">")).tobytes()
    return _list(_ATTRIBUTE, len(attributes), content)


def _get_variable(stored: "netcdf_variable") -> Variable:
    attributes = {name: _plain(value) for name, value in _attributes(stored)}
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


def _plain(value: Any) -> str | float:
    """An attribute as Python has it."""
    return value.decode() if isinstance(value, bytes) else float(value)
