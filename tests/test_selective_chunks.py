"""What the bare selective scan does by whole vectors and whole chunks, where a chunk, a square or a
task ends early, and where decays leave the normal range. Tolerances as in test_selective.py.
"""

from typing import Any

import numpy as np
import pytest
from naive import Array
from test_selective import NAMES, PARITY, check_against_naive, draw, single_tolerance

import seqlab
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.diagonal import CHUNK
from seqlab.kernels.cpu.selective_scan_chunk import task_channels
from seqlab.kernels.cpu.tile import dot_rows, lanes, transpose

DTYPES = (np.float64, np.float32)


@compiled
def turned(a, a0, a_row, b, b0, b_row):
    """`transpose` as a kernel of its own."""
    transpose(a, a0, a_row, b, b0, b_row)


@compiled
def dotted(a, a0, b, b0, row, vectors, out, o0):
    """`dot_rows` as a kernel of its own."""
    dot_rows(a, a0, b, b0, row, vectors, out, o0)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_square_is_transposed(dtype: Any) -> None:
    """Within larger matrices, of which nothing else is touched."""
    side = lanes(np.dtype(dtype).itemsize)
    a = np.arange((side + 2) * (side + 3), dtype=dtype).reshape(side + 2, side + 3)
    b = np.full((side + 3, side + 1), -1, dtype)
    want = b.copy()
    want[2 : 2 + side, 1:] = a[1 : 1 + side, 3:].T
    turned(a, a.shape[1] + 3, a.shape[1], b, 2 * b.shape[1] + 1, b.shape[1])
    assert np.array_equal(b, want)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vectors", [1, 3])
def test_dot_products_of_rows(dtype: Any, vectors: int) -> None:
    """Small integers, whose sums are exact in any order."""
    side = lanes(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(0)
    shape = (side + 1, vectors * side + 2)
    a, b = (rng.integers(-9, 10, shape).astype(dtype) for _ in range(2))
    out = np.full(side + 3, 0.5, dtype)
    want = out.copy()
    want[2 : 2 + side] = (a[1:, 1:-1] * b[:-1, 2:]).sum(axis=1)
    dotted(a, shape[1] + 1, b, 2, shape[1], vectors, out, 2)
    assert np.array_equal(out, want)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", [-1, 0, 1, 9])
@pytest.mark.parametrize("steps", [CHUNK - 1, CHUNK, 2 * CHUNK + 5])
def test_sizes_around_a_task_and_a_chunk(dtype: Any, extra: int, steps: int) -> None:
    channels = task_channels(np.zeros(1, dtype)) + extra
    tolerance = PARITY if dtype == np.float64 else single_tolerance(steps, 3, channels)
    check_against_naive(*draw(2, channels, 3, steps, dtype=dtype), tolerance)


def steep(dtype: Any) -> tuple[Array, dict[str, Any]]:
    """A scan some of whose decays are too small for a normal number, in its second chunk alone."""
    grad_y, arguments = draw(1, 5, 3, 3 * CHUNK, ("D", "z"), dtype=dtype)
    arguments["delta"][0, 2, CHUNK + 3] = 800
    arguments["delta"][0, 4, CHUNK + 9] = 30
    arguments["A"][2] = -1
    arguments["A"][4] = -3
    return grad_y, arguments


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_decays_beyond_the_normal_range(dtype: Any) -> None:
    grad_y, arguments = steep(dtype)
    assert np.exp(arguments["delta"] * arguments["A"].min()).min() == 0
    tolerance = PARITY if dtype == np.float64 else single_tolerance(3 * CHUNK, 3, 5)
    check_against_naive(grad_y, arguments, tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_channel_does_not_know_of_its_neighbour_s_decays(dtype: Any) -> None:
    """The same bits, whichever exponential the others of its chunk ask for."""
    grad_y, arguments = steep(dtype)
    one = slice(0, 1)
    alone = {
        name: value[:, one] if name in ("u", "delta", "z") else value[one]
        for name, value in arguments.items()
        if name in ("u", "delta", "z", "A", "D")
    }
    rest = {name: arguments[name] for name in ("B", "C", "delta_softplus")}
    y = seqlab.selective_scan(**arguments)
    assert np.array_equal(seqlab.selective_scan(**alone, **rest), y[:, one])
    all_of_them = seqlab.selective_scan_backward(grad_y, **arguments)
    lonely = seqlab.selective_scan_backward(grad_y[:, one].copy(), **alone, **rest)
    for name in ("u", "delta", "z"):
        have, want = getattr(lonely, name), getattr(all_of_them, name)
        assert np.array_equal(have, want[:, one]), name
    for name in ("A", "D"):
        assert np.array_equal(getattr(lonely, name), getattr(all_of_them, name)[one]), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_that_come_do_not_change_those_before(dtype: Any) -> None:
    """The last chunk is filled up with whatever is in scratch: forward and back nothing sees it."""
    grad_y, arguments = draw(1, 40, 3, 2 * CHUNK + 3, dtype=dtype)
    first = [seqlab.selective_scan_backward(grad_y, **arguments) for _ in range(2)]
    overflown = {**arguments, "u": arguments["u"] * dtype(1e30)}
    seqlab.selective_scan_backward(grad_y * dtype(1e30), **overflown)
    again = seqlab.selective_scan_backward(grad_y, **arguments)
    for name in NAMES:
        for other in (first[1], again):
            assert np.array_equal(getattr(first[0], name), getattr(other, name)), name
