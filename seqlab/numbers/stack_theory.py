"""What theory says of a given stack, or why it says nothing: numbers in, one prediction out."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers import depth as layers
from seqlab.numbers.activations import Activation, find_activation, kurtosis, slope_square
from seqlab.numbers.depth import Blocks, LayerLaw
from seqlab.numbers.gaussian import normal_mean

# Nats a layer that the width may take off, to first order: beyond, orders that are left out count.
# At 0.11 (tanh, 64 units, weights of variance one) the sum is 0.01 off.
MOST_SHIFT = 0.12
SMALLEST_BATCH = 5  # with 3 and 4 samples the mean square of the adjoint has no variance
NARROWEST_GROUP = 16  # units that a norm is taken over, for its wide limit to serve
MOST_LOGITS = 1.0  # variance of the attention's logits that still counts as small
# Under batch norm one sample's norm runs away from the others'.
_ASYMMETRIC = ("gelu", "silu", "softplus")


class Wide(NamedTuple):
    """A stack as theory sees it.

    `sw2` = fan-in x Var W and `sb2` = Var b, in a densenet one a block; `weights` is the law of the
    entries: normal, uniform, orthogonal or given (one's own). `rows` are the inputs of a batch, or
    tokens; `square` is the mean square of an entry of h_0. `norm` is none, batch, layer or
    group:G; `place` pre or post; `outside` the order h + alpha phi(W h); `blocks` and `logits` (the
    variance of the attention's) are a transformer's, alpha already in them.
    """

    arch: str
    activation: str
    depth: int
    width: int
    sw2: float | Sequence[float] = 1.0
    sb2: float | Sequence[float] = 0.0
    weights: str = "normal"
    rows: int = 1
    square: float = 1.0
    norm: str = "none"
    place: str = "pre"
    outside: bool = True
    alpha: float = 1.0
    all_features: bool = False
    blocks: Blocks = Blocks(0.0, 0.0, 0.0)
    logits: float = 0.0


class Prediction(NamedTuple):
    """ln of the adjoint's norm at the input relative to the output: `total`, nats over all layers,
    nan where there is no theory; `law` names what was summed; `why`, one line, says what is
    missing, or is empty. `exact` is the law of the total where it is known for this very width; `q`
    (L,) the variances that were found on the way."""

    total: float
    law: str
    why: str = ""
    exact: LayerLaw | None = None
    q: NDArray | None = None


def predict(stack: Wide) -> Prediction:
    """The prediction for a stack (sources in `seqlab.numbers.depth`).

    Raises InputError for an unknown activation.
    """
    phi = find_activation(stack.activation)
    if stack.weights == "given":
        return _nothing("the weights are given: theory is of random ones")
    return _ARCHITECTURES[stack.arch](stack, phi)


def _nothing(why: str) -> Prediction:
    return Prediction(math.nan, "", why)


def _normalised(stack: Wide, phi: Activation) -> str:
    """Why a norm over units, or over samples, has no wide limit here; empty where it has."""
    kind, _, groups = stack.norm.partition(":")
    if kind == "batch":
        if stack.activation in _ASYMMETRIC:
            return f"batch norm with {stack.activation}: no symmetry of samples to start from"
        if stack.rows == 2:
            return "batch norm of two inputs makes them +-1 whatever they were: nothing goes back"
        if stack.rows < SMALLEST_BATCH:
            return f"batch norm of fewer than {SMALLEST_BATCH} inputs: no variance of the adjoint"
    elif kind != "none":
        units = stack.width // int(groups or 1)
        if units < NARROWEST_GROUP:
            return f"{kind} norm over {units} units; its theory is for {NARROWEST_GROUP} and more"
    return ""


def _plain(stack: Wide, phi: Activation) -> Prediction:
    if why := _normalised(stack, phi):
        return _nothing(why)
    sw2, sb2 = _numbers(stack)
    if stack.norm == "batch":
        total = layers.batch_norm_stack(phi, stack.rows, stack.depth, stack.square)
        return Prediction(total, "mean field of batch norm at this batch")
    if stack.norm != "none":
        first = layers.plain_stack(phi, sw2, sb2, 1, stack.square).q[0]
        # The norm divides by the root of what varies: of raw inputs once, then of phi's outputs.
        total = math.log(layers.layer_norm_factor(phi, sw2, sb2)) * (stack.depth - 1)
        total += math.log(sw2 * slope_square(phi, 1) / first)
        return _of_one_width(stack, phi, total / 2, np.ones(stack.depth), "behind a layer norm")
    plain = layers.plain_stack(phi, sw2, sb2, stack.depth, stack.square)
    found = _of_one_width(stack, phi, plain.total, plain.q, "at every layer's variance")
    return found._replace(exact=_exact(stack, sw2, sb2), q=plain.q)


def _of_one_width(stack: Wide, phi: Activation, total: float, q: NDArray, where: str) -> Prediction:
    """A sum of ln(chi)/2 with what a finite width takes off in a layer of variance q, of one input;
    several share the weights, and what is taken off is less."""
    law = f"sum of ln(chi)/2 {where}"
    if stack.rows > 1:
        why = "of infinite width: its correction is known for one input"
        return Prediction(total, law, why)
    orthogonal = stack.weights == "orthogonal"
    if stack.norm == "none" and (one := _layer_law(stack)):
        shift = stack.depth * one.mean  # of every order in 1/n; but for biases
    else:
        every, count = np.unique(np.clip(q, layers.NEAR, layers.FAR), return_counts=True)
        if phi.homogeneous:
            every, count = np.ones(1), np.array([stack.depth])
        first_orders = [
            layers.width_shift(kurtosis(phi, x), stack.width, orthogonal) for x in every
        ]
        shift = float(count @ first_orders)
        if -shift > MOST_SHIFT * stack.depth:
            why = f"too few units: mean field is off by {-shift / stack.depth:.2g} nat a layer"
            return _nothing(why)
    return Prediction(total + shift, f"{law}, corrected for the width")


def _layer_law(stack: Wide) -> LayerLaw | None:
    """Of one layer, relative to its ln(chi)/2; relu and identity are homogeneous, so that the
    weights' scale does not matter."""
    orthogonal = stack.weights == "orthogonal"
    if stack.activation == "relu":
        return layers.he_relu_law(stack.width, orthogonal)
    if stack.activation == "identity":
        return LayerLaw(0.0, 0.0, 0.0) if orthogonal else layers.linear_law(stack.width)
    return None


def _exact(stack: Wide, sw2: float, sb2: float) -> LayerLaw | None:
    """The law of the whole depth, in nats: of one input, since several share their weights, so that
    the norm over all of them is no product of independent factors. A bias leaves a linear stack's
    Jacobian alone, and not a relu's."""
    layer = _layer_law(stack)
    if layer is None or stack.rows > 1 or stack.weights == "uniform" or not sw2:
        return None
    if stack.activation == "relu" and sb2:
        return None
    chi = sw2 / 2 if stack.activation == "relu" else sw2
    return LayerLaw(
        stack.depth * (layer.mean + math.log(chi) / 2),
        stack.depth * layer.variance,
        -math.expm1(stack.depth * math.log1p(-layer.zero)),
    )


def _residual(stack: Wide, phi: Activation) -> Prediction:
    if stack.norm == "batch":
        return _nothing("batch norm within residual blocks has no theory here")
    if why := _normalised(stack, phi):
        return _nothing(why)
    sw2, sb2 = _numbers(stack)
    how = (phi, sw2, stack.alpha)
    if stack.norm != "none":
        if stack.place == "post":
            factor = layers.post_norm_factor(*how, stack.outside, sb2)
            total = stack.depth * math.log(factor) / 2
            return Prediction(total, "mean field of a norm after every sum")
        pre = layers.pre_norm_stack(*how, stack.depth, stack.outside, sb2, stack.square)
        return Prediction(pre.total, "mean field of a norm in every branch", q=pre.q)
    bulk = layers.residual_stack(*how, stack.depth, stack.outside, sb2, stack.square)
    found = Prediction(bulk.total, "mean field of residual blocks", q=bulk.q)
    # What a weight's direction along h adds to all units alike: zero where phi' is even.
    if not stack.outside or abs(normal_mean(lambda z: z * phi.slope(z), sw2)) < 1e-9:
        return found
    if not phi.homogeneous:
        why = "the bulk alone: the mean of h drifts, and what it carries with it is left out"
        return found._replace(why=why)
    carried = 2 * layers.drift(*how, stack.depth) - math.log(stack.width)
    total = float(np.logaddexp(2 * bulk.total, carried)) / 2
    return found._replace(total=total, law=f"{found.law}, with what drifts along with h")


def _dense(stack: Wide, phi: Activation) -> Prediction:
    if stack.norm != "none":
        return _nothing(f"{stack.norm} norm in a densenet has no theory here")
    total = layers.dense_stack(
        phi, stack.sw2, stack.depth, stack.all_features, stack.sb2, stack.square
    )
    return Prediction(total, "mean field of concatenated features")


def _transformer(stack: Wide, phi: Activation) -> Prediction:
    if stack.logits > MOST_LOGITS:
        return _nothing("attention is not uniform: its logits have a variance above one")
    pre = stack.place == "pre"
    found = layers.transformer_stack(phi, stack.blocks, stack.depth, stack.rows, pre, stack.square)
    return Prediction(found.total, "mean field of uniform attention")


_ARCHITECTURES: dict[str, Callable[[Wide, Activation], Prediction]] = {
    "mlp": _plain,
    "resnet": _residual,
    "densenet": _dense,
    "transformer": _transformer,
}


def _numbers(stack: Wide) -> tuple[float, float]:
    """sw2 and sb2 of a stack whose blocks are alike."""
    sw2, sb2 = np.unique(stack.sw2), np.unique(stack.sb2)
    return float(sw2.item()), float(sb2.item())
