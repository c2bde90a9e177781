"""The two matrix products of every recurrent cell, on one array of weights.

Weights are kept transposed, (H, G*H), so that the long axis is innermost both ways: the forward
product adds scaled rows, the backward product takes dot products with the same rows. Both walk
the rows forwards or backwards (`flip`, the parity of the time step): a zig-zag leaves the last
rows in the L1 cache for the next step.
"""

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.threads import share

ROWS = 4  # rows of the left operand that share one pass over the weights
DEPTH = 8  # weight rows taken at once for a single row of the left operand
TILE = 4  # weight rows taken at once for ROWS rows


@compiled
def _add_eight(a, r, k, b, first, out, o):
    row = first + k
    a0, a1, a2, a3 = a[r, k], a[r, k + 1], a[r, k + 2], a[r, k + 3]
    a4, a5, a6, a7 = a[r, k + 4], a[r, k + 5], a[r, k + 6], a[r, k + 7]
    for j in range(out.shape[1]):
        out[o, j] += (
            (a0 * b[row, j] + a1 * b[row + 1, j])
            + (a2 * b[row + 2, j] + a3 * b[row + 3, j])
            + (a4 * b[row + 4, j] + a5 * b[row + 5, j])
            + (a6 * b[row + 6, j] + a7 * b[row + 7, j])
        )


@compiled
def _add_tile(a, r, k, b, first, out, o):
    row = first + k
    a00, a01, a02, a03 = a[r, k], a[r, k + 1], a[r, k + 2], a[r, k + 3]
    a10, a11, a12, a13 = a[r + 1, k], a[r + 1, k + 1], a[r + 1, k + 2], a[r + 1, k + 3]
    a20, a21, a22, a23 = a[r + 2, k], a[r + 2, k + 1], a[r + 2, k + 2], a[r + 2, k + 3]
    a30, a31, a32, a33 = a[r + 3, k], a[r + 3, k + 1], a[r + 3, k + 2], a[r + 3, k + 3]
    for j in range(out.shape[1]):
        b0, b1, b2, b3 = b[row, j], b[row + 1, j], b[row + 2, j], b[row + 3, j]
        out[o, j] += (a00 * b0 + a01 * b1) + (a02 * b2 + a03 * b3)
        out[o + 1, j] += (a10 * b0 + a11 * b1) + (a12 * b2 + a13 * b3)
        out[o + 2, j] += (a20 * b0 + a21 * b1) + (a22 * b2 + a23 * b3)
        out[o + 3, j] += (a30 * b0 + a31 * b1) + (a32 * b2 + a33 * b3)


@compiled
def _add_one(factor, b, k, out, o):
    for j in range(out.shape[1]):
        out[o, j] += factor * b[k, j]


@compiled
def add_product(a, a0, rows, b, b0, depth, out, out0, flip):
    """out[out0 + r] += sum over k < depth of a[a0 + r, k] b[b0 + k], for r < rows.

    Offsets, since Numba takes a slice of rows for a strided array and vectorises it badly.
    """
    tiled = rows - rows % ROWS
    blocks = depth // TILE
    for i in range(blocks):
        k = (blocks - 1 - i if flip else i) * TILE
        for r in range(0, tiled, ROWS):
            _add_tile(a, a0 + r, k, b, b0, out, out0 + r)
    for k in range(blocks * TILE, depth):
        for r in range(tiled):
            _add_one(a[a0 + r, k], b, b0 + k, out, out0 + r)
    blocks = depth // DEPTH
    for i in range(blocks):
        k = (blocks - 1 - i if flip else i) * DEPTH
        for r in range(tiled, rows):
            _add_eight(a, a0 + r, k, b, b0, out, out0 + r)
    for k in range(blocks * DEPTH, depth):
        for r in range(tiled, rows):
            _add_one(a[a0 + r, k], b, b0 + k, out, out0 + r)


@compiled
def _dot_eight(a, r, k, b, out, o):
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = a.dtype.type(0)
    for j in range(a.shape[1]):
        x = a[r, j]
        s0 += x * b[k, j]
        s1 += x * b[k + 1, j]
        s2 += x * b[k + 2, j]
        s3 += x * b[k + 3, j]
        s4 += x * b[k + 4, j]
        s5 += x * b[k + 5, j]
        s6 += x * b[k + 6, j]
        s7 += x * b[k + 7, j]
    out[o, k] += s0
    out[o, k + 1] += s1
    out[o, k + 2] += s2
    out[o, k + 3] += s3
    out[o, k + 4] += s4
    out[o, k + 5] += s5
    out[o, k + 6] += s6
    out[o, k + 7] += s7


@compiled
def _dot_tile(a, r, k, b, out, o):
    s00 = s01 = s02 = s03 = s10 = s11 = s12 = s13 = a.dtype.type(0)
    s20 = s21 = s22 = s23 = s30 = s31 = s32 = s33 = a.dtype.type(0)
    for j in range(a.shape[1]):
        b0, b1, b2, b3 = b[k, j], b[k + 1, j], b[k + 2, j], b[k + 3, j]
        x = a[r, j]
        s00 += x * b0
        s01 += x * b1
        s02 += x * b2
        s03 += x * b3
        x = a[r + 1, j]
        s10 += x * b0
        s11 += x * b1
        s12 += x * b2
        s13 += x * b3
        x = a[r + 2, j]
        s20 += x * b0
        s21 += x * b1
        s22 += x * b2
        s23 += x * b3
        x = a[r + 3, j]
        s30 += x * b0
        s31 += x * b1
        s32 += x * b2
        s33 += x * b3
    out[o, k] += s00
    out[o, k + 1] += s01
    out[o, k + 2] += s02
    out[o, k + 3] += s03
    out[o + 1, k] += s10
    out[o + 1, k + 1] += s11
    out[o + 1, k + 2] += s12
    out[o + 1, k + 3] += s13
    out[o + 2, k] += s20
    out[o + 2, k + 1] += s21
    out[o + 2, k + 2] += s22
    out[o + 2, k + 3] += s23
    out[o + 3, k] += s30
    out[o + 3, k + 1] += s31
    out[o + 3, k + 2] += s32
    out[o + 3, k + 3] += s33


@compiled
def _dot_one(a, r, b, k):
    total = a.dtype.type(0)
    for j in range(a.shape[1]):
        total += a[r, j] * b[k, j]
    return total


@compiled
def dot_product(a, a0, rows, b, out, out0, flip):
    """out[out0 + r, :K] += a[a0 + r] b^T for r < rows; a (.., J), b (K, J)."""
    depth = b.shape[0]
    tiled = rows - rows % ROWS
    blocks = depth // TILE
    for i in range(blocks):
        k = (blocks - 1 - i if flip else i) * TILE
        for r in range(0, tiled, ROWS):
            _dot_tile(a, a0 + r, k, b, out, out0 + r)
    for k in range(blocks * TILE, depth):
        for r in range(tiled):
            out[out0 + r, k] += _dot_one(a, a0 + r, b, k)
    blocks = depth // DEPTH
    for i in range(blocks):
        k = (blocks - 1 - i if flip else i) * DEPTH
        for r in range(tiled, rows):
            _dot_eight(a, a0 + r, k, b, out, out0 + r)
    for k in range(blocks * DEPTH, depth):
        for r in range(tiled, rows):
            out[out0 + r, k] += _dot_one(a, a0 + r, b, k)


@compiled
def copy(source, target):
    """target = source, vectors of one length (a slice assignment compiles five times longer)."""
    for j in range(target.shape[0]):
        target[j] = source[j]


@compiled
def fill(target, value):
    """Every entry of a vector = value."""
    for j in range(target.shape[0]):
        target[j] = value


@compiled
def project(x, rows, weight, bias, out):
    """out = x weight + bias for the first `rows` rows of x (R, K), weight (K, J), out (R, J)."""
    for r in range(rows):
        copy(bias, out[r])
    add_product(x, 0, rows, weight, 0, weight.shape[0], out, 0, False)


PROJECTED = 64  # rows that one task projects


@compiled
def _project_back(dz, weight, out, scratch, begin, end):
    rows = dz.shape[1]
    tasks = -(-rows // PROJECTED)
    for task in range(begin, end):
        m, first = task // tasks, task % tasks * PROJECTED
        here = min(PROJECTED, rows - first)
        for r in range(first, first + here):
            fill(out[m, r], 0)
        dot_product(dz[m], first, here, weight[m], out[m], first, False)


def project_back(dz: NDArray, weight: NDArray, out: NDArray) -> None:
    """out (M, n, K) = dz (M, n, J) weight (M, K, J)^T, the adjoint of `project`."""
    networks, rows = dz.shape[:2]
    share(_project_back, networks * -(-rows // PROJECTED), tuple, dz, weight, out)


PANEL = 16  # gradient rows that one task keeps
STEPS = 64  # time steps taken at once


@compiled
def _accumulate(dz, factor, y, out, turned, begin, end):
    rows, width = dz.shape[1:]
    panels = -(-width // PANEL)
    for task in range(begin, end):
        m, first = task // panels, task % panels * PANEL
        here = min(PANEL, width - first)
        for n in range(0, rows, STEPS):
            steps = min(STEPS, rows - n)
            for s in range(steps):
                for j in range(here):
                    turned[j, s] = factor[m, n + s] * dz[m, n + s, first + j]
            add_product(turned, 0, here, y[m], n, steps, out[m], first, False)


def accumulate(dz: NDArray, factor: NDArray, y: NDArray, out: NDArray) -> None:
    """out (M, J, K) += sum over n of factor (M, n) dz (M, n, J) y (M, n, K), in the order of n."""
    networks, _, width = dz.shape
    tasks = networks * -(-width // PANEL)
    share(_accumulate, tasks, lambda: np.empty((PANEL, STEPS), dz.dtype), dz, factor, y, out)
