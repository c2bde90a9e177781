"""Arrays along time, (M, S, ...), between the drivers and the kernels."""

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.layout import unscaled
from seqlab.kernels.memory import aligned


def room(shape: tuple[int, ...], dtype: np.dtype) -> NDArray:
    """An uninitialised array for what kernels leave."""
    return aligned(shape, dtype)


def empty_like(shape: tuple[int, ...], dtype: np.dtype, like: NDArray) -> NDArray:
    """An uninitialised array for the user, who gave `like`."""
    del like  # arrays of a GPU do not come here
    return np.empty(shape, dtype)


def copied(array: NDArray) -> NDArray:
    """The same numbers in memory of their own."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


def cut(array: NDArray, first: int, last: int) -> NDArray:
    """Steps `first` to `last` (exclusive) as kernels take them."""
    return np.ascontiguousarray(array[:, first:last])


def put(target: NDArray, first: int, count: int, part: NDArray) -> None:
    """The last `count` steps of `part`, from `first` on in `target`."""
    target[:, first : first + count] = part[:, part.shape[1] - count :]


def scale(rows: NDArray, exponent: NDArray) -> None:
    """Rows (M, n, W) times 2^exponent (M, n), in place; beyond the dtype's range 0 or inf."""
    scaled = np.nonzero(exponent)
    rows[scaled] = unscaled(rows[scaled], exponent[scaled])
