"""The one matrix product of every kernel, at all the sizes around its tiles, and its two users."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from seqlab.kernels._jit import DISABLED, compiled
from seqlab.kernels.cpu.linalg import (
    Strip,
    accumulate,
    add_product,
    add_strips,
    fill,
    packed,
    project_back,
    strip_count,
)

Array = npt.NDArray[Any]


@compiled
def product(a, a0, ar, ak, rows, b, b0, depth, out, out0, parts, backwards):
    """`add_strips` as a kernel of its own, in `parts` pieces: Python cannot call what goes into
    kernels. With no parts, `add_product`."""
    if parts == 0:
        add_product(a, a0, ar, ak, rows, b, b0, depth, out, out0)
    strips = strip_count(b)
    for part in range(parts):
        begin, end = strips * part // parts, strips * (part + 1) // parts
        add_strips(a, a0, ar, ak, rows, b, b0, depth, out, out0, begin, end, backwards)


# Around one to four rows; phases of a sum; vectors of 2 to 16 lanes, tiles of up to 16 of them,
# and a strip of packed columns.
ROWS = (1, 2, 3, 4, 5, 7, 8, 11)
DEPTHS = (1, 2, 3, 7, 8, 9, 17)
WIDTHS = (1, 3, 4, 8, 15, 16, 17, 31, 40, 64, 100, 130, 257, 300)


def assert_product(rows: int, depth: int, width: int, dtype: type, turned: bool) -> None:
    """out += a b inside larger arrays, of which nothing else is touched; a also transposed.

    Forwards and backwards; in pieces with the same bits.
    """
    rng = np.random.default_rng([rows, depth, width])
    a = rng.normal(size=(depth + 1, rows + 2) if turned else (rows + 2, depth + 1)).astype(dtype)
    b = rng.normal(size=(depth + 3, width)).astype(dtype)
    before = rng.normal(size=(rows + 3, width)).astype(dtype)
    # Offsets of one row each: of a, of b, of out.
    if turned:
        a0, ar, ak, block = 1, 1, a.shape[1], a[:depth, 1 : rows + 1].T
    else:
        a0, ar, ak, block = a.shape[1], a.shape[1], 1, a[1 : rows + 1, :depth]
    want = before[1 : rows + 1] + block.astype(float) @ b[2 : depth + 2].astype(float)
    sizes = np.abs(block) @ np.abs(b[2 : depth + 2]) + np.abs(before[1 : rows + 1])
    strips = packed(b[None])[0]

    def outcome(parts: int, backwards: bool) -> Array:
        out = before.copy()
        product(a, a0, ar, ak, rows, strips, 2, depth, out, 1, parts, backwards)
        return out

    for backwards in (False, True):
        out = outcome(1, backwards)
        error = np.abs(out[1 : rows + 1] - want) / sizes
        assert error.max() <= (depth + 2) * np.finfo(dtype).eps
        assert np.array_equal(out[0], before[0])
        assert np.array_equal(out[rows + 1 :], before[rows + 1 :])
        assert all(np.array_equal(outcome(parts, backwards), out) for parts in (2, 3))
    assert np.array_equal(outcome(0, False), outcome(1, False))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_product_at_every_size(dtype: type) -> None:
    for rows, depth, width in itertools.product(ROWS, DEPTHS, WIDTHS):
        for turned in (False, True):
            assert_product(rows, depth, width, dtype, turned)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_product_at_a_few_sizes(dtype: type) -> None:
    for rows, depth, width in ((1, 1, 1), (3, 5, 17), (7, 2, 40)):
        assert_product(rows, depth, width, dtype, turned=False)
        assert_product(rows, depth, width, dtype, turned=True)


@pytest.mark.tiny
def test_tasks_and_pieces_of_larger_products() -> None:
    """Rows are cut into tasks of 64, sums over time into pieces of 128, for each network."""
    rng = np.random.default_rng(0)
    dz, weight, y = (rng.normal(size=size) for size in ((3, 150, 37), (3, 40, 140), (3, 155, 4)))
    strip, part = Strip(3, 7, 33), dz[:, :, 3:36]
    out = np.zeros((3, 150, 140))
    project_back(dz, strip, packed(weight), out)
    assert out == pytest.approx(part @ weight[:, 7:], abs=1e-13)
    factor, total, bias = (rng.normal(size=size) for size in ((3, 160), (3, 40, 4), (3, 40)))
    scaled, before = (part * factor[:, :150, None]).swapaxes(1, 2), (total.copy(), bias.copy())
    accumulate(dz, strip, factor, y, 5, total, bias)
    assert total[:, 7:] == pytest.approx(before[0][:, 7:] + scaled @ y[:, 5:], abs=1e-12)
    assert bias[:, 7:] == pytest.approx(before[1][:, 7:] + scaled.sum(axis=2), abs=1e-12)
    assert np.array_equal(total[:, :7], before[0][:, :7])
    assert np.array_equal(bias[:, :7], before[1][:, :7])


@pytest.mark.skipif(DISABLED, reason="nothing is compiled")
def test_what_goes_into_kernels_cannot_be_called_from_python() -> None:
    """It has no machine code of its own to jump to."""
    with pytest.raises(TypeError, match=r"^fill goes into kernels; Python cannot call it$"):
        fill(np.zeros(3), 1.0)
