"""Lyapunov exponents of the full state Jacobian, from adjoints kept orthogonal by QR.

Benettin et al. 1980, with the transposed Jacobians taken backwards: a product and its transpose
have the same singular values, so the same exponents, and the adjoint kernels serve as they are.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.backward import Sweep
from seqlab.engine.tape import Tape, Tick, Trail, no_tick
from seqlab.kernels.layout import Span
from seqlab.measure.randomness import Purpose, stream
from seqlab.rules import UNCLIPPED

# Nats by which the exponents may spread between two orthogonalisations: the last vector then
# keeps all but three of its digits.
SPREAD = 7.0
LONGEST = 32  # steps between two orthogonalisations
# A column's remainder after projection is noise under so many roundings of the column, times the
# root of its size (Higham & Mary 2019: errors of sums grow as the root of their length).
NOISE = 8.0


def frames(seed: int, networks: range, size: int, count: int) -> NDArray:
    """Random orthonormal first vectors, (M, size, count)."""
    drawn = [stream(seed, m, Purpose.FRAME).standard_normal((size, count)) for m in networks]
    return np.linalg.qr(np.stack(drawn))[0]


def spectrum(tape: Tape, first: NDArray, tick: Tick = no_tick) -> NDArray:
    """The top K exponents (M, K), falling, nat/step, averaged over sequences.

    `tape` has been run; `first` (M, state size, K) are the vectors at its end. Every step counts,
    so that for K = the state's size their sum is the mean of ln |det J_t|.

    A direction whose remainder after projection is at rounding level is dead, -inf: the product of
    Jacobians has no rank left for it. Where a factor of a saturated step is that small itself,
    nothing can be told, and the exponent is nan.
    """
    count = first.shape[2]
    sweep = Sweep(tape, [tape.steps] * count, UNCLIPPED, record=False, gradients=False)
    _set(sweep, np.arange(tape.networks), np.repeat(first[:, None], tape.sequences, axis=1))
    total = np.zeros((tape.networks, tape.sequences, count))
    units = sweep.rows()[0].shape[-1]
    silence = np.zeros((tape.networks, 0, tape.sequences, count, units), tape.x.dtype)
    every = np.ones(tape.networks, np.int64)  # steps between two orthogonalisations
    longest = LONGEST
    for index, span in sweep.spans():
        trail = tape.segment(index)
        high, since = span.hi, np.full(tape.networks, span.hi)
        if tape.faintest(trail, 0, 0, 0) is None:
            longest = 1  # units may die at any step: no earlier one foretells by how much
        while high > span.lo:
            # Each network at its own pace: its bits must not depend on which others there are.
            low = max(span.lo, int((since - every).max()))
            sweep.back(trail, Span(span.start, low, high), silence)
            due = np.flatnonzero((since - every >= low) | (low == span.lo))
            growth, noise = _orthogonalise(sweep, due)
            for m, b, k in np.argwhere(noise):
                steps = range(low, since[due[m]])
                growth[m, b, k] = _unresolved(tape, trail, due[m], steps, b)
            total[due] += growth
            every[due] = [
                _next_interval(g, n, longest) for g, n in zip(growth, since[due] - low, strict=True)
            ]
            since[due] = low
            tick(high - low, count)
            high = low
    return -np.sort(-(total / tape.steps).mean(axis=1), axis=1)  # nan last


def _set(sweep: Sweep, networks: NDArray, vectors: NDArray) -> None:
    """Put vectors (networks, B, size, K) into some networks' rows."""
    rows = vectors.swapaxes(2, 3)
    state = sweep.rows()[0].shape[3:]
    sweep.put(rows.reshape(*rows.shape[:3], *state), networks)


def _orthogonalise(sweep: Sweep, networks: NDArray) -> tuple[NDArray, NDArray]:
    """QR of some networks' rows, in place.

    Returns ln of the diagonal of R and where it is no more than rounding, (networks, B, K) each.
    """
    adjoint, exponents = sweep.rows()
    exponent = exponents[networks]
    rows = adjoint[networks].reshape(*exponent.shape, -1)
    q, r = np.linalg.qr(rows.swapaxes(2, 3))
    left = np.abs(np.diagonal(r, axis1=2, axis2=3))
    rounding = NOISE * np.sqrt(rows.shape[-1]) * np.finfo(rows.dtype).eps
    noise = left <= rounding * np.linalg.norm(r, axis=2)
    with np.errstate(divide="ignore"):
        growth = np.log(left)
    _set(sweep, networks, q)
    return growth + exponent * np.log(2.0), noise


def _unresolved(tape: Tape, trail: Trail, m: int, steps: Iterable[int], b: int) -> float:
    """The growth of a direction that is lost in rounding after some steps of one sequence: -inf
    where it is dead, nan where the steps' own factors are as small as that."""
    faintest = [tape.faintest(trail, m, step, b) for step in steps]
    smallest = math.prod(1.0 if factor is None else factor for factor in faintest)
    return -math.inf if smallest > np.finfo(tape.x.dtype).eps else math.nan


def _next_interval(growth: NDArray, steps: int, longest: int) -> int:
    """Steps until a network's exponents have spread by SPREAD, as fast as they just did."""
    finite = growth[np.isfinite(growth)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    return int(min(longest, max(1.0, SPREAD * steps / max(spread, SPREAD / longest))))
