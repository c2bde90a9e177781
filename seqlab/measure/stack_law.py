"""What a stack's spec means in variances: for its theory, and for its sampler in law."""

import math
from typing import Any, Protocol

from seqlab.measure.in_law import Law
from seqlab.numbers.depth import Blocks
from seqlab.numbers.stack_theory import Wide

# The maps of a Transformer block as torch.nn.TransformerEncoderLayer makes them, and by Xavier's
# rule: fan-in x variance of the values', the output's, the feed-forward network's two, of width 4n,
# and of the queries' and the keys'.
_PYTORCH_MAPS = (1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 2)
_XAVIER_MAPS = (1.0, 1.0, 2 / 5, 8 / 5, 1.0)


class Stack(Protocol):
    """The fields of a stack's spec that theory asks for."""

    arch: str
    steps: int
    hidden: int
    batch: int
    tokens: int | None
    activation: str | None
    init: str
    gain: float | None
    bias_scale: float | None
    norm: str | None
    place: str | None
    order: str | None
    alpha: float | str | None
    readout: str | None
    params: Any


def variances(
    init: str, gain: float | None, bias_scale: float | None, fan_in: int, fan_out: int
) -> tuple[float, float]:
    """sw2 = fan-in x Var W, and Var b. Xavier's is Glorot & Bengio 2010, eq. 16, He's He et al.
    2015, eq. 10; PyTorch's own, U(+-1/sqrt fan-in) for both, takes no gain."""
    square = 1.0 if gain is None else gain**2
    sw2 = {
        "pytorch": 1 / 3,
        "xavier": 2 * square * fan_in / (fan_in + fan_out),
        "he": 2 * square,
        "normal": square,
        "unit-normal": square * fan_in,
        "orthogonal": square,
    }[init]
    if bias_scale is not None:
        return sw2, bias_scale**2
    return sw2, 1 / (3 * fan_in) if init == "pytorch" else 0.0


def wide_of(spec: Stack, square: float = 1.0) -> Wide:
    """The stack as theory sees it; `square` is the mean square of an entry of h_0."""
    n, rows = spec.hidden, spec.batch
    alpha = _alpha(spec)
    shared = Wide(
        spec.arch,
        spec.activation or "relu",
        spec.steps,
        n,
        weights=_entries(spec),
        square=square,
        norm=spec.norm or "none",
        place=spec.place or "pre",
        outside=spec.order != "inside",
        alpha=alpha,
        all_features=spec.readout == "all",
    )
    if spec.arch == "transformer":
        blocks, logits = _blocks(spec, alpha)
        return shared._replace(rows=spec.tokens or 1, blocks=blocks, logits=logits)
    fans = [n * block for block in range(1, spec.steps + 1)] if spec.arch == "densenet" else [n]
    each = [variances(spec.init, spec.gain, spec.bias_scale, fan_in, n) for fan_in in fans]
    sw2, sb2 = ([pair[i] for pair in each] for i in (0, 1))
    if len(each) == 1:
        return shared._replace(sw2=sw2[0], sb2=sb2[0], rows=rows)
    return shared._replace(sw2=sw2, sb2=sb2, rows=rows)


def law_of(spec: Stack) -> Law | None:
    """The stack's law for `seqlab.measure.in_law.sample`, None where it has no such sampler: it is
    of random plain or residual stacks of one input, without a norm or with layer norm."""
    norm = spec.norm or "none"
    served = spec.arch in ("mlp", "resnet") and norm in ("none", "layer")
    if not served or spec.batch != 1 or spec.params is not None:
        return None
    sw2, sb2 = variances(spec.init, spec.gain, spec.bias_scale, spec.hidden, spec.hidden)
    return Law(
        spec.arch,
        spec.activation or "relu",
        spec.hidden,
        sw2,
        math.sqrt(sb2),
        spec.init == "pytorch" and spec.bias_scale is None,
        spec.init == "orthogonal",
        norm,
        spec.place or "pre",
        spec.order != "inside",
        _alpha(spec),
    )


def _alpha(spec: Stack) -> float:
    if spec.alpha is None:
        return 1.0
    return 1 / math.sqrt(spec.steps) if spec.alpha == "sqrt" else float(spec.alpha)


def _entries(spec: Stack) -> str:
    if spec.params is not None:
        return "given"
    return {"orthogonal": "orthogonal", "pytorch": "uniform", "xavier": "uniform"}.get(
        spec.init, "normal"
    )


def _blocks(spec: Stack, alpha: float) -> tuple[Blocks, float]:
    """A Transformer's maps with alpha in what the branches add, and the variance of a logit."""
    n, branch = spec.hidden, alpha**2
    own = spec.init == "pytorch"
    gain = 1.0 if own or spec.gain is None else spec.gain**2
    values, output, inner, outer, keys = (
        gain * scale for scale in (_PYTORCH_MAPS if own else _XAVIER_MAPS)
    )
    # Of attention PyTorch's biases are zero.
    bias = 0.0 if spec.bias_scale is None else spec.bias_scale**2
    inner_bias, outer_bias = (
        (1 / (3 * n), 1 / (12 * n)) if own and spec.bias_scale is None else (bias, bias)
    )
    blocks = Blocks(
        branch * values * output,
        inner,
        branch * outer,
        branch * (output + 1) * bias,
        inner_bias,
        branch * outer_bias,
    )
    return blocks, (keys + bias) ** 2
