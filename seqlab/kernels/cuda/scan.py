"""The selective scan's recurrence on a GPU: one step of it, for the layer and for the bare scan.

    h_t[n,d] = exp(Delta_t[d] A[n,d]) h_{t-1}[n,d] + Delta_t[d] u_t[d] B_t[n]
    y_t[d] = sum_n C_t[n] h_t[n,d] + D[d] u_t[d]

Source: Gu & Dao 2023, Algorithm 2. One thread by itself calls a device function here.
"""

from functools import cache
from typing import Any, NamedTuple

from seqlab.cells import ssm as algebra
from seqlab.kernels.cuda.diagonal import Law
from seqlab.kernels.cuda.math import exp_near_zero, sigmoid, softplus
from seqlab.kernels.cuda.target import Array, block_size, cuda, device, kernel, launch

state_after = device(algebra.state)
adjoint = device(algebra.adjoint)
decay_adjoint = device(algebra.decay_adjoint)


class Selective(NamedTuple):
    """What the recurrence is made of, on the device: `u`, `delta` and its `slope` by the raw step
    (M, S, B, H); `b` and `c` (M, S, B, ..), of which B and C are the N columns from `b0` and `c0`
    on; `a` (M, N, H) and `skip` (M, H), or one for all networks."""

    u: Array
    delta: Array
    slope: Array
    b: Array
    c: Array
    b0: int
    c0: int
    a: Array
    skip: Array


@device
def rate(given, m, n, d):
    """A of network m."""
    return given.a[min(m, given.a.shape[0] - 1), n, d]


@device
def time(given, m, s, b, d):
    """Delta."""
    return given.delta[m, s, b, d]


@device
def decay(a, delta):
    """exp(Delta A)."""
    return exp_near_zero(delta * a)


@device
def step(given, rates, m, s, b, d, state):
    """The channel's state (N,) after step s, in place."""
    delta = given.delta[m, s, b, d]
    drive, b_t = delta * given.u[m, s, b, d], given.b[m, s, b, given.b0 :]
    for n in range(state.shape[0]):
        state[n] = state_after(decay(rates[n], delta), state[n], drive, b_t[n])


@device
def direct(given, m, s, b, d):
    """D u of network m."""
    return given.skip[min(m, given.skip.shape[0] - 1), d] * given.u[m, s, b, d]


@device
def output(given, m, s, b, d, state):
    """y from the channel's state (N,) after step s."""
    y, c_t = direct(given, m, s, b, d), given.c[m, s, b, given.c0 :]
    for n in range(state.shape[0]):
        y += c_t[n] * state[n]
    return y


LAW = Law(rate, time, decay, step)


@cache
def _discretise(real: type) -> Any:
    one = real(1)

    @kernel
    def discretise(bias, soft, delta, slope):
        """A block has one row of one network."""
        rows = delta.shape[1]
        m, row = cuda.blockIdx.x // rows, cuda.blockIdx.x % rows
        for d in range(cuda.threadIdx.x, delta.shape[2], cuda.blockDim.x):
            raw = delta[m, row, d] + bias[min(m, bias.shape[0] - 1), d]
            delta[m, row, d] = softplus(raw) if soft else raw
            slope[m, row, d] = sigmoid(raw) if soft else one

    return discretise


def discretise(bias: Array, soft: bool, delta: Array, slope: Array) -> None:
    """Delta = delta + bias, or the softplus of that, in place, and its slope by the sum.

    delta and slope (M, n, H), bias (M, H) or (1, H).
    """
    networks, rows, units = delta.shape
    function = _discretise(delta.dtype.type)
    launch(function, networks * rows, block_size(units), bias, soft, delta, slope)
