"""The activations of deep stacks on the CPU, value and slope, against extended precision.

Errors are in ulp: the spacing of the format's numbers at the exact answer, or, where an answer is a
sum whose terms cancel, at the larger of them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import naive_depth
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

from seqlab.errors import InputError
from seqlab.kernels.cpu import math_normal
from seqlab.kernels.cpu.layers import activation
from seqlab.kernels.cpu.layers.activation import activation_kernel
from seqlab.kernels.cpu.math import decay
from seqlab.layers.activation import KINDS, Choice, choose
from seqlab.numbers.activations import NAMES, SELU_ALPHA, SELU_SCALE, find_activation

DTYPES = (np.float64, np.float32)
PI = 4 * np.arctan(LONG(1))


def exact_bell(x: Array, factor: float) -> Array:
    """exp(-factor x^2) by x^2 in two parts, the first of 48 bits and exact."""
    x = np.clip(x, -200, 200)  # zero beyond
    high = x.astype(np.float32).astype(LONG)
    return exact_exp(-factor * np.square(high)) * exact_exp(-factor * (x - high) * (x + high))


def exact_half(x: Array) -> Array:
    """Phi(x) - 1/2 for |x| <= 1.5: the density times the sum of x^(2n+1)/(2n+1)!!, whose terms have
    one sign (Abramowitz & Stegun 26.2.11)."""
    term = total = x
    for n in range(1, 40):
        term = term * x * x / (2 * n + 1)
        total = total + term
    return total * exact_bell(x, 0.5) / np.sqrt(2 * PI)


def exact_mills(y: Array) -> Array:
    """Phi(-y) over the density for y >= 1, by 1/(y + 1/(y + 2/(y + 3/...))) (A & S 26.2.14): at
    y = 1 so many terms leave exp(-2 sqrt(1000))."""
    fraction = y
    for n in range(500, 0, -1):
        fraction = y + n / fraction
    return 1 / fraction


def exact_normal(x: Array) -> tuple[Array, Array]:
    """Phi(x) and its density."""
    density = exact_bell(x, 0.5) / np.sqrt(2 * PI)
    tail = density * exact_mills(np.maximum(np.abs(x), 1))
    near = exact_half(np.clip(x, -1.5, 1.5)) + 0.5
    return np.where(np.abs(x) < 1.2, near, np.where(x < 0, tail, 1 - tail)), density


def exact_erf(x: Array) -> Array:
    """2 Phi(sqrt(2) x) - 1."""
    y = np.sqrt(LONG(2)) * x
    far = 1 - 2 * exact_normal(-np.abs(y))[0]
    near = 2 * exact_half(np.clip(y, -1.5, 1.5))
    return np.where(np.abs(y) < 1.2, near, np.copysign(far, x))


class Truth(NamedTuple):
    """phi(z), phi'(z), and the larger term of the latter where it is a sum."""

    value: Array
    slope: Array
    term: Array | None = None


def exact_elu(z: Array, a: Array, scale: Array) -> Truth:
    below = np.minimum(z, 0)
    slope = np.where(z > 0, 1, a * exact_exp(below))
    return Truth(scale * np.where(z > 0, z, a * np.expm1(below)), scale * slope)


def exact_gelu(z: Array) -> Truth:
    share, density = exact_normal(z)
    return Truth(z * share, share + z * density, np.maximum(share, np.abs(z) * density))


def exact_silu(z: Array) -> Truth:
    share, rest = exact_sigmoid(z), exact_sigmoid(-z)
    second = z * share * rest
    return Truth(z * share, share + second, np.maximum(share, np.abs(second)))


class Given(NamedTuple):
    """What a kind of activation gives of (z, a, scale), its largest errors in ulp in both formats,
    and under how many smallest normal numbers an answer may have lost its digits: the factor on an
    exponential that is no normal number."""

    exact: Callable[..., Truth]
    value: float
    slope: float
    flushed: float


def exact_sigmoid_slope(z: Array) -> Array:
    return exact_sigmoid(z) * exact_sigmoid(-z)


# Beside each the largest errors seen over a million numbers, with and without fused multiply-adds.
GIVEN = {
    "identity": Given(lambda z, a, s: Truth(z, np.ones_like(z)), 0, 0, 0),
    "sigmoid": Given(
        lambda z, a, s: Truth(exact_sigmoid(z), exact_sigmoid_slope(z)), 3.0, 5.5, 1
    ),  # 2.81, 4.64
    "tanh": Given(
        lambda z, a, s: Truth(np.tanh(z), exact_tanh_slope(z)), 4.0, 6.5, 4
    ),  # 3.05, 5.67
    "erf": Given(
        lambda z, a, s: Truth(exact_erf(z), 2 / np.sqrt(PI) * exact_bell(z, 1)), 3.5, 3.0, 2
    ),  # 3.35, 2.51
    "relu": Given(lambda z, a, s: Truth(np.maximum(z, 0), np.where(z > 0, LONG(1), 0)), 0, 0, 0),
    "leaky": Given(
        lambda z, a, s: Truth(np.where(z > 0, z, a * z), np.where(z > 0, LONG(1), a)), 0.51, 0, 0
    ),  # 0.50
    "elu": Given(exact_elu, 2.75, 2.5, 2),  # 2.33, 2.19
    "gelu": Given(lambda z, a, s: exact_gelu(z), 7.5, 7.0, 40),  # 6.67, 6.58
    "silu": Given(lambda z, a, s: exact_silu(z), 4.0, 5.0, 710),  # 3.42, 4.06
    "softplus": Given(
        lambda z, a, s: Truth(exact_softplus(z), exact_sigmoid(z)), 4.0, 2.75, 0
    ),  # 3.38, 2.24
}
# The number and the scale that those take which have one.
OF_KIND = {"leaky": (-0.3, 1.0), "elu": (SELU_ALPHA, SELU_SCALE)}
CASES = [(kind, dtype) for kind in KINDS for dtype in DTYPES]


def phi(kind: str, z: Array, a: float = 0.0, scale: float = 1.0) -> tuple[Array, Array]:
    """Value and slope of each number, by the kernel."""
    given = z.reshape(1, 1, 1, -1).copy()
    slope, value = np.full_like(given, 7), np.full_like(given, 7)
    with np.errstate(all="ignore"):  # without the JIT NumPy's scalars warn
        kernel = activation_kernel(KINDS.index(kind))
        kernel(given, slope, value, 0, 0, 0, z.size, a, scale, None, 0, 1)
    return value.ravel(), slope.ravel()


def worst(kind: str, z: Array) -> tuple[float, float]:
    """The largest error of the values and that of the slopes."""
    a, scale = OF_KIND.get(kind, (0.0, 1.0))
    long = z.astype(LONG), LONG(z.dtype.type(a)), LONG(z.dtype.type(scale))
    truth = GIVEN[kind].exact(*long)
    lost = GIVEN[kind].flushed * np.finfo(z.dtype).smallest_normal
    errors = []
    for have, want, size in zip(
        phi(kind, z, a, scale),
        truth[:2],
        (truth.value, truth.slope if truth.term is None else truth.term),
        strict=True,
    ):
        gone = (np.abs(want) < lost) & (np.abs(have) < lost)
        errors.append(float(np.where(gone, 0, ulps(have, want, size)).max()))
    return errors[0], errors[1]


def check(kind: str, z: Array) -> None:
    value, slope = worst(kind, z)
    assert value <= GIVEN[kind].value
    assert slope <= GIVEN[kind].slope


@needs_long
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_error_over_the_whole_range(kind: str, dtype: type) -> None:
    """Value and slope of no number of any size are off by more than the kind's bounds."""
    check(kind, whole_range(dtype, 10_000))


@needs_long
@pytest.mark.tiny
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_error_without_the_jit(kind: str, dtype: type) -> None:
    """The same bounds on few numbers: what plain Python computes is what is compiled."""
    check(kind, whole_range(dtype, 50))


@needs_long
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_error_at_the_edges(kind: str, dtype: type) -> None:
    """Each neighbour of a kink, of where erf changes its series, and of where exponentials of z and
    of z^2 are no normal numbers any more."""
    largest = -np.log(np.finfo(dtype).smallest_normal.astype(LONG))
    edges = np.array([0, 0.5, largest, np.sqrt(largest), np.sqrt(2 * largest)], LONG)
    edges = np.concatenate([edges, -edges]).astype(dtype)
    steps = np.arange(-50, 51)[:, None] * np.spacing(np.abs(edges))
    check(kind, (edges + steps).astype(dtype).ravel())


@needs_long
@pytest.mark.tiny
def test_gelu_keeps_its_digits_in_the_tail() -> None:
    """phi(-20) = -20 Phi(-20), about -5.5e-88: with Phi(-20) as 1 - Phi(20) it would be zero. A
    gradient that has decayed is compared on its log, so that relative errors count."""
    z = np.array([-5.0, -20.0, -30.0, -37.0])
    value, slope = phi("gelu", z)
    truth = exact_gelu(z.astype(LONG))
    for have, want in ((value, truth.value), (slope, truth.slope)):
        assert np.abs(have / want - 1).max() < 8 * np.finfo(float).eps
    assert np.isclose(value[1], -5.507248237212e-88, rtol=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_limits_kinks_and_nan(dtype: type) -> None:
    """At -inf, inf, 0, -0 and NaN, value and slope. The slope at 0 is that of the left side."""
    inf, nan = np.inf, np.nan
    alpha, scale = map(dtype, (SELU_ALPHA, SELU_SCALE))
    erf_slope, ln2 = 2 / math.sqrt(math.pi), math.log(2)
    for kind, values, slopes in (
        ("identity", [-inf, inf, 0, 0, nan], [1, 1, 1, 1, 1]),
        ("sigmoid", [0, 1, 0.5, 0.5, nan], [0, 0, 0.25, 0.25, nan]),
        ("tanh", [-1, 1, 0, 0, nan], [0, 0, 1, 1, nan]),
        ("erf", [-1, 1, 0, 0, nan], [0, 0, erf_slope, erf_slope, nan]),
        ("relu", [0, inf, 0, 0, nan], [0, 1, 0, 0, nan]),
        ("leaky", [inf, inf, 0, 0, nan], [dtype(-0.3), 1, dtype(-0.3), dtype(-0.3), nan]),
        (
            "elu",
            [-scale * alpha, inf, 0, 0, nan],
            [0, scale, scale * alpha, scale * alpha, nan],
        ),
        ("gelu", [0, inf, 0, 0, nan], [0, 1, 0.5, 0.5, nan]),
        ("silu", [0, inf, 0, 0, nan], [0, 1, 0.5, 0.5, nan]),
        ("softplus", [0, inf, ln2, ln2, nan], [0, 1, 0.5, 0.5, nan]),
    ):
        z = np.array([-inf, inf, 0, -0.0, nan], dtype)
        have = phi(kind, z, *OF_KIND.get(kind, (0.0, 1.0)))
        # 0, 1, infinities and powers of two to the bit; Phi(0) has a rounding error.
        close = {"rtol": 4 * np.finfo(dtype).eps, "atol": 0, "equal_nan": True}
        assert np.allclose(have[0], np.array(values, dtype), **close), kind
        assert np.allclose(have[1], np.array(slopes, dtype), **close), kind


NAMED = (*NAMES, "leaky:-0.5", "leaky:0", "prelu:0.1", "elu:0.7", "elu:-1.5", "elu:0")


@pytest.mark.tiny
@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_the_same_function_everywhere(name: str) -> None:
    """As NumPy has it by the same name, and as the slow truth has it where it does: both within a
    few roundings of 1, which they may subtract, and of z."""
    z = np.linspace(-6, 6, 241)
    kind, a, scale = choose(name)
    have = phi(KINDS[kind], z, a, scale)
    found = find_activation(name)
    known = [(found.value, found.slope)]
    if name in naive_depth.ACTIVATIONS:
        known.append(naive_depth.ACTIVATIONS[name])
    for functions in known:
        for ours, theirs in zip(have, functions, strict=True):
            assert np.all(np.abs(ours - theirs(z)) <= 8 * np.finfo(float).eps * (1 + np.abs(z)))


@pytest.mark.tiny
def test_names_become_kinds() -> None:
    """prelu is leaky with its own number, selu elu with a scale; with nothing below zero, leaky is
    relu, which has no 0 * inf."""
    leaky, elu = KINDS.index("leaky"), KINDS.index("elu")
    assert choose("leaky") == Choice(leaky, 0.01, 1.0)
    assert choose("prelu") == Choice(leaky, 0.25, 1.0)
    assert choose("leaky:-0.5") == choose("prelu:-0.5") == Choice(leaky, -0.5, 1.0)
    assert choose("leaky:0") == choose("relu") == Choice(KINDS.index("relu"), 0.0, 1.0)
    assert choose("elu:0.7") == Choice(elu, 0.7, 1.0)
    assert choose("selu") == Choice(elu, SELU_ALPHA, SELU_SCALE)
    assert {KINDS[choose(name).kind] for name in NAMES} == set(KINDS)


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["swish", "relu:1", "leaky:", "elu:x", "prelu:nan", "leaky:inf"])
def test_other_names_are_refused_in_the_same_words(name: str) -> None:
    with pytest.raises(InputError) as ours:
        choose(name)
    with pytest.raises(InputError) as theirs:
        find_activation(name)
    assert str(ours.value) == str(theirs.value)
    assert str(ours.value).startswith(f"activation: {name!r} is not allowed; ")


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", DTYPES)
def test_only_what_was_asked_for_is_written(dtype: type) -> None:
    """Networks `begin` to `end`, one step of each array, and zeros for padding whatever it was."""
    networks, steps, later, rows, width, columns = 4, 3, 2, 5, 16, 11
    z = np.random.default_rng(0).normal(size=(networks, steps, rows, width)).astype(dtype)
    z[..., columns:] = np.nan
    slope, out = np.full_like(z, 7), np.full((networks, later, rows, width), 7, dtype)
    activation_kernel(KINDS.index("tanh"))(z, slope, out, 2, 1, 0, columns, 0.0, 1.0, None, 1, 3)
    value, own = phi("tanh", z[1:3, 2, :, :columns].ravel())
    shape = (2, rows, columns)
    assert np.array_equal(out[1:3, 1, :, :columns], value.reshape(shape))
    assert np.array_equal(slope[1:3, 2, :, :columns], own.reshape(shape))
    assert not out[1:3, 1, :, columns:].any()
    assert not slope[1:3, 2, :, columns:].any()
    out[1:3, 1], slope[1:3, 2] = 7, 7
    assert np.all(out == 7)
    assert np.all(slope == 7)


@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_slopes_may_take_the_place_of_z(kind: str, dtype: type) -> None:
    """To the bit, at every place of a vector loop and of what is left after it."""
    rng = np.random.default_rng(0)
    for rows, width in ((1, 1), (1, 7), (3, 37), (64, 32), (7, 300)):
        z = (3 * rng.normal(size=(1, 1, rows, width))).astype(dtype)
        slope, out, in_place = np.empty_like(z), np.empty_like(z), np.empty_like(z)
        kernel, both = activation_kernel(KINDS.index(kind)), z.copy()
        kernel(z, slope, out, 0, 0, 0, width, -0.3, 1.5, None, 0, 1)
        kernel(both, both, in_place, 0, 0, 0, width, -0.3, 1.5, None, 0, 1)
        assert np.array_equal(both, slope)
        assert np.array_equal(in_place, out)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_float32_stays_float32() -> None:
    """A literal or a float64 constant anywhere would widen the result."""
    for function in (math_normal.erf, math_normal.normal, decay):

        @numba.njit
        def of_one(x, function=function):
            return function(x)

        of_one(np.float32(0.5))
        assert of_one.nopython_signatures[0].return_type == numba.types.UniTuple(numba.float32, 2)
        assert all(number.dtype == np.float32 for number in function(np.float32(0.5)))
    for phi_of_kind in activation._ALGEBRAS:

        @numba.njit
        def of_three(z, a, scale, phi=phi_of_kind):
            return phi(z, a, scale)

        of_three(*map(np.float32, (0.5, 0.25, 1.0)))
        found = of_three.nopython_signatures[0].return_type
        assert found == numba.types.UniTuple(numba.float32, 2)
