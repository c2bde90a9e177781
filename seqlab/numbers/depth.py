"""What theory says of the gradient through the layers of a wide random stack, before it is drawn.

A stack has depth L and width n; sw2 = n Var(W), sb2 = Var(b). q_l is the variance of a
pre-activation of layer l, and chi_l the factor on the mean square of the adjoint in layer l.
Totals are ln of the norm of the adjoint at the input relative to the output, nats.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, polygamma

from seqlab.numbers.activations import Activation, mean, mean_square, slope_square
from seqlab.numbers.gaussian import batch_mean


class Layers(NamedTuple):
    """By layer, from the input on: q_l and chi_l, (L,) each."""

    q: NDArray
    chi: NDArray

    @property
    def total(self) -> float:
        """The sum of ln(chi_l)/2."""
        with np.errstate(divide="ignore"):
            return float(np.log(self.chi).sum() / 2)


def plain_stack(phi: Activation, sw2: float, sb2: float, depth: int, square: float = 1) -> Layers:
    """h_l = phi(W h_{l-1} + b) from an input of mean square `square`: never the fixed point, which
    misses by nats where q moves slowly.

    q_{l+1} = sw2 E[phi(sqrt(q_l) z)^2] + sb2 and chi_l = sw2 E[phi'(sqrt(q_l) z)^2] (Poole et al.
    2016, eq. 3 and 5; Schoenholz et al. 2017).
    """
    q, chi = np.empty(depth), np.empty(depth)
    for layer in range(depth):
        q[layer] = sw2 * square + sb2
        chi[layer] = sw2 * slope_square(phi, q[layer])
        square = mean_square(phi, q[layer])
    return Layers(q, chi)


def width_shift(kappa: float, width: int, orthogonal: bool = False) -> float:
    """The mean of ln of the norm moves by this in a layer of `width` units, to first order in 1/n,
    and its variance is the opposite (Hanin & Nica 2020, for relu; kappa as in `kurtosis`)."""
    return -(3 * kappa - (3 if orthogonal else 1)) / (4 * width)


class LayerLaw(NamedTuple):
    """Of one layer: mean and variance of ln of the factor on the adjoint's norm where it is not
    zero, and the probability that it is."""

    mean: float
    variance: float
    zero: float


def linear_law(width: int) -> LayerLaw:
    """A Gaussian linear layer, Var W = 1/n: ln of a chi variable over sqrt(n)."""
    shift = (digamma(width / 2) + math.log(2 / width)) / 2
    return LayerLaw(float(shift), float(polygamma(1, width / 2) / 4), 0.0)


def he_relu_law(width: int, orthogonal: bool = False) -> LayerLaw:
    """A relu layer at He's variance 2/n, exact for every width and depth: K units of n are on,
    binomial, and the rest is a chi variable (Hanin & Nica 2020 have its limit). Orthogonal weights
    sqrt(2) Q have no such variable's own part."""
    on = np.arange(1, width + 1)
    log = -gammaln(on + 1) - gammaln(width - on + 1)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    psi = digamma(on / 2)
    average = weight @ psi
    shift = (average + math.log(2) + math.log(2 / width)) / 2
    variance = (weight @ polygamma(1, on / 2) + weight @ np.square(psi - average)) / 4
    if orthogonal:
        linear = linear_law(width)
        shift, variance = shift - linear.mean, variance - linear.variance
    return LayerLaw(float(shift), float(variance), 0.5**width)


def layer_norm_factor(phi: Activation, sw2: float = 1, sb2: float = 0) -> float:
    """chi of phi(LN(W h + b)): E phi'^2 / E phi^2 at unit variance, whatever the weights' scale; a
    bias takes its share of the variance."""
    square = mean_square(phi, 1)
    return slope_square(phi, 1) / square * (sw2 * square / (sw2 * square + sb2))


def batch_norm_factor(phi: Activation, batch: int | None) -> float:
    """chi of phi(BN(W h)) for a batch of so many samples, from 4 up; None is the limit of many.

    Of the squared norm of the whole batch's adjoint, independent of the weights' scale (Yang et al.
    2019). It assumes that samples stay symmetric: with gelu, silu and softplus they do not.
    """
    if batch is None:
        return slope_square(phi, 1) / (mean_square(phi, 1) - mean(phi, 1) ** 2)

    def expected(f: Callable[[NDArray, NDArray], NDArray]) -> float:
        return batch_mean(f, batch)

    f, s = phi.value, phi.slope
    slopes = expected(lambda x, _: np.square(s(x)))
    slopes_of_two = expected(lambda x, y: s(x) * s(y))
    pulls = expected(lambda x, _: np.square(x * s(x)))
    pulls_of_two = expected(lambda x, y: x * s(x) * y * s(y))
    others = batch - 1
    # E tr[(P - z z'/B) D P D] over entries and pairs of entries, P = 1 - 11'/B, D = diag phi'(z).
    trace = others * slopes - slopes + (slopes + others * slopes_of_two) / batch
    trace += -pulls + (pulls + others * pulls_of_two) / batch
    spread = expected(lambda x, _: np.square(f(x))) - expected(lambda x, y: f(x) * f(y))
    return batch / ((batch - 3) * others) * trace / spread


def residual_stack(
    phi: Activation, sw2: float, alpha: float, depth: int, outside: bool = True
) -> Layers:
    """h + alpha phi(W h), or with `outside` false h + alpha W phi(h), from an input of mean square
    one: the bulk, 1 + alpha^2 sw2 E phi'^2 a block; q is the mean square of h after each.

    With `outside` and E phi > 0 the mean of h drifts and carries a part of the adjoint with it: see
    `relu_outlier`.
    """
    q, m = 1.0, 0.0
    squares, chi = np.empty(depth), np.empty(depth)
    for block in range(depth):
        v = sw2 * q if outside else q
        chi[block] = 1 + alpha**2 * sw2 * slope_square(phi, v)
        if outside:
            average = mean(phi, v)
            q += 2 * alpha * m * average + alpha**2 * mean_square(phi, v)
            m += alpha * average
        else:
            q += alpha**2 * sw2 * mean_square(phi, v)
        squares[block] = q
    return Layers(squares, chi)


class Outlier(NamedTuple):
    """`cosine` of h with the vector of ones, `rate` of what is carried with it, nats a block."""

    cosine: float
    rate: float


def relu_outlier(sw2: float, alpha: float) -> Outlier:
    """The part of the adjoint that h + alpha relu(W h) carries with the mean of h: it begins with a
    weight of 1/n, grows by ln(G)/2 a block, faster than the bulk, and so wins in the end.

    G = 1 + 2 alpha c r + alpha^2 sw2/2, c = sqrt(sw2/(2 pi)), r the fixed point of
    (r + alpha c)/sqrt(G).
    """
    c = math.sqrt(sw2 / (2 * math.pi))

    def growth(r: float) -> float:
        return 1 + 2 * alpha * c * r + alpha**2 * sw2 / 2

    r = float(brentq(lambda r: (r + alpha * c) / math.sqrt(growth(r)) - r, 0, 1, xtol=1e-15))
    return Outlier(r, math.log(growth(r)) / 2)


def pre_norm_stack(
    phi: Activation, sw2: float, alpha: float, depth: int, outside: bool = True
) -> Layers:
    """h + alpha phi(W LN(h)), or h + alpha W phi(LN(h)): a power law in depth; q is the variance of
    h over its units after each block, which begins at one."""
    inner = sw2 if outside else 1.0
    square, slopes = mean_square(phi, inner), slope_square(phi, inner)
    added = square - mean(phi, inner) ** 2 if outside else sw2 * square
    before = 1 + alpha**2 * added * np.arange(depth)
    return Layers(before + alpha**2 * added, 1 + alpha**2 * sw2 * slopes / before)


def post_norm_factor(phi: Activation, sw2: float, alpha: float, outside: bool = True) -> float:
    """chi of LN(h + alpha phi(W h)), or LN(h + alpha W phi(h)): the same in every block."""
    inner = sw2 if outside else 1.0
    square = mean_square(phi, inner)
    added = square - mean(phi, inner) ** 2 if outside else sw2 * square
    return (1 + alpha**2 * sw2 * slope_square(phi, inner)) / (1 + alpha**2 * added)


def dense_stack(phi: Activation, sw2: float, depth: int, all_features: bool = True) -> float:
    """The total of x_l = phi(W_l [x_0 .. x_{l-1}]), Var W = sw2/fan-in, read out from all features
    or from the last block's: gamma_j = r_j + sum over l > j of (s_l/l) gamma_l."""
    squares, share = [1.0], []
    for block in range(1, depth + 1):
        q = sw2 * sum(squares) / block
        squares.append(mean_square(phi, q))
        share.append(sw2 * slope_square(phi, q) / block)
    gamma, later = 1.0, share[-1] if depth else 0.0
    for block in range(depth - 1, -1, -1):
        gamma = float(all_features) + later
        if block:
            later += share[block - 1] * gamma
    return math.log(gamma) / 2


class Transformer(NamedTuple):
    """A stack of Transformer blocks: the total, and the mean cosine of two tokens at its output."""

    total: float
    cosine: float


def transformer_stack(
    attention: float, forward: float, depth: int, tokens: int, pre: bool = True
) -> Transformer:
    """Blocks of attention and a relu network, by a mean field in which every token looks at all
    alike (the softmax of small logits is 1/T), from independent tokens, the loss on all of them.

    `attention` = sw_V^2 sw_O^2 and `forward` = sw_2^2 sw_1^2/2. q and c are the mean square of a
    token and the mean product of two, p and r those of their adjoints. `pre` has the norms within
    the branches, otherwise they come after the sums.
    """

    def mixed(own: float, other: float) -> float:
        return (own + (tokens - 1) * other) / tokens

    q, c = 1.0, 0.0
    steps = []  # of each half block: its kind, the scale it works at, the tokens' cosine
    for _ in range(depth):
        added = attention * mixed(1.0, c / q)
        scale = 1.0 if pre else q
        steps.append(("attention", q, c / q))
        q, c = q + added * scale, c + added * scale
        if not pre:
            steps.append(("norm", q, 0.0))
            q, c = 1.0, c / q
        rho = min(1.0, c / q)
        steps.append(("forward", q, rho))
        angle = math.acos(rho)
        across = (math.sqrt(1 - rho**2) + rho * (math.pi - angle)) / math.pi
        scale = 1.0 if pre else q
        q, c = q + forward * scale, c + forward * across * scale
        if not pre:
            steps.append(("norm", q, 0.0))
            q, c = 1.0, c / q
    p, r = 1.0, 0.0
    for kind, scale, rho in reversed(steps):
        if kind == "norm":
            p, r = p / scale, r / scale
        elif kind == "forward":
            share = forward / (scale if pre else 1.0)
            p, r = p * (1 + share), r * (1 + share * (math.pi - math.acos(rho)) / math.pi)
        else:
            back = attention * mixed(p, r) / (scale if pre else 1.0)
            p, r = p + back, r + back
    return Transformer(math.log(p) / 2, c / q)
