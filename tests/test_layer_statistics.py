"""What is seen of a layer's activations and counted of its slopes, whatever is in the padding."""

import math
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array
from stacked import DTYPES, columns_first

from seqlab.kernels.cpu.layers.places import View, padded
from seqlab.kernels.cpu.layers.statistics import slope_statistics, state_statistics


def view(h: Array, dtype: Any = np.float64, pad: float = math.nan) -> View:
    """Rows of h (rows, units) as units 2 and on of a state at step 1."""
    columns = padded(len(h), np.dtype(dtype).itemsize)
    array = np.full((1, 2, h.shape[1] + 2, columns), math.nan, dtype)
    array[0, 1, 2:] = columns_first(h, columns, pad)
    return View(array, 1, 2, h.shape[1])


@DTYPES
@pytest.mark.parametrize(("rows", "units"), [(1, 1), (2, 1), (3, 7), (33, 33)])
def test_what_is_seen_of_a_state(rows: int, units: int, dtype: Any) -> None:
    h = np.random.default_rng(0).normal(size=(rows, units)).astype(dtype)
    ((square, cosine),) = state_statistics(view(h, dtype), rows)
    h = h.astype(float)
    assert square == pytest.approx(math.log(np.mean(h**2)), abs=1e-13)
    if rows == 1:
        assert math.isnan(cosine)
    else:
        assert cosine == pytest.approx(naive.cosine(h), abs=1e-13)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-170, 1e170, 1e307])
def test_squares_of_activations_leave_no_range(scale: float) -> None:
    """A subnormal has few digits, and the inverse of its norm none."""
    h = np.array([[1.0, 2.0, -2.0], [3.0, 0.0, 1.0]]) * scale
    ((square, cosine),) = state_statistics(view(h), 2)
    subnormal = scale < np.finfo(float).tiny
    near = 1e-3 if subnormal else 1e-12
    assert square == pytest.approx(math.log(19 / 6) + 2 * math.log(scale), abs=near)
    want = math.nan if subnormal else 1 / (3 * math.sqrt(10))
    assert cosine == pytest.approx(want, abs=near, nan_ok=True)


@pytest.mark.tiny
def test_a_state_of_zeros_and_one_beyond_the_range() -> None:
    ((square, cosine),) = state_statistics(view(np.zeros((2, 3))), 2)
    assert square == -math.inf
    assert math.isnan(cosine)  # of nothing with nothing
    half = np.array([[0.0, 0.0], [1.0, 1.0]])
    ((square, cosine),) = state_statistics(view(half), 2)
    assert square == pytest.approx(math.log(0.5))
    assert math.isnan(cosine)
    for value in (math.inf, math.nan):
        with np.errstate(all="ignore"):
            ((square, cosine),) = state_statistics(view(np.array([[1.0, value], [1.0, 1.0]])), 2)
        assert not math.isfinite(square)
        assert math.isnan(cosine)


@pytest.mark.tiny
@DTYPES
def test_what_is_counted_of_slopes(dtype: Any) -> None:
    """Two inputs, four units: zero for one, for both, small, negative and large."""
    slopes = np.array([[0.0, 0.0, 0.04, -0.3], [1.0, 0.0, 1.0, 1.0]])
    one = View(view(slopes, dtype).array[:, :, 2:], 1, 0, 4)
    have = slope_statistics(one, 2, 0.05)
    assert have.tolist() == [[3 / 8, 1 / 4, 2 / 4, 4 / 8]]
    slopes[0, 2] = math.nan
    one = View(view(slopes, dtype).array[:, :, 2:], 1, 0, 4)
    assert np.isnan(slope_statistics(one, 2, 0.05)).all()  # neither zero nor not
