"""The one matrix product that every cell is made of, cut into panels of rows.

Weights are kept in both orientations, so that the forward product h W^T, the backward product dz W,
the projection of the input and the sums over time are all out += a b with rows of b contiguous.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined, inlined_apart, outlined_apart
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.cpu.tile import make_panel
from seqlab.kernels.memory import aligned, cleared

VECTOR, STRIP, SMALL = SHAPES.vector, SHAPES.strip, SHAPES.small


def packed(weight: NDArray) -> NDArray:
    """(M, K, J) for `add_product`, of the same shape: strips of columns that lie one after the
    other, each (K, strip) and row by row, from a cache line on.

    What is read together lies together: rows that are a power of two apart fall into few sets of
    the L1 cache, and cost up to 1.4 times.
    """
    networks, depth, width = weight.shape
    out = aligned((networks, depth * width), weight.dtype)
    strip = STRIP // weight.itemsize
    for first in range(0, width, strip):
        part = weight[:, :, first : first + strip]
        out[:, first * depth :][:, : depth * part.shape[2]] = part.reshape(networks, -1)
    return out.reshape(weight.shape)


def both_ways(*weights: NDArray) -> Iterator[NDArray]:
    """Weights (M, J, K) for products: transposed, for the way forward, then as they are."""
    for weight in weights:
        yield packed(weight.swapaxes(1, 2))
    for weight in weights:
        yield packed(weight)


@outlined_apart
def _add_tail(a, a0, ar, ak, rows, b, start, stride, depth, out, target, done, columns):
    """The columns from `done` on, fewer than a vector has lanes."""
    a, b, entries = a.reshape(a.size), b.reshape(b.size), out.reshape(out.size)
    for r in range(rows):
        for j in range(done, columns):
            total = entries.dtype.type(0)
            for k in range(depth):
                total += a[a0 + r * ar + k * ak] * b[start + k * stride + j]
            entries[target + r * out.shape[1] + j] += total


def _columns_adder(apart: bool) -> Any:
    one, two, three, four = (make_panel(rows, apart) for rows in range(1, 5))

    @inlined
    def add_columns(a, a0, ar, ak, rows, b, start, stride, columns, depth, out, out0, first):
        """A product's `columns` columns from `first` on; row k of b begins at start + k*stride."""
        out_stride, lanes = out.shape[1], VECTOR // out.itemsize
        vectors = columns // lanes
        r = 0
        while r < rows:
            start_a, to = a0 + r * ar, (out0 + r) * out_stride + first
            if r + 4 <= rows:
                four(a, start_a, ar, ak, b, start, stride, depth, out, to, out_stride, vectors)
                r += 4
            elif r + 3 == rows:
                three(a, start_a, ar, ak, b, start, stride, depth, out, to, out_stride, vectors)
                r += 3
            elif r + 2 == rows:
                two(a, start_a, ar, ak, b, start, stride, depth, out, to, out_stride, vectors)
                r += 2
            else:
                one(a, start_a, ar, ak, b, start, stride, depth, out, to, out_stride, vectors)
                r += 1
        done = vectors * lanes
        if done < columns:
            target = out0 * out_stride + first
            _add_tail(a, a0, ar, ak, rows, b, start, stride, depth, out, target, done, columns)

    return add_columns


_add_columns, _add_columns_apart = _columns_adder(False), _columns_adder(True)


@inlined
def add_product(a, a0, ar, ak, rows, b, b0, depth, out, out0):
    """out[out0 + r, :J] += sum over k < depth of a[r, k] b[b0 + k], for r < rows.

    b (K, J) is `packed`, out (.., at least J) is not; row r of a at step k is entry
    a0 + r*ar + k*ak.
    """
    # Flat, as a product in turns has it: one version of what follows serves both.
    a = a.reshape(a.size)
    add_strips(a, a0, ar, ak, rows, b, b0, depth, out, out0, 0, strip_count(b), 0)


@inlined
def strip_count(b):
    """Strips of a packed b (K, J)."""
    return -(-b.shape[1] * b.itemsize // STRIP)


@inlined
def columns_of(b, strips):
    """Columns before a strip of a packed b (K, J)."""
    return min(strips * (STRIP // b.itemsize), b.shape[1])


@inlined
def add_strips(a, a0, ar, ak, rows, b, b0, depth, out, out0, begin, end, backwards):
    """The columns of strips `begin` to `end` of `add_product`, from the last one on if `backwards`.

    Who goes back and forth finds what was read last still in the cache. In a small b the sums too
    go backwards then; in a large one the processor would foresee less of it.
    """
    width = STRIP // out.itemsize
    height, columns = b.shape
    last = depth - 1 if backwards and b.size * b.itemsize <= SMALL else 0
    direction = -1 if last > 0 else 1
    a0, ak = a0 + last * ak, direction * ak
    for i in range(end - begin):
        first = (end - 1 - i if backwards else begin + i) * width
        count = min(width, columns - first)
        start, bk = first * height + (b0 + last) * count, direction * count
        _add_columns(a, a0, ar, ak, rows, b, start, bk, count, depth, out, out0, first)


@inlined
def add_rows(a, a0, ar, ak, rows, b, b0, depth, out, out0):
    """`add_product` for a `b` that is not packed, summed from zero before it is added."""
    a, width = a.reshape(a.size), b.shape[1]
    _add_columns_apart(a, a0, ar, ak, rows, b, b0 * width, width, width, depth, out, out0, 0)


@inlined
def copy(source, target):
    """target = source, vectors of one length (a slice assignment compiles five times longer)."""
    for j in range(target.shape[0]):
        target[j] = source[j]


@inlined
def fill(target, value):
    """Every entry of a vector = value."""
    for j in range(target.shape[0]):
        target[j] = value


@inlined
def project_columns(x, rows, weight, bias, out, begin, end):
    """The columns of strips `begin` to `end` of `project`."""
    first, last = columns_of(weight, begin), columns_of(weight, end)
    for r in range(rows):
        copy(bias[first:last], out[r, first:last])
    depth = weight.shape[0]
    add_strips(x.reshape(x.size), 0, depth, 1, rows, weight, 0, depth, out, 0, begin, end, 0)


@inlined
def project(x, rows, weight, bias, out):
    """out = x weight + bias for the first `rows` rows of x (R, K), weight (K, J), out (R, J)."""
    project_columns(x, rows, weight, bias, out, 0, strip_count(weight))


def rows_of_steps(steps: NDArray) -> NDArray:
    """(M, n, B, ...) -> (M, n * B, ...), contiguous."""
    steps = np.ascontiguousarray(steps)
    return steps.reshape(len(steps), -1, *steps.shape[3:])


class Strip(NamedTuple):
    """`width` columns of dz from `column` on: the gradients that belong to the rows of a weight
    matrix from `row` on."""

    column: int
    row: int
    width: int


PROJECTED = 64  # rows that one task projects


@compiled
def _project_back(dz, strip, weight, out, scratch, begin, end):
    rows, width = dz.shape[1:]
    tasks = -(-rows // PROJECTED)
    for task in range(begin, end):
        m, first = task // tasks, task % tasks * PROJECTED
        count, start = min(PROJECTED, rows - first), first * width + strip.column
        add_product(dz[m], start, width, 1, count, weight[m], strip.row, strip.width, out[m], first)


def project_back(dz: NDArray, strip: Strip, weight: NDArray, out: NDArray) -> None:
    """out (M, n, K) += dz (M, n, J) weight (M, J', K) over a strip, the adjoint of `project`."""
    networks, rows = dz.shape[:2]
    tasks = networks * -(-rows // PROJECTED)
    each = PROJECTED * strip.width * weight.shape[2]
    share(_project_back, tasks, tuple, dz, strip, weight, out, operations=each)


def project_strips(dz: NDArray, strips: Sequence[Strip], weight: NDArray, out: NDArray) -> None:
    """out (M, n, K) = dz (M, n, J) weight (M, J', K) over the strips together."""
    out.fill(0)
    for strip in strips:
        project_back(dz, strip, weight, out)


PANEL = 16  # gradient rows that one task keeps
STEPS = 128  # time steps taken at once, so that they stay in the L1 cache
PIECE = 64  # of them summed by themselves, so that float32 loses few digits
BLOCK = 1024  # steps whose sum then goes to float64


@inlined_apart
def _scale(dz, factor, column, start, scaled, bias):
    """scaled[i, r] = factor[start + i] dz[start + i, column + r], and its sum over i to bias."""
    for i in range(scaled.shape[0]):
        row, scale = dz[start + i, column : column + bias.shape[0]], factor[start + i]
        for r in range(bias.shape[0]):
            scaled[i, r] = row[r] * scale
            bias[r] += scaled[i, r]


@inlined_apart
def _move(part, total):
    """total (float64) += part, vectors of one length; the part is cleared."""
    for j in range(part.shape[0]):
        total[j] += part[j]
        part[j] = 0


@compiled
def _accumulate(dz, strip, factor, y, first, part, out, bias, scratch, begin, end):
    scaled, total = scratch
    fill(total, 0)
    rows = dz.shape[1]
    panels = -(-strip.width // PANEL)
    for m in range(begin // panels, -(-end // panels)):
        low, high = max(begin - m * panels, 0), min(end - m * panels, panels)
        # All panels of some steps before the next steps, which then come from memory once.
        for start in range(0, rows, STEPS):
            stop = min(start + STEPS, rows)
            for panel in range(low * PANEL, high * PANEL, PANEL):
                count, target = min(PANEL, strip.width - panel), strip.row + panel
                for n in range(start, stop, PIECE):
                    steps = min(PIECE, stop - n)
                    _scale(dz[m], factor[m], strip.column + panel, n, scaled[:steps], total[:count])
                    _move(total[:count], bias[m, target : target + count])
                    add_rows(scaled, 0, 1, PANEL, count, y[m], first + n, steps, part[m], target)
            if part.itemsize < out.itemsize and (stop % BLOCK == 0 or stop == rows):
                last = strip.row + min(high * PANEL, strip.width)
                for row in range(strip.row + low * PANEL, last):
                    _move(part[m, row], out[m, row])


def accumulate(
    dz: NDArray,
    strip: Strip,
    factor: NDArray,
    y: NDArray,
    first: int,
    out: NDArray,
    bias: NDArray,
) -> None:
    """out (M, J, K) += sum over n of factor (M, n) dz (M, n, ..) y (M, .., K), over a strip of dz
    and the rows of y from `first` on, in the order of n; bias (M, J) likewise, without y.

    out and bias are float64; sums of float32 go there in blocks.
    """
    columns, rows = y.shape[2], dz.shape[1]
    if spare := -columns % (VECTOR // y.itemsize):  # what fills no vector is added one by one
        whole = cleared((len(y), rows, columns + spare), y.dtype)
        whole[:, :, :columns] = y[:, first : first + rows]
        wide = cleared((*out.shape[:2], columns + spare), out.dtype)
        accumulate(dz, strip, factor, whole, 0, wide, bias)
        written = slice(strip.row, strip.row + strip.width)
        out[:, written] += wide[:, written, :columns]
        return
    part = out if out.dtype == dz.dtype else cleared(out.shape, dz.dtype)

    def scratch() -> tuple[NDArray, NDArray]:
        return aligned((PIECE, PANEL), dz.dtype), aligned((PANEL,), dz.dtype)

    tasks = len(dz) * -(-strip.width // PANEL)
    arrays, each = (dz, strip, factor, y, first, part, out, bias), dz.shape[1] * PANEL * y.shape[2]
    share(_accumulate, tasks, scratch, *arrays, operations=each)
