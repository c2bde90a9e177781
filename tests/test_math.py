"""The kernels' elementwise functions against extended precision, over the whole range.

Errors are in ulp: the spacing of the format's numbers at the exact answer, subnormals included. exp
and exp2 are good to 1 ulp, all others to a few (`GIVEN`).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import pytest
from exact import (
    LONG,
    Array,
    exact_exp,
    exact_sigmoid,
    exact_softplus,
    exact_tanh_slope,
    needs_long,
    ulps,
    whole_range,
)

from seqlab.kernels._jit import KERNEL_MATH
from seqlab.kernels.cpu import math as kernel_math
from seqlab.kernels.processor import PROCESSOR

DTYPES = (np.float64, np.float32)
pytestmark = needs_long


class Given(NamedTuple):
    """What a function gives, or an `entry` of the two things that it gives: the truth, the largest
    error allowed in ulp in both formats, and under how many smallest normal numbers zero is right
    too."""

    function: str
    entry: int | None
    exact: Callable[[Array], Array]
    bound: float
    flushed: float


# ulp more without fused multiply-adds: the last product of a polynomial, under one half of the sum
# that it goes into, is rounded by itself.
UNFUSED = 0.25 if PROCESSOR.kind == "sse" else 0.0

# Beside each bound what was seen over ten million numbers.
GIVEN = {
    "exp": Given("exp", None, exact_exp, 1.0, 0),  # 0.86
    "tanh": Given("tanh", 0, np.tanh, 4.0, 0),  # 3.41
    "tanh's slope": Given("tanh", 1, exact_tanh_slope, 6.5, 4),  # 5.81
    "sigmoid": Given("sigmoid", None, exact_sigmoid, 2.75, 0),  # 2.40
    "sigmoid(x)": Given("sigmoid_pair", 0, exact_sigmoid, 3.0, 1),  # 2.75
    "sigmoid(-x)": Given("sigmoid_pair", 1, lambda x: exact_sigmoid(-x), 3.0, 1),  # 2.75
    "softplus": Given("softplus", None, exact_softplus, 4.0, 0),  # 3.66
}
CASES = [(name, dtype) for name in GIVEN for dtype in DTYPES]


def looped(name: str, entry: int | None = None) -> Callable[[Array], Array]:
    """The function over an array, compiled with the flags that a kernel has."""
    function = getattr(kernel_math, name)

    @numba.njit(error_model="numpy", fastmath=KERNEL_MATH)
    def loop(x, out):
        for i in range(x.size):
            out[i] = function(x[i]) if entry is None else function(x[i])[entry]

    def over(x: Array) -> Array:
        out = np.full_like(x, 7)
        with np.errstate(all="ignore"):  # without the JIT NumPy's scalars warn
            loop(x, out)
        return out

    return over


LOOPS = {name: looped(given.function, given.entry) for name, given in GIVEN.items()}


def worst(name: str, x: Array) -> float:
    have, want = LOOPS[name](x), GIVEN[name].exact(x.astype(LONG))
    flushed = GIVEN[name].flushed * np.finfo(x.dtype).smallest_normal
    want = np.where((have == 0) & (want < flushed), 0, want)
    return float(ulps(have, want).max())


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_error_over_the_whole_range(name: str, dtype: type) -> None:
    """No number of any size is off by more than the function's bound."""
    assert worst(name, whole_range(dtype, 40_000)) <= GIVEN[name].bound + UNFUSED


@pytest.mark.tiny
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_error_without_the_jit(name: str, dtype: type) -> None:
    """The same bound on few numbers: what plain Python computes is what is compiled."""
    assert worst(name, whole_range(dtype, 100)) <= GIVEN[name].bound + UNFUSED


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_error_at_the_edges(name: str, dtype: type) -> None:
    """Where results become subnormal, zero, one or infinite, each neighbour is right."""
    info = np.finfo(dtype)
    logs = np.log(np.array([info.max, info.smallest_normal, info.smallest_subnormal], LONG))
    logs = np.concatenate([logs, [logs[2] - np.log(LONG(2)), -logs[2], 0]])
    ranges = np.array([20.0, 10.0, np.log(2) / 2, 0.5 * np.log(np.sqrt(2) - 1)], LONG)
    edges = np.concatenate([logs, ranges, -ranges]).astype(dtype)
    steps = np.arange(-50, 51)[:, None] * np.spacing(np.abs(edges))
    assert worst(name, (edges + steps).astype(dtype).ravel()) <= GIVEN[name].bound + UNFUSED


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_nan_and_zeros(dtype: type) -> None:
    """Limits at infinity, NaN kept, the sign of a zero kept by tanh."""
    x = np.array([np.inf, -np.inf, 0.0, -0.0, np.nan], dtype)
    half, ln2 = dtype(0.5), dtype(math.log(2))
    for name, want in (
        ("exp", [np.inf, 0, 1, 1, np.nan]),
        ("tanh", [1, -1, 0.0, -0.0, np.nan]),
        ("tanh's slope", [0, 0, 1, 1, np.nan]),
        ("sigmoid", [1, 0, half, half, np.nan]),
        ("sigmoid(x)", [1, 0, half, half, np.nan]),
        ("sigmoid(-x)", [0, 1, half, half, np.nan]),
        ("softplus", [np.inf, 0, ln2, ln2, np.nan]),
    ):
        have = LOOPS[name](x)
        assert np.array_equal(have, np.array(want, dtype), equal_nan=True), name
        assert not np.signbit(have[0])
    assert np.array_equal(np.signbit(LOOPS["tanh"](x[:4])), [False, True, False, True])


@pytest.mark.parametrize("dtype", DTYPES)
def test_subnormals_go_through(dtype: type) -> None:
    """tanh gives a subnormal argument back to the bit; the others take it for zero."""
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, 3 * tiny, 12345 * tiny, -tiny, -7 * tiny], dtype)
    assert np.array_equal(LOOPS["tanh"](x), x)
    assert np.array_equal(LOOPS["exp"](x), np.ones_like(x))
    assert np.array_equal(LOOPS["tanh's slope"](x), np.ones_like(x))
    assert np.array_equal(LOOPS["sigmoid"](x), np.full_like(x, 0.5))


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("name", sorted({given.function for given in GIVEN.values()}))
def test_float32_stays_float32(name: str) -> None:
    """A literal or a float64 constant anywhere would widen the result."""
    function = getattr(kernel_math, name)

    @numba.njit
    def once(x):
        return function(x)

    once(np.float32(0.5))
    returned = once.nopython_signatures[0].return_type
    assert returned in (numba.float32, numba.types.UniTuple(numba.float32, 2))
    assert all(number.dtype == np.float32 for number in np.atleast_1d(function(np.float32(0.5))))


EXP2, EXP2_NORMAL = looped("exp2"), looped("exp2_normal")
EXP2_BOUND = 1.0  # ulp; seen over ten million numbers: 0.83 (float64), 0.97 (float32)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp2_where_the_result_is_normal(dtype: type) -> None:
    """Densest around 0, where the scan's decays are; halves included, where rounding turns."""
    info = np.finfo(dtype)
    rng = np.random.default_rng(0)
    wide = rng.uniform(info.minexp + 0.5, info.maxexp - 1.5, 100_000)
    halves = np.arange(info.minexp + 1, info.maxexp - 2) + 0.5
    x = np.concatenate([wide, rng.uniform(-2, 2, 100_000), halves]).astype(dtype)
    if numba.config.DISABLE_JIT:
        x = x[::1000]
    assert ulps(EXP2(x), np.exp2(x.astype(LONG))).max() <= EXP2_BOUND + UNFUSED


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp2_of_a_number_known_to_be_in_range(dtype: type) -> None:
    """The bits of exp2, up to the limit, halves and NaN included."""
    limit = int(kernel_math.normal_exponent(np.zeros(1, dtype)))
    assert limit > 120
    rng = np.random.default_rng(0)
    edges = np.array([limit, -limit, np.nan, 0, -0.0, 0.5, 1.5, -0.5, -1.5])
    halves = np.arange(-limit, limit) + 0.5
    x = np.concatenate([edges, rng.uniform(-limit, limit, 100_000), halves]).astype(dtype)
    if numba.config.DISABLE_JIT:
        x = x[:300]
    assert np.array_equal(EXP2_NORMAL(x), EXP2(x), equal_nan=True)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_exp2_at_its_limits(dtype: type) -> None:
    """Zero or infinity where 2^round(x) is no normal number; NaN kept; subnormals are zeros."""
    info = np.finfo(dtype)
    below, above = info.minexp - 0.75, info.maxexp - 0.25
    tiny = info.smallest_subnormal
    x = np.array([-np.inf, below, 2 * below, above, 2 * above, np.inf, np.nan, 0, tiny], dtype)
    want = np.array([0, 0, 0, np.inf, np.inf, np.inf, np.nan, 1, 1], dtype)
    assert np.array_equal(EXP2(x), want, equal_nan=True)
