"""A chunk of the bare selective scan in scratch, channels innermost, and what is done to its steps
before and after the states are.

Every loop over channels runs over all lanes, a constant for the compiler; lanes without a channel
hold zeros.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import inlined, inlined_apart, outlined_apart
from seqlab.kernels.cpu.diagonal import CHUNK
from seqlab.kernels.cpu.math import normal_exponent, sigmoid, softplus
from seqlab.kernels.cpu.shapes import SHAPES, SHORTEST
from seqlab.kernels.cpu.tile import prefetch, transpose
from seqlab.kernels.memory import LINE, aligned

LOG2E, LN2 = 1 / math.log(2), math.log(2)

_normal_exponent = inlined(normal_exponent)


class Chunk(NamedTuple):
    """A task's scratch: u, delta, drive, z, y (CHUNK, lanes); a, times log2 e, and h (N, lanes);
    skip, bias (1, lanes). Or the gradients of all that; that of h is what goes back in time."""

    u: NDArray
    delta: NDArray
    drive: NDArray
    z: NDArray
    y: NDArray
    a: NDArray
    h: NDArray
    skip: NDArray
    bias: NDArray


class Path(NamedTuple):
    """What there is besides: slope (CHUNK, lanes); `steepest` (1, lanes), the largest |a|. Of one
    state its decays, `before` each step and after the last, and the gradients by it after each,
    `flow`: (CHUNK, lanes), `before` a row more."""

    slope: NDArray
    steepest: NDArray
    decays: NDArray
    before: NDArray
    flow: NDArray


def task_channels(like):
    """Channels of one task; a constant for the compiler."""
    return max(SHORTEST, 8 * SHAPES.scan // np.finfo(like.dtype).bits)


lanes = inlined(task_channels)


def new_chunk(states: int, like: NDArray) -> Chunk:
    """Scratch for N states, not initialised."""
    width = task_channels(like)
    shapes = [*[(CHUNK, width)] * 5, *[(states, width)] * 2, *[(1, width)] * 2]
    return Chunk._make(aligned(shape, like.dtype) for shape in shapes)


def new_path(like: NDArray) -> Path:
    """Scratch, not initialised."""
    width = task_channels(like)
    rows = (CHUNK, 1, CHUNK, CHUNK + 1, CHUNK)
    return Path._make(aligned((count, width), like.dtype) for count in rows)


@inlined_apart
def clear(target):
    """A matrix of zeros."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = 0


@inlined_apart
def move(part, total):
    """total (float64) += part, a matrix each, which is cleared."""
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            total[i, j] += part[i, j]
            part[i, j] = 0


@outlined_apart
def prefetch_block(array, place, span):
    """Ask for what `read` or `write` will want there: no hardware foresees so many rows."""
    i, row, rows = place
    column, columns = span
    length, more = array.shape[2], LINE // array.itemsize
    start = (i * array.shape[1] + row) * length + column
    for _ in range(rows):
        for s in range(0, columns - 1, more):
            prefetch(array, start + s)
        prefetch(array, start + columns - 1)
        start += length


@outlined_apart
def read(source, place, span, target):
    """target[s, d] = source[i, row + d, column + s] for d < rows and s < columns, with place =
    (i, row, rows) and span = (column, columns); zero in the lanes beyond."""
    i, row, rows = place
    column, columns = span
    side = SHAPES.vector // source.itemsize
    whole = rows // side * side if columns % side == 0 else 0
    length, width = source.shape[2], target.shape[1]
    for d in range(0, whole, side):
        start = (i * source.shape[1] + row + d) * length + column
        for s in range(0, columns, side):
            transpose(source, start + s, length, target, s * width + d, width)
    for d in range(whole, rows):
        line = source[i, row + d, column : column + columns]
        for s in range(columns):
            target[s, d] = line[s]
    for d in range(rows, width):
        for s in range(columns):
            target[s, d] = 0


@outlined_apart
def write(source, place, span, target):
    """The way back of `read`: target[i, row + d, column + s] = source[s, d]."""
    i, row, rows = place
    column, columns = span
    side = SHAPES.vector // source.itemsize
    whole = rows // side * side if columns % side == 0 else 0
    length, width = target.shape[2], source.shape[1]
    for d in range(0, whole, side):
        start = (i * target.shape[1] + row + d) * length + column
        for s in range(0, columns, side):
            transpose(source, s * width + d, width, target, start + s, length)
    for d in range(whole, rows):
        line = target[i, row + d, column : column + columns]
        for s in range(columns):
            line[s] = source[s, d]


@inlined_apart
def copy_rows(source, target):
    """target = source, (N, lanes) each."""
    for n in range(source.shape[0]):
        for d in range(source.shape[1]):
            target[n, d] = source[n, d]


@inlined_apart
def scale(a, path):
    """a times log2 e, and path.steepest."""
    log2e = a.dtype.type(LOG2E)
    clear(path.steepest)
    for n in range(a.shape[0]):
        for d in range(lanes(a)):
            a[n, d] *= log2e
            size, most = abs(a[n, d]), path.steepest[0, d]
            path.steepest[0, d] = size if size > most else most


@outlined_apart
def discretise(chunk, path, count, soft):
    """From the raw step in chunk.delta: the step, its slope by the raw one, and Delta u. Whether
    every decay is surely a normal number."""
    width = chunk.delta.shape[1]  # as a constant LLVM would take such short loops apart
    longest = path.flow[0]
    for d in range(width):
        longest[d] = 0
    for s in range(count):
        for d in range(width):
            chunk.delta[s, d] += chunk.bias[0, d]
            path.slope[s, d] = 1
        if soft:
            for d in range(width):
                path.slope[s, d] = sigmoid(chunk.delta[s, d])
                chunk.delta[s, d] = softplus(chunk.delta[s, d])
        for d in range(width):
            step = chunk.delta[s, d]
            chunk.drive[s, d] = step * chunk.u[s, d]
            longest[d] = abs(step) if abs(step) > longest[d] else longest[d]
    limit, normal = longest.dtype.type(_normal_exponent(longest)), True
    for d in range(width):
        normal = normal and longest[d] * path.steepest[0, d] <= limit  # false of NaN
    return normal


@inlined_apart
def show(chunk, count):
    """y = D u."""
    for s in range(count):
        for d in range(lanes(chunk.u)):
            chunk.y[s, d] = chunk.skip[0, d] * chunk.u[s, d]


@inlined_apart
def gate(chunk, count):
    """y *= silu(z)."""
    for s in range(count):
        for d in range(lanes(chunk.u)):
            z = chunk.z[s, d]
            chunk.y[s, d] *= z * sigmoid(z)


@inlined_apart
def gate_back(chunk, grad, count):
    """From dL/d(y silu(z)) in grad.y: grad.z, and dL/dy in its place."""
    one = chunk.z.dtype.type(1)
    for s in range(count):
        for d in range(lanes(chunk.u)):
            z, gated = chunk.z[s, d], grad.y[s, d]
            gate = sigmoid(z)
            grad.z[s, d] = gated * chunk.y[s, d] * gate * (one + z * (one - gate))
            grad.y[s, d] = gated * z * gate


@inlined_apart
def finish(chunk, grad, slope, count):
    """From what `back` has summed over states: grad.u, and in grad.delta that of the raw step; add
    to grad.skip and grad.bias."""
    ln2 = slope.dtype.type(LN2)
    for s in range(count):
        for d in range(lanes(chunk.u)):
            u, y, drive = chunk.u[s, d], grad.y[s, d], grad.drive[s, d]
            raw = (grad.delta[s, d] * ln2 + drive * u) * slope[s, d]
            grad.delta[s, d] = raw
            grad.u[s, d] = drive * chunk.delta[s, d] + y * chunk.skip[0, d]
            grad.bias[0, d] += raw
            grad.skip[0, d] += y * u
