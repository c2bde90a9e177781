"""A chunk of the bare selective scan in scratch, channels innermost, and what is done to it.

Every loop over channels runs over all lanes, a constant for the compiler; lanes without a channel
hold zeros.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.diagonal import CHUNK
from seqlab.kernels.cpu.math import sigmoid, softplus
from seqlab.kernels.cpu.selective_steps import adjoint
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.memory import aligned


class Chunk(NamedTuple):
    """A task's scratch: (CHUNK, lanes) for what has steps, but b, c (CHUNK, N); a, h (N, lanes);
    skip, bias (1, lanes); states (CHUNK + 1, N, lanes), decays (CHUNK, N, lanes). Or the gradients
    of all that; that of h is what goes back in time."""

    u: NDArray
    delta: NDArray
    slope: NDArray
    drive: NDArray
    z: NDArray
    y: NDArray
    b: NDArray
    c: NDArray
    a: NDArray
    h: NDArray
    skip: NDArray
    bias: NDArray
    states: NDArray
    decays: NDArray


def task_channels(like):
    """Channels of one task; a constant for the compiler."""
    return 8 * SHAPES.scan // np.finfo(like.dtype).bits


lanes = inlined(task_channels)


def new_chunk(states: int, like: NDArray) -> Chunk:
    """Scratch for N states, not initialised."""
    width = task_channels(like)
    shapes = [
        *[(CHUNK, width)] * 6,
        *[(CHUNK, states)] * 2,
        *[(states, width)] * 2,
        *[(1, width)] * 2,
        (CHUNK + 1, states, width),
        (CHUNK, states, width),
    ]
    return Chunk._make(aligned(shape, like.dtype) for shape in shapes)


@inlined_apart
def clear(target):
    """A matrix of zeros."""
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            target[i, j] = 0


@inlined_apart
def move(part, total):
    """total (float64) += part, a matrix each, which is cleared."""
    for i in range(part.shape[0]):
        for j in range(part.shape[1]):
            total[i, j] += part[i, j]
            part[i, j] = 0


@inlined_apart
def read(source, place, span, target):
    """target[s, d] = source[i, row + d, column + s] for d < rows and s < columns, with place =
    (i, row, rows) and span = (column, columns); zero in the lanes beyond."""
    i, row, rows = place
    column, columns = span
    for d in range(rows):
        line = source[i, row + d, column : column + columns]
        for s in range(columns):
            target[s, d] = line[s]
    for d in range(rows, target.shape[1]):
        for s in range(columns):
            target[s, d] = 0


@inlined_apart
def write(source, place, span, target):
    """The way back of `read`: target[i, row + d, column + s] = source[s, d]."""
    i, row, rows = place
    column, columns = span
    for d in range(rows):
        line = target[i, row + d, column : column + columns]
        for s in range(columns):
            line[s] = source[s, d]


@inlined_apart
def copy_rows(source, target):
    """target = source, (N, lanes) each."""
    for n in range(source.shape[0]):
        for d in range(source.shape[1]):
            target[n, d] = source[n, d]


@inlined_apart
def discretise(chunk, count, soft):
    """From the raw step in chunk.delta: the step, its slope by the raw one, and Delta u."""
    width = lanes(chunk.u)
    for s in range(count):
        for d in range(width):
            chunk.delta[s, d] += chunk.bias[0, d]
            chunk.slope[s, d] = 1
        if soft:
            for d in range(width):
                chunk.slope[s, d] = sigmoid(chunk.delta[s, d])
                chunk.delta[s, d] = softplus(chunk.delta[s, d])
        for d in range(width):
            chunk.drive[s, d] = chunk.delta[s, d] * chunk.u[s, d]


@inlined_apart
def show(chunk, count):
    """y += D u."""
    for s in range(count):
        for d in range(lanes(chunk.u)):
            chunk.y[s, d] += chunk.skip[0, d] * chunk.u[s, d]


@inlined_apart
def gate(chunk, count):
    """y *= silu(z)."""
    for s in range(count):
        for d in range(lanes(chunk.u)):
            z = chunk.z[s, d]
            chunk.y[s, d] *= z * sigmoid(z)


@inlined_apart
def gate_back(chunk, grad, count):
    """From dL/d(y silu(z)) in grad.y: grad.z, and dL/dy in its place."""
    one = chunk.z.dtype.type(1)
    for s in range(count):
        for d in range(lanes(chunk.u)):
            z, gated = chunk.z[s, d], grad.y[s, d]
            gate = sigmoid(z)
            grad.z[s, d] = gated * chunk.y[s, d] * gate * (one + z * (one - gate))
            grad.y[s, d] = gated * z * gate


@inlined_apart
def step_back(chunk, grad, s):
    """Step s back: grad.h comes from later steps and leaves for earlier ones.

    Writes row s of grad.b, grad.c and grad.drive, and of grad.delta what comes through the decay;
    adds to grad.a.
    """
    width = lanes(chunk.u)
    for d in range(width):
        grad.delta[s, d] = 0
        grad.drive[s, d] = 0
    for n in range(grad.h.shape[0]):
        b, c = chunk.b[s, n], chunk.c[s, n]
        b_total = c_total = chunk.b.dtype.type(0)
        for d in range(width):
            g = grad.h[n, d] + grad.y[s, d] * c
            b_total += g * chunk.drive[s, d]
            c_total += grad.y[s, d] * chunk.states[s + 1, n, d]
            exponent, drive, grad.h[n, d] = adjoint(
                g, chunk.decays[s, n, d], chunk.states[s, n, d], b
            )
            grad.a[n, d] += exponent * chunk.delta[s, d]
            grad.delta[s, d] += exponent * chunk.a[n, d]
            grad.drive[s, d] += drive
        grad.b[s, n], grad.c[s, n] = b_total, c_total


@inlined_apart
def finish(chunk, grad, count):
    """From `step_back`'s sums: grad.u, and in grad.delta that of the raw step; add to grad.skip
    and grad.bias."""
    for s in range(count):
        for d in range(lanes(chunk.u)):
            u, y, drive = chunk.u[s, d], grad.y[s, d], grad.drive[s, d]
            raw = (grad.delta[s, d] + drive * u) * chunk.slope[s, d]
            grad.delta[s, d] = raw
            grad.u[s, d] = drive * chunk.delta[s, d] + y * chunk.skip[0, d]
            grad.bias[0, d] += raw
            grad.skip[0, d] += y * u
