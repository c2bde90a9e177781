"""What theory says of the gradient through the layers of a wide random stack, before it is drawn.

A stack has depth L and width n; sw2 = n Var(W), sb2 = Var(b). q_l is the variance of a
pre-activation of layer l, and chi_l the factor on the mean square of the adjoint in layer l.
Totals are ln of the norm of the adjoint at the input relative to the output, nats.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import digamma, gammaln, polygamma

from seqlab.numbers.activations import Activation, mean, mean_square, slope_square
from seqlab.numbers.gaussian import batch_mean, pair_mean

_STILL = 1e-15  # a variance that moves by less, relative to itself, is at its fixed point
# Variances as good as zero, and beyond which every activation is as good as homogeneous.
NEAR, FAR = 1e-300, 1e100


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
        v = sw2 * square + sb2
        # A homogeneous phi is the same at every variance, out of the range of floats too; others
        # may have a kink, and no slope, at zero itself.
        at = 1.0 if phi.homogeneous else max(v, NEAR)
        q[layer], chi[layer] = v, sw2 * slope_square(phi, at)
        still = layer > 0 and abs(v - q[layer - 1]) <= _STILL * v
        if still or v > FAR:
            q[layer + 1 :], chi[layer:] = v if still else math.inf, chi[layer]
            break
        square = mean_square(phi, at) * (v if phi.homogeneous else 1.0)
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


class _BatchNorm(NamedTuple):
    """Means over a batch behind its norm: E tr[(P - z z'/B) D M D] for M = P = 1 - 11'/B and for
    M = 1, D = diag phi'(z); and the variance of phi(z) over the batch, without bias."""

    centred: float
    free: float
    spread: float


def _batch_norm(phi: Activation, batch: int) -> _BatchNorm:
    def expected(f: Callable[[NDArray, NDArray], NDArray]) -> float:
        return batch_mean(f, batch)

    f, s = phi.value, phi.slope
    slopes = expected(lambda x, _: np.square(s(x)))
    slopes_of_two = expected(lambda x, y: s(x) * s(y))
    pulls = expected(lambda x, _: np.square(x * s(x)))
    pulls_of_two = expected(lambda x, y: x * s(x) * y * s(y))
    others = batch - 1
    # Over entries, and over pairs of entries.
    free = others * slopes - pulls
    centred = free - slopes + (slopes + others * slopes_of_two) / batch
    centred += (pulls + others * pulls_of_two) / batch
    spread = expected(lambda x, _: np.square(f(x))) - expected(lambda x, y: f(x) * f(y))
    return _BatchNorm(centred, free, spread)


def batch_norm_factor(phi: Activation, batch: int | None) -> float:
    """chi of phi(BN(W h)) for a batch of so many samples, from 4 up; None is the limit of many.

    Of the squared norm of the whole batch's adjoint, independent of the weights' scale (Yang et al.
    2019). It assumes that samples stay symmetric: with gelu, silu and softplus they do not.
    """
    if batch is None:
        return slope_square(phi, 1) / (mean_square(phi, 1) - mean(phi, 1) ** 2)
    means = _batch_norm(phi, batch)
    return batch / ((batch - 3) * (batch - 1)) * means.centred / means.spread


def batch_norm_stack(phi: Activation, batch: int, depth: int, square: float = 1) -> float:
    """The total of phi(BN(W h)), batches of 4 and more, from inputs of mean square `square` that
    are independent, to a loss that sees each sample in a direction of its own.

    Within, `batch_norm_factor` a layer. The last layer gets an adjoint that has not been centred
    over the batch, and the first normalises what varies by `square`, not by the spread of phi.
    """
    means, within = _batch_norm(phi, batch), batch_norm_factor(phi, batch)
    last = means.free / ((batch - 3) * means.spread)
    total = (depth - 1) * math.log(within) + math.log(last) + math.log(means.spread / square)
    return total / 2


def residual_stack(
    phi: Activation,
    sw2: float,
    alpha: float,
    depth: int,
    outside: bool = True,
    sb2: float = 0,
    square: float = 1,
) -> Layers:
    """h + alpha phi(W h + b), or with `outside` false h + alpha (W phi(h) + b), from an input of
    mean square `square`: the bulk, 1 + alpha^2 sw2 E phi'^2 a block; q is the mean square of h
    after each.

    With `outside` and E phi > 0 the mean of h drifts and carries a part of the adjoint with it: see
    `relu_outlier` and `drift`.
    """
    q, m = square, 0.0
    squares, chi = np.empty(depth), np.empty(depth)
    for block in range(depth):
        v = sw2 * q + sb2 if outside else q
        chi[block] = 1 + alpha**2 * sw2 * slope_square(phi, v)
        if v > FAR:
            squares[block:], chi[block:] = math.inf, chi[block]
            break
        if outside:
            average = mean(phi, v)
            q += 2 * alpha * m * average + alpha**2 * mean_square(phi, v)
            m += alpha * average
        else:
            q += alpha**2 * (sw2 * mean_square(phi, v) + sb2)
        squares[block] = q
    return Layers(squares, chi)


def drift(phi: Activation, sw2: float, alpha: float, depth: int) -> float:
    """ln of the growth of |h| through blocks h + alpha phi(W h) of a homogeneous phi.

    <g, h> is the same number before and after every block, and g has a share of 1/n in the
    direction of h: that share of the squared adjoint grows as the square of this.
    """
    average, square = mean(phi, sw2), mean_square(phi, sw2)
    cosine, total = 0.0, 0.0  # of h and the vector of ones
    for _ in range(depth):
        growth = 1 + 2 * alpha * cosine * average + alpha**2 * square
        cosine = (cosine + alpha * average) / math.sqrt(growth)
        total += math.log(growth) / 2
    return total


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


def _branch(phi: Activation, sw2: float, sb2: float, outside: bool) -> tuple[float, float]:
    """Behind a layer norm, of phi(W h + b) or W phi(h) + b: its variance over units, and the factor
    on the mean square of the adjoint."""
    inner = sw2 + sb2 if outside else 1.0
    square = mean_square(phi, inner)
    varies = square - mean(phi, inner) ** 2 if outside else sw2 * square + sb2
    return varies, sw2 * slope_square(phi, inner)


def pre_norm_stack(
    phi: Activation,
    sw2: float,
    alpha: float,
    depth: int,
    outside: bool = True,
    sb2: float = 0,
    square: float = 1,
) -> Layers:
    """h + alpha phi(W LN(h) + b), or h + alpha (W phi(LN(h)) + b): a power law in depth; q is the
    variance of h over its units after each block, which begins at `square`."""
    varies, back = _branch(phi, sw2, sb2, outside)
    before = square + alpha**2 * varies * np.arange(depth)
    return Layers(before + alpha**2 * varies, 1 + alpha**2 * back / before)


def post_norm_factor(
    phi: Activation, sw2: float, alpha: float, outside: bool = True, sb2: float = 0
) -> float:
    """chi of LN(h + alpha phi(W h + b)), or LN(h + alpha (W phi(h) + b)): the same in every
    block whose input has unit variance."""
    varies, back = _branch(phi, sw2, sb2, outside)
    return (1 + alpha**2 * back) / (1 + alpha**2 * varies)


def dense_stack(
    phi: Activation,
    sw2: float | Sequence[float],
    depth: int,
    all_features: bool = True,
    sb2: float | Sequence[float] = 0,
    square: float = 1,
) -> float:
    """The total of x_l = phi(W_l [x_0 .. x_{l-1}] + b_l), Var W = sw2/fan-in, sw2 and sb2 one
    number or one a block, read out from all features or from the last block's:
    gamma_j = r_j + sum over l > j of (s_l/l) gamma_l."""
    scales, biases = (np.broadcast_to(x, depth).tolist() for x in (sw2, sb2))
    sum_of_squares, share = square, []
    for block, (scale, bias) in enumerate(zip(scales, biases, strict=True), 1):
        q = scale * sum_of_squares / block + bias
        sum_of_squares += mean_square(phi, q)
        share.append(scale * slope_square(phi, q) / block)
    gamma, later = 1.0, share[-1] if depth else 0.0
    for block in range(depth - 1, -1, -1):
        gamma = float(all_features) + later
        if block:
            later += share[block - 1] * gamma
    return math.log(gamma) / 2


class Blocks(NamedTuple):
    """Variances of the maps of a Transformer block, each the fan-in times that of its weights:
    `attention` of the values' map times that of the output's, `inner` and `outer` of the two of the
    feed-forward network; what is added after each is the variance of a bias."""

    attention: float
    inner: float
    outer: float
    attention_bias: float = 0.0
    inner_bias: float = 0.0
    outer_bias: float = 0.0


class Transformer(NamedTuple):
    """A stack of Transformer blocks: the total, and the mean cosine of two tokens at its output."""

    total: float
    cosine: float


def transformer_stack(
    phi: Activation, blocks: Blocks, depth: int, tokens: int, pre: bool = True, square: float = 1
) -> Transformer:
    """Blocks of attention and a network with phi inside, by a mean field in which every token looks
    at all alike (the softmax of small logits is 1/T), from independent tokens of mean square
    `square`, the loss on all of them.

    q and c are the mean square of a token and the mean product of two, p and r those of their
    adjoints. `pre` has the norms within the branches, otherwise they come after the sums.
    """

    def mixed(own: float, other: float) -> float:
        return (own + (tokens - 1) * other) / tokens

    v = blocks.inner + blocks.inner_bias  # of what enters phi: tokens have mean square one there
    slopes, squares = slope_square(phi, v), mean_square(phi, v)

    def fed(rho: float) -> tuple[float, float]:
        """E of the product of phi for two tokens, and of its slopes."""
        if rho >= 1:
            return squares, slopes
        c = (blocks.inner * rho + blocks.inner_bias) / v
        return (
            pair_mean(lambda x, y: phi.value(x) * phi.value(y), v, c),
            pair_mean(lambda x, y: phi.slope(x) * phi.slope(y), v, c),
        )

    q, c = square, 0.0
    steps = []  # of each half block: its kind, what it divides by, the slopes of two tokens
    for _ in range(depth):
        scale = 1.0 if pre else q  # only a first block without a norm before it has another
        added = (blocks.attention * mixed(1.0, c / q)) * scale + blocks.attention_bias
        steps.append(("attention", q if pre else 1.0, 0.0))
        q, c = q + added, c + added
        if not pre:
            steps.append(("norm", q, 0.0))
            q, c = 1.0, c / q
        across, slopes_of_two = fed(c / q)
        steps.append(("forward", q if pre else 1.0, slopes_of_two))
        q += blocks.outer * squares + blocks.outer_bias
        c += blocks.outer * across + blocks.outer_bias
        if not pre:
            steps.append(("norm", q, 0.0))
            q, c = 1.0, c / q
    p, r = 1.0, 0.0
    for kind, scale, slopes_of_two in reversed(steps):
        if kind == "norm":
            p, r = p / scale, r / scale
        elif kind == "forward":
            share = blocks.outer * blocks.inner / scale
            p, r = p * (1 + share * slopes), r * (1 + share * slopes_of_two)
        else:
            back = blocks.attention * mixed(p, r) / scale
            p, r = p + back, r + back
    return Transformer(math.log(p) / 2, c / q)
