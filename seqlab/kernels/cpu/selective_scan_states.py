"""The states of a chunk of the bare selective scan, forward and back.

They come one after the other, each through all steps of the chunk: what a state leaves for the way
back then stays in the L1 cache. First its decays, which do not wait for each other, then the
recurrence.
"""

import numpy as np

from seqlab.cells import ssm as algebra
from seqlab.kernels._jit import inlined, inlined_apart, outlined_apart
from seqlab.kernels.cpu.diagonal import CHUNK
from seqlab.kernels.cpu.math import exp2, exp2_normal
from seqlab.kernels.cpu.selective_scan_chunk import lanes
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.tile import dot_rows

_state = inlined(algebra.state)
_adjoint = inlined(algebra.adjoint)


@inlined_apart
def _decay(delta, a, count, normal, decays):
    """exp(Delta A) at each step; a (lanes,)."""
    if normal:
        for s in range(count):
            for d in range(lanes(delta)):
                decays[s, d] = exp2_normal(delta[s, d] * a[d])
    else:
        for s in range(count):
            for d in range(lanes(delta)):
                decays[s, d] = exp2(delta[s, d] * a[d])


@inlined_apart
def _advance(decays, drive, b, c, count, h, y):
    """h (lanes,) through the steps; y += C h after each."""
    for s in range(count):
        bs, cs = b[s], c[s]
        for d in range(lanes(drive)):
            h[d] = _state(decays[s, d], h[d], drive[s, d], bs)
            y[s, d] += cs * h[d]


@inlined_apart
def _record(decays, drive, b, count, h, before):
    """h (lanes,) through the steps; keeps it before each and after the last."""
    for s in range(count):
        bs = b[s]
        for d in range(lanes(drive)):
            before[s, d] = h[d]
            h[d] = _state(decays[s, d], h[d], drive[s, d], bs)
    for d in range(lanes(drive)):
        before[count, d] = h[d]


@inlined_apart
def _back(
    delta, a, decays, before, b, c, count, grad_y, grad_h, flow, grad_a, grad_delta, grad_drive
):
    """What `_decay` and `_record` left, back: grad_h (lanes,) comes from later steps and leaves for
    earlier ones. Writes flow, and adds to the last three: to grad_delta what comes through the
    decay, times log2 e."""
    for i in range(count):
        s = np.uintp(count - 1 - i)  # else each row would be looked for from the end too
        bs, cs = b[s], c[s]
        for d in range(lanes(delta)):
            g = grad_h[d] + grad_y[s, d] * cs
            flow[s, d] = g
            exponent, into, grad_h[d] = _adjoint(g, decays[s, d], before[s, d], bs)
            grad_a[d] += exponent * delta[s, d]
            grad_delta[s, d] += exponent * a[d]
            grad_drive[s, d] += into


@inlined_apart
def _sum_channels(x, y, skipped, out, start):
    """out, from number `start` on: for each step s of a chunk the sum over channels of
    x[s] y[s + skipped]."""
    side, width = SHAPES.vector // x.itemsize, lanes(x)
    for s in range(0, CHUNK, side):
        dot_rows(x, s * width, y, (s + skipped) * width, width, width // side, out, start + s)


@outlined_apart
def advance(chunk, path, b, c, span, normal):
    """All states through the steps of `span`; y += sum over states of C h; b, c (N, L)."""
    first, count = span
    for n in range(chunk.h.shape[0]):
        _decay(chunk.delta, chunk.a[n], count, normal, path.decays)
        b_steps, c_steps = b[n, first : first + count], c[n, first : first + count]
        _advance(path.decays, chunk.drive, b_steps, c_steps, count, chunk.h[n], chunk.y)


@outlined_apart
def skip_ahead(chunk, path, b, span, normal):
    """The states alone through the steps of `span`."""
    first, count = span
    for n in range(chunk.h.shape[0]):
        _decay(chunk.delta, chunk.a[n], count, normal, path.decays)
        b_steps = b[n, first : first + count]
        _record(path.decays, chunk.drive, b_steps, count, chunk.h[n], path.before)


@outlined_apart
def back(chunk, path, grad, b, c, span, normal, grad_b, grad_c):
    """The steps of `span` back, from the states before them in chunk.h: grad.h comes from later
    steps and leaves for earlier ones.

    Writes a whole chunk of the gradients of b and c (N, whole chunks), anything beyond the span;
    adds to grad.a, to grad.drive, and to grad.delta what comes through the decay, times log2 e.
    """
    first, count = span
    last = first + count
    for n in range(chunk.h.shape[0]):
        _decay(chunk.delta, chunk.a[n], count, normal, path.decays)
        _record(path.decays, chunk.drive, b[n, first:last], count, chunk.h[n], path.before)
        _back(
            chunk.delta,
            chunk.a[n],
            path.decays,
            path.before,
            b[n, first:last],
            c[n, first:last],
            count,
            grad.y,
            grad.h[n],
            path.flow,
            grad.a[n],
            grad.delta,
            grad.drive,
        )
        start = n * grad_b.shape[1] + first
        _sum_channels(path.flow, chunk.drive, 0, grad_b, start)
        _sum_channels(grad.y, path.before, 1, grad_c, start)
