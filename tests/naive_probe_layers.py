"""The slow truth of a probe through depth: a Jacobian a block, by the complex step, with a scale.

A block is a function of a whole state, an array of any shape that may be complex, to the next one;
nothing here comes from seqlab or PyTorch. Weights are named as PyTorch names them.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from naive_functions import Array, Params, sigmoid

Block = Callable[[Array], Array]
_NUDGE = 1e-200  # its square is zero: the imaginary part is the derivative, rounded once


def relu(z: Array) -> Array:
    return np.where(z.real > 0, z, 0)


ACTIVATIONS = {"sigmoid": sigmoid, "relu": relu, "tanh": np.tanh}


def dense(weight: Array, bias: Array, activation: str) -> Block:
    """phi(W s + b) of states (B, units)."""
    return lambda s: ACTIVATIONS[activation](s @ weight.T + bias)


def layer_norm(s: Array, weight: Array, bias: Array, eps: float = 1e-5) -> Array:
    centred = s - s.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def pre_norm(params: Params) -> Block:
    """s + tanh(W LN(s) + b)."""

    def block(s: Array) -> Array:
        normed = layer_norm(s, params["norm.weight"], params["norm.bias"])
        return s + np.tanh(normed @ params["linear.weight"].T + params["linear.bias"])

    return block


def concatenated(weight: Array, bias: Array) -> Block:
    """[s, relu(W s + b)]."""
    return lambda s: np.concatenate([s, relu(s @ weight.T + bias)], axis=-1)


def transformer(params: Params, heads: int) -> Block:
    """A layer of `nn.TransformerEncoder`, norms after the sums, of states (B, T, units)."""

    def attention(s: Array) -> Array:
        projected = s @ params["self_attn.in_proj_weight"].T + params["self_attn.in_proj_bias"]
        seen = []
        three = (np.split(one, heads, -1) for one in np.split(projected, 3, -1))
        for query, key, value in zip(*three, strict=True):
            logits = query @ key.swapaxes(-1, -2) / math.sqrt(key.shape[-1])
            weights = np.exp(logits)
            seen.append(weights / weights.sum(axis=-1, keepdims=True) @ value)
        joined = np.concatenate(seen, axis=-1)
        out = params["self_attn.out_proj.weight"].T
        return joined @ out + params["self_attn.out_proj.bias"]

    def block(s: Array) -> Array:
        s = layer_norm(s + attention(s), params["norm1.weight"], params["norm1.bias"])
        inner = relu(s @ params["linear1.weight"].T + params["linear1.bias"])
        s = s + inner @ params["linear2.weight"].T + params["linear2.bias"]
        return layer_norm(s, params["norm2.weight"], params["norm2.bias"])

    return block


def jacobian(block: Block, state: Array) -> Array:
    """d(new state)[i] / d(state)[j] at [i, j], of flat entries."""
    columns = []
    for j in range(state.size):
        nudged = state.astype(complex)
        nudged.flat[j] += 1j * _NUDGE
        columns.append(block(nudged).imag.ravel() / _NUDGE)
    return np.stack(columns, axis=1)


def curve(blocks: Sequence[Block], state: Array, gradient: Callable[[Array], Array]) -> Array:
    """Natural logs of the adjoint's norm at lags 0..T, from the last state on: `gradient` is the
    loss's gradient of it, of the same shape."""
    states = [state]
    for block in blocks:
        states.append(block(states[-1]))
    adjoint, exponent, found = gradient(states[-1]).ravel(), 0, []
    for lag in range(len(blocks) + 1):
        if lag:
            t = len(blocks) - lag
            adjoint = jacobian(blocks[t], states[t]).T @ adjoint
        shift = math.frexp(np.abs(adjoint).max())[1]
        adjoint, exponent = np.ldexp(adjoint, -shift), exponent + shift
        norm = math.hypot(*adjoint)
        found.append(math.log(norm) + exponent * math.log(2) if norm else -math.inf)
    return np.array(found)
