"""The selective state-space layer on a GPU: one segment of time forward, one segment back.

What depends on the input alone is a product over all steps; the states are parallel over chunks of
time, see diagonal.py. On the way back some chunks' states are computed again from those that were
kept; a block carries one row's adjoint through them, step by step as rescaling and clip rules want
it, and keeps it at every step, from which the gradients of all steps follow side by side.
"""

from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import ssm as algebra
from seqlab.kernels.cuda import diagonal
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call, Kept, Loss, Piece
from seqlab.kernels.cuda.linalg import accumulate, add_projected, add_to, project, real_type
from seqlab.kernels.cuda.scan import (
    LAW,
    Selective,
    adjoint,
    decay,
    decay_adjoint,
    discretise,
    output,
    step,
    time,
)
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
from seqlab.kernels.cuda.team import warp
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace


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
    """What a forward segment leaves on the device: `u`, `delta`, its `slope` by the raw step, and
    `y` (M, S, B, H); `mixed` (M, S, B, R+2N) = (dt, B, C); `starts` (M, S/CHUNK, B, N, H), the
    state before every CHUNK steps."""

    u: Array
    delta: Array
    slope: Array
    mixed: Array
    y: Array
    starts: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """The steps Delta (M, S, B, 1, H), which the decays follow from, on the host."""
        return to_host(self.delta)[:, :, :, None]

    def recurrence(self, weights: Weights) -> Selective:
        """With the weights that act at every step."""
        low, states = weights.dt_proj.shape[1], weights.a.shape[1]
        steps = (self.u, self.delta, self.slope, self.mixed, self.mixed)
        return Selective(*steps, low, low + states, weights.a, weights.skip)


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
    starts = (networks, -(-steps // diagonal.CHUNK), sequences, sizes.state, sizes.hidden)
    shapes = [*[(*lead, sizes.hidden)] * 3, (*lead, width), (*lead, sizes.hidden), starts]
    return Saved(*(empty(shape, dtype) for shape in shapes))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    starts = -(-sizes.state * sizes.hidden // diagonal.CHUNK)
    return 4 * sizes.hidden + algebra.rank(sizes.hidden) + 2 * sizes.state + starts


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: du, d(raw step), d(mixed), dD."""
    return 3 * sizes.hidden + algebra.rank(sizes.hidden) + 2 * sizes.state


@device
def _record_output(given, rates, y, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the output."""
    step(given, rates, m, s, b, d, state)
    y[m, s, b, d] = output(given, m, s, b, d, state)


@device
def _record_path(given, rates, path, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the state before each step, and after it."""
    for n in range(state.shape[0]):
        path[slot, i, n, d] = state[n]
    step(given, rates, m, s, b, d, state)
    for n in range(state.shape[0]):
        path[slot, i + 1, n, d] = state[n]


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, N, H), left at the segment's end."""

    def flat(array: Array) -> Array:
        return array.reshape(array.shape[0], -1, array.shape[3])

    project(flat(x), weights.in_proj, None, flat(saved.u))
    project(flat(saved.u), weights.x_proj, None, flat(saved.mixed))
    project(flat(saved.mixed), weights.dt_proj, None, flat(saved.delta))
    discretise(weights.dt_bias, True, flat(saved.delta), flat(saved.slope))
    given, end, steps = saved.recurrence(weights), to_device(state), x.shape[1]
    diagonal.join(LAW, given, steps, end, saved.starts)
    numbers = range(int(np.prod(saved.starts.shape[:3])))
    diagonal.replay(LAW.rate, _record_output, given, steps, saved.starts, numbers, saved.y)
    to_host(end, state)


@device
def _loss_share(p, j, gradient, exponent, given, s, at):
    """The output shows state p by C; see `chain`."""
    c_t = given.c[at.network, s, at.sequence, given.c0 + p]
    return ldexp(gradient[j], -exponent) * c_t


@device
def _shared(given, m, s, b, d, state):
    return time(given, m, s, b, d)


@device
def _carry(given, m, s, b, n, d, g, delta):
    return g * decay(given.a[m, n, d], delta)


_BACK = diagonal.Back(_shared, _carry, _loss_share)


@cache
def _gradients(real: type, chunk: int) -> Any:
    zero, total = real(0), warp().total  # which needs no scratch

    @kernel
    def gradients(given, path, begin, loss, piece, live, kept, out):
        """du, d(raw step), d(mixed) and dD of a step but for what the projections add, from its
        adjoint and the states around it. A block has one step of one row."""
        steps = piece.hi - piece.lo
        slot, i = cuda.blockIdx.x // steps, cuda.blockIdx.x % steps
        s, group, sequences = piece.lo + i, slot // kept.rows, given.u.shape[2]
        m, b = group // sequences, group % sequences
        around, k = s // chunk * given.u.shape[0] * sequences + group - begin, s % chunk
        states, units = kept.values.shape[2:]
        low, width = given.b0, given.b0 + 2 * states
        exponent, has_loss = kept.exponent[slot, i], s >= loss.first
        task, index = group * live + slot % kept.rows, max(s - loss.first, 0)
        shift = loss.exponent[task, index] - exponent if has_loss else 0
        thread, threads = cuda.threadIdx.x, cuda.blockDim.x
        for d in range(thread, units, threads):
            delta, u = given.delta[m, s, b, d], given.u[m, s, b, d]
            ddelta, ddrive, dskip = zero, zero, zero
            for n in range(states):
                g, h = kept.values[slot, i, n, d], path[around, k, n, d]
                parts = adjoint(g, decay(given.a[m, n, d], delta), h, given.b[m, s, b, low + n])
                ddelta += parts[0] * given.a[m, n, d]
                ddrive += parts[1]
            ddelta += ddrive * u
            du = ddrive * delta
            if has_loss:
                gradient = ldexp(loss.gradient[task, index, d], shift)
                du += gradient * given.skip[m, d]
                dskip = gradient * u
            out[slot, i, d] = du
            out[slot, i, units + d] = ddelta * given.slope[m, s, b, d]
            out[slot, i, 2 * units + width + d] = dskip
        for r in range(thread, low, threads):
            out[slot, i, 2 * units + r] = zero
        for n in range(thread // LANES, states, threads // LANES):
            db, dc = zero, zero
            for d in range(thread % LANES, units, LANES):
                drive = given.delta[m, s, b, d] * given.u[m, s, b, d]
                db += kept.values[slot, i, n, d] * drive
                if has_loss:
                    gradient = ldexp(loss.gradient[task, index, d], shift)
                    dc += gradient * path[around, k + 1, n, d]
            db, dc = total(None, db), total(None, dc)
            if thread % LANES == 0:
                out[slot, i, 2 * units + low + n] = db
                out[slot, i, 2 * units + low + states + n] = dc

    return gradients


@cache
def _add_decays(chunk: int) -> Any:
    @kernel
    def add_decays(given, path, begin, piece, kept, carried, lost, common):
        """Each piece's share of dL/dA to `carried`, at the largest exponent met so far, `common`.
        A block has the first row of one sequence."""
        group, groups = cuda.blockIdx.x, given.u.shape[0] * given.u.shape[2]
        m, b, slot = group // given.u.shape[2], group % given.u.shape[2], group * kept.rows
        exponent = common[group]
        for d in range(cuda.threadIdx.x, carried.shape[2], cuda.blockDim.x):
            exponent = common[group]
            for s in range(piece.hi - 1, piece.lo - 1, -1):
                i, around = s - piece.lo, s // chunk * groups + group - begin
                own, delta = kept.exponent[slot, i], given.delta[m, s, b, d]
                raised = max(own, exponent)
                for n in range(carried.shape[1]):
                    g, h = kept.values[slot, i, n, d], path[around, s % chunk, n, d]
                    share = decay_adjoint(g, decay(given.a[m, n, d], delta), h)
                    carried[group, n, d], lost[group, n, d] = add_to(
                        ldexp(carried[group, n, d], exponent - raised),
                        ldexp(lost[group, n, d], exponent - raised),
                        ldexp(delta * share, own - raised),
                    )
                exponent = raised
        cuda.syncthreads()
        if cuda.threadIdx.x == 0:
            common[group] = exponent

    return add_decays


def _step_gradients(
    weights: Weights,
    given: Selective,
    path: Array,
    begin: int,
    loss: Loss,
    piece: Piece,
    live: int,
    kept: Kept,
) -> Kept:
    """du, d(raw step), d(mixed) and dD of a piece's steps from the adjoints that they kept."""
    slots, steps, _, units = kept.values.shape
    out = empty((slots, steps, 3 * units + given.b.shape[3]), real_type(kept.values))
    arrays = (given, path, begin, loss, piece, live, kept, out)
    function = _gradients(real_type(out), diagonal.CHUNK)
    launch(function, slots * steps, block_size(units), *arrays)
    flat = out.reshape(len(weights.skip), -1, out.shape[2])
    add_projected(flat, units, weights.dt_back, flat, 2 * units)
    add_projected(flat, 2 * units, weights.x_back, flat, 0)
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
    networks, sequences, _, states, units = bundle.adjoint.shape
    real, threads, groups = real_type(bundle.adjoint), block_size(units), networks * sequences
    given, chunk = saved.recurrence(weights), diagonal.CHUNK
    call = Call(bundle, losses, span, clip, live, trace, emitted)
    summed = emitted.values.shape[3] > 0
    if summed:
        zeros = np.zeros((groups, states, units), real)
        carried, lost = to_device(zeros), to_device(zeros)
        common = to_device(emitted.carried_exponent.ravel())
    together = max(1, call.fitting(2 * states * units) // chunk)
    for piece in call.pieces(together * chunk if call.keeps_gradients else span.hi):
        kept = diagonal.back(_BACK, given, call, piece)
        if not call.keeps_gradients:
            continue
        numbers = range(piece.lo // chunk * groups, -(-piece.hi // chunk) * groups)
        path, begin = empty((len(numbers), chunk + 1, states, units), real), numbers.start
        diagonal.replay(
            LAW.rate, _record_path, given, saved.u.shape[1], saved.starts, numbers, path
        )
        steps = (path, begin, call.loss, piece, live, kept)
        call.keep_gradients(piece, _step_gradients(weights, given, *steps), weights.in_back)
        if summed:
            sums = (given, path, begin, piece, kept, carried, lost, common)
            launch(_add_decays(chunk), groups, threads, *sums)
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
