"""The bare selective scan and its gradients on a GPU, parallel over channels and chunks of time.

The recurrence is linear and diagonal, so a chunk's effect on what comes after it is its own end and
a product of decays, for each channel and state. Three passes, forward and back alike: each chunk
from zero, the chunks joined one after the other, each chunk again from its true beginning
(Blelloch 1990 over chunks; the passes of Mamba's own kernel). A thread has one channel of one chunk
with all its states in registers. Arrays are turned to (batch, L, ..) first, so that neighbouring
threads read neighbouring numbers.

Source of the recurrence: Gu & Dao 2023, Algorithm 2.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from seqlab.cells import ssm as algebra
from seqlab.kernels.cuda import chain
from seqlab.kernels.cuda.linalg import fold, real_type, turn
from seqlab.kernels.cuda.math import sigmoid, softplus
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

CHUNK = 64  # steps that a thread goes through one after the other
PATH_BYTES = 512 << 20  # of states and decays that are there at once on the way back

_state = device(algebra.state)
_adjoint = device(algebra.adjoint)


class Given(NamedTuple):
    """The arguments on the device: u, delta, its `slope` by the raw step, and z where `gated`
    (batch, L, D); a (D, N); b, c (batch, L, N); skip (D,)."""

    u: Array
    delta: Array
    slope: Array
    a: Array
    b: Array
    c: Array
    skip: Array
    z: Array
    gated: bool


class Found(NamedTuple):
    """The gradients on the device, named and shaped as in Given; a (chunks, D, N) and skip (chunks,
    D) are still apart for each sequence's chunks."""

    u: Array
    delta: Array
    z: Array
    a: Array
    skip: Array
    b: Array
    c: Array


@cache
def _discretise(real: type) -> Any:
    one = real(1)

    @kernel
    def discretise(bias, soft, delta, slope):
        """Delta = delta + bias or its softplus, in place, and its slope."""
        row = cuda.blockIdx.x
        for d in range(cuda.threadIdx.x, delta.shape[1], cuda.blockDim.x):
            raw = delta[row, d] + bias[d]
            delta[row, d] = softplus(raw) if soft else raw
            slope[row, d] = sigmoid(raw) if soft else one

    return discretise


@cache
def _place(chunk: int) -> Any:
    @device
    def place(index, chunks, length):
        """(sequence, chunk, first step, end) of a chunk by its number among all."""
        batch, k = index // chunks, index % chunks
        return batch, k, k * chunk, min((k + 1) * chunk, length)

    return place


@cache
def _step(states: int) -> Any:
    @device
    def step(given, batch, t, d, h):
        """One step of a channel: h (N,) in place; returns the output before the gate."""
        delta, u = given.delta[batch, t, d], given.u[batch, t, d]
        y = given.skip[d] * u
        for n in range(states):
            factor = math.exp(delta * given.a[d, n])
            h[n] = _state(factor, h[n], delta * u, given.b[batch, t, n])
            y += given.c[batch, t, n] * h[n]
        return y

    return step


@cache
def _ends(real: type, states: int, chunk: int) -> Any:
    place, step, zero = _place(chunk), _step(states), real(0)

    @kernel
    def ends(given, decay, end):
        """Each chunk from a state of zeros: where it ends, and its product of decays."""
        chunks, (length, units) = end.shape[1], given.u.shape[1:]
        batch, k, first, last = place(cuda.blockIdx.x, chunks, length)
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            h, passed = cuda.local.array(states, real), zero
            for n in range(states):
                h[n] = zero
            for t in range(first, last):
                passed += given.delta[batch, t, d]
                step(given, batch, t, d, h)
            for n in range(states):
                end[batch, k, n, d] = h[n]
                decay[batch, k, n, d] = math.exp(passed * given.a[d, n])

    return ends


@cache
def _ends_back(real: type, states: int, chunk: int) -> Any:
    place, zero = _place(chunk), real(0)

    @kernel
    def ends_back(given, out, end):
        """Each chunk backwards from an adjoint of zeros: what it hands to the chunk before."""
        chunks, (length, units) = end.shape[1], given.u.shape[1:]
        batch, k, first, last = place(cuda.blockIdx.x, chunks, length)
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            g = cuda.local.array(states, real)
            for n in range(states):
                g[n] = zero
            for t in range(last - 1, first - 1, -1):
                delta, shown = given.delta[batch, t, d], out[batch, t, d]
                for n in range(states):
                    factor = math.exp(delta * given.a[d, n])
                    g[n] = (g[n] + shown * given.c[batch, t, n]) * factor
            for n in range(states):
                end[batch, k, n, d] = g[n]

    return ends_back


@cache
def _join() -> Any:
    @kernel
    def join(decay, end, state, backwards):
        """From each chunk's own end to what it truly begins with, in place, from `state` (batch, N,
        D) on, which is left at the other end of the sequence."""
        chunks, states, units = end.shape[1:]
        batch = cuda.blockIdx.x
        for i in range(cuda.threadIdx.x, states * units, cuda.blockDim.x):
            n, d = i // units, i % units
            carried = state[batch, n, d]
            for step in range(chunks):
                k = chunks - 1 - step if backwards else step
                own = end[batch, k, n, d]
                end[batch, k, n, d] = carried
                carried = decay[batch, k, n, d] * carried + own
            state[batch, n, d] = carried

    return join


@cache
def _outputs(real: type, states: int, chunk: int) -> Any:
    place, step = _place(chunk), _step(states)

    @kernel
    def outputs(given, start, y):
        """Each chunk from its true beginning: y."""
        chunks, (length, units) = start.shape[1], given.u.shape[1:]
        batch, k, first, last = place(cuda.blockIdx.x, chunks, length)
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            h = cuda.local.array(states, real)
            for n in range(states):
                h[n] = start[batch, k, n, d]
            for t in range(first, last):
                total = step(given, batch, t, d, h)
                if given.gated:
                    z = given.z[batch, t, d]
                    total *= z * sigmoid(z)
                y[batch, t, d] = total

    return outputs


@cache
def _again(real: type, states: int, chunk: int) -> Any:
    place, one = _place(chunk), real(1)

    @kernel
    def again(given, grad_y, start, k0, path, dz):
        """Each chunk once more: the state before each step and its decay, and the gate's gradient.

        A block takes chunk k0 + .. of all; path (blocks, CHUNK, 2, N, D).
        """
        slot, chunks, (length, units) = cuda.blockIdx.x, start.shape[1], given.u.shape[1:]
        batch, k, first, last = place(slot + k0, chunks, length)
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            h = cuda.local.array(states, real)
            for n in range(states):
                h[n] = start[batch, k, n, d]
            for t in range(first, last):
                delta, u = given.delta[batch, t, d], given.u[batch, t, d]
                y = given.skip[d] * u
                for n in range(states):
                    factor = math.exp(delta * given.a[d, n])
                    path[slot, t - first, 0, n, d], path[slot, t - first, 1, n, d] = h[n], factor
                    h[n] = _state(factor, h[n], delta * u, given.b[batch, t, n])
                    y += given.c[batch, t, n] * h[n]
                if given.gated:
                    z = given.z[batch, t, d]
                    s = sigmoid(z)
                    dz[batch, t, d] = grad_y[batch, t, d] * y * s * (one + z * (one - s))

    return again


@cache
def _backward(real: type, states: int, chunk: int) -> Any:
    place, zero = _place(chunk), real(0)

    @kernel
    def backward(given, out, handed, k0, path, found):
        """Each chunk back, from the adjoint that it is truly handed; `out` is the gradient of the
        output before the gate, `path` what `again` left: turned into the state after each step and
        its adjoint."""
        slot, chunks, (length, units) = cuda.blockIdx.x, handed.shape[1], given.u.shape[1:]
        batch, k, first, last = place(slot + k0, chunks, length)
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            g, da = cuda.local.array(states, real), cuda.local.array(states, real)
            for n in range(states):
                g[n], da[n] = handed[batch, k, n, d], zero
            dskip = zero
            for t in range(last - 1, first - 1, -1):
                delta, u = given.delta[batch, t, d], given.u[batch, t, d]
                shown, i = out[batch, t, d], t - first
                ddelta, ddrive = zero, zero
                for n in range(states):
                    b_n, before = given.b[batch, t, n], path[slot, i, 0, n, d]
                    factor = path[slot, i, 1, n, d]
                    adjoint = g[n] + shown * given.c[batch, t, n]
                    path[slot, i, 0, n, d] = _state(factor, before, delta * u, b_n)
                    path[slot, i, 1, n, d] = adjoint
                    parts = _adjoint(adjoint, factor, before, b_n)
                    ddelta += parts[0] * given.a[d, n]
                    da[n] += parts[0] * delta
                    ddrive += parts[1]
                    g[n] = parts[2]
                dskip += shown * u
                found.u[batch, t, d] = ddrive * delta + shown * given.skip[d]
                found.delta[batch, t, d] = (ddelta + ddrive * u) * given.slope[batch, t, d]
            found.skip[slot + k0, d] = dskip
            for n in range(states):
                found.a[slot + k0, d, n] = da[n]

    return backward


@cache
def _over_channels(real: type, chunk: int) -> Any:
    place, zero = _place(chunk), real(0)
    total = chain.warp().total  # needs no scratch

    @kernel
    def over_channels(given, out, chunks, k0, path, found):
        """The gradients of B and C, sums over channels; a block has one step, a warp a state."""
        slot, i = cuda.blockIdx.x // chunk, cuda.blockIdx.x % chunk
        batch, _, first, last = place(slot + k0, chunks, given.u.shape[1])
        t = first + i
        if t < last:
            thread, threads = cuda.threadIdx.x, cuda.blockDim.x
            for n in range(thread // LANES, path.shape[3], threads // LANES):
                db, dc = zero, zero
                for d in range(thread % LANES, path.shape[4], LANES):
                    drive = given.delta[batch, t, d] * given.u[batch, t, d]
                    db += path[slot, i, 1, n, d] * drive
                    dc += path[slot, i, 0, n, d] * out[batch, t, d]
                db, dc = total(None, db), total(None, dc)
                if thread % LANES == 0:
                    found.b[batch, t, n], found.c[batch, t, n] = db, dc

    return over_channels


@cache
def _ungate(real: type) -> Any:

    @kernel
    def ungate(grad_y, z, out):
        """The gradient of the output before the gate silu(z)."""
        row = cuda.blockIdx.x
        for d in range(cuda.threadIdx.x, out.shape[1], cuda.blockDim.x):
            out[row, d] = grad_y[row, d] * z[row, d] * sigmoid(z[row, d])

    return ungate


def _rows(array: Array) -> Array:
    """(batch, L, D) -> (batch * L, D)."""
    return array.reshape(-1, array.shape[2])


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
) -> Given:
    """The arguments on the device, turned and discretised."""
    real, channels = real_type(u), u.shape[1]
    zeros = np.zeros(channels, real)
    skip, bias = (on_device(zeros if value is None else value) for value in (D, delta_bias))
    turned = [turn(on_device(value)) for value in (u, delta, B, C)]
    steps, slope = turned[1], empty(turned[1].shape, real)
    rows, threads = _rows(steps), block_size(channels)
    launch(_discretise(real), len(rows), threads, bias, softplus, rows, _rows(slope))
    # An empty array has no place on a device; nothing reads this one.
    gate = turn(on_device(z)) if z is not None else to_device(np.zeros((1, 1, 1), real))
    arrays = (turned[0], steps, slope, on_device(A), *turned[2:], skip, gate)
    return Given._make((*arrays, z is not None))


def _state_array(state: Any, given: Given) -> Array:
    """A state (batch, D, N) as the kernels have it, (batch, N, D), and may change it; or zeros."""
    if state is not None:
        return turn(on_device(state))
    batch, (units, states) = len(given.u), given.a.shape
    return to_device(np.zeros((batch, states, units), real_type(given.u)))


def _begin(given: Given, state: Array) -> tuple[Array, Array]:
    """Each chunk's product of decays, and the state that it begins with, (batch, K, N, D); `state`
    (batch, N, D), the first one, is left as the last."""
    (batch, length, units), states = given.u.shape, given.a.shape[1]
    real, threads = real_type(given.u), block_size(units)
    shape = (batch, -(-length // CHUNK), states, units)
    decay, start = empty(shape, real), empty(shape, real)
    launch(_ends(real, states, CHUNK), batch * shape[1], threads, given, decay, start)
    launch(_join(), batch, block_size(states * units), decay, start, state, False)
    return decay, start


def forward(softplus: bool, initial_state: Any = None, **arguments: Any) -> tuple[Any, Any]:
    """y (batch, D, L) and the last state (batch, D, N) from checked arguments of
    `seqlab.selective_scan`, where u lives."""
    given = _given(softplus, **arguments)
    state = _state_array(initial_state, given)
    _, start = _begin(given, state)
    y, (batch, chunks, states, units) = empty(given.u.shape, real_type(given.u)), start.shape
    function = _outputs(real_type(y), states, CHUNK)
    launch(function, batch * chunks, block_size(units), given, start, y)
    y, last = (in_kind(turn(array), arguments["u"]) for array in (y, state))
    return y, last


def backward(
    grad_y: Any, grad_last_state: Any, softplus: bool, initial_state: Any = None, **arguments: Any
) -> dict[str, Any]:
    """The gradients of sum(y grad_y) + sum(last state grad_last_state), with the arguments' names
    and shapes, where u lives."""
    given, grad = _given(softplus, **arguments), turn(on_device(grad_y))
    decay, start = _begin(given, _state_array(initial_state, given))
    adjoint = _state_array(grad_last_state, given)
    (batch, chunks, states, units), real = start.shape, real_type(start)
    threads, length = block_size(units), given.u.shape[1]
    out = grad
    if given.gated:
        out = empty(grad.shape, real)
        launch(_ungate(real), batch * length, threads, _rows(grad), _rows(given.z), _rows(out))
    handed = empty(start.shape, real)
    launch(_ends_back(real, states, CHUNK), batch * chunks, threads, given, out, handed)
    launch(_join(), batch, block_size(states * units), decay, handed, adjoint, True)
    shapes = (
        *(given.u.shape, given.u.shape, given.z.shape),
        *((batch * chunks, units, states), (batch * chunks, units)),
        *(given.b.shape, given.c.shape),
    )
    found = Found._make(empty(shape, real) for shape in shapes)
    each = 2 * CHUNK * states * units * np.dtype(real).itemsize
    together = min(batch * chunks, max(1, PATH_BYTES // each))
    path = empty((together, CHUNK, 2, states, units), real)
    again, back = _again(real, states, CHUNK), _backward(real, states, CHUNK)
    sums = _over_channels(real, CHUNK)
    for k0 in range(0, batch * chunks, together):
        blocks = min(together, batch * chunks - k0)
        launch(again, blocks, threads, given, grad, start, k0, path, found.z)
        launch(back, blocks, threads, given, out, handed, k0, path, found)
        warps = block_size(LANES * states)
        launch(sums, blocks * CHUNK, warps, given, out, chunks, k0, path, found)
    gradients = {
        "u": turn(found.u),
        "delta": turn(found.delta),
        "A": fold(found.a),
        "B": turn(found.b),
        "C": turn(found.c),
        "D": fold(found.skip),
        "z": turn(found.z),
        "delta_bias": fold(_rows(found.delta)),
        "initial_state": turn(adjoint),
    }
    return {name: in_kind(value, arguments["u"]) for name, value in gradients.items()}
