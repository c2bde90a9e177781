"""exp, tanh, sigmoid and softplus that vectorise, written once for float64 and float32.

Numba's wheels come without a vector math library, so `math.exp` is a call for each element. These
are straight-line: range reduction x = k ln 2 + r (Cody & Waite 1980), a polynomial in r, and the
power of two put together from its bits. NaN goes through; infinities give their limits.

`overload` lets one name serve both dtypes: every constant is made in the argument's own dtype,
since a literal would promote float32 to float64.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray

from seqlab.kernels._jit import MATH_OPTIONS


@dataclass(frozen=True)
class Format:
    """What the functions need to know of a floating-point format."""

    real: Any
    integer: Any
    bits: int  # of the mantissa
    bias: int  # of the exponent
    ln2_high: float  # short enough that k * ln2_high is exact
    ln2_low: float
    smallest: float  # exp underflows to zero below
    largest: float  # exp overflows above
    expm1_degree: int  # of the polynomial for expm1(r)/r, |r| <= ln(2)/2
    log_terms: int  # of the series of atanh(s), |s| <= 0.172
    exp2_degree: int  # of the polynomial for 2^r, |r| <= 1/2
    erf_degree: int  # of the polynomial for erf(x)/x in x^2, |x| <= 1/2
    tail_degree: int  # of the polynomial for the tails of erf and of the normal distribution

    @property
    def unit(self) -> float:
        """Added to a small number, it rounds that to an integer k, and k + bias is in the lowest
        bits."""
        return 1.5 * 2.0**self.bits + self.bias


FLOAT64 = Format(
    real=np.float64,
    integer=np.int64,
    bits=52,
    bias=1023,
    ln2_high=6.93147180369123816490e-01,
    ln2_low=1.90821492927058770002e-10,
    smallest=-746.0,
    largest=710.0,
    expm1_degree=11,
    log_terms=10,
    exp2_degree=11,
    erf_degree=9,
    tail_degree=24,
)
FLOAT32 = Format(
    real=np.float32,
    integer=np.int32,
    bits=23,
    bias=127,
    ln2_high=0.693359375,
    ln2_low=-2.12194440e-4,
    smallest=-104.0,
    largest=89.0,
    expm1_degree=6,
    log_terms=5,
    exp2_degree=6,
    erf_degree=5,
    tail_degree=9,
)


def _format(x: Any) -> Format:
    """The format of a scalar or of a Numba type; an integer goes with the real of its size."""
    name = str(x) if isinstance(x, types.Type) else str(np.asarray(x).dtype)
    return FLOAT32 if name.endswith("32") else FLOAT64


def for_each_format(make: Callable[[Format], Callable]) -> Callable:
    """Turn a maker of functions of x into one function, for Numba and for plain Python."""

    def function(x):
        return make(_format(x))(x)

    overload(function, jit_options=MATH_OPTIONS)(lambda x: make(_format(x)))
    function.__doc__ = make.__doc__
    return function


def horner(coefficients, x):
    """The polynomial with these coefficients, highest power first."""
    series = coefficients[0]
    for i in range(1, len(coefficients)):
        series = series * x + coefficients[i]
    return series


overload(horner, jit_options=MATH_OPTIONS)(lambda coefficients, x: horner)


def economised(taylor: Sequence[float], edge: float, degree: int) -> NDArray:
    """A series cut to a degree for |x| <= edge by way of Chebyshev's (Lanczos 1938), highest power
    first."""
    where = [-edge, edge]
    long = Polynomial(taylor, where, where).convert(where, Chebyshev)
    return long.truncate(degree + 1).convert(kind=Polynomial).coef[::-1]


@cache
def _expm1_coefficients(fmt: Format) -> tuple[Any, ...]:
    """expm1(r) / r for |r| <= ln(2)/2, highest power first; the last one, 1, stays exact."""
    degree = fmt.expm1_degree
    rest = [1 / math.factorial(n + 2) for n in range(degree + 6)]
    return tuple(map(fmt.real, (*economised(rest, math.log(2) / 2, degree - 1), 1.0)))


@for_each_format
def expm1_near_zero(fmt: Format) -> Callable:
    """expm1(x) for |x| <= ln(2)/2."""
    coefficients = _expm1_coefficients(fmt)

    def expm1_near_zero(x):
        return horner(coefficients, x) * x

    return expm1_near_zero


@for_each_format
def _reduced(fmt: Format) -> Callable:
    """x -> (p, expm1(r)) with x = k ln 2 + r and |r| <= ln(2)/2; p is what `power_of_two` takes.

    Adding a number whose last place is worth 1 rounds to an integer k and leaves k + bias in the
    lowest bits. AVX2 has no conversion from float64 to integers.
    """
    integer, real = fmt.integer, fmt.real
    log2e, high, low = real(1 / math.log(2)), real(fmt.ln2_high), real(fmt.ln2_low)
    unit = real(fmt.unit)

    def reduced(x):
        shifted = x * log2e + unit
        turns = shifted - unit
        r = (x - turns * high) - turns * low
        return real(shifted).view(integer), expm1_near_zero(r)

    return reduced


@for_each_format
def power_of_two(fmt: Format) -> Callable:
    """x -> 2^k where the lowest bits of x are k + bias, for k in the format's normal range."""
    real, integer, bits = fmt.real, fmt.integer, fmt.integer(fmt.bits)

    def power_of_two(x):
        return integer(x << bits).view(real)

    return power_of_two


@for_each_format
def exp(fmt: Format) -> Callable:
    """exp(x), subnormal results included."""
    one, integer, bias = fmt.real(1), fmt.integer, fmt.integer(fmt.bias)
    smallest, largest = fmt.real(fmt.smallest), fmt.real(fmt.largest)
    none = fmt.real(fmt.unit).view(integer)  # p of 2^0

    def exp(x):
        x = smallest if x < smallest else x
        x = largest if x > largest else x
        p, series = _reduced(x)
        # 2^k itself may lie outside of the normal range. Numba widens integers in arithmetic.
        k = integer(p - none)
        half = integer(k >> 1)
        rest = integer(k - half)
        scaled = (one + series) * power_of_two(integer(half + bias))
        return scaled * power_of_two(integer(rest + bias))

    return exp


@cache
def _exp2_coefficients(fmt: Format) -> tuple[Any, ...]:
    """2^r for |r| <= 1/2, highest power first."""
    taylor = [math.log(2) ** n / math.factorial(n) for n in range(fmt.exp2_degree + 6)]
    return tuple(map(fmt.real, economised(taylor, 0.5, fmt.exp2_degree)))


@for_each_format
def _binary(fmt: Format) -> Callable:
    """x -> (number, 2^r) with x = k + r, |r| <= 1/2, and the integer k in the number's lowest
    bits, as in `_reduced`."""
    unit, coefficients = fmt.real(1.5 * 2.0**fmt.bits), _exp2_coefficients(fmt)

    def binary(x):
        shifted = x + unit
        r = x - (shifted - unit)
        return shifted, horner(coefficients, r)

    return binary


@for_each_format
def exp2(fmt: Format) -> Callable:
    """2^x in half the time of `exp`: zero or infinity where 2^round(x) is no normal number."""
    real, integer, bias = fmt.real, fmt.integer, fmt.integer(fmt.bias)
    smallest, largest = real(-fmt.bias), real(fmt.bias + 1)

    def exp2(x):
        x = smallest if x < smallest else x
        x = largest if x > largest else x
        shifted, series = _binary(x)
        return series * power_of_two(integer(real(shifted).view(integer) + bias))

    return exp2


def normal_exponent(like):
    """How large |x| may be for `exp2_normal`; a constant for the compiler."""
    return np.finfo(like.dtype).maxexp - 3


@for_each_format
def exp2_normal(fmt: Format) -> Callable:
    """`exp2`, to the bit, of |x| <= `normal_exponent`, in three quarters of its time.

    There is nothing to cut off, and k is added to the polynomial's own exponent, an addition of
    integers, for which processors have room beside multiply-adds.
    """
    real, integer, bits = fmt.real, fmt.integer, fmt.integer(fmt.bits)

    def exp2_normal(x):
        shifted, series = _binary(x)
        exponent = real(shifted).view(integer) << bits
        return integer(real(series).view(integer) + exponent).view(real)

    return exp2_normal


@for_each_format
def _fading(fmt: Format) -> Callable:
    """x -> (p, s) with exp(-|x|) = p + p s, and p zero where that is no normal number."""
    least = fmt.real(-fmt.bias * math.log(2))  # 2^-bias has the bits of zero

    def fading(x):
        y = -abs(x)
        p, series = _reduced(least if y < least else y)
        return power_of_two(p), series

    return fading


@for_each_format
def decay(fmt: Format) -> Callable:
    """exp(-|x|) and expm1(-|x|); the former is zero where it is no normal number."""
    one = fmt.real(1)

    def decay(x):
        power, series = _fading(x)
        return power * series + power, power * series + (power - one)

    return decay


@for_each_format
def tanh(fmt: Format) -> Callable:
    """tanh(x) and its slope, both exact to the last digits at every x.

    With E = exp(-2|x|): (1 - E)/(1 + E), whose numerator is an expm1, and 4 E/(1 + E)^2.
    1 - tanh(x)^2 would be zero where tanh rounds to one. The slope is zero where E is no normal
    number.
    """
    one, two, four = fmt.real(1), fmt.real(2), fmt.real(4)

    def tanh(x):
        power, series = _fading(two * x)
        expm1 = power * series + (power - one)
        inverse = one / (two + expm1)
        return np.copysign(expm1 * inverse, x), four * (power * series + power) * inverse * inverse

    return tanh


@for_each_format
def sigmoid_pair(fmt: Format) -> Callable:
    """sigmoid(x) and sigmoid(-x) = 1 - sigmoid(x), whose product is the slope.

    By exp(-|x|), so that the smaller keeps its digits: one minus the other would be zero. It is
    zero where exp(-|x|) is no normal number.
    """
    one, zero = fmt.real(1), fmt.real(0)

    def sigmoid_pair(x):
        power, series = _fading(x)
        e = power * series + power
        large = one / (one + e)
        small = e * large
        return (small, large) if x < zero else (large, small)

    return sigmoid_pair


@for_each_format
def sigmoid(fmt: Format) -> Callable:
    """1 / (1 + exp(-x)) alone, by exp(-|x|), which `softplus` of the same x shares."""
    one, zero = fmt.real(1), fmt.real(0)

    def sigmoid(x):
        e = exp(-abs(x))
        return (e if x < zero else one) / (one + e)

    return sigmoid


@for_each_format
def softplus(fmt: Format) -> Callable:
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + e), e = exp(-|x|).

    ln w = 2 atanh((w - 1)/(w + 1)), after halving w = 1 + e where it is above sqrt 2.
    """
    real = fmt.real
    zero, one, two, three = real(0), real(1), real(2), real(3)
    fold, ln2 = real(math.sqrt(2) - 1), real(math.log(2))
    coefficients = tuple(real(2 / (2 * n + 1)) for n in range(fmt.log_terms, -1, -1))

    def softplus(x):
        e = exp(-abs(x))
        s = (e - one) / (e + three) if e > fold else e / (e + two)
        square = s * s
        log = (ln2 if e > fold else zero) + s * horner(coefficients, square)
        return (zero if x < zero else x) + log

    return softplus
