"""erf and the normal distribution that vectorise, in the manner of `math`.

Both have tails exp(-y^2/2) T(y), T(y) = Phi(-y) exp(y^2/2), whose relative error does not grow with
y: 1 - Phi(y) would lose every digit. y^2 is taken in two parts, since its rounding alone is an
error of y^2/2 ulp of the exponential.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from seqlab.kernels.cpu.math import (
    Format,
    economised,
    expm1_near_zero,
    for_each_format,
    horner,
    power_of_two,
)

_CENTRE = 4.0  # y in the middle of the polynomial's range; a power of two
_EDGE = 0.5  # |x| below which erf has a series of its own

# (y + c) T(y) for all y >= 0 as a Chebyshev series in (y - c)/(y + c), c = _CENTRE: the map of
# Schonfelder 1978 (Math. Comp. 32, p. 1232), computed with 40 digits at 80 nodes. In float64 a fit
# would leave some ulp of its own: the sum is half as large as its terms where y is large.
_TAIL = (
    0.970451204566076545,
    -0.751708816839570531,
    0.222193555675251034,
    -0.0485177532604460861,
    0.00692592049624248039,
    -0.000320598474398149954,
    -0.000100547391632106784,
    0.0000189033690197069636,
    1.01035688547463106e-6,
    -6.14533474939782391e-7,
    -3.38102012006917564e-9,
    2.06865080617428341e-8,
    -1.12826036324695064e-10,
    -7.77401522838869426e-10,
    -9.94142419140470748e-12,
    3.17448294985830278e-11,
    1.84248068447049402e-12,
    -1.31286164667109654e-12,
    -1.74153626526548136e-13,
    4.9072740317044241e-14,
    1.29313843261655762e-14,
    -1.21806635217263413e-15,
    -8.05214737262093301e-16,
    -2.86049414426162114e-17,
    4.05706442433535415e-17,
)


@cache
def _tail_coefficients(fmt: Format) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """_TAIL as a polynomial of the format's degree: its even and its odd powers, highest first."""
    series = Chebyshev(_TAIL).truncate(fmt.tail_degree + 1)
    powers = [fmt.real(number) for number in series.convert(kind=Polynomial).coef]
    return tuple(powers[::2][::-1]), tuple(powers[1::2][::-1])


@for_each_format
def _tail(fmt: Format) -> Callable:
    """T(x) for x >= 0."""
    one, centre, twice = fmt.real(1), fmt.real(_CENTRE), fmt.real(2 * _CENTRE)
    even, odd = _tail_coefficients(fmt)

    def tail(x):
        inverse = one / (x + centre)
        t = one - twice * inverse
        square = t * t  # halves, since LLVM leaves a long loop a loop
        return inverse * (horner(even, square) + t * horner(odd, square))

    return tail


def _bell(factor: float) -> Callable:
    """x -> exp(-factor x^2), factor a power of two; zero where that is no normal number."""

    @for_each_format
    def bell(fmt: Format) -> Callable:
        real, integer, scale, unit = fmt.real, fmt.integer, fmt.real(factor), fmt.real(fmt.unit)
        log2e, ln2, ln2_low = real(1 / math.log(2)), real(fmt.ln2_high), real(fmt.ln2_low)
        limit = real(math.sqrt((fmt.bias + 0.25) * math.log(2) / factor))  # goes to 2^-bias
        upper = integer(-1 << (fmt.bits // 2 + 1))  # bits of x whose square is exact

        def bell(x):
            y = abs(x)
            y = limit if y > limit else y
            high = integer(real(y).view(integer) & upper).view(real)
            square, rest = high * high * scale, (y - high) * (y + high) * scale
            # As `math` does for exp, and `rest` comes in once the large parts have cancelled.
            shifted = unit - (square + rest) * log2e
            turns = shifted - unit
            r = ((-square - turns * ln2) - rest) - turns * ln2_low
            power = power_of_two(real(shifted).view(integer))
            return power * expm1_near_zero(r) + power

        return bell

    return bell


_bell_of_erf, _bell_of_normal = _bell(1.0), _bell(0.5)


@for_each_format
def normal(fmt: Format) -> Callable:
    """Phi(x) and its density, exp(-x^2/2)/sqrt(2 pi), both to a few ulp at every x, zero where
    exp(-x^2/2) is no normal number."""
    zero, one, peak = fmt.real(0), fmt.real(1), fmt.real(1 / math.sqrt(2 * math.pi))

    def normal(x):
        e = _bell_of_normal(x)
        tail = e * _tail(abs(x))
        return tail if x < zero else one - tail, e * peak

    return normal


@cache
def _erf_coefficients(fmt: Format) -> tuple[Any, ...]:
    """erf(x)/x in x^2 for |x| <= _EDGE, highest power first: its Taylor series, economised."""
    taylor = [
        2 / math.sqrt(math.pi) * (-1) ** n / (math.factorial(n) * (2 * n + 1))
        for n in range(fmt.erf_degree + 6)
    ]
    return tuple(map(fmt.real, economised(taylor, _EDGE**2, fmt.erf_degree)))


@for_each_format
def erf(fmt: Format) -> Callable:
    """erf(x) and its slope, 2 exp(-x^2)/sqrt(pi), both to a few ulp at every x; the slope is zero
    where exp(-x^2) is no normal number.

    1 - 2 Phi(-sqrt(2) |x|) away from zero.
    """
    one, two, edge = fmt.real(1), fmt.real(2), fmt.real(_EDGE)
    root, peak = fmt.real(math.sqrt(2)), fmt.real(2 / math.sqrt(math.pi))
    coefficients = _erf_coefficients(fmt)

    def erf(x):
        y, e = abs(x), _bell_of_erf(x)
        near = y * horner(coefficients, x * x)
        far = one - two * e * _tail(root * y)
        return np.copysign(near if y < edge else far, x), e * peak

    return erf
