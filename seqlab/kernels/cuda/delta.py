"""The gated delta rule on a GPU: what a step takes from its input, one step of a unit's column, and
the way back through a vector's length."""

import math
from functools import cache
from typing import Any, NamedTuple

from seqlab.cells import deltanet as algebra
from seqlab.cells.deltanet import (
    ALPHA,
    ALPHA_SLOPE,
    BETA,
    BETA_SLOPE,
    LOG_ALPHA,
    PER_KEY,
    PER_QUERY,
)
from seqlab.kernels.cuda.math import exp_near_zero, sigmoid_pair, softplus
from seqlab.kernels.cuda.target import LANES, Array, block_size, cuda, device, kernel, launch
from seqlab.kernels.cuda.team import block, warp

_silu, _state = device(algebra.silu), device(algebra.state)
adjoint = device(algebra.adjoint)


class Given(NamedTuple):
    """What device functions have of a segment, see the cell's `Saved`; K, and 1/sqrt K."""

    made: Array
    slope: Array
    shared: Array
    error: Array
    y: Array
    keys: int
    scale: Any


@cache
def _activate(real: type, threads: int) -> Any:
    team, warps = block(threads), threads // LANES
    rank, total = team.rank, team.total
    zero, one, epsilon = real(0), real(1), real(algebra.EPSILON)

    @kernel
    def activate(rate, keys, made, slope, shared):
        """From the layers' outputs (M, n, W) what a step makes of them. A block has one step."""
        m, row = cuda.blockIdx.x // made.shape[1], cuda.blockIdx.x % made.shape[1]
        scratch, columns = cuda.shared.array(warps, real), slope.shape[2]
        query, key = zero, zero
        for j in range(rank(), columns, threads):
            gate, shut = sigmoid_pair(made[m, row, j])
            value, slope[m, row, j] = _silu(made[m, row, j], gate, shut)
            made[m, row, j] = value
            if j < keys:
                query += value * value
            elif j < 2 * keys:
                key += value * value
        query = one / math.sqrt(total(scratch, query) + epsilon)
        key = one / math.sqrt(total(scratch, key) + epsilon)
        for j in range(rank(), 2 * keys, threads):  # each thread's own
            made[m, row, j] *= query if j < keys else key
        if rank() == 0:
            a, head = made[m, row, columns], shared[m, row]
            beta, rest = sigmoid_pair(made[m, row, columns + 1])
            log = -rate[m] * softplus(a)
            head[ALPHA], head[LOG_ALPHA] = exp_near_zero(log), log
            head[ALPHA_SLOPE] = -rate[m] * sigmoid_pair(a)[0]
            head[BETA], head[BETA_SLOPE] = beta, beta * rest
            head[PER_QUERY], head[PER_KEY] = query, key

    return activate


def activate(rate: Array, keys: int, made: Array, slope: Array, shared: Array) -> None:
    """Queries, keys and values in place of the outputs of their layers, `made` (M, n, W), with the
    slopes (M, n, 2K + H) and what the head shares (M, n, SHARED); `rate` (M,) = exp(A_log)."""
    threads = block_size(slope.shape[2])
    function = _activate(made.dtype.type, threads)
    launch(function, len(made) * made.shape[1], threads, rate, keys, made, slope, shared)


@device
def found(k, column):
    """What a key finds in a column (K,). One thread."""
    total = k[0] * column[0]
    for n in range(1, column.shape[0]):
        total += k[n] * column[n]
    return total


@device
def step(given, m, s, b, d, column):
    """The unit's column (K,) of the state after step s, in place; the step's error and output. One
    thread."""
    made, keys = given.made[m, s, b], column.shape[0]
    q, k, v = made[:keys], made[keys:], made[2 * keys + d]
    alpha, beta = given.shared[m, s, b, ALPHA], given.shared[m, s, b, BETA]
    error = v - alpha * found(k, column)
    for n in range(keys):
        column[n] = _state(column[n], alpha, beta * k[n], error)
    return error, found(q, column) * given.scale


@cache
def make_over_length_back(real: type) -> Any:
    total, one, zero, epsilon = warp().total, real(1), real(0), real(algebra.EPSILON)

    @device
    def over_length_back(unit, inverse, slope, dz, keys):
        """dz (K,) from dL/d(unit), which it begins as, in place; see the CPU's. All of a warp."""
        lane, short = cuda.threadIdx.x % LANES, epsilon * inverse * inverse
        along, rest = zero, zero
        for n in range(lane, keys, LANES):
            along += unit[n] * dz[n]
        along = total(None, along)
        for n in range(lane, keys, LANES):
            rest += unit[n] * ((one - short) * dz[n] - unit[n] * along)
        rest = total(None, rest)
        for n in range(lane, keys, LANES):
            across = (one - short) * dz[n] - unit[n] * along
            dz[n] = slope[n] * inverse * (short * dz[n] + (across - unit[n] * rest))

    return over_length_back
