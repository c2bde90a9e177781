"""The selective recurrence on the CPU, forward and back, vector lanes over channels: for the layer
in cells/ssm.py and for the bare scan. States are (N, H), channels innermost.
"""

import math

from seqlab.cells import ssm as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import exp2

LOG2E = 1 / math.log(2)

_state = inlined(algebra.state)
adjoint = inlined(algebra.adjoint)
_decay_adjoint = inlined(algebra.decay_adjoint)


@inlined_apart
def advance(h, a, delta, drive, b, c, count, units, y, states, decays):
    """Take h (N, H) on by `count` steps; y (CHUNK, H) = sum_n C h after each.

    Leaves the state before step s in states[s], the last one in states[count] (CHUNK + 1, N, H),
    and the decays (CHUNK, N, H). a (N, H); delta and drive = Delta u (CHUNK, H); b and c
    (CHUNK, N). `units` is H.
    """
    log2e = delta.dtype.type(LOG2E)
    for s in range(count):
        for d in range(units):
            y[s, d] = 0
        for n in range(h.shape[0]):
            bn, cn = b[s, n], c[s, n]
            for d in range(units):
                before, decay = h[n, d], exp2(delta[s, d] * log2e * a[n, d])
                after = _state(decay, before, drive[s, d], bn)
                states[s, n, d] = before
                decays[s, n, d] = decay
                h[n, d] = after
                y[s, d] += cn * after
    for n in range(h.shape[0]):
        for d in range(units):
            states[count, n, d] = h[n, d]


@inlined_apart
def step_back(dh, h, decay, a, delta, u, drive, b, ddelta, du, db):
    """One step back: dh (N, H) is dL/dh_t and becomes dL/dh_{t-1}; h is h_{t-1}.

    Writes the sums over states ddelta and du (H,) and over channels db (N,).
    """
    states, units = dh.shape
    for d in range(units):
        ddelta[d] = 0
        du[d] = 0
    for n in range(states):
        bn, total = b[n], b.dtype.type(0)
        for d in range(units):
            g = dh[n, d]
            exponent, into, dh[n, d] = adjoint(g, decay[n, d], h[n, d], bn)
            ddelta[d] += exponent * a[n, d]
            du[d] += into
            total += g * drive[d]
        db[n] = total
    for d in range(units):
        ddelta[d] += du[d] * u[d]
        du[d] *= delta[d]


@inlined_apart
def add_decay_gradient(dh, h, decay, delta, total):
    """total (N, H) += dL/dA of one step; before `step_back`, same arrays."""
    states, units = dh.shape
    for n in range(states):
        for d in range(units):
            exponent = _decay_adjoint(dh[n, d], decay[n, d], h[n, d])
            total[n, d] += exponent * delta[d]
