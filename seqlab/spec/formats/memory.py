"""Arrays of a program, taken as a file of them would be."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from seqlab.spec.formats.stored import Archive, Stored, Unreadable
from seqlab.values import as_array, named

PLACE = "<in memory>"  # what stands where a file's path would


class InMemory:
    """What a program gives in place of a file's path: arrays by name, or one array.

    Anything that `seqlab.values` reads, such as tensors. Their numbers are shared, not copied.
    """

    def __init__(self, content: Any) -> None:
        self._content = content

    def __repr__(self) -> str:
        return PLACE

    def opened(self) -> Archive | Stored:
        """As a file of the same. Raises InputError, and Unreadable for names that are no text."""
        if not isinstance(self._content, Mapping):
            return _described("input", self._content)
        if odd := [name for name in self._content if not isinstance(name, str)]:
            raise Unreadable(f"it has {odd[0]!r} for a name; names are text")
        return {name: _described(f"params {name}", value) for name, value in self._content.items()}


def _described(name: str, value: Any) -> Stored:
    """An array by what it says of itself: one that is not wanted may be of any dtype."""
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):
        value = as_array(name, value)
    dtype = named(value.dtype)
    read = partial(_read, name, value)
    return Stored("float32" if dtype == "bfloat16" else dtype, tuple(value.shape), 0, read)


def _read(name: str, value: Any) -> NDArray:
    return as_array(name, value)
