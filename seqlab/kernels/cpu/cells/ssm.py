"""The selective state-space layer on the CPU: what is Mamba's own beside `diagonal`'s loops over
time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells.ssm import rank
from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.chain import keep_gradient
from seqlab.kernels.cpu.diagonal import (
    CHUNK,
    Diagonal,
    StepsBack,
    copy_state,
    kept_shape,
    kept_width,
)
from seqlab.kernels.cpu.linalg import (
    Strip,
    accumulate,
    add_product,
    both_ways,
    copy,
    fill,
    project,
    project_strips,
    rows_of_steps,
)
from seqlab.kernels.cpu.math import sigmoid, softplus
from seqlab.kernels.cpu.selective_steps import add_decay_gradient, advance
from seqlab.kernels.cpu.selective_steps import step_back as state_step_back
from seqlab.kernels.layout import Emitted, Span
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


class ForwardChunk(NamedTuple):
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


class BackwardChunk(NamedTuple):
    """One chunk as in ForwardChunk, and `h` (N, H), a state on its way through it; for each live
    row du and d(raw step) (H,), dmixed (R+2N,) and dx (I,); dskip (H,) of row 0, zero but where it
    has just met a loss."""

    u: NDArray
    delta: NDArray
    drive: NDArray
    y: NDArray
    b: NDArray
    c: NDArray
    path: NDArray
    decays: NDArray
    h: NDArray
    du: NDArray
    draw: NDArray
    dmixed: NDArray
    dx: NDArray
    dskip: NDArray


PROJECTIONS = ("in_proj_weight", "x_proj_weight", "dt_proj_weight")


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    weights = [params[name] for name in PROJECTIONS]
    return Weights._make(
        [
            *both_ways(*weights),
            params["dt_proj_bias"].copy(),
            np.ascontiguousarray(-np.exp(params["A_log"]).swapaxes(1, 2)),
            params["D"].copy(),
        ]
    )


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    units, states = sizes.hidden, sizes.state
    per_unit = [aligned((*lead, units), dtype) for _ in range(4)]
    mixed = aligned((*lead, rank(units) + 2 * states), dtype)
    kept = aligned(kept_shape(lead, states, units), dtype)
    return Saved._make([*per_unit, mixed, kept])


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    mixed = rank(sizes.hidden) + 2 * sizes.state
    return 4 * sizes.hidden + mixed + kept_width(sizes.state, sizes.hidden)


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
def _run(weights, x, h, saved, chunk, m, b, first, count):
    """One chunk of one sequence."""
    a, skip = weights.a[m], weights.skip[m]
    states, units = a.shape
    width = saved.mixed.shape[3]
    low = width - 2 * states
    xs, u, raw, delta, slope, drive, y, mixed, dt, b_t, c_t, none, path, decays = chunk
    copy_state(h, saved.kept[m, first // CHUNK, b])
    for s in range(count):
        copy(x[m, first + s, b], xs[s])
    for s in range(count, CHUNK):
        fill(xs[s], 0)
        fill(dt[s], 0)
    # Whole chunks: a row's bits must not depend on how many steps follow.
    project(xs, CHUNK, weights.in_proj[m], none[:units], u)
    project(u, CHUNK, weights.x_proj[m], none[:width], mixed)
    for s in range(count):
        copy(mixed[s, :low], dt[s])
        copy(mixed[s, low : low + states], b_t[s])
        copy(mixed[s, low + states :], c_t[s])
    project(dt, CHUNK, weights.dt_proj[m], weights.dt_bias[m], raw)
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


@inlined
def _enter_chunk(weights, saved, chunk, m, b, first, count):
    """The states again."""
    a, h = weights.a[m], chunk.h
    copy_state(saved.kept[m, first // CHUNK, b], h)
    states, units = a.shape
    low = saved.mixed.shape[3] - 2 * states
    u, delta, drive, b_t, c_t = chunk.u, chunk.delta, chunk.drive, chunk.b, chunk.c
    for s in range(count):
        copy(saved.u[m, first + s, b], u[s])
        copy(saved.delta[m, first + s, b], delta[s])
        for d in range(units):
            drive[s, d] = delta[s, d] * u[s, d]
        copy(saved.mixed[m, first + s, b, low : low + states], b_t[s])
        copy(saved.mixed[m, first + s, b, low + states :], c_t[s])
    advance(h, a, delta, drive, b_t, c_t, count, units, chunk.y, chunk.path, chunk.decays)


@inlined
def _add_output_gradient(state, gradient, factor, weights, chunk, m, k):
    """y = sum over states of C h."""
    c, units = chunk.c[k], gradient.shape[0]
    for n in range(c.shape[0]):
        weight = c[n] * factor
        for d in range(units):
            state[n * units + d] += gradient[d] * weight


@inlined
def _add_to_total(adjoint, chunk, k, total):
    """dL/dA."""
    add_decay_gradient(adjoint, chunk.path[k], chunk.decays[k], chunk.delta[k], total)


@inlined
def _step_back(weights, saved, adjoint, chunk, m, b, s, k, row):
    states, units = adjoint.shape
    low = saved.mixed.shape[3] - 2 * states
    draw, dmixed = chunk.draw[row], chunk.dmixed[row]
    state_step_back(
        adjoint,
        chunk.path[k],
        chunk.decays[k],
        weights.a[m],
        chunk.delta[k],
        chunk.u[k],
        chunk.drive[k],
        chunk.b[k],
        draw,
        chunk.du[row],
        dmixed[low : low + states],
    )
    fill(dmixed[:low], 0)
    fill(dmixed[low + states :], 0)
    for d in range(units):
        draw[d] *= saved.slope[m, s, b, d]


@inlined
def _readout_back(weights, gradient, factor, chunk, m, k, row):
    """To C, to D, and to u by way of D: y = sum over states of C h + D u."""
    h, u, skip, du = chunk.path[k + 1], chunk.u[k], weights.skip[m], chunk.du[row]
    states, units = h.shape
    dc = chunk.dmixed[row, chunk.dmixed.shape[1] - states :]
    for n in range(states):
        total = h.dtype.type(0)
        for d in range(units):
            total += gradient[d] * h[n, d]
        dc[n] = total * factor
    for d in range(units):
        du[d] += gradient[d] * skip[d] * factor
    if row == 0:
        for d in range(units):
            chunk.dskip[d] = gradient[d] * u[d] * factor


@inlined
def _project_back(weights, chunk, m, live, recorded):
    du, draw, dmixed, dx = chunk.du, chunk.draw, chunk.dmixed, chunk.dx
    units, width = du.shape[1], dmixed.shape[1]
    add_product(draw, 0, units, 1, live, weights.dt_proj_back[m], 0, units, dmixed, 0)
    add_product(dmixed, 0, width, 1, live, weights.x_proj_back[m], 0, width, du, 0)
    if recorded:
        for row in range(live):
            fill(dx[row], 0)
        add_product(du, 0, units, 1, live, weights.in_proj_back[m], 0, units, dx, 0)


@inlined
def _keep_gradients(emitted, m, step, b, exponent, chunk):
    units, width = chunk.du.shape[1], chunk.dmixed.shape[1]
    keep_gradient(emitted, m, step, b, exponent, chunk.du[0], 0)
    keep_gradient(emitted, m, step, b, exponent, chunk.draw[0], units)
    keep_gradient(emitted, m, step, b, exponent, chunk.dmixed[0], 2 * units)
    keep_gradient(emitted, m, step, b, exponent, chunk.dskip, 2 * units + width)
    fill(chunk.dskip, 0)


def _forward_chunk(weights: Weights, dtype: np.dtype) -> ForwardChunk:
    inputs, units = weights.in_proj.shape[1:]
    width, states = weights.x_proj.shape[2], weights.a.shape[1]
    rows = [inputs, *[units] * 6, width, width - 2 * states, states, states]
    none = np.zeros(max(width, units), dtype)
    steps = [aligned((CHUNK, columns), dtype) for columns in rows]
    return ForwardChunk._make([*steps, none, *_path(states, units, dtype)])


def _path(states: int, units: int, dtype: np.dtype) -> list[NDArray]:
    """A chunk's states and decays."""
    return [aligned((CHUNK + more, states, units), dtype) for more in (1, 0)]


def _backward_chunk(weights: Weights, live: int, dtype: np.dtype) -> BackwardChunk:
    inputs, units = weights.in_proj.shape[1:]
    width, states = weights.x_proj.shape[2], weights.a.shape[1]
    steps = [aligned((CHUNK, columns), dtype) for columns in (*[units] * 4, states, states)]
    rows = [aligned((live, columns), dtype) for columns in (units, units, width, inputs)]
    path = [*_path(states, units, dtype), aligned((states, units), dtype)]
    return BackwardChunk._make([*steps, *path, *rows, np.zeros(units, dtype)])


_steps_back = StepsBack(
    _add_output_gradient,
    _step_back,
    _project_back,
    enter_chunk=_enter_chunk,
    add_to_total=_add_to_total,
    readout_back=_readout_back,
    keep_gradients=_keep_gradients,
)
_cell = Diagonal(_run, _steps_back, _forward_chunk, _backward_chunk)
forward, backward = _cell.forward, _cell.backward


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
    low, steps, sequences = weights.dt_proj.shape[1], slice(span.lo, span.hi), x.shape[2]
    dz, no_bias = rows_of_steps(emitted.values), np.zeros(out["x_proj_weight"].shape[:2])
    start = (span.start + span.lo) * sequences
    delta, none = rows_of_steps(saved.mixed[:, steps, :, :low]), np.zeros_like(out["D"])
    for column, count, y, first, weight, bias in (
        (0, units, rows_of_steps(x), start, "in_proj_weight", none),
        (units, units, delta, 0, "dt_proj_weight", out["dt_proj_bias"]),
        (2 * units, width, rows_of_steps(saved.u), span.lo * sequences, "x_proj_weight", no_bias),
    ):
        accumulate(dz, Strip(column, 0, count), factor, y, first, out[weight], bias)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is a result
        scale = factor[:, : dz.shape[1], None]
        out["D"] += (dz[:, :, 2 * units + width :] * scale).sum(axis=1, dtype=np.float64)
        decay = np.einsum("mb,mbnd->mnd", factor[:, dz.shape[1] :], emitted.carried)
        out["A_log"] += (decay * weights.a).swapaxes(1, 2)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    strip = Strip(0, 0, weights.x_proj.shape[1])
    project_strips(rows_of_steps(emitted.values), (strip,), weights.in_proj_back, out)
