"""Gated DeltaNet on a GPU: one segment of time forward, one segment back.

What depends on the input alone is made for all steps side by side. A thread has one unit's column
of the state, by which the matrix of a step goes without a word to other threads, and takes it from
step to step: chunks of time do not go side by side here, since what joins them is a product of
matrices. On the way back states are computed again from those that were kept, a block carries one
row's adjoint and keeps it at every step, from which the gradients of all steps follow side by side.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import deltanet as algebra
from seqlab.cells.deltanet import (
    ALPHA,
    ALPHA_SLOPE,
    BETA,
    BETA_SLOPE,
    LOG_ALPHA,
    PER_KEY,
    PER_QUERY,
    SHARED,
)
from seqlab.kernels.cuda import diagonal
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call, Kept, Loss, Piece
from seqlab.kernels.cuda.delta import Given, activate, adjoint, found, make_over_length_back, step
from seqlab.kernels.cuda.linalg import accumulate, project, real_type
from seqlab.kernels.cuda.target import (
    LANES,
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
from seqlab.kernels.cuda.team import block, warp
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace


class Weights(NamedTuple):
    """The layers' weights, one beside the other in W = 2K + H + 2 columns: `forward` (M, I, W) with
    `bias` (M, W), which is dt_bias, and `back` (M, W, I); `rate` (M,) = exp(A_log); K."""

    forward: Array
    back: Array
    bias: Array
    rate: Array
    keys: int


class Saved(NamedTuple):
    """What a forward segment leaves on the device: of each step the query, key and value and the
    outputs of the layers of alpha and beta, `made` (M, S, B, W); `slope` (M, S, B, 2K + H) of silu;
    `shared` (M, S, B, SHARED), the head's own; `error` v - alpha S k and `y` (M, S, B, H);
    `starts` (M, S/CHUNK, B, K, H), the state before every CHUNK steps."""

    made: Array
    slope: Array
    shared: Array
    error: Array
    y: Array
    starts: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """None (M, S, B, 0, H): no mean over time says what a product of matrices is."""
        networks, steps, sequences, units = self.y.shape
        return np.empty((networks, steps, sequences, 0, units), real_type(self.y))


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    weight, bias = algebra.layers(params)
    arrays = (weight.swapaxes(1, 2), weight, bias, np.exp(params["A_log"][:, 0]))
    forward, back, bias, rate = map(to_device, arrays)
    return Weights(forward, back, bias, rate, params["k_proj_weight"].shape[1])


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    (networks, steps, sequences), width = lead, algebra.width(sizes)
    starts = (networks, -(-steps // diagonal.CHUNK), sequences, sizes.state, sizes.hidden)
    columns = (width, width - 2, SHARED, sizes.hidden, sizes.hidden)
    shapes = [*((*lead, count) for count in columns), starts]
    return Saved(*(empty(shape, dtype) for shape in shapes))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    starts = -(-sizes.state * sizes.hidden // diagonal.CHUNK)
    return 2 * (algebra.width(sizes) + sizes.hidden) - 2 + SHARED + starts


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: dz, and of A_log."""
    return algebra.width(sizes) + 1


@device
def _record_path(given, rates, path, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the state before each step, and after it."""
    for n in range(state.shape[0]):
        path[slot, i, n, d] = state[n]
    step(given, m, s, b, d, state)
    for n in range(state.shape[0]):
        path[slot, i + 1, n, d] = state[n]


@cache
def _advance(real: type, keys: int, chunk: int) -> Any:
    @kernel
    def advance(given, steps, state, starts):
        """All steps from `state` (M, B, K, H), which is left at their end. A block has some units
        of one sequence."""
        number, d = diagonal.piece_of(state.shape[3])
        m, b = number // state.shape[1], number % state.shape[1]
        if d < state.shape[3]:
            column = cuda.local.array(keys, real)
            for n in range(keys):
                column[n] = state[m, b, n, d]
            for s in range(steps):
                if s % chunk == 0:
                    for n in range(keys):
                        starts[m, s // chunk, b, n, d] = column[n]
                given.error[m, s, b, d], given.y[m, s, b, d] = step(given, m, s, b, d, column)
            for n in range(keys):
                state[m, b, n, d] = column[n]

    return advance


def _given(saved: Saved, keys: int) -> Given:
    return Given(*saved[:5], keys, real_type(saved.y)(1 / math.sqrt(keys)))


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, K, H), left at the segment's end."""

    def flat(array: Array) -> Array:
        return array.reshape(array.shape[0], -1, array.shape[3])

    (networks, steps, sequences, _), (keys, units) = x.shape, state.shape[2:]
    made, slope, shared, real = *map(flat, saved[:3]), real_type(x)
    project(flat(x), weights.forward, weights.bias, made)
    activate(weights.rate, keys, made, slope, shared)
    end, advance = to_device(state), _advance(real, keys, diagonal.CHUNK)
    shape = diagonal.pieces(networks * sequences, units)
    launch(advance, *shape, _given(saved, keys), steps, end, saved.starts)
    to_host(end, state)


@device
def _loss_share(p, j, gradient, exponent, given, s, at):
    """The output shows entry p by the query; see `chain`."""
    return ldexp(gradient[j], -exponent) * (given.made[at.network, s, at.sequence, p] * given.scale)


@device
def _shared(given, m, s, b, d, state):
    """What the key finds in the unit's adjoint (K, H)."""
    keys = state.shape[0]
    return found(given.made[m, s, b, keys:], state[:, d])


@device
def _carry(given, m, s, b, n, d, g, along):
    head = given.shared[m, s, b]
    return adjoint(g, head[ALPHA], head[BETA] * given.made[m, s, b, given.keys + n], along)


_BACK = diagonal.Back(_shared, _carry, _loss_share)


@cache
def _gradients(real: type, chunk: int, threads: int) -> Any:
    zero, of_warp, warps = real(0), warp().total, threads // LANES
    over_length_back, of_block = make_over_length_back(real), block(threads).total

    @kernel
    def gradients(given, path, begin, loss, piece, live, kept, out):
        """dz and A_log's share of a step, from its adjoint and the states around it. A block has
        one step of one row."""
        steps, scratch = piece.hi - piece.lo, cuda.shared.array(warps, real)
        slot, i = cuda.blockIdx.x // steps, cuda.blockIdx.x % steps
        s, group, sequences = piece.lo + i, slot // kept.rows, given.y.shape[2]
        m, b = group // sequences, group % sequences
        around, at = s // chunk * given.y.shape[0] * sequences + group - begin, s % chunk
        keys, units = kept.values.shape[2:]
        exponent, has_loss = kept.exponent[slot, i], s >= loss.first
        task, index = group * live + slot % kept.rows, max(s - loss.first, 0)
        shift = loss.exponent[task, index] - exponent if has_loss else 0
        thread, lane = cuda.threadIdx.x, cuda.threadIdx.x % LANES
        g, before, after = kept.values[slot, i], path[around, at], path[around, at + 1]
        made, head, dz, error = (
            given.made[m, s, b],
            given.shared[m, s, b],
            out[slot, i],
            given.error,
        )
        alpha, beta, two = head[ALPHA], head[BETA], 2 * keys
        dbeta, dlog = zero, zero
        for d in range(thread, units, threads):
            along = found(made[keys:], g[:, d])
            dz[two + d] = along  # what the others want of it
            dbeta += along * error[m, s, b, d]
        cuda.syncthreads()
        for n in range(thread // LANES, keys, warps):
            key, dkey, dquery = beta * made[keys + n], zero, zero
            for d in range(lane, units, LANES):
                along = dz[two + d]
                dkey += g[n, d] * error[m, s, b, d] - alpha * along * before[n, d]
                dlog += adjoint(g[n, d], alpha, key, along) * before[n, d]
                if has_loss:
                    gradient = ldexp(loss.gradient[task, index, d], shift)
                    dquery += gradient * after[n, d]
            dkey, dquery = of_warp(None, dkey), of_warp(None, dquery)
            if lane == 0:
                dz[n], dz[keys + n] = dquery * given.scale, beta * dkey
        dbeta, dlog = of_block(scratch, dbeta), of_block(scratch, dlog)
        for d in range(thread, units, threads):
            dz[two + d] *= beta * given.slope[m, s, b, two + d]
        if thread < LANES:
            slope = given.slope[m, s, b]
            over_length_back(made, head[PER_QUERY], slope, dz, keys)
            over_length_back(made[keys:], head[PER_KEY], slope[keys:], dz[keys:], keys)
        if thread == 0:
            dz[two + units] = dlog * head[ALPHA_SLOPE]
            dz[two + units + 1] = dbeta * head[BETA_SLOPE]
            dz[two + units + 2] = dlog * head[LOG_ALPHA]

    return gradients


def _step_gradients(
    given: Given, path: Array, begin: int, loss: Loss, piece: Piece, live: int, kept: Kept
) -> Kept:
    """dz of a piece's steps, and A_log's shares, from the adjoints that they kept."""
    slots, steps, _, units = kept.values.shape
    threads = block_size(units)
    out = empty((slots, steps, given.made.shape[3] + 1), real_type(kept.values))
    function = _gradients(real_type(out), diagonal.CHUNK, threads)
    arrays = (given, path, begin, loss, piece, live, kept, out)
    launch(function, slots * steps, threads, *arrays)
    return Kept(out, kept.exponent, kept.rows)


def backward(
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
    networks, sequences, _, keys, units = bundle.adjoint.shape
    real, groups, chunk = real_type(bundle.adjoint), networks * sequences, diagonal.CHUNK
    call, given = Call(bundle, losses, span, clip, live, trace, emitted), _given(saved, keys)
    together = max(1, call.fitting(2 * keys * units) // chunk)
    for piece in call.pieces(together * chunk if call.keeps_gradients else span.hi):
        kept = diagonal.back(_BACK, given, call, piece)
        if call.keeps_gradients:
            numbers = range(piece.lo // chunk * groups, -(-piece.hi // chunk) * groups)
            path = empty((len(numbers), chunk + 1, keys, units), real)
            steps, rate = saved.y.shape[1], diagonal.no_rate
            diagonal.replay(rate, _record_path, given, steps, saved.starts, numbers, path)
            arrays = (given, path, numbers.start, call.loss, piece, live, kept)
            call.keep_gradients(piece, _step_gradients(*arrays), weights.back)
    call.finish()


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smaller factor of one sequence's step, along its key, which no finite state makes zero
    but rounding may: where it is all but zero, a gradient may have left the dtype's range."""
    head, made = to_host(saved.shared)[m, step, b], to_host(saved.made)[m, step, b]
    return algebra.faintest(head[ALPHA], head[BETA], made[weights.keys : 2 * weights.keys])


def add_gradients(
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
    del saved
    networks, steps, sequences, width = emitted.values.shape
    rows, everything = steps * sequences, slice(0, width)
    dz, scale = emitted.values.reshape(networks, rows, width), to_device(factor[:, :rows])
    inputs = cut(x, span.start + span.lo, span.start + span.hi).reshape(networks, rows, x.shape[3])
    ones = to_device(np.ones((networks, rows, 1), factor.dtype))
    weight, bias = (to_host(accumulate(dz, everything, scale, each, 0)) for each in (inputs, ones))
    algebra.add_layers(out, weight, bias[:, :, 0], weights.keys)


def input_gradient(weights: Weights, emitted: Emitted, out: Array) -> None:
    """dL/dx of one call's steps, out (M, n*B, I) on the device, each at its emitted exponent."""
    dz = emitted.values.reshape(*out.shape[:2], emitted.values.shape[3])
    project(dz, weights.back, None, out)
