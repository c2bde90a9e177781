"""A block's product with recurrent weights, and where it holds them.

They stay in the threads' registers for all steps where a column fits there, else in shared memory
where all of them fit, else neighbouring threads read them side by side at every step. Each read
serves every row of the block, and the sums have the same order everywhere.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from seqlab.errors import InputError
from seqlab.kernels.cuda.linalg import real_type
from seqlab.kernels.cuda.target import (
    LANES,
    SHARED_BYTES,
    Array,
    block_size,
    cuda,
    device,
)

STREAMED, SHARED, REGISTERS = range(3)  # where a block's recurrent weights are
REGISTER_BYTES = 256  # of one column's weights: what a thread can hold beside its sums

AHEAD = 8  # streamed weights that a thread reads before it multiplies: their ways overlap
ROWS = 4  # that share one pass over the weights, where their shared memory fits


class Shape(NamedTuple):
    """What a kernel is compiled for: H `units`, H `width` pre-activations, of which H `recurrent`
    have a recurrent part, `rows` of a block, its `threads`, and the `tier` of its weights."""

    real: type
    units: int
    width: int
    recurrent: int
    rows: int
    threads: int
    tier: int


def shape_for(recurrent: Array, width: int, rows: int) -> Shape:
    """The largest block for so many rows, weights (M, H, Q H) and `width` pre-activations, whose
    shared memory fits; InputError where not even one row's does."""
    real, (units, columns) = real_type(recurrent), recurrent.shape[1:]
    width, blocks = width // units, columns // units
    item = np.dtype(real).itemsize
    one = (width + blocks) * units * item
    fitting = SHARED_BYTES // one
    if fitting < 1:
        most = SHARED_BYTES // ((width + blocks) * item)
        raise InputError(
            f"hidden: {units} is not allowed on cuda; up to {most} for this cell and dtype, or "
            "backend cpu"
        )
    group = ROWS
    while group > fitting or group >= 2 * rows:
        group //= 2
    threads = max(block_size(columns), group * LANES)  # a warp for each row
    tier = nearest(recurrent, group * one, threads)
    return Shape(real, units, width, blocks, group, threads, tier)


def nearest(recurrent: Array, taken: int, threads: int) -> int:
    """The nearest place where weights (M, H, Q H) fit, beside `taken` bytes of shared memory."""
    units, columns = recurrent.shape[1:]
    item = np.dtype(real_type(recurrent)).itemsize
    if columns <= threads and units * item <= REGISTER_BYTES:
        return REGISTERS
    return SHARED if units * columns * item + taken <= SHARED_BYTES else STREAMED


class Product(NamedTuple):
    """Device functions of a block's product with recurrent weights, see `product`."""

    load: Callable[..., Any]
    multiply: Callable[..., Any]


def room(shape: Shape) -> tuple[int, int]:
    """Weights that a thread's and a block's array hold; no array is empty on a device."""
    everything = shape.recurrent * shape.units * shape.units
    return (
        shape.units if shape.tier == REGISTERS else 1,
        everything if shape.tier == SHARED else 1,
    )


@cache
def product(shape: Shape, wide: int) -> Product:
    """Functions for weights (M, Q' H, `wide`), blocks of H rows: block q takes entries q H and on
    of a vector to entries q `wide` and on. Forward there is one block, back there are Q."""
    real, units, rows, zero = shape.real, shape.units, shape.rows, shape.real(0)
    columns, tier = shape.recurrent * units, shape.tier
    whole = wide == columns
    grouped = units // AHEAD * AHEAD if tier == STREAMED else 0

    @device
    def load(weight, m, own, shared):
        """Bring the weights as near as they fit, to `own` of each thread or to `shared`. All of a
        block, which then needs a barrier."""
        thread = cuda.threadIdx.x
        if tier == REGISTERS:
            column = min(thread, columns - 1)
            for k in range(units):
                own[k] = weight[m, column // wide * units + k, column % wide]
        if tier == SHARED:
            for i in range(thread, columns * units, cuda.blockDim.x):
                shared[i] = weight[m, i // wide, i % wide]

    @device
    def multiply(vectors, weight, m, own, shared, out):
        """out (rows, columns) = vectors (rows, Q' H) times the weights; a thread has some columns.
        All of a block, which then needs a barrier."""
        for column in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
            first, j = (0, column) if whole else (column // wide * units, column % wide)
            total = cuda.local.array(rows, real)
            for r in range(rows):
                total[r] = zero
            near = cuda.local.array(AHEAD, real)
            for start in range(0, grouped, AHEAD):
                for k in range(AHEAD):
                    near[k] = weight[m, first + start + k, j]
                for k in range(AHEAD):
                    for r in range(rows):
                        total[r] += vectors[r, first + start + k] * near[k]
            for k in range(grouped, units):
                if tier == REGISTERS:
                    factor = own[k]
                elif tier == SHARED:
                    factor = shared[(first + k) * wide + j]
                else:
                    factor = weight[m, first + k, j]
                for r in range(rows):
                    total[r] += vectors[r, first + k] * factor
            for r in range(rows):
                out[r, column] = total[r]

    return Product(load, multiply)
