"""What the recurrent cells share on a GPU: their two kernels, and how the host calls them.

A block takes one network and some of its sequences (forward) or of its bundle's rows (backward)
through all steps of a call, see product.py. Two barriers a step: one after the products, one after
the units. Numbers that only follow from a step's gradient (dL/dx, sums over time) are left to
products over all steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells.recurrent import biases
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call
from seqlab.kernels.cuda.chain import Row, chain, task_row
from seqlab.kernels.cuda.linalg import accumulate, project
from seqlab.kernels.cuda.product import Shape, product, room, shape_for
from seqlab.kernels.cuda.target import (
    LANES,
    Array,
    cuda,
    device,
    empty,
    kernel,
    launch,
    ldexp,
    to_device,
    to_host,
)
from seqlab.kernels.cuda.team import warp
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace


class Weights(NamedTuple):
    """E = W H pre-activations a step, of which the first Q H have a recurrent part.

    Forward `recurrent` (M, H, Q H) and `input` (M, I, E) with `bias` (M, E); back
    `recurrent_back` (M, Q H, H) and `input_back` (M, E, I). `code` is the rnn's activation.
    """

    recurrent: Array
    input: Array
    bias: Array
    recurrent_back: Array
    input_back: Array
    code: int = 0


@dataclass(frozen=True)
class Saved:
    """What a forward segment leaves on the device: `hidden` (M, S+1, B, H), before its first step
    and after each, and the adjoint's `factors` (M, S, B, C, H)."""

    hidden: Array
    factors: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S+1, B, H), after one that comes before it."""
        return self.hidden

    @property
    def coefficients(self) -> NDArray:
        """The adjoint's coefficients on the host."""
        return to_host(self.factors)


@cache
def _forward(shape: Shape, step: Callable[..., Any]) -> Any:
    real, units, rows, zero = shape.real, shape.units, shape.rows, shape.real(0)
    columns = shape.recurrent * units
    after, before = (rows, columns), (rows, units)
    own_size, shared_size = room(shape)
    load, multiply = product(shape, columns)

    @kernel
    def forward(recurrent, state, hidden, factors, code):
        """A block has up to `rows` sequences of a network, from the first step to the last."""
        sequences = factors.shape[2]
        groups = -(-sequences // rows)
        m, first = cuda.blockIdx.x // groups, cuda.blockIdx.x % groups * rows
        count = min(rows, sequences - first)
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        z = cuda.shared.array(after, real)
        h = cuda.shared.array(before, real)
        own = cuda.local.array(own_size, real)
        shared = cuda.shared.array(shared_size, real)
        load(recurrent, m, own, shared)
        for i in range(thread, rows * units, threads):
            r, j = i // units, i % units
            h[r, j] = state[m, first + r, 0, j] if r < count else zero
            if r < count:
                hidden[m, 0, first + r, j] = h[r, j]
        cuda.syncthreads()
        for s in range(factors.shape[1]):
            multiply(h, recurrent, m, own, shared, z)
            cuda.syncthreads()
            for i in range(thread, count * units, threads):
                r, j = i // units, i % units
                b = first + r
                step(z[r], factors[m, s, b], state[m, b], j, code)
                h[r, j] = state[m, b, 0, j]
                hidden[m, s + 1, b, j] = h[r, j]
            cuda.syncthreads()

    return forward


@device
def _loss_share(p, j, gradient, exponent, given, step, at):
    """The output is the first part of the state; see `chain`."""
    return ldexp(gradient[j], -exponent) if p == 0 else type(gradient[j])(0)


@cache
def _before_product(shape: Shape, row: Row, back: Callable[..., Any]) -> Any:
    units, gates = shape.units, shape.width
    inject_losses, rank = chain(row, _loss_share).inject_losses, row.team.rank

    @device
    def before_product(factors, rows, loss, piece, path, kept, s, at, dz):
        """A row's step back as far as the pre-activations' gradients dz (E). All of a warp."""
        state, exponent = rows.adjoint[at.task], rows.exponent[at.task]
        exponent = inject_losses(state, exponent, loss, factors, s, at, path, None)
        for j in range(rank(), units, LANES):
            back(state, factors[at.network, s, at.sequence], dz, j)
            if at.slot >= 0:
                for q in range(gates):
                    kept.values[at.slot, s - piece.lo, q * units + j] = dz[q * units + j]
        cuda.syncwarp()
        if rank() == 0:
            rows.exponent[at.task] = exponent
            if at.slot >= 0:
                kept.exponent[at.slot, s - piece.lo] = exponent

    return before_product


@cache
def _after_product(shape: Shape, row: Row) -> Any:
    units, blocks = shape.units, shape.recurrent
    finish_step, rank = chain(row, _loss_share).finish_step, row.team.rank

    @device
    def after_product(rows, rule, path, s, at, dh):
        """The rest of a row's step back, dh (Q H) being what each block of recurrent weights makes
        of dz. All of a warp."""
        state, exponent = rows.adjoint[at.task], rows.exponent[at.task]
        for j in range(rank(), units, LANES):
            for q in range(blocks):
                state[0, j] += dh[q * units + j]
        lag = rows.lag[at.task]
        exponent, acted = finish_step(state, exponent, lag, rule, s, at, path, None)
        if rank() == 0:
            rows.exponent[at.task] = exponent
            rows.fired[at.task] += acted
        cuda.syncwarp()

    return after_product


@cache
def _backward(shape: Shape, named: int, back: Callable[..., Any]) -> Any:
    real, units, rows, zero = shape.real, shape.units, shape.rows, shape.real(0)
    width = shape.width * units
    handed, given = (rows, width), (rows, shape.recurrent * units)
    own_size, shared_size = room(shape)
    load, multiply = product(shape, units)
    row = Row(warp(), named, real)
    before_product, after_product = _before_product(shape, row, back), _after_product(shape, row)

    @kernel
    def backward(weight, factors, bundle, loss, rule, piece, live, path, kept):
        """A block has up to `rows` rows of a network's bundle, a warp of its first ones has one."""
        sequences = factors.shape[2]
        groups = -(-sequences * live // rows)
        m, first = cuda.blockIdx.x // groups, cuda.blockIdx.x % groups * rows
        count = min(rows, sequences * live - first)
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        r = thread // LANES
        at = task_row(m, first + r, sequences, live, kept.rows)
        dz = cuda.shared.array(handed, real)
        dh = cuda.shared.array(given, real)
        own = cuda.local.array(own_size, real)
        shared = cuda.shared.array(shared_size, real)
        load(weight, m, own, shared)
        for i in range(thread, rows * width, threads):
            dz[i // width, i % width] = zero
        cuda.syncthreads()
        for s in range(piece.hi - 1, piece.lo - 1, -1):
            if r < count:
                before_product(factors, bundle, loss, piece, path, kept, s, at, dz[r])
            cuda.syncthreads()
            multiply(dz, weight, m, own, shared, dh)
            cuda.syncthreads()
            if r < count:
                after_product(bundle, rule, path, s, at, dh[r])

    return backward


class Recurrent:
    """The kernels of one recurrent cell, see any backend's cells.

    `gates` is Q and `coefficients` C, of which those in `never_zero` no finite state makes zero. Of
    the last `apart` gates the recurrent part and the input part are pre-activations apart, in this
    order after all others: the one has no input weights, the other no recurrent ones. Two device
    functions, which one thread calls by itself, take one unit j through a step:

    `step(z, k, state, j, code)`: z (Q H) is the recurrent part of the pre-activations, k (C, H)
    their input part on entry and the adjoint's coefficients on return, state (P, H) in place;

    `step_back(state, k, dz, j)`: state (P, H) becomes what of it goes on without the recurrent
    weights, k (C, H) are the coefficients, dz (E) the pre-activations' gradients.
    """

    def __init__(
        self,
        gates: int,
        coefficients: int,
        never_zero: Sequence[int],
        step: Callable[..., Any],
        step_back: Callable[..., Any],
        apart: int = 0,
    ) -> None:
        self._gates, self._coefficients, self._never_zero = gates, coefficients, list(never_zero)
        self._step, self._step_back, self._apart = step, step_back, apart

    def prepare(self, params: dict[str, NDArray], activation: str | None) -> Weights:
        """Lay one ensemble's parameters out for the kernels."""
        del activation
        recurrent, input = params["weight_hh"], params["weight_ih"]
        joined = (self._gates - self._apart) * recurrent.shape[2]
        first, last = slice(joined), slice(joined, None)
        ours, theirs = biases(params)
        no_input = np.zeros_like(input[:, last])
        input = np.concatenate([input[:, first], no_input, input[:, last]], axis=1)
        both = ours[:, first] + theirs[:, first]
        bias = np.concatenate([both, theirs[:, last], ours[:, last]], axis=1)
        forward = (recurrent.swapaxes(1, 2), input.swapaxes(1, 2), bias)
        return Weights._make([*map(to_device, (*forward, recurrent, input)), 0])

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, steps, sequences)."""
        networks, steps, sequences = lead
        return Saved(
            empty((networks, steps + 1, sequences, sizes.hidden), dtype),
            empty((networks, steps, sequences, self._coefficients, sizes.hidden), dtype),
        )

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a forward step of one sequence saves."""
        return (self._coefficients + 1) * sizes.hidden

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a backward step leaves for the sums over time, E H."""
        return (self._gates + self._apart) * sizes.hidden

    def forward(self, weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
        """Run a device's x (M, S, B, I) from `state` (M, B, P, H), left at the segment's end."""
        networks, steps, sequences, inputs = x.shape
        rows = steps * sequences
        shape = shape_for(weights.recurrent, weights.bias.shape[1], sequences)
        flat = saved.factors.reshape(networks, rows, saved.factors.shape[3] * shape.units)
        project(x.reshape(networks, rows, inputs), weights.input, weights.bias, flat)
        end = to_device(state)
        blocks = networks * -(-sequences // shape.rows)
        arrays = (weights.recurrent, end, saved.hidden, saved.factors, weights.code)
        launch(_forward(shape, self._step), blocks, shape.threads, *arrays)
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
        networks, sequences = bundle.exponent.shape[:2]
        shape = shape_for(weights.recurrent, weights.bias.shape[1], sequences * live)
        blocks = networks * -(-sequences * live // shape.rows)
        call = Call(bundle, losses, span, clip, live, trace, emitted)
        width, kernel = shape.width * shape.units, _backward(shape, call.named, self._step_back)
        for piece in call.pieces(call.fitting(width)):
            kept = call.room(piece, width)
            arrays = (weights.recurrent_back, saved.factors, call.rows, call.loss, call.rule)
            launch(kernel, blocks, shape.threads, *arrays, piece, live, call.path, kept)
            call.keep_gradients(piece, kept, weights.input_back)
        call.finish()

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
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
        """Add one call's share to the parameters' gradients in `out`.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
        carried sum, to the sums' scale.
        """
        networks, steps, sequences, width = emitted.values.shape
        dz = emitted.values.reshape(networks, steps * sequences, width)
        scale = to_device(factor[:, : steps * sequences])
        ones = to_device(np.ones((networks, steps * sequences, 1), factor.dtype))
        hidden = saved.hidden.reshape(networks, -1, saved.hidden.shape[3])
        inputs = cut(x, span.start + span.lo, span.start + span.hi)
        inputs = inputs.reshape(networks, steps * sequences, x.shape[3])
        recurrent, first = weights.recurrent.shape[2], span.lo * sequences
        apart = self._apart * weights.recurrent.shape[1]
        # Those of the E pre-activations that PyTorch's input weights have.
        rows = np.delete(np.arange(width), np.s_[recurrent - apart : recurrent])
        everything = slice(0, width)
        bias = to_host(accumulate(dz, everything, scale, ones, 0))[:, :, 0]
        into, within = biases(out)
        within += bias[:, :recurrent]
        into += bias[:, rows]
        back = slice(0, recurrent)
        out["weight_hh"] += to_host(accumulate(dz, back, scale, hidden, first))
        out["weight_ih"] += to_host(accumulate(dz, everything, scale, inputs, 0))[:, rows]

    def input_gradient(self, weights: Weights, emitted: Emitted, out: Array) -> None:
        """dL/dx of one call's steps, out (M, n*B, I) there, each at its emitted exponent."""
        dz = emitted.values.reshape(*out.shape[:2], weights.input_back.shape[1])
        project(dz, weights.input_back, None, out)
