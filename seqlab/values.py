"""A user's value, taken as an array of numbers: one door for all that comes in from outside.

Whatever NumPy reads is an array here, and so are tensors, which are told by what they can do, so
that no framework is imported. Nothing is cast, and nothing that a value says besides its numbers
(a mask, a unit) is lost in silence: what would need that is refused.
"""

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.errors import InputError, Note
from seqlab.wording import short_repr

DTYPES = (np.dtype(np.float64), np.dtype(np.float32))
DEEPEST = 8  # lists in lists: no array here has as many axes


def as_array(name: str, value: Any) -> NDArray:
    """The float64 or float32 numbers of an array, a tensor, or lists of them, of any shape.

    Shares the value's memory where it can. Of a tensor the values are taken without their history,
    and bfloat16 as float32, which holds each of its numbers: that is said once.

    Raises InputError for every other dtype or byte order, for masked arrays and other kinds of
    NumPy's with a meaning beyond their numbers, ragged lists, tables of several dtypes, and
    whatever is no array.
    """
    # The usual case needs no look at what other kinds of arrays say of themselves.
    array = value if type(value) is np.ndarray else _numbers(name, value)
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # of ml_dtypes, as in JAX
        say_widened()
        return array.astype(np.float32)
    check_dtype(name, array.dtype)
    return array


def check_dtype(name: str, dtype: Any) -> None:
    """Refuse another dtype than float64 and float32, in this machine's byte order."""
    if dtype not in DTYPES:
        raise InputError(
            f"{name}: dtype {named(dtype)} is not allowed; float64 or float32 is needed"
        )


def check_form(
    name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype, why: str = ""
) -> None:
    """Refuse another shape than this one, which `why` follows from, or another dtype."""
    if array.shape != shape:
        raise InputError(f"{name}: shape {array.shape} is not allowed; {shape} is needed{why}")
    if array.dtype != dtype:
        raise InputError(
            f"{name}: dtype {named(array.dtype)} is not allowed; {dtype}, one for all arrays, "
            f"is needed"
        )


def for_kernels(name: str, array: NDArray) -> NDArray:
    """The same numbers as kernels take them; InputError where one is not finite.

    Contiguous, aligned and writable: Numba compiles a kernel anew for each other kind of array.
    Kernels never write to what they are given, so a read-only array is not copied.
    """
    if not np.isfinite(array).all():
        raise InputError(f"{name}: NaN or infinity is not allowed; finite numbers are needed")
    array = np.require(array, requirements=["C", "A"])
    return array if array.flags.writeable else np.asarray(_Unlocked(array))


class _Unlocked:
    """A read-only array's memory, kept alive, for a view that does not say so."""

    def __init__(self, array: NDArray) -> None:
        self._owner = array
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def without_history(value: Any) -> Any:
    """A tensor's values alone, where they lie; anything else as it is."""
    return value.detach() if _is_tensor(value) else value


def as_float(value: Any) -> Any:
    """`without_history`, bfloat16 as float32."""
    if not _is_tensor(value):
        return value
    value = value.detach()
    if named(value.dtype) != "bfloat16":
        return value
    say_widened()
    return value.float()


@cache
def say_widened() -> None:
    """Tell the user, once, that bfloat16 is taken as float32."""
    note = "bfloat16 is taken as float32, which holds each of its numbers"
    warnings.warn(note, Note, stacklevel=2)


def named(dtype: Any) -> str:
    """A dtype as messages and files spell it: NumPy's name, without the name of a framework."""
    text = str(dtype).removeprefix("torch.")
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_tensor(value: Any) -> bool:
    return all(callable(getattr(value, ability, None)) for ability in ("detach", "cpu", "numpy"))


def _numbers(name: str, value: Any) -> NDArray:
    if isinstance(value, list | tuple):
        return _of_lists(name, value)
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(
            f"{name}: a masked array is not allowed; a plain array is needed, such as .filled(0.0)"
        )
    if isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap):
        raise InputError(
            f"{name}: {type(value).__module__}.{type(value).__name__} is not allowed; a plain "
            f"array is needed, such as numpy.array(...)"
        )
    columns = getattr(value, "dtypes", ())
    if isinstance(columns, Iterable) and len(dtypes := set(map(named, columns))) > 1:
        raise _mixed(name, dtypes)
    try:
        given = as_float(value)
        array = np.asarray(given.cpu().numpy() if _is_tensor(given) else given)
    except MemoryError:
        raise
    except Exception as error:  # whatever a stranger's class raises
        raise InputError(
            f"{name}: {type(value).__name__} cannot be read as an array "
            f"({short_repr(str(error))}); "
            f"an array of float64 or float32 is needed"
        ) from None
    return array


def _of_lists(name: str, lists: list | tuple) -> NDArray:
    """Lists of Python's numbers, arrays and tensors as one array."""
    dtypes: set[np.dtype] = set()  # Python's own numbers have none

    def stacked(items: list | tuple, depth: int) -> NDArray:
        if depth == DEEPEST:
            raise InputError(f"{name}: lists {depth} deep are not allowed; fewer axes are needed")
        return np.asarray([item(value, depth + 1) for value in items])

    def item(value: Any, depth: int) -> Any:
        if isinstance(value, list | tuple):
            return stacked(value, depth)
        if type(value) in (int, float):
            return value
        array = as_array(name, value)
        dtypes.add(array.dtype)
        return array

    try:
        array = stacked(lists, 0)
    except InputError:
        raise
    except (ValueError, OverflowError):
        raise InputError(
            f"{name}: ragged lists are not allowed; rows of one length are needed"
        ) from None
    if dtypes - {array.dtype}:  # some were cast
        raise _mixed(name, {named(dtype) for dtype in dtypes | {array.dtype}})
    return array


def _mixed(name: str, dtypes: set[str]) -> InputError:
    return InputError(
        f"{name}: dtypes {', '.join(sorted(dtypes))} together are not allowed; one is needed"
    )
