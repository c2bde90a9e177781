"""The gated delta rule on the CPU, forward and back, vector lanes over units: states are (K, H),
units innermost."""

import math

from seqlab.cells import deltanet as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import sigmoid_pair

_silu = inlined(algebra.silu)
_state = inlined(algebra.state)
_adjoint = inlined(algebra.adjoint)
_EPSILON = algebra.EPSILON


@inlined_apart
def activate(z, made, slope):
    """silu of the first columns of a step, which are all but two."""
    for j in range(made.shape[0]):
        gate, shut = sigmoid_pair(z[j])
        made[j], slope[j] = _silu(z[j], gate, shut)


@inlined_apart
def over_length(made, unit):
    """unit = made / sqrt(|made|^2 + epsilon), (K,) each; returns one over the root."""
    square = made.dtype.type(_EPSILON)
    for n in range(unit.shape[0]):
        square += made[n] * made[n]
    inverse = made.dtype.type(1) / math.sqrt(square)
    for n in range(unit.shape[0]):
        unit[n] = made[n] * inverse
    return inverse


@inlined_apart
def advance(before, q, k, v, alpha, beta, scale, error, after, y):
    """S_{t-1} (K, H) -> S_t to `after`, y (H,), and the error (H,)."""
    states, units = before.shape
    for d in range(units):
        error[d] = 0
        y[d] = 0
    for n in range(states):
        for d in range(units):
            error[d] += k[n] * before[n, d]
    for d in range(units):
        error[d] = v[d] - alpha * error[d]
    for n in range(states):
        key, query = beta * k[n], scale * q[n]
        for d in range(units):
            after[n, d] = _state(before[n, d], alpha, key, error[d])
            y[d] += query * after[n, d]


@inlined_apart
def step_back(g, before, k, error, alpha, beta, along, dkey):
    """dL/dS_t (K, H) -> dL/dS_{t-1} in place; writes `along` (H,) and dL/dk to `dkey` (K,).

    Returns dL/d(ln alpha) and dL/d(beta).
    """
    states, units = g.shape
    dlog, dbeta = g.dtype.type(0), g.dtype.type(0)
    for d in range(units):
        along[d] = 0
    for n in range(states):
        for d in range(units):
            along[d] += k[n] * g[n, d]
    for d in range(units):
        dbeta += along[d] * error[d]
    for n in range(states):
        key, total = beta * k[n], g.dtype.type(0)
        for d in range(units):
            total += g[n, d] * error[d] - alpha * along[d] * before[n, d]
            g[n, d] = _adjoint(g[n, d], alpha, key, along[d])
            dlog += g[n, d] * before[n, d]
        dkey[n] = beta * total
    return dlog, dbeta


@inlined_apart
def over_length_back(dunit, unit, inverse, slope, dz):
    """dL/d(unit) (K,), which is overwritten, to the layer's outputs dz (K,).

    unit = a r with r = `inverse`: dL/da = r (dunit - unit (unit dunit)). |unit|^2 is one but for
    epsilon r^2, so that what lies along the key is no more than that, of which the difference would
    leave few digits and for a single key none; and what lies across is taken twice, since the first
    time its rounding may be more.
    """
    states = unit.shape[0]
    short = unit.dtype.type(_EPSILON) * inverse * inverse  # 1 - |unit|^2
    square, total, rest = -short, unit.dtype.type(0), unit.dtype.type(0)
    square += unit.dtype.type(1)
    for n in range(states):
        total += unit[n] * dunit[n]
    for n in range(states):
        dz[n] = square * dunit[n] - unit[n] * total
    for n in range(states):
        rest += unit[n] * dz[n]
    for n in range(states):
        dz[n] = slope[n] * inverse * (short * dunit[n] + (dz[n] - unit[n] * rest))
