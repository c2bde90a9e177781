"""Elementwise functions in extended precision, and errors against them in ulp."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[Any]

LONG = np.longdouble
needs_long = pytest.mark.skipif(
    np.finfo(LONG).eps > 1e-18, reason="needs a long double that is longer than double"
)


def exact_exp(x: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):
        value: Array = np.exp(x)
    return value


def exact_sigmoid(x: Array) -> Array:
    e = exact_exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def exact_tanh_slope(x: Array) -> Array:
    e = exact_exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def exact_softplus(x: Array) -> Array:
    return np.where(x > 0, x, 0) + np.log1p(exact_exp(-np.abs(x)))


def whole_range(dtype: npt.DTypeLike, count: int) -> Array:
    """Finite numbers of every size and both signs, dense where the functions bend."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    smallest = float(np.log2(info.smallest_subnormal))
    sizes = np.exp2(rng.uniform(smallest, info.maxexp, count).astype(LONG)).astype(dtype)
    near = rng.uniform(-4, 4, 4 * count).astype(dtype)
    bent = rng.uniform(-1, 1, 4 * count) * -float(np.log(info.smallest_subnormal.astype(LONG)))
    return np.concatenate([sizes, -sizes, near, bent.astype(dtype)])


def ulps(have: Array, want: Array, size: Array | None = None) -> Array:
    """|have - want| in spacings of have's format at `size` (extended precision), at want unless
    given."""
    dtype = have.dtype
    with np.errstate(over="ignore", under="ignore"):
        rounded = want.astype(dtype)
        size = rounded if size is None else size.astype(dtype)
    both = (have == rounded) & ~np.isfinite(have)
    size = np.minimum(np.abs(size), dtype.type(0.75) * np.finfo(dtype).max)
    with np.errstate(invalid="ignore"):
        error = np.abs(have.astype(LONG) - want) / np.spacing(size).astype(LONG)
    return np.where(both, 0, error).astype(float)
