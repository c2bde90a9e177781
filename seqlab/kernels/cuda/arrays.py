"""Arrays along time, (M, S, ...), between the drivers and the kernels: on the GPU where the user's
are there, and in between. What moves between them stays there."""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.cuda.target import (
    Array,
    cuda,
    empty,
    grid,
    kernel,
    launch,
    ldexp,
    resident,
    to_device,
    to_host,
)
from seqlab.kernels.layout import on_gpu


class Walk(NamedTuple):
    """Entry (m, s, b, j) of a flat array is at first + m network + s step + b sequence + j."""

    first: int
    network: int
    step: int
    sequence: int


def along(array: Array, first: int) -> Walk:
    """A walk over (M, S, B, W) from step `first` on."""
    _, steps, sequences, width = array.shape
    step = sequences * width
    return Walk(first * step, steps * step, step, width)


def apart(sequences: int, steps: int, width: int, rows: int = 1) -> Walk:
    """A walk over the first of every `rows` rows of (M B rows, S, W)."""
    each = rows * steps * width
    return Walk(0, sequences * each, width, each)


@cache
def _move() -> Any:
    @kernel
    def move(source, come, target, go, count, steps, sequences, width):
        thread = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        for i in range(thread, count, cuda.gridDim.x * cuda.blockDim.x):
            row, j = i // width, i % width
            m, s, b = row // (steps * sequences), row // sequences % steps, row % sequences
            place = come.first + m * come.network + s * come.step + b * come.sequence + j
            to = go.first + m * go.network + s * go.step + b * go.sequence + j
            target[to] = source[place]

    return move


def move(
    source: Array, come: Walk, target: Array, go: Walk, shape: tuple[int, int, int, int]
) -> None:
    """Copy `shape` (M, S, B, W) from one contiguous array to another."""
    count, (_, *inner) = math.prod(shape), shape
    arrays = (source.reshape(-1), come, target.reshape(-1), go)
    launch(_move(), *grid(count), *arrays, count, *inner)


@cache
def _scale() -> Any:
    @kernel
    def scale(rows, exponent):
        thread, width = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, rows.shape[1]
        for i in range(thread, rows.shape[0] * width, cuda.gridDim.x * cuda.blockDim.x):
            row, j = i // width, i % width
            rows[row, j] = ldexp(rows[row, j], exponent[row])

    return scale


def room(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """An uninitialised array for what kernels leave."""
    # No array is empty on a device.
    return empty(shape, dtype) if 0 not in shape else np.empty(shape, dtype)


def empty_like(shape: tuple[int, ...], dtype: np.dtype, like: Any) -> Any:
    """An uninitialised array for the user, who gave `like`: on the GPU if that is."""
    return resident(empty(shape, dtype)) if on_gpu(like) else np.empty(shape, dtype)


def copied(array: Any) -> Any:
    """The same numbers (M, S, B, W) in memory of their own, where they are."""
    return resident(cut(array, 0, array.shape[1])) if on_gpu(array) else np.array(array)


def cut(array: Any, first: int, last: int) -> Array:
    """Steps `first` to `last` (exclusive) as kernels take them; of a GPU's array without the host.

    (M, S, B, W), contiguous.
    """
    if not on_gpu(array):
        return to_device(array[:, first:last])
    networks, _, sequences, width = array.shape
    shape = (networks, last - first, sequences, width)
    out = empty(shape, array.dtype)
    move(array, along(array, first), out, along(out, 0), shape)
    return out


def put(target: Any, first: int, count: int, part: Array) -> None:
    """The last `count` steps of `part` (M, S, B, W), from `first` on in `target`."""
    networks, steps, sequences, width = part.shape
    if on_gpu(target):
        shape = (networks, count, sequences, width)
        move(part, along(part, steps - count), target, along(target, first), shape)
    else:
        target[:, first : first + count] = to_host(part)[:, steps - count :]


def scale(rows: Array, exponent: NDArray) -> None:
    """Rows (M, n, W) times 2^exponent (M, n), in place; beyond the dtype's range 0 or inf."""
    if exponent.any():
        flat = rows.reshape(-1, rows.shape[2])
        launch(_scale(), *grid(flat.size), flat, to_device(exponent.reshape(-1)))
