"""What the recurrent cells share on a GPU: their two kernels, and how the host calls them.

A block takes one network and up to ROWS of its sequences (forward) or of its bundle's rows
(backward) through all steps of a call. Its recurrent weights stay in the threads' registers for all
steps where a column fits there, else in shared memory where all of them fit, else neighbouring
threads read them side by side at every step; each read serves every row, and the sums have the same
order everywhere. Two barriers a step: one after the products, one after the units. Numbers that
only follow from a step's gradient (dL/dx, sums over time) are left to products over all steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.errors import InputError
from seqlab.kernels.cuda import chain
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call
from seqlab.kernels.cuda.linalg import accumulate, project, real_type
from seqlab.kernels.cuda.target import (
    LANES,
    SHARED_BYTES,
    Array,
    block_size,
    cuda,
    empty,
    kernel,
    launch,
    to_device,
    to_host,
)
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

STREAMED, SHARED, REGISTERS = range(3)  # where a block's recurrent weights are
REGISTER_BYTES = 256  # of one column's weights: what a thread can hold beside its sums

ROWS = 4  # that share one pass over the weights, where their shared memory fits


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


def weights(recurrent: NDArray, input: NDArray, bias: NDArray, code: int = 0) -> Weights:
    """Weights from PyTorch's layouts, (M, Q H, H), (M, E, I) and (M, E)."""
    forward = (recurrent.swapaxes(1, 2), input.swapaxes(1, 2), bias)
    return Weights._make([*map(to_device, (*forward, recurrent, input)), code])


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


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype, coefficients: int) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    return Saved(
        empty((networks, steps + 1, sequences, sizes.hidden), dtype),
        empty((networks, steps, sequences, coefficients, sizes.hidden), dtype),
    )


def saved_width(sizes: Sizes, coefficients: int) -> int:
    """Numbers that a forward step of one sequence saves."""
    return (coefficients + 1) * sizes.hidden


class Shape(NamedTuple):
    """What a kernel is compiled for: `rows` of a block, its `threads`, E/H and Q of Weights, and
    the `tier` of the recurrent weights."""

    real: type
    units: int
    width: int
    recurrent: int
    rows: int
    threads: int
    tier: int


def _shape(w: Weights, rows: int) -> Shape:
    """The largest block whose shared memory fits; InputError where not even one row's does."""
    real, units = real_type(w.recurrent), w.recurrent.shape[1]
    width, recurrent = w.bias.shape[1] // units, w.recurrent.shape[2] // units
    threads = block_size(recurrent * units)
    item = np.dtype(real).itemsize
    one = (width + recurrent) * units * item
    fitting = SHARED_BYTES // one
    if fitting < 1:
        most = SHARED_BYTES // ((width + recurrent) * item)
        raise InputError(
            f"hidden: {units} is not allowed on cuda; up to {most} for this cell and dtype, or "
            "backend cpu"
        )
    group = ROWS
    while group > fitting or group >= 2 * rows:
        group //= 2
    return Shape(real, units, width, recurrent, group, threads, _tier(w, group * one, threads))


def _tier(w: Weights, taken: int, threads: int) -> int:
    """The nearest place where the recurrent weights fit, beside `taken` bytes of shared memory."""
    units, columns = w.recurrent.shape[1:]
    item = np.dtype(real_type(w.recurrent)).itemsize
    if columns <= threads and units * item <= REGISTER_BYTES:
        return REGISTERS
    return SHARED if units * columns * item + taken <= SHARED_BYTES else STREAMED


def _room(shape: Shape) -> tuple[int, int]:
    """Weights that a thread and a block keep; no array is empty on a device."""
    everything = shape.recurrent * shape.units * shape.units
    return (
        shape.units if shape.tier == REGISTERS else 1,
        everything if shape.tier == SHARED else 1,
    )


@cache
def _forward(shape: Shape, step: Callable[..., Any]) -> Any:
    real, units, rows = shape.real, shape.units, shape.rows
    columns, zero, tier = shape.recurrent * units, real(0), shape.tier
    inside, before = (rows, columns), (rows, units)
    mine, ours = _room(shape)

    @kernel
    def forward(recurrent, state, hidden, factors, code):
        sequences = factors.shape[2]
        groups = -(-sequences // rows)
        m, first = cuda.blockIdx.x // groups, cuda.blockIdx.x % groups * rows
        count = min(rows, sequences - first)
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        z = cuda.shared.array(inside, real)
        h = cuda.shared.array(before, real)
        kept, shared = cuda.local.array(mine, real), cuda.shared.array(ours, real)
        if tier == REGISTERS:
            for k in range(units):
                kept[k] = recurrent[m, k, min(thread, columns - 1)]
        if tier == SHARED:
            for i in range(thread, units * columns, threads):
                shared[i] = recurrent[m, i // columns, i % columns]
        for i in range(thread, rows * units, threads):
            r, j = i // units, i % units
            h[r, j] = state[m, first + r, 0, j] if r < count else zero
            if r < count:
                hidden[m, 0, first + r, j] = h[r, j]
        cuda.syncthreads()
        for s in range(factors.shape[1]):
            for column in range(thread, columns, threads):
                total = cuda.local.array(rows, real)
                for r in range(rows):
                    total[r] = zero
                for k in range(units):
                    if tier == REGISTERS:
                        weight = kept[k]
                    elif tier == SHARED:
                        weight = shared[k * columns + column]
                    else:
                        weight = recurrent[m, k, column]
                    for r in range(rows):
                        total[r] += h[r, k] * weight
                for r in range(rows):
                    z[r, column] = total[r]
            cuda.syncthreads()
            for i in range(thread, count * units, threads):
                r, j = i // units, i % units
                b = first + r
                step(z[r], factors[m, s, b], state[m, b], j, code)
                h[r, j] = state[m, b, 0, j]
                hidden[m, s + 1, b, j] = h[r, j]
            cuda.syncthreads()

    return forward


def forward(step: Callable[..., Any], w: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, P, H), left at the segment's end.

    `step(z, k, state, j, code)` is one unit's step: z (Q H) the recurrent part of the
    pre-activations, k (C, H) their input part on entry and the adjoint's coefficients on return,
    state (P, H) in place.
    """
    networks, steps, sequences, inputs = x.shape
    rows = steps * sequences
    shape = _shape(w, sequences)
    flat = saved.factors.reshape(networks, rows, saved.factors.shape[3] * shape.units)
    project(x.reshape(networks, rows, inputs), w.input, w.bias, flat)
    end = to_device(state)
    blocks = networks * -(-sequences // shape.rows)
    arrays = (w.recurrent, end, saved.hidden, saved.factors, w.code)
    launch(_forward(shape, step), blocks, shape.threads, *arrays)
    to_host(end, state)


@cache
def _backward(shape: Shape, back: Callable[..., Any]) -> Any:
    real, units, rows, zero = shape.real, shape.units, shape.rows, shape.real(0)
    width, gates, blocks = shape.width * units, shape.width, shape.recurrent
    threads, columns, warps = shape.threads, blocks * units, shape.threads // LANES
    handed, given = (rows, width), (blocks, rows, units)
    tier, (mine, ours) = shape.tier, _room(shape)
    team = chain.warp()
    rank, (inject, normalise, heard, settle, write) = team.rank, chain.chain(team, 1, real)

    @kernel
    def backward(weight, factors, bundle, loss, readout, rule, piece, live, path, left):
        sequences = factors.shape[2]
        tasks = sequences * live
        groups = -(-tasks // rows)
        m, first = cuda.blockIdx.x // groups, cuda.blockIdx.x % groups * rows
        count = min(rows, tasks - first)
        thread = cuda.threadIdx.x
        dz = cuda.shared.array(handed, real)
        dh = cuda.shared.array(given, real)
        kept, shared = cuda.local.array(mine, real), cuda.shared.array(ours, real)
        if tier == REGISTERS:
            last = min(thread, columns - 1)
            for k in range(units):
                kept[k] = weight[m, last // units * units + k, last % units]
        if tier == SHARED:
            for i in range(thread, columns * units, threads):
                shared[i] = weight[m, i // units, i % units]
        for i in range(thread, rows * width, threads):
            dz[i // width, i % width] = zero
        cuda.syncthreads()
        for s in range(piece.hi - 1, piece.lo - 1, -1):
            at = piece.top - 1 - s
            for r in range(thread // LANES, count, warps):
                task, b, row = m * tasks + first + r, (first + r) // live, (first + r) % live
                state, exponent, loud = bundle.adjoint[task], bundle.exponent[task], False
                if s >= loss.first:
                    gradient = loss.gradient[task, s - loss.first]
                    exponent, loud = inject(state, exponent, gradient, readout, None)
                if s >= loss.first or at == 0:
                    exponent, head, rest = normalise(state, exponent, None)
                    exponent = heard(exponent, loud)
                    if at == 0:
                        write(path, task, at, exponent, head, rest)
                slot = (m * sequences + b) * left.rows + row
                for j in range(rank(), units, LANES):
                    back(state, factors[m, s, b], dz[r], j)
                    if row < left.rows:
                        for q in range(gates):
                            k = q * units + j
                            left.values[slot, s - piece.lo, k] = dz[r, k]
                cuda.syncwarp()
                if rank() == 0:
                    bundle.exponent[task] = exponent
                    if row < left.rows:
                        left.exponent[slot, s - piece.lo] = exponent
            cuda.syncthreads()
            for i in range(thread, columns, threads):
                q, j = i // units, i % units
                total = cuda.local.array(rows, real)
                for r in range(rows):
                    total[r] = zero
                for k in range(units):
                    if tier == REGISTERS:
                        factor = kept[k]
                    elif tier == SHARED:
                        factor = shared[(q * units + k) * units + j]
                    else:
                        factor = weight[m, q * units + k, j]
                    for r in range(rows):
                        total[r] += dz[r, q * units + k] * factor
                for r in range(rows):
                    dh[q, r, j] = total[r]
            cuda.syncthreads()
            for r in range(thread // LANES, count, warps):
                task = m * tasks + first + r
                state, exponent = bundle.adjoint[task], bundle.exponent[task]
                for j in range(rank(), units, LANES):
                    for q in range(blocks):
                        state[0, j] += dh[q, r, j]
                lag = bundle.lag[task] + at + 1
                exponent, head, rest, fired = settle(state, exponent, lag, rule, None)
                write(path, task, at + 1, exponent, head, rest)
                if rank() == 0:
                    bundle.exponent[task] = exponent
                    bundle.fired[task] += fired
                cuda.syncwarp()

    return backward


def backward(
    back: Callable[..., Any],
    w: Weights,
    saved: Saved,
    bundle: Bundle,
    grad: NDArray,
    span: Span,
    clip: Clip,
    live: int,
    trace: Trace,
    emitted: Emitted,
) -> None:
    """Carry the first `live` rows of the bundle from step span.hi back to span.lo.

    `back(state, k, dz, j)` is one unit's step: state (P, H) becomes what of it goes on without
    the recurrent weights, k (C, H) are the coefficients, dz (E) the pre-activations' gradients.
    """
    networks, sequences = bundle.exponent.shape[:2]
    shape = _shape(w, sequences * live)
    blocks = networks * -(-sequences * live // shape.rows)
    readout = to_device(np.eye(1, bundle.adjoint.shape[3], dtype=shape.real)[0])
    call = Call(bundle, grad, span, clip, live, trace, emitted)
    width = shape.width * shape.units
    for piece in call.pieces(call.fitting(width)):
        left = call.left(piece, width)
        arrays = (w.recurrent_back, saved.factors, call.rows, call.loss, readout, call.rule)
        launch(_backward(shape, back), blocks, shape.threads, *arrays, piece, live, call.path, left)
        call.keep(piece, left, w.input_back)
    call.finish()


def faintest(saved: Saved, never_zero: Sequence[int], m: int, step: int, b: int) -> float:
    """The smallest of some coefficients of one sequence's step, see any cell's `faintest`."""
    return float(saved.coefficients[m, step, b, list(never_zero)].min())


def add_gradients(
    weights: Weights,
    saved: Saved,
    x: Array,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
    rows: Any = slice(None),
) -> None:
    """Add one call's share to the four parameter gradients in `out`; x (M, T, B, I) is the whole
    drive.

    `rows` are those of the E pre-activations that PyTorch's input weights have.
    """
    networks, steps, sequences, width = emitted.values.shape
    dz = emitted.values.reshape(networks, steps * sequences, width)
    scale = to_device(factor[:, : steps * sequences])
    ones = to_device(np.ones((networks, steps * sequences, 1), factor.dtype))
    hidden = saved.hidden.reshape(networks, -1, saved.hidden.shape[3])
    inputs = cut(x, span.start + span.lo, span.start + span.hi)
    inputs = inputs.reshape(networks, steps * sequences, x.shape[3])
    recurrent, first = weights.recurrent.shape[2], span.lo * sequences
    everything = slice(0, width)
    bias = to_host(accumulate(dz, everything, scale, ones, 0))[:, :, 0]
    out["bias_hh"] += bias[:, :recurrent]
    out["bias_ih"] += bias[:, rows]
    back = slice(0, recurrent)
    out["weight_hh"] += to_host(accumulate(dz, back, scale, hidden, first))
    out["weight_ih"] += to_host(accumulate(dz, everything, scale, inputs, 0))[:, rows]


def input_gradient(weights: Weights, emitted: Emitted, out: Array) -> None:
    """dL/dx of one call's steps, out (M, n*B, I) on the device, each at its emitted exponent."""
    dz = emitted.values.reshape(*out.shape[:2], weights.input_back.shape[1])
    project(dz, weights.input_back, None, out)
