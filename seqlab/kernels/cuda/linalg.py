"""Matrix products that are parallel in time: input projections and sums of gradients over time.

A thread takes one column for ROWS rows of the left operand: neighbours read neighbouring weights,
and each weight serves ROWS products.
"""

from functools import cache
from typing import Any

from seqlab.kernels.cuda.target import Array, block_size, cuda, empty, kernel, launch

ROWS = 4


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


@cache
def _accumulate(real: type) -> Any:
    zero = real(0)

    @kernel
    def accumulate(dz, factor, y, first, out):
        tiles = -(-out.shape[1] // ROWS)
        m, j = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles * ROWS
        last = out.shape[1] - 1
        for k in range(cuda.threadIdx.x, out.shape[2], cuda.blockDim.x):
            total = cuda.local.array(ROWS, real)
            for r in range(ROWS):
                total[r] = zero
            for n in range(dz.shape[1]):
                value = factor[m, n] * y[m, first + n, k]
                for r in range(ROWS):
                    total[r] += dz[m, n, min(j + r, last)] * value
            for r in range(ROWS):
                if j + r <= last:
                    out[m, j + r, k] = total[r]

    return accumulate


def accumulate(dz: Array, factor: Array, y: Array, first: int) -> Array:
    """sum over n of factor (M, n) dz (M, n, J) y[:, first + n] (M, K), (M, J, K)."""
    out = empty((dz.shape[0], dz.shape[2], y.shape[2]), real_type(dz))
    blocks, threads = dz.shape[0] * -(-dz.shape[2] // ROWS), block_size(y.shape[2])
    launch(_accumulate(real_type(dz)), blocks, threads, dz, factor, y, first, out)
    return out


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


def real_type(array: Array) -> type:
    """The scalar type of an array."""
    return array.dtype.type
