"""Matrix products that are parallel in time: input projections and sums of gradients over time;
sums over the first axis, and transposition.

In a product a thread takes one column for ROWS rows of the left operand: neighbours read
neighbouring weights, and each weight serves ROWS products.
"""

import math
from functools import cache
from typing import Any

import numpy as np

from seqlab.kernels.cuda.target import (
    LANES,
    Array,
    block_size,
    cuda,
    device,
    empty,
    kernel,
    launch,
    to_device,
    to_host,
)

ROWS = 4
PIECE = 32  # steps summed by themselves before their sum is added with care
STRETCH = 256  # terms that a thread sums; the sums of others it does not wait for
STRETCHES_BYTES = 4 << 20  # of one network's sums that are added up in the end


ZERO, BIAS, SELF = range(3)  # what a product is added to


@cache
def _project(real: type) -> Any:
    zero = real(0)

    @kernel
    def project(x, x0, weight, bias, start, out, out0):
        tiles = -(-x.shape[1] // ROWS)
        m, first = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles * ROWS
        last = min(first + ROWS, x.shape[1]) - 1
        for j in range(cuda.threadIdx.x, weight.shape[2], cuda.blockDim.x):
            total = cuda.local.array(ROWS, real)
            for r in range(ROWS):
                total[r] = zero
            for k in range(weight.shape[1]):
                factor = weight[m, k, j]
                for r in range(ROWS):
                    total[r] += x[m, min(first + r, last), x0 + k] * factor
            for r in range(ROWS):
                if first + r <= last:
                    before = zero
                    if start == BIAS:
                        before = bias[m, j]
                    elif start == SELF:
                        before = out[m, first + r, out0 + j]
                    out[m, first + r, out0 + j] = before + total[r]

    return project


def _launch(x: Array, x0: int, weight: Array, bias: Array, start: int, out: Array, j: int) -> None:
    blocks, threads = x.shape[0] * -(-x.shape[1] // ROWS), block_size(weight.shape[2])
    launch(_project(real_type(x)), blocks, threads, x, x0, weight, bias, start, out, j)


def project(x: Array, weight: Array, bias: Array | None, out: Array, x0: int = 0) -> None:
    """out[..., :J] = bias + x[..., x0 : x0 + K] weight.

    x and out (M, n, ..), weight (M, K, J), bias (M, J) or none.
    """
    given = (weight[0], ZERO) if bias is None else (bias, BIAS)
    _launch(x, x0, weight, *given, out, 0)


def add_projected(x: Array, x0: int, weight: Array, out: Array, out0: int) -> None:
    """out[..., out0 : out0 + J] += x[..., x0 : x0 + K] weight, shaped as in `project`."""
    _launch(x, x0, weight, weight[0], SELF, out, out0)


def product(x: Array, weight: Array) -> Array:
    """x[..., :K] weight, (M, n, J)."""
    out = empty((*x.shape[:2], weight.shape[2]), real_type(x))
    project(x, weight, None, out)
    return out


@device
def add_to(total, lost, value):
    """total + value, and what its rounding has lost so far, to be handed to the next sum: a million
    float32 numbers are then added to the last digit (Kahan 1965). One thread by itself."""
    value -= lost
    raised = total + value
    return raised, (raised - total) - value


@cache
def _accumulate(real: type) -> Any:
    zero = real(0)

    @kernel
    def accumulate(dz, column, factor, y, first, stretch, out):
        """A block has ROWS rows of one network's sum over one stretch of n."""
        tiles, networks = -(-out.shape[2] // ROWS), out.shape[1]
        m, j = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles * ROWS
        m, p = m % networks, m // networks
        last, end = out.shape[2] - 1, min((p + 1) * stretch, dz.shape[1])
        for k in range(cuda.threadIdx.x, out.shape[3], cuda.blockDim.x):
            total, lost = cuda.local.array(ROWS, real), cuda.local.array(ROWS, real)
            part = cuda.local.array(ROWS, real)
            for r in range(ROWS):
                total[r], lost[r] = zero, zero
            for start in range(p * stretch, end, PIECE):
                for r in range(ROWS):
                    part[r] = zero
                for n in range(start, min(start + PIECE, end)):
                    value = factor[m, n] * y[m, first + n, k]
                    for r in range(ROWS):
                        part[r] += dz[m, n, column + min(j + r, last)] * value
                for r in range(ROWS):
                    total[r], lost[r] = add_to(total[r], lost[r], part[r])
            for r in range(ROWS):
                if j + r <= last:
                    out[p, m, j + r, k] = total[r]

    return accumulate


def accumulate(dz: Array, columns: slice, factor: Array, y: Array, first: int) -> Array:
    """sum over n of factor (M, n) dz[:, n, columns] (M, J) y[:, first + n] (M, K), (M, J, K)."""
    (networks, terms), start, width = factor.shape, columns.start, columns.stop - columns.start
    real, size = real_type(dz), width * y.shape[2]
    # In stretches side by side, as many as a bounded memory of a network's own has room for.
    most = max(1, STRETCHES_BYTES // (size * dz.dtype.itemsize))
    stretch = -(-max(STRETCH, -(-terms // most)) // PIECE) * PIECE
    out = empty((-(-terms // stretch), networks, width, y.shape[2]), real)
    blocks, threads = len(out) * networks * -(-width // ROWS), block_size(y.shape[2])
    launch(_accumulate(real), blocks, threads, dz, start, factor, y, first, stretch, out)
    return fold(out)


@cache
def _squares(real: type) -> Any:
    zero = real(0)

    @kernel
    def squares(rows, out):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < rows.shape[0]:
            total = zero
            for k in range(rows.shape[1]):
                total += rows[i, k] * rows[i, k]
            out[i] = total

    return squares


def squares(rows: Array) -> Array:
    """Each row's sum of squares, (n, K) -> (n,)."""
    out = empty(rows.shape[:1], real_type(rows))
    threads = block_size(len(rows))
    launch(_squares(real_type(rows)), -(-len(rows) // threads), threads, rows, out)
    return out


@cache
def _fold(real: type) -> Any:
    zero = real(0)

    @kernel
    def fold(parts, out):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < out.size:
            p, k = i // out.shape[1], i % out.shape[1]
            total, lost = zero, zero
            for r in range(p * STRETCH, min((p + 1) * STRETCH, parts.shape[0])):
                total, lost = add_to(total, lost, parts[r, k])
            out[p, k] = total

    return fold


def fold(parts: Array) -> Array:
    """The sum over the first axis, by stretches."""
    rows, shape = len(parts), parts.shape[1:]
    if rows == 1:
        return parts.reshape(*shape)
    flat = parts.reshape(rows, -1)
    out = empty((-(-rows // STRETCH), flat.shape[1]), real_type(parts))
    threads = block_size(out.size)
    launch(_fold(real_type(parts)), -(-out.size // threads), threads, flat, out)
    return fold(out.reshape(len(out), *shape))


@cache
def _transpose(real: type) -> Any:
    shape = (LANES, LANES + 1)  # a column more, so that a tile's columns lie in different banks

    @kernel
    def transpose(array, out):
        high, wide = -(-array.shape[1] // LANES), -(-array.shape[2] // LANES)
        m, tile = cuda.blockIdx.x // (high * wide), cuda.blockIdx.x % (high * wide)
        row, column = tile // wide * LANES, tile % wide * LANES
        kept, lane = cuda.shared.array(shape, real), cuda.threadIdx.x
        for r in range(min(LANES, array.shape[1] - row)):
            if column + lane < array.shape[2]:
                kept[r, lane] = array[m, row + r, column + lane]
        cuda.syncthreads()
        for c in range(min(LANES, array.shape[2] - column)):
            if row + lane < array.shape[1]:
                out[m, column + c, row + lane] = kept[lane, c]

    return transpose


def transpose(array: Array) -> Array:
    """(n, R, C) -> (n, C, R)."""
    matrices, rows, columns = array.shape
    out = empty((matrices, columns, rows), real_type(array))
    tiles = -(-rows // LANES) * -(-columns // LANES)
    launch(_transpose(real_type(array)), matrices * tiles, LANES, array, out)
    return out


@cache
def _finite() -> Any:
    @kernel
    def finite(flat, strange):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < flat.shape[0] and not math.isfinite(flat[i]):
            strange[0] = 1  # whoever finds one writes the same

    return finite


def finite(array: Array) -> bool:
    """Whether a contiguous array has neither NaN nor infinity."""
    flat, strange = array.reshape(-1), to_device(np.zeros(1, np.int32))
    threads = block_size(len(flat))
    launch(_finite(), -(-len(flat) // threads), threads, flat, strange)
    return not to_host(strange)[0]


def real_type(array: Array) -> type:
    """The scalar type of an array."""
    return array.dtype.type
