"""Deep stacks, one network at a time in float64, from their equations: forward, adjoint, records.

Imports nothing from seqlab. Every part gives its output and its way back, a function that takes
dL/d(output) to dL/d(input) and the gradients of its parameters by name. h has shape (rows, units):
the inputs of a batch, or the tokens of a sequence.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from naive_rules import clip_handed
from scipy.special import erf

Array = npt.NDArray[np.float64]
Gradients = dict[str, Array]
Back = Callable[[Array], tuple[Array, Gradients]]
Part = tuple[Array, Back]


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + e), e / (1 + e))


def _cdf(z: Array) -> Array:
    return (1 + erf(z / math.sqrt(2))) / 2


def _density(z: Array) -> Array:
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


SELU = (1.0507009873554805, 1.6732632423543772)

# phi and phi', with the slope of the left side at a kink.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (lambda z: z, lambda z: np.ones_like(z)),
    "sigmoid": (_sigmoid, lambda z: _sigmoid(z) * _sigmoid(-z)),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "erf": (lambda z: np.asarray(erf(z)), lambda z: 2 / math.sqrt(math.pi) * np.exp(-(z**2))),
    "relu": (lambda z: np.where(z > 0, z, 0), lambda z: np.where(z > 0, 1.0, 0)),
    "leaky": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01)),
    "prelu": (lambda z: np.where(z > 0, z, 0.25 * z), lambda z: np.where(z > 0, 1, 0.25)),
    "elu": (
        lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
        lambda z: np.where(z > 0, 1, np.exp(np.minimum(z, 0))),
    ),
    "selu": (
        lambda z: SELU[0] * np.where(z > 0, z, SELU[1] * (np.exp(np.minimum(z, 0)) - 1)),
        lambda z: SELU[0] * np.where(z > 0, 1, SELU[1] * np.exp(np.minimum(z, 0))),
    ),
    "gelu": (lambda z: z * _cdf(z), lambda z: _cdf(z) + z * _density(z)),
    "silu": (
        lambda z: z * _sigmoid(z),
        lambda z: _sigmoid(z) + z * _sigmoid(z) * _sigmoid(-z),
    ),
    "softplus": (lambda z: np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0), _sigmoid),
}


def linear(h: Array, weight: Array, bias: Array) -> Part:
    """h W^T + b, W (out, in)."""

    def back(g: Array) -> tuple[Array, Gradients]:
        return g @ weight, {"weight": g.T @ h, "bias": g.sum(axis=0)}

    return h @ weight.T + bias, back


def activation(z: Array, name: str) -> Part:
    """phi(z)."""
    value, slope = ACTIVATIONS[name]
    return value(z), lambda g: (g * slope(z), {})


def norm(z: Array, kind: str, eps: float) -> Part:
    """(z - mean)/sqrt(variance + eps): `batch` over rows, `layer` over units, `group:G` over the
    units of each of G groups.

    What is left of the adjoint has no component along 1 and, at eps = 0, along the output. With two
    rows at eps = 0 nothing is left: an exact zero, not what rounding makes of it.
    """
    rows, units = z.shape
    if kind == "batch":
        shape, axis = (rows, units), 0
    else:
        groups = 1 if kind == "layer" else int(kind.partition(":")[2])
        shape, axis = (rows * groups, units // groups), 1
    grouped = z.reshape(shape)
    centred = grouped - grouped.mean(axis=axis, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=axis, keepdims=True) + eps)
    out = centred / scale

    def back(g: Array) -> tuple[Array, Gradients]:
        if shape[axis] == 2 and eps == 0:
            return np.zeros_like(g), {}
        g = g.reshape(shape)
        along_one = g.mean(axis=axis, keepdims=True)
        along_out = (g * out).mean(axis=axis, keepdims=True) * out
        return ((g - along_one - along_out) / scale).reshape(rows, units), {}

    return out.reshape(rows, units), back


def attention(h: Array, params: Gradients, heads: int) -> Part:
    """Multi-head self-attention: softmax(Q K^T/sqrt(d/heads)) V of each head, then the output map;
    names and layouts of torch.nn.MultiheadAttention."""
    tokens, width = h.shape
    each = width // heads
    mixed = h @ params["in_proj_weight"].T + params["in_proj_bias"]
    q, k, v = (part.reshape(tokens, heads, each) for part in np.split(mixed, 3, axis=1))
    scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(each)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    seen = np.einsum("hts,shd->thd", weights, v).reshape(tokens, width)
    out = seen @ params["out_proj.weight"].T + params["out_proj.bias"]

    def back(g: Array) -> tuple[Array, Gradients]:
        grads = {"out_proj.weight": g.T @ seen, "out_proj.bias": g.sum(axis=0)}
        g = (g @ params["out_proj.weight"]).reshape(tokens, heads, each)
        dv = np.einsum("hts,thd->shd", weights, g)
        dw = np.einsum("thd,shd->hts", g, v)
        ds = weights * (dw - (dw * weights).sum(axis=2, keepdims=True)) / math.sqrt(each)
        dq, dk = np.einsum("hts,shd->thd", ds, k), np.einsum("hts,thd->shd", ds, q)
        mixed = np.concatenate([d.reshape(tokens, width) for d in (dq, dk, dv)], axis=1)
        grads |= {"in_proj_weight": mixed.T @ h, "in_proj_bias": mixed.sum(axis=0)}
        return mixed @ params["in_proj_weight"], grads

    return out, back


def chain(h: Array, *parts: Callable[[Array], Part]) -> Part:
    """One part after the other."""
    backs = []
    for part in parts:
        h, back = part(h)
        backs.append(back)

    def whole(g: Array) -> tuple[Array, Gradients]:
        grads: Gradients = {}
        for back in reversed(backs):
            g, more = back(g)
            grads |= more
        return g, grads

    return h, whole


def residual(h: Array, branch: Part, alpha: float) -> Part:
    """h + alpha F(h)."""
    out, branch_back = branch

    def back(g: Array) -> tuple[Array, Gradients]:
        through, grads = branch_back(alpha * g)
        return g + through, grads

    return h + alpha * out, back


def apart(parts: list[Part]) -> Part:
    """The same part of one sequence after the other."""
    ends = np.cumsum([len(out) for out, _ in parts])[:-1]

    def back(g: Array) -> tuple[Array, Gradients]:
        found = [part(own) for (_, part), own in zip(parts, np.split(g, ends), strict=True)]
        grads = {name: sum(one[name] for _, one in found) for name in found[0][1]}
        return np.concatenate([own for own, _ in found]), grads

    return np.concatenate([out for out, _ in parts]), back


def named(prefix: str, part: Part) -> Part:
    """The same, its gradients' names after a prefix."""
    out, part_back = part

    def back(g: Array) -> tuple[Array, Gradients]:
        g, grads = part_back(g)
        return g, {f"{prefix}{name}": value for name, value in grads.items()}

    return out, back


class Stack(NamedTuple):
    """What all blocks of a stack share; of several sequences that are rows together each has so
    many `tokens`, 0 for one; `place` is where the norm of a residual or a Transformer
    block stands, `outside` the order h + alpha phi(W h), else h + alpha W phi(h)."""

    arch: str
    activation: str = "relu"
    norm: str = "none"
    place: str = "pre"
    outside: bool = True
    alpha: float = 1.0
    heads: int = 1
    eps: float = 0.0
    tokens: int = 0


def block(h: Array, stack: Stack, params: Gradients) -> Part:
    """One block. A densenet's h holds all features that there are, and gains the new ones."""

    def norm_part(z: Array) -> Part:
        return (z, lambda g: (g, {})) if stack.norm == "none" else norm(z, stack.norm, stack.eps)

    def weights(z: Array) -> Part:
        return linear(z, params["weight"], params["bias"])

    def phi(z: Array) -> Part:
        return activation(z, stack.activation)

    if stack.arch == "mlp":
        return chain(h, weights, norm_part, phi)
    if stack.arch == "resnet":
        order = (weights, phi) if stack.outside else (phi, weights)
        if stack.place == "post":
            return chain(h, lambda z: residual(z, chain(z, *order), stack.alpha), norm_part)
        return residual(h, chain(h, norm_part, *order), stack.alpha)
    if stack.arch == "densenet":
        new, new_back = chain(h, weights, norm_part, phi)

        def back(g: Array) -> tuple[Array, Gradients]:
            through, grads = new_back(g[:, h.shape[1] :])
            return g[:, : h.shape[1]] + through, grads

        return np.concatenate([h, new], axis=1), back
    return _transformer(h, stack, params)


def _transformer(h: Array, stack: Stack, params: Gradients) -> Part:
    """torch.nn.TransformerEncoderLayer without dropout, its norms as they begin."""
    inner = {k.removeprefix("self_attn."): v for k, v in params.items() if k.startswith("self")}

    tokens = stack.tokens or len(h)

    def look(z: Array) -> Part:
        parts = [z[first : first + tokens] for first in range(0, len(z), tokens)]
        return named("self_attn.", apart([attention(one, inner, stack.heads) for one in parts]))

    def feed(z: Array) -> Part:
        return chain(
            z,
            lambda z: named(
                "linear1.", linear(z, params["linear1.weight"], params["linear1.bias"])
            ),
            lambda z: activation(z, stack.activation),
            lambda z: named(
                "linear2.", linear(z, params["linear2.weight"], params["linear2.bias"])
            ),
        )

    def normed(z: Array) -> Part:
        return norm(z, "layer", stack.eps)

    def half(branch: Callable[[Array], Part]) -> Callable[[Array], Part]:
        if stack.place == "pre":
            return lambda z: residual(z, chain(z, normed, branch), stack.alpha)
        return lambda z: chain(z, lambda y: residual(y, branch(y), stack.alpha), normed)

    return chain(h, half(look), half(feed))


class Path(NamedTuple):
    """h_0 .. h_L, and the ways back through the blocks."""

    states: list[Array]
    backs: list[Back]


def forward(h: Array, stack: Stack, layers: Sequence[Gradients]) -> Path:
    """Through all blocks."""
    path = Path([h], [])
    for params in layers:
        h, back = block(h, stack, params)
        path.states.append(h)
        path.backs.append(back)
    return path


class Adjoints(NamedTuple):
    """By lag, blocks back from the loss: ln of the norm of dL/dh, of a densenet's newest features
    alone; dL/dh itself, as ln of a scale and what is to be multiplied by it; by block, last first,
    the gradients of its parameters likewise."""

    log_norm: Array
    states: list[tuple[float, Array]]
    gradients: list[tuple[float, Gradients]]


def adjoints(path: Path, stack: Stack, readout: Array, clip: str = "none") -> Adjoints:
    """Of the loss sum(readout h_L), in log scale. Scales are powers of two, which are exact. A
    `clip` rule inside the chain acts on the whole of what is handed back, all samples together, of
    a densenet all features."""
    scale, g = _rescaled(0.0, readout)
    states, gradients = [(scale, g)], []
    for lag, back in enumerate(reversed(path.backs), 1):
        g, grads = back(g)
        gradients.append((scale, grads))
        scale, g = _rescaled(scale, g)
        exponent = round(scale / math.log(2))
        ((g,),) = clip_handed(clip, (g[np.newaxis],), lag, [exponent])
        states.append((scale, g))
    width = path.states[0].shape[1]
    logs = []
    for scale, g in states:
        size = float(np.linalg.norm(g[:, -width:] if stack.arch == "densenet" else g))
        logs.append(scale + math.log(size) if size > 0 else -math.inf)
    return Adjoints(np.array(logs), states, gradients)


def _rescaled(scale: float, g: Array) -> tuple[float, Array]:
    """The same with the largest entry between a half and one."""
    exponent = int(np.frexp(np.abs(g).max())[1])
    return scale + exponent * math.log(2), np.ldexp(g, -exponent)


def shares(h: Array) -> dict[str, float]:
    """Of activations (rows, units): entries that are zero, units that are for all rows, units that
    never are."""
    zero = h == 0
    return {
        "zero": float(zero.mean()),
        "dead": float(zero.all(axis=0).mean()),
        "always_on": float((~zero).all(axis=0).mean()),
    }


def cosine(h: Array) -> float:
    """The mean cosine of two different rows."""
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    rows = len(h)
    return float((np.sum(unit @ unit.T) - rows) / (rows * (rows - 1)))


def draw(
    rng: np.random.Generator, stack: Stack, depth: int, width: int, init: str, gain: float = 1.0
) -> list[Gradients]:
    """The blocks' parameters: `pytorch`, or a normal law of variance sw2/fan-in with sw2 = gain^2
    for `normal` and `xavier`, 2 gain^2 for `he`, fan-in for `unit`; `orthogonal` is gain Q."""
    layers = []
    for index in range(depth):
        fan_in = width * (index + 1) if stack.arch == "densenet" else width
        if stack.arch == "transformer":
            layers.append(_draw_transformer(rng, width, init))
            continue
        bound = 1 / math.sqrt(fan_in)
        bias = np.zeros(width)
        if init == "pytorch":
            weight = rng.uniform(-bound, bound, (width, fan_in))
            bias = rng.uniform(-bound, bound, width)
        elif init == "orthogonal":
            q, r = np.linalg.qr(rng.normal(size=(width, fan_in)))
            weight = gain * q * np.sign(np.diag(r))
        else:
            sw2 = {"normal": 1.0, "xavier": 1.0, "he": 2.0, "unit": float(fan_in)}[init]
            weight = gain * math.sqrt(sw2) * bound * rng.normal(size=(width, fan_in))
        layers.append({"weight": weight, "bias": bias})
    return layers


def _draw_transformer(rng: np.random.Generator, width: int, init: str) -> Gradients:
    """As torch.nn.TransformerEncoderLayer makes it, or with `xavier` in all its maps; the inner
    width of the feed-forward network is four times the width."""
    inner = 4 * width

    def uniform(bound: float, *shape: int) -> Array:
        return rng.uniform(-bound, bound, shape)

    def xavier(rows: int, columns: int) -> Array:
        return uniform(math.sqrt(6 / (rows + columns)), rows, columns)

    params: dict[str, Any] = {
        "self_attn.in_proj_bias": np.zeros(3 * width),
        "self_attn.out_proj.bias": np.zeros(width),
        "linear1.bias": np.zeros(inner),
        "linear2.bias": np.zeros(width),
    }
    if init == "xavier":
        each = [xavier(width, width) for _ in range(3)]
        params["self_attn.in_proj_weight"] = np.concatenate(each)
        params["self_attn.out_proj.weight"] = xavier(width, width)
        params["linear1.weight"], params["linear2.weight"] = (
            xavier(inner, width),
            xavier(width, inner),
        )
        return params
    params["self_attn.in_proj_weight"] = xavier(3 * width, width)
    params["self_attn.out_proj.weight"] = uniform(1 / math.sqrt(width), width, width)
    for name, rows, columns in (("linear1", inner, width), ("linear2", width, inner)):
        params[f"{name}.weight"] = uniform(1 / math.sqrt(columns), rows, columns)
        params[f"{name}.bias"] = uniform(1 / math.sqrt(columns), rows)
    return params
