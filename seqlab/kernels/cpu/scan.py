"""The selective scan's recurrence on the CPU, forward and back, vector lanes over channels.

States are (N, H), channels innermost. The forward pass keeps the state before every CHUNK steps;
the backward pass recomputes a chunk's states and decays into scratch that fits the L2 cache.
"""

import numpy as np

from seqlab.cells import ssm as algebra
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.math import exp

CHUNK = 16  # steps between kept states

_state = compiled(algebra.state)
_adjoint = compiled(algebra.adjoint)
_decay_adjoint = compiled(algebra.decay_adjoint)


@compiled
def step(h, a, delta, u, b, c, y, decay, after):
    """One step of one sequence: h (N, H) -> after (N, H) with decay (N, H); y (H) = sum_n C h.

    `decay` and `after` may be scratch; a (N, H), delta and u (H,), b and c (N,).
    """
    states, units = h.shape
    for d in range(units):
        y[d] = 0
    for n in range(states):
        bn, cn = b[n], c[n]
        for d in range(units):
            decay[n, d] = exp(delta[d] * a[n, d])
            value = _state(decay[n, d], h[n, d], delta[d], bn, u[d])
            after[n, d] = value
            y[d] += cn * value


@compiled
def step_back(adjoint, h, decay, a, delta, u, b, ddelta, du, db):
    """One step back: adjoint (N, H) is dL/dh_t and becomes dL/dh_{t-1}; h is h_{t-1}.

    Writes the sums over states ddelta and du (H,) and over channels db (N,).
    """
    states, units = adjoint.shape
    for d in range(units):
        ddelta[d] = 0
        du[d] = 0
    for n in range(states):
        bn, total = b[n], b.dtype.type(0)
        for d in range(units):
            ddelta_n, du_n, db_n, adjoint[n, d] = _adjoint(
                adjoint[n, d], decay[n, d], h[n, d], delta[d], a[n, d], bn, u[d]
            )
            ddelta[d] += ddelta_n
            du[d] += du_n
            total += db_n
        db[n] = total


@compiled
def add_decay_gradient(adjoint, h, decay, delta, factor, total):
    """total (N, H) += factor dL/dA of one step; before `step_back`, same arrays."""
    states, units = adjoint.shape
    for n in range(states):
        for d in range(units):
            share = _decay_adjoint(adjoint[n, d], decay[n, d], h[n, d], delta[d])
            total[n, d] += factor * share


@compiled
def advance(first, count, a, delta, u, b, c, y, states, decays):
    """Run `count` steps from `first`: states (CHUNK + 1, N, H) from states[0] on, decays (CHUNK, N, H).

    delta, u and y (steps, H), b and c (steps, N) are indexed from the segment's start.
    """
    for s in range(count):
        t = first + s
        step(states[s], a, delta[t], u[t], b[t], c[t], y[t], decays[s], states[s + 1])
