"""Files of the safetensors format: the length of a header, the header as JSON, raw numbers.

Source: https://github.com/huggingface/safetensors, "Format".
"""

import json
import math
import os
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from seqlab.spec.formats.stored import Archive, Stored, Unreadable
from seqlab.values import say_widened

LONGEST_HEADER = 100_000_000  # the format's own limit
# NumPy's name and the bytes of a number; bfloat16 is the upper half of a float32.
_TYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "BF16": ("float32", 2),
    "F16": ("float16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
_READ = {"F64": "<f8", "F32": "<f4", "BF16": "<u2"}


def archive(file: BinaryIO) -> Archive:
    """The tensors of an open file by name, of which only float64, float32 and bfloat16 can be read.

    Raises Unreadable where the header is no such header, or its parts do not fill the file.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise Unreadable("it is no safetensors file")
    header = json.loads(file.read(length), object_pairs_hook=_each_once)
    header.pop("__metadata__", None)
    start, end = 8 + length, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != end or last < first:
            raise Unreadable(f"{name} in it overlaps another or leaves a gap")
        end = last
    if start + end != size:
        raise Unreadable(f"its header says {end} bytes of data, it holds {size - start}")
    return {name: _described(file, start, name, entry) for name, entry in header.items()}


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unreadable("it holds a name twice")
    return found


def _described(file: BinaryIO, start: int, name: str, entry: dict[str, Any]) -> Stored:
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in shape):
        raise Unreadable(f"{name} in it has no shape")
    count, code = math.prod(shape), entry["dtype"]
    dtype, width = _TYPES.get(code, (str(code), None))
    if width is not None and count * width != last - first:
        raise Unreadable(f"{name} in it has not the size of its shape")
    read = partial(_read, file, start + first, count, shape, code)
    return Stored(dtype, shape, 3 * (last - first) if code == "BF16" else last - first, read)


def _read(file: BinaryIO, place: int, count: int, shape: tuple[int, ...], code: str) -> NDArray:
    file.seek(place)
    numbers = np.fromfile(file, _READ[code], count)
    if code == "BF16":
        say_widened()
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return numbers.reshape(shape)
