"""Cells of one state a unit that is their output, on a GPU: h_t = a(z_t) h_{t-1} + b(z_t), unit by
unit, where z = W x + b comes from the input alone.

The pre-activations are a product over all steps, the states parallel over chunks of time, see
diagonal.py. Every state is kept, as an output, so that nothing is computed again on the way back: a
block carries one row's adjoint and keeps it at every step, from which the gradients of all steps
follow side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels.cuda import diagonal
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call, Kept, Piece
from seqlab.kernels.cuda.linalg import accumulate, project, real_type
from seqlab.kernels.cuda.target import (
    Array,
    block_size,
    cuda,
    device,
    empty,
    kernel,
    launch,
    ldexp,
    to_device,
    to_host,
)
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace


class Weights(NamedTuple):
    """The layers' weights, one beside the other: `forward` (M, I, Q H) with `bias` (M, Q H) and
    `back` (M, Q H, I)."""

    forward: Array
    back: Array
    bias: Array


@dataclass(frozen=True)
class Saved:
    """What a forward segment leaves on the device: the outputs `hidden` (M, S, B, H) and the
    adjoint's `factors` (M, S, B, C, H), which begin as the pre-activations (.., Q, H)."""

    hidden: Array
    factors: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S, B, H)."""
        return self.hidden

    @property
    def coefficients(self) -> NDArray:
        """The adjoint's coefficients on the host."""
        return to_host(self.factors)


@device
def _decay(rate, time):
    """A step's time is what it leaves of a state."""
    return time


@device
def _product(first, second):
    return first * second


@cache
def _law(step: Callable[..., Any]) -> diagonal.Law:
    @device
    def time(factors, m, s, b, d):
        k = factors[m, s, b]
        return step(k, type(k[0, d])(0), d)[1]

    @device
    def advance(factors, rates, m, s, b, d, state):
        state[0] = step(factors[m, s, b], state[0], d)[0]

    return diagonal.Law(diagonal.no_rate, time, _decay, advance, _product, 1.0)


@cache
def _record(save_step: Callable[..., Any]) -> Callable[..., Any]:
    @device
    def record(factors, rates, hidden, slot, i, m, s, b, d, state):
        """See `diagonal.replay`: the state and the factors."""
        state[0] = save_step(factors[m, s, b], state[0], d)
        hidden[m, s, b, d] = state[0]

    return record


@device
def _shared(factors, m, s, b, d, state):
    return factors[m, s, b, 0, d]


@device
def _carry(factors, m, s, b, n, d, g, factor):
    return g * factor


@device
def _loss_share(p, j, gradient, exponent, factors, step, at):
    """The output is the state; see `chain`."""
    return ldexp(gradient[j], -exponent)


_BACK = diagonal.Back(_shared, _carry, _loss_share)


@cache
def _gradients(step_back: Callable[..., Any]) -> Any:
    @kernel
    def gradients(factors, piece, kept, out):
        """The pre-activations' gradients of a step, from its adjoint. A block has one step of one
        row."""
        steps, sequences = piece.hi - piece.lo, factors.shape[2]
        slot, i = cuda.blockIdx.x // steps, cuda.blockIdx.x % steps
        group = slot // kept.rows
        k = factors[group // sequences, piece.lo + i, group % sequences]
        for j in range(cuda.threadIdx.x, k.shape[1], cuda.blockDim.x):
            step_back(kept.values[slot, i, 0, j], k, out[slot, i], j)

    return gradients


class DiagonalUnits:
    """The kernels of one such cell, see any backend's cells.

    `layers` names the Q linear layers of the input, each with parameters of its own,
    `<layer>_weight` (H, I) and `<layer>_bias` (H,); `coefficients` is C, of which those in
    `never_zero` no finite state makes zero, and the first is what a step leaves of the state; there
    are Q or more. Three device functions, which one thread calls by itself, take one unit j through
    a step:

    `step(k, h, j)`: h_t from the pre-activations k (Q, H) and h_{t-1}, and the first coefficient;

    `save_step(k, h, j)`: the same h_t; writes the adjoint's coefficients k (C, H) in their place;

    `step_back(dh, k, dz, j)`: from dL/dh_t writes dz (Q H,).
    """

    def __init__(
        self,
        layers: Sequence[str],
        coefficients: int,
        never_zero: Sequence[int],
        step: Callable[..., Any],
        save_step: Callable[..., Any],
        step_back: Callable[..., Any],
    ) -> None:
        self._layers, self._coefficients = layers, coefficients
        self._never_zero = list(never_zero)
        self._step, self._save_step, self._step_back = step, save_step, step_back

    def prepare(self, params: dict[str, NDArray], activation: str | None) -> Weights:
        """Lay one ensemble's parameters out for the kernels."""
        del activation
        weight, bias = (
            np.concatenate([params[f"{layer}_{kind}"] for layer in self._layers], axis=1)
            for kind in ("weight", "bias")
        )
        return Weights._make(map(to_device, (weight.swapaxes(1, 2), weight, bias)))

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, steps, sequences)."""
        units = sizes.hidden
        return Saved(empty((*lead, units), dtype), empty((*lead, self._coefficients, units), dtype))

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a forward step of one sequence saves."""
        return (self._coefficients + 1) * sizes.hidden

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a backward step leaves for the sums over time, Q H."""
        return len(self._layers) * sizes.hidden

    def forward(self, weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
        """Run a device's x (M, S, B, I) from `state` (M, B, 1, H), left at the segment's end."""
        networks, steps, sequences, inputs = x.shape
        rows = steps * sequences
        flat = saved.factors.reshape(networks, rows, self._coefficients * state.shape[3])
        project(x.reshape(networks, rows, inputs), weights.forward, weights.bias, flat)
        end, law, record = to_device(state), _law(self._step), _record(self._save_step)
        chunks = -(-steps // diagonal.CHUNK)
        starts = empty((networks, chunks, sequences, *state.shape[2:]), real_type(x))
        diagonal.join(law, saved.factors, steps, end, starts)
        numbers = range(networks * chunks * sequences)
        diagonal.replay(law.rate, record, saved.factors, steps, starts, numbers, saved.hidden)
        to_host(end, state)

    def backward(
        self,
        weights: Weights,
        saved: Saved,
        bundle: Bundle,
        losses: Losses,
        span: Span,
        clip: Clip,
        live: int,
        trace: Trace,
        emitted: Emitted,
    ) -> None:
        """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
        call = Call(bundle, losses, span, clip, live, trace, emitted)
        width = weights.bias.shape[1] + bundle.adjoint.shape[4]
        for piece in call.pieces(call.fitting(width) if call.keeps_gradients else span.hi):
            kept = diagonal.back(_BACK, saved.factors, call, piece)
            if call.keeps_gradients:
                call.keep_gradients(piece, self._of_steps(saved, piece, kept), weights.back)
        call.finish()

    def _of_steps(self, saved: Saved, piece: Piece, kept: Kept) -> Kept:
        """dz of a piece's steps from the adjoints that they kept."""
        slots, steps, _, units = kept.values.shape
        out = empty((slots, steps, len(self._layers) * units), real_type(kept.values))
        arrays = (saved.factors, piece, kept, out)
        launch(_gradients(self._step_back), slots * steps, block_size(units), *arrays)
        return Kept(out, kept.exponent, kept.rows)

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
        """The smallest factor of one sequence's step back among those that no finite state makes
        zero: where it is all but zero, a gradient may have left the dtype's range."""
        del weights
        return float(saved.coefficients[m, step, b, self._never_zero].min())

    def add_gradients(
        self,
        weights: Weights,
        saved: Saved,
        x: Array,
        span: Span,
        emitted: Emitted,
        factor: NDArray,
        out: dict[str, NDArray],
    ) -> None:
        """Add one call's share to the parameter gradients in `out`.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
        carried sum, to the sums' scale.
        """
        del weights, saved
        networks, steps, sequences, width = emitted.values.shape
        rows, units = steps * sequences, width // len(self._layers)
        dz, scale = emitted.values.reshape(networks, rows, width), to_device(factor[:, :rows])
        inputs = cut(x, span.start + span.lo, span.start + span.hi)
        ones = to_device(np.ones((networks, rows, 1), factor.dtype))
        everything = slice(0, width)
        weight = to_host(
            accumulate(dz, everything, scale, inputs.reshape(networks, rows, x.shape[3]), 0)
        )
        bias = to_host(accumulate(dz, everything, scale, ones, 0))[:, :, 0]
        for q, layer in enumerate(self._layers):
            own = slice(q * units, (q + 1) * units)
            out[f"{layer}_weight"] += weight[:, own]
            out[f"{layer}_bias"] += bias[:, own]

    def input_gradient(self, weights: Weights, emitted: Emitted, out: Array) -> None:
        """dL/dx of one call's steps, out (M, n*B, I) there, each at its emitted exponent."""
        dz = emitted.values.reshape(*out.shape[:2], emitted.values.shape[3])
        project(dz, weights.back, None, out)
