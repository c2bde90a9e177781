"""The linear map: by the lab's own product, W as it was drawn, both ways."""

from typing import NamedTuple

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.linalg import add_rows, fill
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.cpu.tile import prefetch
from seqlab.kernels.memory import LINE, aligned

BLOCK = 64  # units that one task of a product has, and rows of W that a step of the way back has
STEP = 4  # rows of W between which as many are asked for, AHEAD of them
AHEAD = 16
PANEL = 16  # rows of dL/dW that are kept at once, so that they stay in the L1 cache


class Map(NamedTuple):
    """Where a layer's numbers x have W (outputs, inputs), row by row, and b, and where among the
    layer's panels those of dL/dW begin. An `idle` b has no effect, because a batch norm follows:
    its gradient is zero, not what rounding leaves of that."""

    weight: int
    bias: int
    outputs: int
    inputs: int
    panel: int
    idle: bool = False


def panels_of(of: Map) -> int:
    """Panels of dL/dW."""
    return -(-of.outputs // PANEL)


@compiled
def _forward(x, s, of, source, at, target, to, scratch, begin, end):
    blocks = -(-of.outputs // BLOCK)
    for task in range(begin, end):
        m, first = task // blocks, task % blocks * BLOCK
        count, numbers = min(BLOCK, of.outputs - first), x[m, s, 0]
        b, out, row = source[m, at.s], target[m, to.s], to.first + first
        for r in range(0, count, STEP):
            rows, start = min(STEP, count - r), of.weight + (first + r) * of.inputs
            _prefetch(numbers, start + AHEAD * of.inputs, rows * of.inputs)
            for i in range(r, r + rows):
                fill(out[row + i], numbers[of.bias + first + i])
            add_rows(numbers, start, of.inputs, 1, rows, b, at.first, of.inputs, out, row + r)


@inlined
def _prefetch(numbers, first, count):
    """Ask for the rows that come next: a matrix that is used once comes from memory."""
    last = min(first + count, numbers.shape[0])
    for i in range(first, last, LINE // numbers.itemsize):
        prefetch(numbers, i)


@compiled
def _back(x, s, of, delta, at, into, to, keep, scratch, begin, end):
    blocks = -(-of.inputs // BLOCK)
    for m in range(begin // blocks, -(-end // blocks)):
        low = max(begin - m * blocks, 0) * BLOCK
        count, numbers = min((end - m * blocks) * BLOCK, of.inputs) - low, x[m, s, 0]
        if not keep:
            for i in range(at.places):
                for r in range(count):
                    fill(into[m, to.s + i, to.first + low + r], 0)
        # Some rows of W at a time, which all losses find in the cache.
        for k in range(0, of.outputs, BLOCK):
            depth, start = min(BLOCK, of.outputs - k), of.weight + k * of.inputs + low
            for i in range(at.places):
                b, out, row = delta[m, at.s + i], into[m, to.s + i], to.first + low
                add_rows(numbers, start, 1, of.inputs, count, b, at.first + k, depth, out, row)


def forward(x: NDArray, s: int, of: Map, source: View, target: View) -> None:
    """target = W source + b with the numbers x (M, S, 1, I) of layer s of a segment."""
    tasks = len(x) * -(-of.outputs // BLOCK)
    arrays = (x, s, of, source.array, source.place, target.array, target.place)
    share(_forward, tasks, tuple, *arrays, operations=BLOCK * source.size)


def back(x: NDArray, s: int, of: Map, delta: View, into: View, keep: bool) -> None:
    """into = W^T delta, added to what is there where `keep`."""
    tasks = len(x) * -(-of.inputs // BLOCK)
    arrays = (x, s, of, delta.array, delta.place, into.array, into.place, keep)
    share(_back, tasks, tuple, *arrays, operations=BLOCK * delta.size)


@inlined_apart
def _turn(h, first, turned):
    """turned (rows, units) = the first rows of h (units, C) from unit `first` on."""
    for j in range(turned.shape[1]):
        row = h[first + j]
        for p in range(turned.shape[0]):
            turned[p, j] = row[p]


@inlined_apart
def _sum(row):
    total = row.dtype.type(0)
    for p in range(row.shape[0]):
        total += row[p]
    return total


@inlined_apart
def _sum_of_squares(row):
    """In float64: of a gradient the squares leave the range of float32 long before it does."""
    total = 0.0
    for j in range(row.shape[0]):
        total += float(row[j]) * float(row[j])
    return total


class Group(NamedTuple):
    """The gradients of some layers, the last `layers` that were gone through, the
    latest at `step` among those of a call. Adjoints of one layer are `apart` places after those of
    the one before. With `entries` the gradients themselves are wanted, not only their norms."""

    layers: int
    step: int
    apart: int
    entries: bool


@compiled
def _gradient(of, source, at, delta, to, group, rows, squares, values, scratch, begin, end):
    turned, part = scratch[:rows], scratch[rows:]
    panels = -(-of.outputs // PANEL)
    for task in range(begin, end):
        index, panel = task // panels, task % panels
        m, layer = index // group.layers, index % group.layers
        back = group.layers - 1 - layer  # layers that have been gone through since
        first = panel * PANEL
        count = min(PANEL, of.outputs - first)
        if panel == 0 or task == begin:
            _turn(source[m, at.s + back], at.first, turned)
        for loss in range(to.places):
            g, whole = delta[m, layer * group.apart + loss], group.entries and loss == 0
            start, width = (to.first + first) * g.shape[1], g.shape[1]
            out, row, size = part, 0, of.outputs * of.inputs
            if whole:  # where they are wanted
                kept = values[m, group.step + back, 0, of.weight : of.weight + size]
                out, row = kept.reshape((of.outputs, of.inputs)), first
            of_bias, of_weight = 0.0, 0.0
            for r in range(count):
                fill(out[row + r], 0)
                total = _sum(g[to.first + first + r, :rows]) * g.dtype.type(not of.idle)
                of_bias += float(total) * float(total)
                if whole:
                    values[m, group.step + back, 0, of.bias + first + r] = total
            add_rows(g, start, width, 1, count, turned, 0, rows, out, row)
            for r in range(count):
                of_weight += _sum_of_squares(out[row + r])
            squares[m, layer, loss, of.panel + panel, 0] = of_weight
            squares[m, layer, loss, of.panel + panel, 1] = of_bias


def gradient(
    of: Map,
    source: View,
    delta: View,
    group: Group,
    rows: int,
    squares: NDArray,
    values: NDArray,
) -> None:
    """The gradients of W and b of a group of layers for each loss of delta, over the first `rows`
    columns; source and delta are those of the latest. To squares (M, layers, L, panels, 2) go the
    sums of their squares, panel by panel; with `entries` those of loss 0 to values (M, n, 1, E),
    where a layer's numbers lie.

    Several layers at once are worth several threads where one of them is not.
    """
    tasks = len(source.array) * group.layers * panels_of(of)
    each, dtype = PANEL * of.inputs * rows * delta.places, source.array.dtype

    def scratch() -> NDArray:
        return aligned((rows + PANEL, of.inputs), dtype)

    arrays = (of, source.array, source.place, delta.array, delta.place, group, rows)
    share(_gradient, tasks, scratch, *arrays, squares, values, operations=each)
