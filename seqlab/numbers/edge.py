"""The edge of chaos of wide random stacks, and how deep what tells two inputs apart can be seen.

sw2 = n Var(W), sb2 = Var(b), q the variance of a pre-activation, chi the factor on the mean square
of the adjoint in one layer.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from seqlab.numbers.activations import Activation, mean_square, slope_square
from seqlab.numbers.gaussian import SPAN, pair_mean

_LEAST, _MOST, _GRID = math.log(1e-7), math.log(1e9), 0.05  # of ln q, where roots are looked for
_STILL = 1e-12  # relative changes that are the quadrature's own
_SMALL = 1e-30  # a variance as good as zero


class Critical(NamedTuple):
    """The edge of chaos: where chi is one at the fixed point q."""

    q: float
    sw2: float


def critical(phi: Activation, sb2: float) -> Critical | None:
    """The weights' variance at which the gradient neither grows nor fades, for a bias variance: the
    lowest q with sw2 = 1/E phi'^2 and q = sw2 E phi^2 + sb2 (Schoenholz et al. 2017). None where
    there is none."""

    def bias(log_q: float) -> float:
        q = math.exp(log_q)
        return q - mean_square(phi, q) / slope_square(phi, q) - sb2

    rests = float(phi.value(np.zeros(1))[0]) == 0
    if phi.homogeneous or (rests and sb2 == 0):
        # At any q, or at none; with a kink there is no slope at 0 itself.
        return Critical(0.0, 1 / slope_square(phi, _SMALL)) if sb2 == 0 else None
    log_q = _LEAST
    while log_q < _MOST:
        if bias(log_q) < 0 <= bias(log_q + _GRID):
            q = math.exp(brentq(bias, log_q, log_q + _GRID, xtol=1e-14))
            return Critical(q, 1 / slope_square(phi, q))
        log_q += _GRID
    return None


def variance_slope(phi: Activation, sw2: float, q: float) -> float:
    """dq'/dq = sw2 dE[phi^2]/dq, by central differences; above one at a fixed point q, what is near
    it moves away."""
    eps = 1e-5
    moved = [sw2 * mean_square(phi, q * (1 + d)) for d in (-eps, eps)]
    return (moved[1] - moved[0]) / (2 * eps * q)


def fixed_variance(phi: Activation, sw2: float, sb2: float) -> float | None:
    """The q = sw2 E[phi(sqrt(q) z)^2] + sb2 that a stack comes to whose first layer has q = sw2 +
    sb2; None where it grows for ever."""

    def change(log_q: float) -> float:
        q = math.exp(log_q)
        return (sw2 * mean_square(phi, q) + sb2) / q - 1

    # The mean square grows with q, so that q moves one way: to the next fixed point there.
    log_q = math.log(sw2 + sb2)
    towards = change(log_q)
    if abs(towards) < _STILL:
        return sw2 + sb2
    step = math.copysign(_GRID, towards)
    while change(log_q + step) * towards > 0:
        log_q += step
        if not _LEAST < log_q < _MOST:
            return 0.0 if step < 0 else None
    return math.exp(brentq(change, log_q, log_q + step, xtol=1e-14, rtol=1e-14))


class Depths(NamedTuple):
    """Of a wide random stack at its fixed point: q and chi there; how fast q comes to it, and two
    inputs to their correlation `c`, in layers (e-folds); chi_c, the factor on what tells them
    apart."""

    q: float
    chi: float
    of_variance: float
    c: float
    chi_c: float
    of_correlation: float


def _depth(factor: float) -> float:
    """Layers to fall by e at a factor a layer."""
    if factor <= 0:
        return 0.0
    # Differences have an error of 1e-10: what is as near to one has no end.
    return -1 / math.log(factor) if factor < 1 - 1e-9 else math.inf


def correlation_depths(phi: Activation, sw2: float, sb2: float) -> Depths | None:
    """How deep a signal reaches: xi_q = -1/ln(dq'/dq), xi_c = -1/ln chi(c*) (Schoenholz et al.
    2017, eq. 8 and 9); None where q grows for ever or fades to zero."""
    q = fixed_variance(phi, sw2, sb2)
    if q is None or q == 0:
        return None
    chi = sw2 * slope_square(phi, q)
    of_variance = _depth(variance_slope(phi, sw2, q))

    def next_correlation(c: float) -> float:
        both = pair_mean(lambda x, y: phi.value(x) * phi.value(y), q, c)
        return (sw2 * both + sb2) / q

    c, nearly = 1.0, 1 - 1e-6
    if chi > 1 and next_correlation(nearly) < nearly:  # else at the edge, to rounding
        apart = next_correlation(0.0) < 1e-12
        c = 0.0 if apart else brentq(lambda c: next_correlation(c) - c, 0.0, nearly, xtol=1e-13)
    chi_c = chi if c == 1 else sw2 * pair_mean(lambda x, y: phi.slope(x) * phi.slope(y), q, c)
    return Depths(q, chi, of_variance, c, chi_c, _depth(chi_c))


def relu_correlations(depth: int) -> NDArray:
    """Of the pre-activations of two orthogonal inputs of equal norm, by layer of a He relu stack:
    c_1 = 0, c' = (sqrt(1 - c^2) + c (pi - arccos c))/pi (Cho & Saul 2009)."""
    c = np.zeros(depth)
    for layer in range(1, depth):
        before = c[layer - 1]
        c[layer] = (math.sqrt(1 - before**2) + before * (math.pi - math.acos(before))) / math.pi
    return c


def dead_share(correlation: float, batch: int) -> float:
    """Units of a relu layer that are zero for all of `batch` inputs, any two of whose
    pre-activations have this correlation; as many are never zero."""
    if correlation >= 1:
        return 0.5
    bend = math.sqrt(correlation / (1 - correlation))
    t = np.linspace(-SPAN, SPAN, 4001)
    weight = np.exp(-np.square(t) / 2) / math.sqrt(2 * math.pi) * (t[1] - t[0])
    return float(ndtr(-t * bend) ** batch @ weight)
