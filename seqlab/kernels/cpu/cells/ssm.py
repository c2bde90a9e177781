"""The selective state-space layer on the CPU: one segment of time forward, one segment back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells.ssm import rank
from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu import gated
from seqlab.kernels.cpu.chain import (
    Here,
    arrive,
    emit,
    flat_rows,
    leave,
    power_of_two,
    silent,
    write_inputs,
)
from seqlab.kernels.cpu.gated import rows_of_steps
from seqlab.kernels.cpu.linalg import Strip, accumulate, add_product, copy, fill, project
from seqlab.kernels.cpu.math import sigmoid, softplus
from seqlab.kernels.cpu.scan import CHUNK, add_decay_gradient, advance, step_back
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.layout import EMPTY, Bundle, Clip, Emitted, Span, Trace
from seqlab.kernels.memory import aligned


class Weights(NamedTuple):
    """The projections for the way forward, `in_proj` (M, I, H), `x_proj` (M, H, R+2N), `dt_proj`
    (M, R, H), and transposed for the way back; `dt_bias` and `skip` (M, H); `a` (M, N, H) =
    -exp(A_log)."""

    in_proj: NDArray
    x_proj: NDArray
    dt_proj: NDArray
    in_proj_back: NDArray
    x_proj_back: NDArray
    dt_proj_back: NDArray
    dt_bias: NDArray
    a: NDArray
    skip: NDArray


class Saved(NamedTuple):
    """What a forward segment leaves: `u`, `delta`, its `slope` by the raw step, and `y`
    (M, S, B, H); `mixed` (M, S, B, R+2N) = (dt, B, C); `kept` (M, S/CHUNK, B, N, H), the state
    before every CHUNK steps."""

    u: NDArray
    delta: NDArray
    slope: NDArray
    y: NDArray
    mixed: NDArray
    kept: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """The steps Delta (M, S, B, 1, H), which the decays follow from."""
        return self.delta[:, :, :, None]


class ForwardScratch(NamedTuple):
    """One chunk's rows (CHUNK, ...) of what `Saved` keeps and of what it is made from; `drive` is
    Delta u; `none` a bias of zeros; `path` (CHUNK + 1, N, H) the states, `decays` (CHUNK, N, H)."""

    x: NDArray
    u: NDArray
    raw: NDArray
    delta: NDArray
    slope: NDArray
    drive: NDArray
    y: NDArray
    mixed: NDArray
    dt: NDArray
    b: NDArray
    c: NDArray
    none: NDArray
    path: NDArray
    decays: NDArray


class BackwardScratch(NamedTuple):
    """One chunk as in ForwardScratch, and the state `h` (N, H) on its way through; for each live
    row du and d(raw step) (H,), dmixed (R+2N,) and dx (I,); `left` (E,) is emitted; `da` (N, H) is
    what some steps add to the gradient of A; `squares` (N,)."""

    u: NDArray
    delta: NDArray
    drive: NDArray
    y: NDArray
    b: NDArray
    c: NDArray
    h: NDArray
    path: NDArray
    decays: NDArray
    du: NDArray
    draw: NDArray
    dmixed: NDArray
    dx: NDArray
    left: NDArray
    da: NDArray
    squares: NDArray


PROJECTIONS = ("in_proj_weight", "x_proj_weight", "dt_proj_weight")


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    weights = [params[name] for name in PROJECTIONS]
    return Weights._make(
        [
            *gated.both_ways(*weights),
            params["dt_proj_bias"].copy(),
            np.ascontiguousarray(-np.exp(params["A_log"]).swapaxes(1, 2)),
            params["D"].copy(),
        ]
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    units, states = sizes.hidden, sizes.state
    chunks = -(-steps // CHUNK)
    per_unit = [aligned((*lead, units), dtype) for _ in range(4)]
    mixed = aligned((*lead, rank(units) + 2 * states), dtype)
    kept = aligned((networks, chunks, sequences, states, units), dtype)
    return Saved._make([*per_unit, mixed, kept])


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return (
        4 * sizes.hidden
        + rank(sizes.hidden)
        + 2 * sizes.state
        + -(-sizes.state * sizes.hidden // CHUNK)
    )


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: du, d(raw step), d(mixed), dD."""
    return 3 * sizes.hidden + rank(sizes.hidden) + 2 * sizes.state


@inlined
def _delta(raw, u, delta, slope, drive):
    """Delta = softplus(raw), its slope, and Delta u, (H,) each."""
    for d in range(raw.shape[0]):
        delta[d] = softplus(raw[d])
        slope[d] = sigmoid(raw[d])
        drive[d] = delta[d] * u[d]


@inlined
def _copy_rows(source, target):
    """target = source, (N, H) each."""
    for n in range(target.shape[0]):
        copy(source[n], target[n])


@inlined
def _forward_task(weights, x, state, saved, scratch, m, b):
    """One sequence of one network."""
    a, skip = weights.a[m], weights.skip[m]
    states, units = a.shape
    width = saved.mixed.shape[3]
    low = width - 2 * states
    total = x.shape[1]
    xs, u, raw, delta, slope, drive, y, mixed, dt, b_t, c_t, none, path, decays = scratch
    h = state[m, b]
    for first in range(0, total, CHUNK):
        count = min(CHUNK, total - first)
        for s in range(count):
            copy(x[m, first + s, b], xs[s])
        # Whole chunks: a row's bits must not depend on how many steps follow.
        project(xs, CHUNK, weights.in_proj[m], none[:units], u)
        project(u, CHUNK, weights.x_proj[m], none[:width], mixed)
        for s in range(count):
            copy(mixed[s, :low], dt[s])
            copy(mixed[s, low : low + states], b_t[s])
            copy(mixed[s, low + states :], c_t[s])
        project(dt, CHUNK, weights.dt_proj[m], weights.dt_bias[m], raw)
        _copy_rows(h, saved.kept[m, first // CHUNK, b])
        for s in range(count):
            _delta(raw[s], u[s], delta[s], slope[s], drive[s])
        advance(h, a, delta, drive, b_t, c_t, count, units, y, path, decays)
        for s in range(count):
            for d in range(units):
                saved.y[m, first + s, b, d] = y[s, d] + skip[d] * u[s, d]
            copy(u[s], saved.u[m, first + s, b])
            copy(delta[s], saved.delta[m, first + s, b])
            copy(slope[s], saved.slope[m, first + s, b])
            copy(mixed[s], saved.mixed[m, first + s, b])


@compiled
def _forward(weights, x, state, saved, scratch, begin, end):
    sequences = x.shape[2]
    for task in range(begin, end):
        _forward_task(weights, x, state, saved, scratch, task // sequences, task % sequences)


def forward(weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
    """Run x (M, S, B, I) from `state` (M, B, N, H), which is left at the segment's end."""
    networks, _, sequences, inputs = x.shape
    _, states, units = weights.a.shape
    width = saved.mixed.shape[3]

    def scratch() -> ForwardScratch:
        rows = [inputs, *[units] * 6, width, width - 2 * states, states, states]
        none = np.zeros(max(width, units), x.dtype)
        path = [aligned((CHUNK + more, states, units), x.dtype) for more in (1, 0)]
        steps = [aligned((CHUNK, columns), x.dtype) for columns in rows]
        return ForwardScratch._make([*steps, none, *path])

    share(_forward, networks * sequences, scratch, weights, x, state, saved)


@inlined
def _show(gradient, factor, skip, h, dc, du):
    """What a loss on y = sum_n C h + D u gives to C (N,) and, added, to u (H,)."""
    for n in range(h.shape[0]):
        total = h.dtype.type(0)
        for d in range(gradient.shape[0]):
            total += gradient[d] * h[n, d]
        dc[n] = total * factor
    for d in range(gradient.shape[0]):
        du[d] += gradient[d] * skip[d] * factor


@inlined
def _carry(emitted, m, b, exponent, da):
    """Move row 0's dL/dA of some steps, all at one exponent, from `da` to the sum over all steps,
    which is kept in float64 at the largest exponent met so far."""
    if exponent == EMPTY:
        return
    total, common = emitted.carried[m, b], emitted.carried_exponent[m, b]
    if exponent > common:
        shrink = power_of_two(common - exponent)
        for n in range(total.shape[0]):
            for d in range(total.shape[1]):
                total[n, d] *= shrink
        emitted.carried_exponent[m, b] = common = exponent
    factor = power_of_two(exponent - common)
    for n in range(total.shape[0]):
        for d in range(total.shape[1]):
            total[n, d] += da[n, d] * factor
            da[n, d] = 0


@inlined
def _backward_task(
    weights, saved, bundle, rows, grad, span, clip, trace, emitted, live, scratch, m, b
):
    """One sequence of one network; `rows` is the bundle, flat."""
    a, skip = weights.a[m], weights.skip[m]
    states, units = a.shape
    dtype, width = saved.u.dtype, saved.mixed.shape[3]
    low = width - 2 * states
    u, delta, drive, y, b_t, c_t, h, path, decays, du, draw, dmixed, dx, left, da, squares = scratch
    in_proj, x_proj = weights.in_proj_back[m], weights.x_proj_back[m]
    dt_proj = weights.dt_proj_back[m]
    head = b * rows.lag.shape[0]
    here = Here(m, head, live, b, 0)
    chunk, summed, common = -1, emitted.values.shape[3] > 0, np.int64(EMPTY)
    for n in range(states):
        fill(da[n], 0)
    for s in range(span.hi - 1, span.lo - 1, -1):
        k = s % CHUNK
        if s // CHUNK != chunk:
            chunk = s // CHUNK
            _carry(emitted, m, b, common, da)
            _copy_rows(saved.kept[m, chunk, b], h)
            for i in range(k + 1):
                t = chunk * CHUNK + i
                copy(saved.u[m, t, b], u[i])
                copy(saved.delta[m, t, b], delta[i])
                for d in range(units):
                    drive[i, d] = delta[i, d] * u[i, d]
                copy(saved.mixed[m, t, b, low : low + states], b_t[i])
                copy(saved.mixed[m, t, b, low + states :], c_t[i])
            advance(h, a, delta, drive, b_t, c_t, k + 1, units, y, path, decays)
        arrive(rows, grad, c_t[k], span, s, trace, squares, here)
        index = s - (span.hi - grad.shape[1])
        if summed:
            if rows.exponent[m, head] != common:
                _carry(emitted, m, b, common, da)
                common = rows.exponent[m, head]
            if common != EMPTY:
                add_decay_gradient(bundle.adjoint[m, b, 0], path[k], decays[k], delta[k], da)
        for row in range(live):
            adjoint, db = bundle.adjoint[m, b, row], dmixed[row, low : low + states]
            step_back(
                adjoint,
                path[k],
                decays[k],
                a,
                delta[k],
                u[k],
                drive[k],
                b_t[k],
                draw[row],
                du[row],
                db,
            )
            fill(dmixed[row, :low], 0)
            fill(dmixed[row, low + states :], 0)
            if index >= 0 and not silent(grad[m, index, head + row]):
                factor = dtype.type(power_of_two(-rows.exponent[m, head + row]))
                dc = dmixed[row, low + states :]
                _show(grad[m, index, head + row], factor, skip, path[k + 1], dc, du[row])
            for d in range(units):
                draw[row, d] *= saved.slope[m, s, b, d]
        add_product(draw, 0, units, 1, live, dt_proj, 0, units, dmixed, 0)
        add_product(dmixed, 0, width, 1, live, x_proj, 0, width, du, 0)
        if left.shape[0] > 0:
            copy(du[0], left[:units])
            copy(draw[0], left[units : 2 * units])
            copy(dmixed[0], left[2 * units : 2 * units + width])
            dskip, exponent = left[2 * units + width :], rows.exponent[m, head]
            fill(dskip, 0)
            if index >= 0 and not silent(grad[m, index, head]):
                factor = dtype.type(power_of_two(-exponent))
                for d in range(units):
                    dskip[d] = grad[m, index, head, d] * u[k, d] * factor
            emit(emitted, m, s - span.lo, b, exponent, left)
        if trace.exponent.shape[2] > 0:
            for row in range(live):
                fill(dx[row], 0)
            add_product(du, 0, units, 1, live, in_proj, 0, units, dx, 0)
            write_inputs(rows, span, s, trace, dx, 0, here)
        leave(rows, span, s, clip, trace, squares, here)
    _carry(emitted, m, b, common, da)


@compiled
def _backward(
    weights, saved, bundle, rows, grad, span, clip, trace, emitted, live, scratch, begin, end
):
    sequences = bundle.exponent.shape[1]
    for task in range(begin, end):
        m, b = task // sequences, task % sequences
        _backward_task(
            weights, saved, bundle, rows, grad, span, clip, trace, emitted, live, scratch, m, b
        )


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
    width, inputs = saved.mixed.shape[3], weights.in_proj.shape[1]
    dtype = bundle.adjoint.dtype

    def scratch() -> BackwardScratch:
        steps = [*[units] * 4, states, states]
        per_row = [units, units, width, inputs]
        return BackwardScratch._make(
            [
                *(aligned((CHUNK, columns), dtype) for columns in steps),
                aligned((states, units), dtype),
                *(aligned((CHUNK + more, states, units), dtype) for more in (1, 0)),
                *(aligned((live, columns), dtype) for columns in per_row),
                np.empty(emitted.values.shape[3], dtype),
                aligned((states, units), dtype),
                np.empty(states),
            ]
        )

    rows, gradient = flat_rows(bundle, grad)
    arrays = (weights, saved, bundle, rows, gradient, span, clip, trace, emitted)
    share(_backward, networks * sequences, scratch, *arrays, live)


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest decay of one sequence's step, which no finite state makes zero: where it is all
    but zero, a gradient may have left the dtype's range."""
    with np.errstate(over="ignore"):
        return float(np.exp(saved.delta[m, step, b] * weights.a[m]).min())


def add_gradients(
    weights: Weights,
    saved: Saved,
    x: NDArray,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the parameter gradients in `out`.

    x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
    carried sum, to the sums' scale.
    """
    units, width = weights.x_proj.shape[1:]
    low, here, sequences = weights.dt_proj.shape[1], slice(span.lo, span.hi), x.shape[2]
    dz, no_bias = rows_of_steps(emitted.values), np.zeros(out["x_proj_weight"].shape[:2])
    start = (span.start + span.lo) * sequences
    delta, none = rows_of_steps(saved.mixed[:, here, :, :low]), np.zeros_like(out["D"])
    for column, count, y, first, weight, bias in (
        (0, units, rows_of_steps(x), start, "in_proj_weight", none),
        (units, units, delta, 0, "dt_proj_weight", out["dt_proj_bias"]),
        (2 * units, width, rows_of_steps(saved.u), span.lo * sequences, "x_proj_weight", no_bias),
    ):
        accumulate(dz, Strip(column, 0, count), factor, y, first, out[weight], bias)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is a result
        steps = factor[:, : dz.shape[1], None]
        out["D"] += (dz[:, :, 2 * units + width :] * steps).sum(axis=1, dtype=np.float64)
        decay = np.einsum("mb,mbnd->mnd", factor[:, dz.shape[1] :], emitted.carried)
        out["A_log"] += (decay * weights.a).swapaxes(1, 2)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    strip = Strip(0, 0, weights.x_proj.shape[1])
    gated.project_strips((strip,), weights.in_proj_back, emitted, out)
