"""The bare selective scan and its gradients on a GPU, parallel over channels and chunks of time.

Forward it is the passes of diagonal.py. Back too, but that some chunks at a time keep their states
on the third, from which all gradients of their steps follow. Arrays are transposed to
(batch, L, 1, ..) first, so that neighbouring threads read neighbouring numbers: to the passes each
sequence is a network of its own.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from seqlab.kernels.cuda import diagonal
from seqlab.kernels.cuda.diagonal import Law, piece_of, pieces, place
from seqlab.kernels.cuda.linalg import fold, real_type, transpose
from seqlab.kernels.cuda.math import sigmoid
from seqlab.kernels.cuda.scan import (
    LAW,
    Selective,
    adjoint,
    decay,
    direct,
    discretise,
    output,
    rate,
    state_after,
    step,
)
from seqlab.kernels.cuda.target import (
    LANES,
    Array,
    block_size,
    cuda,
    device,
    empty,
    in_kind,
    kernel,
    launch,
    on_device,
    to_device,
)
from seqlab.kernels.cuda.team import warp

PATH_BYTES = 512 << 20  # of states and decays that are there at once on the way back


class Gate(NamedTuple):
    """z (batch, L, 1, D), if it is `given`."""

    z: Array
    given: bool


class Outputs(NamedTuple):
    """What the way forward leaves: y (batch, L, 1, D)."""

    gate: Gate
    y: Array


class Handed(NamedTuple):
    """The recurrence with the gradient of its outputs before the gate (batch, L, 1, D)."""

    recurrence: Selective
    dy: Array


class Path(NamedTuple):
    """What some chunks keep of their steps, `kept` (chunks, CHUNK, 2, N, D), and the gradient of
    the gate from that of the gated output. `a` is A as it was given, (D, N): a channel's numbers,
    side by side, are read at each step and take no registers, which are short here."""

    kept: Array
    a: Array
    gate: Gate
    gated_dy: Array
    dz: Array


class Found(NamedTuple):
    """The gradients on the device; a (chunks, N, D) and skip (chunks, D) are still apart for each
    sequence's chunks, those of u, delta, z, b and c (batch, L, 1, ..)."""

    u: Array
    delta: Array
    z: Array
    a: Array
    skip: Array
    b: Array
    c: Array


@device
def _record_output(given, rates, out, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the output."""
    step(given, rates, m, s, b, d, state)
    y = output(given, m, s, b, d, state)
    if out.gate.given:
        z = out.gate.z[m, s, b, d]
        y *= z * sigmoid(z)
    out.y[m, s, b, d] = y


@device
def _record_path(given, rates, out, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the state before the step and its decay, and the gate's gradient."""
    delta, one = given.delta[m, s, b, d], type(given.delta[m, s, b, d])(1)
    drive, y = delta * given.u[m, s, b, d], direct(given, m, s, b, d)
    b_t, c_t = given.b[m, s, b, given.b0 :], given.c[m, s, b, given.c0 :]
    for n in range(state.shape[0]):
        factor = decay(out.a[d, n], delta)
        out.kept[slot, i, 0, n, d], out.kept[slot, i, 1, n, d] = state[n], factor
        state[n] = state_after(factor, state[n], drive, b_t[n])
        y += c_t[n] * state[n]
    if out.gate.given:
        z = out.gate.z[m, s, b, d]
        g = sigmoid(z)
        out.dz[m, s, b, d] = out.gated_dy[m, s, b, d] * y * g * (one + z * (one - g))


@device
def _rate_back(given, m, n, d):
    """See `diagonal.Law`."""
    return rate(given.recurrence, m, n, d)


@device
def _time_back(given, m, s, b, d):
    """See `diagonal.Law`."""
    return given.recurrence.delta[m, s, b, d]


@device
def _step_back(given, rates, m, s, b, d, state):
    """See `diagonal.Law`; `state` is the adjoint that a step hands to the one before."""
    of, dy = given.recurrence, given.dy[m, s, b, d]
    delta, c_t = of.delta[m, s, b, d], of.c[m, s, b, of.c0 :]
    for n in range(state.shape[0]):
        factor = decay(rates[n], delta)
        state[n] = (state[n] + dy * c_t[n]) * factor


LAW_BACK = Law(_rate_back, _time_back, decay, _step_back)


@cache
def _backward(real: type, states: int, chunk: int) -> Any:
    zero = real(0)

    @kernel
    def backward(given, dy, handed, begin, path, found, a):
        """Each chunk back, from the adjoint that it is truly handed; `path` is what `_record_path`
        kept: turned into the state after each step and its adjoint. `a` as in Path. A block has
        some channels of one chunk."""
        length, _, units = given.u.shape[1:]
        slot, d = piece_of(units)
        m, k, b, first, last = place(begin + slot, handed, chunk, length)
        share = m * handed.shape[1] + k
        if d < units:
            g, da = cuda.local.array(states, real), cuda.local.array(states, real)
            for n in range(states):
                g[n], da[n] = handed[m, k, b, n, d], zero
            dskip = zero
            for s in range(last - 1, first - 1, -1):
                delta, u = given.delta[m, s, b, d], given.u[m, s, b, d]
                dy_d, i = dy[m, s, b, d], s - first
                ddelta, ddrive = zero, zero
                b_t, c_t = given.b[m, s, b, given.b0 :], given.c[m, s, b, given.c0 :]
                for n in range(states):
                    b_n, before = b_t[n], path[slot, i, 0, n, d]
                    factor = path[slot, i, 1, n, d]
                    after = g[n] + dy_d * c_t[n]
                    path[slot, i, 0, n, d] = state_after(factor, before, delta * u, b_n)
                    path[slot, i, 1, n, d] = after
                    parts = adjoint(after, factor, before, b_n)
                    ddelta += parts[0] * a[d, n]
                    da[n] += parts[0] * delta
                    ddrive += parts[1]
                    g[n] = parts[2]
                dskip += dy_d * u
                found.u[m, s, b, d] = ddrive * delta + dy_d * given.skip[0, d]
                found.delta[m, s, b, d] = (ddelta + ddrive * u) * given.slope[m, s, b, d]
            found.skip[share, d] = dskip
            for n in range(states):
                found.a[share, n, d] = da[n]

    return backward


@cache
def _over_channels(real: type, chunk: int) -> Any:
    zero, total = real(0), warp().total  # which needs no scratch

    @kernel
    def over_channels(given, dy, handed, begin, path, found):
        """The gradients of B and C, sums over channels; a block has one step, a warp a state."""
        slot, i = cuda.blockIdx.x // chunk, cuda.blockIdx.x % chunk
        m, _, b, first, last = place(begin + slot, handed, chunk, given.u.shape[1])
        s = first + i
        if s < last:
            thread, threads = cuda.threadIdx.x, cuda.blockDim.x
            for n in range(thread // LANES, path.shape[3], threads // LANES):
                db, dc = zero, zero
                for d in range(thread % LANES, path.shape[4], LANES):
                    db += path[slot, i, 1, n, d] * (given.delta[m, s, b, d] * given.u[m, s, b, d])
                    dc += path[slot, i, 0, n, d] * dy[m, s, b, d]
                db, dc = total(None, db), total(None, dc)
                if thread % LANES == 0:
                    found.b[m, s, b, n], found.c[m, s, b, n] = db, dc

    return over_channels


@cache
def _ungate() -> Any:
    @kernel
    def ungate(grad_y, z, dy):
        """The gradient of the output before the gate silu(z). A block has one step."""
        m, s = cuda.blockIdx.x // dy.shape[1], cuda.blockIdx.x % dy.shape[1]
        for d in range(cuda.threadIdx.x, dy.shape[3], cuda.blockDim.x):
            gate = z[m, s, 0, d]
            dy[m, s, 0, d] = grad_y[m, s, 0, d] * gate * sigmoid(gate)

    return ungate


def _steps(value: Any) -> Array:
    """(batch, .., L), wherever it is, as the passes take it: (batch, L, 1, ..)."""
    transposed = transpose(on_device(value))
    return transposed.reshape(*transposed.shape[:2], 1, transposed.shape[2])


def _returned(array: Array) -> Array:
    """The way back: (batch, L, 1, ..) -> (batch, .., L)."""
    return transpose(array.reshape(*array.shape[:2], array.shape[3]))


def _given(
    softplus: bool,
    u: Any,
    delta: Any,
    A: Any,
    B: Any,
    C: Any,
    D: Any,
    z: Any,
    delta_bias: Any,
) -> tuple[Selective, Gate]:
    """The arguments on the device, transposed and discretised."""
    real, channels = real_type(u), u.shape[1]
    zeros = np.zeros(channels, real)
    skip, bias = (
        on_device(zeros if value is None else value).reshape(1, channels)
        for value in (D, delta_bias)
    )
    u, delta, b, c = map(_steps, (u, delta, B, C))
    slope = empty(delta.shape, real)
    flat = (len(delta), -1, channels)
    discretise(bias, softplus, delta.reshape(*flat), slope.reshape(*flat))
    a = transpose(on_device(A).reshape(1, *A.shape))
    # An empty array has no place on a device; nothing reads this one.
    gate = to_device(np.zeros((1, 1, 1, 1), real)) if z is None else _steps(z)
    return Selective(u, delta, slope, b, c, 0, 0, a, skip), Gate(gate, z is not None)


def _state_array(state: Any, given: Selective) -> Array:
    """A state (batch, D, N) as the passes have it, (batch, 1, N, D), and may change it; or
    zeros."""
    batch, (_, states, units) = len(given.u), given.a.shape
    if state is None:
        return to_device(np.zeros((batch, 1, states, units), real_type(given.u)))
    return transpose(on_device(state)).reshape(batch, 1, states, units)


def _sequences(state: Array) -> Array:
    """(batch, 1, N, D) -> (batch, N, D)."""
    return state.reshape(len(state), *state.shape[2:])


def _starts(given: Selective, state: Array) -> Array:
    """What each chunk begins with (batch, K, 1, N, D); `state`, the first one, is left as the
    last."""
    (batch, length), (_, states, units) = given.u.shape[:2], given.a.shape
    shape = (batch, -(-length // diagonal.CHUNK), 1, states, units)
    starts = empty(shape, real_type(given.u))
    diagonal.join(LAW, given, length, state, starts)
    return starts


def forward(softplus: bool, initial_state: Any = None, **arguments: Any) -> tuple[Any, Any]:
    """y (batch, D, L) and the last state (batch, D, N) from checked arguments of
    `seqlab.selective_scan`, where u lives."""
    given, gate = _given(softplus, **arguments)
    state = _state_array(initial_state, given)
    starts, y = _starts(given, state), empty(given.u.shape, real_type(given.u))
    chunks = range(starts.shape[0] * starts.shape[1])
    diagonal.replay(LAW.rate, _record_output, given, y.shape[1], starts, chunks, Outputs(gate, y))
    like, last = arguments["u"], transpose(_sequences(state))
    return in_kind(_returned(y), like), in_kind(last, like)


def backward(
    grad_y: Any, grad_last_state: Any, softplus: bool, initial_state: Any = None, **arguments: Any
) -> dict[str, Any]:
    """The gradients of sum(y grad_y) + sum(last state grad_last_state), with the arguments' names
    and shapes, where u lives."""
    (given, gate), gated_dy = _given(softplus, **arguments), _steps(grad_y)
    starts = _starts(given, _state_array(initial_state, given))
    batch, chunks, _, states, units = starts.shape
    real, threads, length = real_type(starts), block_size(units), given.u.shape[1]
    dy = gated_dy
    if gate.given:
        dy = empty(dy.shape, real)
        launch(_ungate(), batch * length, threads, gated_dy, gate.z, dy)
    first, handed = _state_array(grad_last_state, given), empty(starts.shape, real)
    diagonal.join(LAW_BACK, Handed(given, dy), length, first, handed, backwards=True)
    shapes = (
        *(given.u.shape, given.u.shape, gate.z.shape),
        *((batch * chunks, states, units), (batch * chunks, units)),
        *(given.b.shape, given.c.shape),
    )
    found = Found._make(empty(shape, real) for shape in shapes)
    each = 2 * diagonal.CHUNK * states * units * np.dtype(real).itemsize
    together = min(batch * chunks, max(1, PATH_BYTES // each))
    path = empty((together, diagonal.CHUNK, 2, states, units), real)
    back, sums = _backward(real, states, diagonal.CHUNK), _over_channels(real, diagonal.CHUNK)
    out = Path(path, on_device(arguments["A"]), gate, gated_dy, found.z)
    for begin in range(0, batch * chunks, together):
        numbers = range(begin, min(begin + together, batch * chunks))
        diagonal.replay(LAW.rate, _record_path, given, length, starts, numbers, out)
        arrays = (given, dy, handed, begin, path, found)
        launch(back, *pieces(len(numbers), units), *arrays, out.a)
        launch(sums, len(numbers) * diagonal.CHUNK, block_size(LANES * states), *arrays)
    a = fold(found.a)
    gradients = {
        "u": _returned(found.u),
        "delta": _returned(found.delta),
        "A": transpose(a.reshape(1, *a.shape)).reshape(units, states),
        "B": _returned(found.b),
        "C": _returned(found.c),
        "D": fold(found.skip),
        "z": _returned(found.z),
        "delta_bias": fold(found.delta.reshape(-1, units)),
        "initial_state": transpose(_sequences(first)),
    }
    return {name: in_kind(value, arguments["u"]) for name, value in gradients.items()}
