"""Initial draws of a layer's numbers: each of its maps, row by row, then its biases.

Variances are by the number of inputs of a map, as PyTorch counts them: `pytorch` is what nn.Linear
does, U(+-1/sqrt(inputs)) for weights and biases; `xavier` Glorot & Bengio 2010, eq. 16, uniform of
variance 2/(inputs + outputs); `he` He et al. 2015, eq. 10, 2/inputs; `normal` 1/inputs;
`unit-normal` 1, which is what many call random normal weights; `orthogonal` rows or columns of a
Haar matrix (Saxe et al. 2014). All but the first have a gain, and biases of a normal law or none.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.draws import haar
from seqlab.layers.parts import Linear
from seqlab.layers.stack import INNER, Stack

_SQUARES = {
    "xavier": lambda of: 2 / (of.inputs + of.outputs),
    "he": lambda of: 2 / of.inputs,
    "normal": lambda of: 1 / of.inputs,
    "unit-normal": lambda of: 1.0,
}
_UNIT = math.sqrt(3)  # uniform numbers up to here have a variance of one
SCALED = (*_SQUARES, "orthogonal")  # those that have a gain
INITS = ("pytorch", *SCALED)
TRANSFORMER_INITS = ("pytorch", "xavier")


class Draw(NamedTuple):
    """How weights are drawn: an `init` with its gain, None for pytorch's, and the standard
    deviation of the biases, None for none or pytorch's own."""

    init: str
    gain: float | None = None
    bias_scale: float | None = None


class Moments(NamedTuple):
    """Of one map: its inputs times the variance of a weight, and the variance of a bias."""

    sw2: float
    sb2: float


def moments(of: Linear, how: Draw) -> Moments:
    """What theory knows of a map that is drawn so."""
    own = 1 / (3 * of.inputs) if how.init == "pytorch" else 0.0
    sb2 = own if how.bias_scale is None else how.bias_scale**2
    if how.init == "pytorch":
        return Moments(1 / 3, sb2)
    gain = 1.0 if how.gain is None else how.gain
    if how.init == "orthogonal":  # entries of orthonormal rows or columns
        return Moments(gain**2 * of.inputs / max(of.outputs, of.inputs), sb2)
    return Moments(gain**2 * of.inputs * _SQUARES[how.init](of), sb2)


def draw_layer(rng: np.random.Generator, stack: Stack, layer: int, how: Draw) -> NDArray:
    """The numbers of one layer of one network, float64."""
    if stack.arch == "transformer":
        return _draw_transformer(rng, stack, how)
    (of,) = stack.maps(layer)
    return np.concatenate([part.ravel() for part in draw_map(rng, of, how)])


def draw_map(rng: np.random.Generator, of: Linear, how: Draw) -> tuple[NDArray, NDArray]:
    """W (outputs, inputs) and b (outputs)."""
    shape = (of.outputs, of.inputs)
    bound = 1 / math.sqrt(of.inputs)
    if how.init == "pytorch":
        weight = rng.uniform(-bound, bound, shape)
        bias = rng.uniform(-bound, bound, of.outputs)
    else:
        gain = 1.0 if how.gain is None else how.gain
        if how.init == "orthogonal":
            weight = gain * haar(rng, *shape)
        else:
            drawn = rng.uniform(-_UNIT, _UNIT, shape) if how.init == "xavier" else None
            weight = rng.standard_normal(shape) if drawn is None else drawn
            weight *= gain * math.sqrt(_SQUARES[how.init](of))
        bias = np.zeros(of.outputs)
    if how.bias_scale is not None:
        bias = how.bias_scale * rng.standard_normal(of.outputs)
    return weight, bias


def _draw_transformer(rng: np.random.Generator, stack: Stack, how: Draw) -> NDArray:
    """As torch.nn.TransformerEncoderLayer makes it: the map to queries, keys and values as one
    matrix of Xavier's law without bias, the other maps as nn.Linear does, but the output map's bias
    zero. `xavier` draws every matrix by Xavier's law, queries, keys and values each by themselves,
    times the gain, and no bias."""
    n = stack.width

    def xavier(outputs: int, inputs: int) -> NDArray:
        return rng.uniform(-1, 1, outputs * inputs) * math.sqrt(6 / (outputs + inputs))

    def default(outputs: int, inputs: int) -> NDArray:
        return rng.uniform(-1, 1, outputs * inputs) / math.sqrt(inputs)

    if how.init == "xavier":
        gain = 1.0 if how.gain is None else how.gain
        maps = [np.concatenate([xavier(n, n) for _ in range(3)])]
        maps += [xavier(n, n), xavier(INNER * n, n), xavier(n, INNER * n)]
        biases = [np.zeros(one.outputs) for one in stack.maps(0)]
        maps = [gain * one for one in maps]
    else:
        maps = [xavier(3 * n, n), default(n, n), default(INNER * n, n), default(n, INNER * n)]
        biases = [np.zeros(3 * n), np.zeros(n)]
        biases += [
            rng.uniform(-1, 1, one.outputs) / math.sqrt(one.inputs) for one in stack.maps(0)[2:]
        ]
    return np.concatenate([x for pair in zip(maps, biases, strict=True) for x in pair])
