"""Stacks of one input sampled in law: the curves of very wide, very deep, or very many stacks whose
weights would never fit, and need not exist.

Exact in law for Gaussian and Haar weights (`seqlab.measure.law_parts`); weights with another law of
the entries agree as n grows. Every length has the right law by itself: two lengths of one network
share the forward pass, and not what an adjoint sees of the weights across it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.tape import Tick, no_tick
from seqlab.measure.law_parts import (
    Back,
    Value,
    Weights,
    activation,
    chain,
    layer_norm,
    linear,
    logs,
    norms,
    rescaled,
    residual,
)
from seqlab.measure.randomness import Purpose, stream, unit_readout
from seqlab.numbers.activations import Activation, find_activation
from seqlab.wording import refuse

KEPT_BYTES = 256 << 20  # of saved arrays at once; beyond, pieces are drawn again on the way back
_AT_ONCE = 1 << 15  # numbers of all networks in one layer: what stays in a core's cache
_PIECE = 1 << 12  # numbers of one network in the layers of one stream
_SAVED = 6  # arrays that a layer keeps, at most


class Law(NamedTuple):
    """A stack of one input in law. `arch` mlp or resnet, `norm` none or layer; sw2 = n Var W
    (gain^2 of orthogonal weights), `bias` the standard deviation of biases; `place` pre or post and
    `outside` (the order h + alpha phi(W h)) are a resnet's."""

    arch: str
    activation: str
    width: int
    sw2: float
    bias: float = 0.0
    uniform_bias: bool = False
    orthogonal: bool = False
    norm: str = "none"
    place: str = "pre"
    outside: bool = True
    alpha: float = 1.0

    @property
    def weights(self) -> Weights:
        """The law of one layer's weights and biases."""
        return Weights(self.sw2, self.bias, self.orthogonal, self.uniform_bias)


class Sampled(NamedTuple):
    """Natural logs of norms by lag, (M, T + 1) for each length T, in rising order: `curves`, -inf
    where the adjoint is exactly zero.

    Of the longest length at `lags`, (M, lags) each: ln of the mean square of h, the share of
    its entries that are zero, and ln of the norms of dL/dW and dL/db of the layer that h left
    (nan at h_0, which no layer left). `log_norm_all` (M,) is that of all layers' gradients.
    """

    curves: list[NDArray]
    log_norm_all: NDArray
    log_square: NDArray
    zero_share: NDArray
    log_norm_weight: NDArray
    log_norm_bias: NDArray


def sample(
    law: Law,
    networks: range,
    seed: int,
    lengths: Sequence[int],
    lags: Sequence[int] = (),
    tick: Tick = no_tick,
) -> Sampled:
    """Networks by number, from h_0 ~ N(0, 1), for losses r . h_T with T in `lengths` (rising), r a
    random unit vector.

    A network is the same whatever others there are, and whatever of it fits into memory; of several
    lengths each is what it is alone. `tick` hears of layers done, `layers_of` in all. Raises
    InputError for a block that has no such sampler.
    """
    if law.arch not in ("mlp", "resnet"):
        raise refuse("arch", law.arch, "mlp or resnet is sampled in law")
    if law.norm not in ("none", "layer"):
        raise refuse("norm", law.norm, "none or layer is sampled in law")
    if law.norm == "layer" and law.width < 3:
        raise refuse("hidden", law.width, "3 or more under a layer norm, which leaves nothing else")
    at_once = _at_once(law, lengths[-1])
    parts = [networks[k : k + at_once] for k in range(0, len(networks), at_once)]
    done = [_Pass(law, part, seed, tick).sample(lengths, lags) for part in parts]
    curves = [np.concatenate(c) for c in zip(*(d.curves for d in done), strict=True)]
    return Sampled(curves, *map(np.concatenate, zip(*(d[1:] for d in done), strict=True)))


def layers_of(law: Law, networks: int, lengths: Sequence[int]) -> int:
    """Layers that so many networks take in all: forward, where their pieces are not kept forward
    again, and for each length back."""
    depth, piece, at_once = lengths[-1], _piece(law.width), _at_once(law, lengths[-1])
    total = networks * (depth + sum(lengths))
    for first in range(0, networks, at_once):
        count = min(at_once, networks - first)
        total += count * max(0, depth - piece * _pieces_kept(law.width, count))
    return total


def _at_once(law: Law, depth: int) -> int:
    """Networks that have room at once: states are kept at the start of every piece."""
    room = KEPT_BYTES // (8 * law.width * math.ceil(depth / _piece(law.width)))
    return max(1, min(room, _AT_ONCE // law.width))


def _pieces_kept(width: int, networks: int) -> int:
    """Pieces whose ways back are kept from the way there."""
    return KEPT_BYTES // max(1, 8 * _SAVED * networks * width * _piece(width))


def _piece(width: int) -> int:
    """Layers of one stream: by the width alone, so that memory has no say in the numbers."""
    return max(1, _PIECE // width)


class _Pass:
    """Some networks forward, and back for every length, piece by piece."""

    def __init__(self, law: Law, networks: range, seed: int, tick: Tick) -> None:
        self._law, self._networks, self._seed, self._tick = law, networks, seed, tick
        self._phi = find_activation(law.activation)
        self._piece = _piece(law.width)

    def sample(self, lengths: Sequence[int], lags: Sequence[int]) -> Sampled:
        """As `seqlab.measure.in_law.sample`."""
        count, depth, units = len(self._networks), lengths[-1], self._law.width
        self._curves = [np.full((count, length + 1), np.nan) for length in lengths]
        self._found = {depth - lag: column for column, lag in enumerate(lags)}
        self._table = np.full((4, count, len(lags)), np.nan)
        self._log_square = np.full(count, -np.inf)
        h = np.stack(
            [stream(self._seed, m, Purpose.DRIVE).standard_normal(units) for m in self._networks]
        )
        value = rescaled(Value(h, np.zeros((count, 1), np.int64)))
        self._observe(0, value)
        starts: list[Value] = []
        kept: list[list[Back]] = []
        room = _pieces_kept(units, count)
        for first in range(0, depth, self._piece):
            starts.append(value)
            value, backs = self._forward(value, first, min(depth, first + self._piece), first=True)
            kept.append(backs if len(kept) < room else [])
        adjoints: dict[int, tuple[NDArray, NDArray]] = {}
        readout = np.stack([unit_readout(self._seed, m, units) for m in self._networks])
        for index in reversed(range(len(starts))):
            first = index * self._piece
            backs = kept[index]
            kept[index] = []
            if not backs:
                backs = self._forward(starts[index], first, min(depth, first + self._piece))[1]
            for row, length in enumerate(lengths):
                if length > first:
                    start = adjoints.get(row) or (readout, np.zeros((count, 1), np.int64))
                    adjoints[row] = self._back(row, length, start, first, backs)
        log_square, zero_share, weight, bias = self._table
        return Sampled(self._curves, self._log_square / 2, log_square, zero_share, weight, bias)

    def _forward(
        self, value: Value, low: int, high: int, first: bool = False
    ) -> tuple[Value, list[Back]]:
        """Layers low + 1 .. high of one piece, and their ways back."""
        weights, backs = self._law.weights, []
        drawn = self._numbers(low, (high - low, weights.rows, self._law.width))
        for layer in range(low, high):
            value, back = _block(value, self._law, self._phi, drawn[:, layer - low])
            value = rescaled(value)
            backs.append(back)
            if first:
                self._observe(layer + 1, value)
        self._tick(len(self._networks) * (high - low), 0)
        return value, backs

    def _back(
        self,
        row: int,
        length: int,
        adjoint: tuple[NDArray, NDArray],
        first: int,
        backs: Sequence[Back],
    ) -> tuple[NDArray, NDArray]:
        """One length's adjoint and its exponent, back to layer `first`."""
        g, exponent = adjoint
        curve, high = self._curves[row], min(length, first + len(backs))
        if high == length:
            curve[:, 0] = logs(norms(g), exponent)
        drawn = self._numbers(first, (high - first, self._law.width), length)
        longest = row == len(self._curves) - 1
        for layer in range(high, first, -1):
            g, met = backs[layer - 1 - first](g, drawn[:, layer - 1 - first])
            column = self._found.get(layer)
            if longest and met is not None:
                log_delta = logs(met.delta[:, None], exponent)
                log_weight = log_delta + met.log_input
                for part in (log_weight, log_delta):
                    self._log_square = np.logaddexp(self._log_square, 2 * part)
                if column is not None:
                    self._table[2:, :, column] = log_weight, log_delta
            size = norms(g)
            curve[:, length - layer + 1] = logs(size, exponent)
            _, more = np.frexp(size)
            g, exponent = np.ldexp(g, -more), exponent + more
        self._tick(len(self._networks) * (high - first), 1)
        return g, exponent

    def _numbers(self, first: int, shape: tuple[int, ...], *length: int) -> NDArray:
        """Normal numbers (M, *shape) of the piece that begins at a layer: of the forward pass, or
        of a length's way back."""
        out = np.empty((len(self._networks), *shape))
        for array, m in zip(out, self._networks, strict=True):
            stream(self._seed, m, Purpose.IN_LAW, first // self._piece, *length).standard_normal(
                out=array
            )
        return out

    def _observe(self, layer: int, value: Value) -> None:
        """What is told of h_l, where it is asked for."""
        if (column := self._found.get(layer)) is not None:
            units = value.array.shape[1]
            log_norm = logs(norms(value.array), value.exponent)
            self._table[0, :, column] = 2 * log_norm - np.log(units)
            self._table[1, :, column] = np.mean(value.array == 0, axis=1)


def _block(value: Value, law: Law, phi: Activation, drawn: NDArray) -> tuple[Value, Back]:
    """One block of the stack from normal numbers (M, rows, n)."""

    def weights(z: Value) -> tuple[Value, Back]:
        return linear(z, law.weights, drawn)

    def phi_of(z: Value) -> tuple[Value, Back]:
        return activation(z, phi)

    norm = (layer_norm,) if law.norm == "layer" else ()
    if law.arch == "mlp":
        return chain(value, weights, *norm, phi_of)
    order = (weights, phi_of) if law.outside else (phi_of, weights)
    if law.place == "post":
        return chain(value, lambda z: residual(z, law.alpha, *order), *norm)
    return residual(value, law.alpha, *norm, *order)
