"""The selective state-space layer on a GPU: one segment of time forward, one segment back.

What depends on the input alone is a product over all steps; the states are parallel over chunks of
time. On the way back some chunks' states are computed again from those that were kept; a block
carries one row's adjoint through them, step by step as rescaling and clip rules want it, and leaves
it at every step, from which the gradients of all steps follow side by side.
"""

import math
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import ssm as algebra
from seqlab.kernels.cuda import chain, recurrence
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call, Left, Loss, Piece
from seqlab.kernels.cuda.linalg import accumulate, add_projected, add_to, project, real_type
from seqlab.kernels.cuda.recurrence import Inside
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
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace

_adjoint = device(algebra.adjoint)
_decay_adjoint = device(algebra.decay_adjoint)


class Weights(NamedTuple):
    """The projections forward, `in_proj` (M, I, H), `x_proj` (M, H, R+2N), `dt_proj` (M, R, H),
    and back, each turned; `dt_bias` and `skip` (M, H); `a` (M, N, H) = -exp(A_log)."""

    in_proj: Array
    x_proj: Array
    dt_proj: Array
    in_back: Array
    x_back: Array
    dt_back: Array
    dt_bias: Array
    skip: Array
    a: Array


class Saved(NamedTuple):
    """What a forward segment leaves on the device: see Inside; `y` (M, S, B, H); `kept`
    (M, S/CHUNK, B, N, H), the state before every CHUNK steps."""

    u: Array
    delta: Array
    slope: Array
    mixed: Array
    y: Array
    kept: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """The steps Delta (M, S, B, 1, H), which the decays follow from, on the host."""
        return to_host(self.delta)[:, :, :, None]

    def inside(self, weights: Weights) -> Inside:
        """With the weights that act at every step."""
        return Inside(self.u, self.delta, self.slope, self.mixed, weights.a, weights.skip)


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    turned = [params[name] for name in ("in_proj_weight", "x_proj_weight", "dt_proj_weight")]
    direct = (params["dt_proj_bias"], params["D"], -np.exp(params["A_log"]).swapaxes(1, 2))
    arrays = (*(weight.swapaxes(1, 2) for weight in turned), *turned, *direct)
    return Weights(*map(to_device, arrays))


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    width = algebra.rank(sizes.hidden) + 2 * sizes.state
    kept = (networks, -(-steps // recurrence.CHUNK), sequences, sizes.state, sizes.hidden)
    shapes = [*[(*lead, sizes.hidden)] * 3, (*lead, width), (*lead, sizes.hidden), kept]
    return Saved(*(empty(shape, dtype) for shape in shapes))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    kept = -(-sizes.state * sizes.hidden // recurrence.CHUNK)
    return 4 * sizes.hidden + algebra.rank(sizes.hidden) + 2 * sizes.state + kept


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: du, d(raw step), d(mixed), dD."""
    return 3 * sizes.hidden + algebra.rank(sizes.hidden) + 2 * sizes.state


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, N, H), left at the segment's end."""

    def flat(array: Array) -> Array:
        return array.reshape(array.shape[0], -1, array.shape[3])

    project(flat(x), weights.in_proj, None, flat(saved.u))
    project(flat(saved.u), weights.x_proj, None, flat(saved.mixed))
    project(flat(saved.mixed), weights.dt_proj, weights.dt_bias, flat(saved.delta))
    end = to_device(state)
    recurrence.run(saved.inside(weights), end, saved.y, saved.kept)
    to_host(end, state)


@cache
def _backward(real: type, states: int, threads: int) -> Any:
    team, warps = chain.block(threads), threads // LANES
    rank, (inject, normalise, heard, settle, write) = team.rank, chain.chain(team, states, real)

    @kernel
    def backward(inside, bundle, loss, rule, piece, live, path, left):
        task, sequences = cuda.blockIdx.x, inside.u.shape[2]
        b, row = task // live % sequences, task % live
        m, slot = task // live // sequences, task // live * left.rows + row
        units, shown = inside.u.shape[3], inside.mixed.shape[3] - states
        scratch = cuda.shared.array(warps, real)
        state, exponent, acted = bundle.adjoint[task], bundle.exponent[task], 0
        for s in range(piece.hi - 1, piece.lo - 1, -1):
            at, loud = piece.top - 1 - s, False
            if s >= loss.first:
                readout = inside.mixed[m, s, b, shown:]
                gradient = loss.gradient[task, s - loss.first]
                exponent, loud = inject(state, exponent, gradient, readout, scratch)
            if s >= loss.first or at == 0:
                exponent, head, rest = normalise(state, exponent, scratch)
                exponent = heard(exponent, loud)
                if at == 0:
                    write(path, task, at, exponent, head, rest)
            if row < left.rows and rank() == 0:
                left.exponent[slot, s - piece.lo] = exponent
            for d in range(rank(), units, threads):
                delta = inside.delta[m, s, b, d]
                for n in range(states):
                    g = state[n, d]
                    if row < left.rows:
                        left.values[slot, s - piece.lo, n, d] = g
                    state[n, d] = g * math.exp(delta * inside.a[m, n, d])
            lag = bundle.lag[task] + at + 1
            exponent, head, rest, fired = settle(state, exponent, lag, rule, scratch)
            write(path, task, at + 1, exponent, head, rest)
            acted += fired
        if rank() == 0:
            bundle.exponent[task] = exponent
            bundle.fired[task] += acted

    return backward


@cache
def _shares(real: type) -> Any:
    zero = real(0)
    total = chain.warp().total  # needs no scratch

    @kernel
    def shares(inside, states_path, first, loss, piece, live, left, out):
        steps = piece.hi - piece.lo
        slot, s = cuda.blockIdx.x // steps, cuda.blockIdx.x % steps + piece.lo
        i, k, group = s - piece.lo, s - first, slot // left.rows
        m, b = group // inside.u.shape[2], group % inside.u.shape[2]
        states, units = left.values.shape[2:]
        width = inside.mixed.shape[3]
        low = width - 2 * states
        exponent = left.exponent[slot, i]
        shown = s >= loss.first
        task, at = group * live + slot % left.rows, max(s - loss.first, 0)
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        for d in range(thread, units, threads):
            delta, u = inside.delta[m, s, b, d], inside.u[m, s, b, d]
            ddelta, ddrive, dskip = zero, zero, zero
            for n in range(states):
                a = inside.a[m, n, d]
                g, h = left.values[slot, i, n, d], states_path[group, k, n, d]
                b_n, decay = inside.mixed[m, s, b, low + n], math.exp(delta * a)
                parts = _adjoint(g, decay, h, b_n)
                ddelta += parts[0] * a
                ddrive += parts[1]
            ddelta += ddrive * u
            du = ddrive * delta
            if shown:
                gradient = ldexp(loss.gradient[task, at, d], -exponent)
                du += gradient * inside.skip[m, d]
                dskip = gradient * u
            out[slot, i, d] = du
            out[slot, i, units + d] = ddelta * inside.slope[m, s, b, d]
            out[slot, i, 2 * units + width + d] = dskip
        for r in range(thread, low, threads):
            out[slot, i, 2 * units + r] = zero
        for n in range(thread // LANES, states, threads // LANES):
            db, dc = zero, zero
            for d in range(thread % LANES, units, LANES):
                drive = inside.delta[m, s, b, d] * inside.u[m, s, b, d]
                db += left.values[slot, i, n, d] * drive
                if shown:
                    gradient = ldexp(loss.gradient[task, at, d], -exponent)
                    dc += gradient * states_path[group, k + 1, n, d]
            db, dc = total(None, db), total(None, dc)
            if thread % LANES == 0:
                out[slot, i, 2 * units + low + n] = db
                out[slot, i, 2 * units + low + states + n] = dc

    return shares


@cache
def _carry() -> Any:
    @kernel
    def carry(inside, states_path, first, piece, left, carried, lost, common):
        group = cuda.blockIdx.x
        m, b, slot = group // inside.u.shape[2], group % inside.u.shape[2], group * left.rows
        exponent = common[group]
        for d in range(cuda.threadIdx.x, carried.shape[2], cuda.blockDim.x):
            exponent = common[group]
            for s in range(piece.hi - 1, piece.lo - 1, -1):
                here, delta = left.exponent[slot, s - piece.lo], inside.delta[m, s, b, d]
                raised = max(here, exponent)
                for n in range(carried.shape[1]):
                    g, h = (
                        left.values[slot, s - piece.lo, n, d],
                        states_path[group, s - first, n, d],
                    )
                    decay = math.exp(delta * inside.a[m, n, d])
                    share = ldexp(delta * _decay_adjoint(g, decay, h), here - raised)
                    carried[group, n, d], lost[group, n, d] = add_to(
                        ldexp(carried[group, n, d], exponent - raised),
                        ldexp(lost[group, n, d], exponent - raised),
                        share,
                    )
                exponent = raised
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            common[group] = exponent

    return carry


def _gradients(
    weights: Weights,
    inside: Inside,
    path: Array,
    first: int,
    loss: Loss,
    piece: Piece,
    live: int,
    left: Left,
) -> Left:
    """du, d(raw step), d(mixed) and dD of a piece's steps from the adjoints that they left."""
    slots, steps, _, units = left.values.shape
    width = inside.mixed.shape[3]
    out = empty((slots, steps, 3 * units + width), real_type(left.values))
    arrays = (inside, path, first, loss, piece, live, left, out)
    launch(_shares(real_type(out)), slots * steps, block_size(units), *arrays)
    flat = out.reshape(len(weights.skip), -1, out.shape[2])
    add_projected(flat, units, weights.dt_back, flat, 2 * units)
    add_projected(flat, 2 * units, weights.x_back, flat, 0)
    return Left(out, left.exponent, left.rows)


def backward(
    weights: Weights,
    saved: Saved,
    bundle: Bundle,
    grad: NDArray,
    span: Span,
    clip: Clip,
    live: int,
    trace: Trace,
    emitted: Emitted,
) -> None:
    """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
    networks, sequences, _, states, units = bundle.adjoint.shape
    real, threads, groups = real_type(bundle.adjoint), block_size(units), networks * sequences
    inside = saved.inside(weights)
    call = Call(bundle, grad, span, clip, live, trace, emitted)
    summed = emitted.values.shape[3] > 0
    if summed:
        zeros = np.zeros((groups, states, units), real)
        carried, lost = to_device(zeros), to_device(zeros)
        common = to_device(emitted.carried_exponent.ravel())
    together = max(1, call.fitting(2 * states * units) // recurrence.CHUNK)
    for piece in call.pieces(together * recurrence.CHUNK if call.keeps else span.hi):
        left = call.left(piece, states, units)
        bound = (inside, call.rows, call.loss, call.rule, piece, live, call.path, left)
        launch(_backward(real, states, threads), groups * live, threads, *bound)
        if not call.keeps:
            continue
        first = piece.lo // recurrence.CHUNK * recurrence.CHUNK
        path = recurrence.again(inside, saved.kept, first, piece.hi)
        gradients = _gradients(weights, inside, path, first, call.loss, piece, live, left)
        call.keep(piece, gradients, weights.in_back)
        if summed:
            sums = (inside, path, first, piece, left, carried, lost, common)
            launch(_carry(), groups, threads, *sums)
    if summed:
        total = to_host(carried).astype(np.float64) - to_host(lost)
        emitted.carried[...] = total.reshape(emitted.carried.shape)
        emitted.carried_exponent[...] = to_host(common).reshape(networks, sequences)
    call.finish()


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest decay of one sequence's step, which no finite state makes zero: where it is all
    but zero, a gradient may have left the dtype's range."""
    return float(np.exp(to_host(saved.delta)[m, step, b] * to_host(weights.a)[m]).min())


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
    networks, steps, sequences, width = emitted.values.shape
    rows, first = steps * sequences, span.lo * sequences
    dz, (units, mixed) = emitted.values.reshape(networks, rows, width), weights.x_proj.shape[1:]
    edges = (0, units, 2 * units, 2 * units + mixed, width)
    du, draw, dmixed, dskip = (slice(*edge) for edge in pairwise(edges))
    low, scale = weights.dt_proj.shape[1], to_device(factor[:, :rows])

    def summed(columns: slice, y: Array, start: int) -> NDArray:
        flat = y.reshape(networks, -1, y.shape[-1])
        return to_host(accumulate(dz, columns, scale, flat, start))

    drive = cut(x, span.start + span.lo, span.start + span.hi)
    ones = to_device(np.ones((networks, rows, 1), factor.dtype))
    out["in_proj_weight"] += summed(du, drive, 0)
    out["x_proj_weight"] += summed(dmixed, saved.u, first)
    out["dt_proj_weight"] += summed(draw, saved.mixed, first)[:, :, :low]
    out["dt_proj_bias"] += summed(draw, ones, 0)[:, :, 0]
    out["D"] += summed(dskip, ones, 0)[:, :, 0]
    decay = np.einsum("mb,mbnd->mnd", factor[:, rows:], emitted.carried)
    out["A_log"] += (decay * to_host(weights.a)).swapaxes(1, 2)


def input_gradient(weights: Weights, emitted: Emitted, out: Array) -> None:
    """dL/dx of one call's steps, out (M, n*B, I) on the device, each at its emitted exponent."""
    # du leads what is emitted.
    dz = emitted.values.reshape(*out.shape[:2], emitted.values.shape[3])
    project(dz, weights.in_back, None, out)
