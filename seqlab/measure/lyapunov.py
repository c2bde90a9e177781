"""Lyapunov exponents of the full state Jacobian, from adjoints kept orthogonal by QR.

Benettin et al. 1980, with the transposed Jacobians taken backwards: a product and its transpose
have the same singular values, so the same exponents, and the adjoint kernels serve as they are.
"""

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.layout import Span
from seqlab.measure.randomness import Purpose, stream
from seqlab.rules import Rule
from seqlab.tape import Sweep, Tape, Tick, ignore

# Nats by which the exponents may spread between two orthogonalisations: the last vector then
# keeps all but three of its digits.
SPREAD = 7.0
LONGEST = 32  # steps between two orthogonalisations


def frames(seed: int, networks: range, size: int, count: int) -> NDArray:
    """Random orthonormal first vectors, (M, size, count)."""
    drawn = [stream(seed, m, Purpose.FRAME).standard_normal((size, count)) for m in networks]
    return np.linalg.qr(np.stack(drawn))[0]


def spectrum(tape: Tape, first: NDArray, tick: Tick = ignore) -> NDArray:
    """The top K exponents (M, K), falling, nat/step, averaged over sequences.

    `tape` has been run; `first` (M, state size, K) are the vectors at its end. Every step counts,
    so that for K = the state's size their sum is the mean of ln |det J_t|.
    """
    count = first.shape[2]
    sweep = Sweep(tape, [tape.steps] * count, Rule("none"), record=False, gradients=False)
    _set(sweep, np.repeat(first[:, None], tape.sequences, axis=1))
    total = np.zeros((*sweep.exponent.shape[:2], count))
    units = sweep.adjoint.shape[-1]
    silence = np.zeros((tape.networks, 0, tape.sequences, count, units), tape.x.dtype)
    every = 1
    for index, span in sweep.spans():
        saved = tape.segment(index)
        high = span.hi
        while high > span.lo:
            low = max(span.lo, high - every)
            sweep.back(saved, Span(span.start, low, high), silence)
            growth = _orthogonalise(sweep)
            total += growth
            every = _next_interval(growth, high - low)
            tick((high - low) * count)
            high = low
    return np.sort((total / tape.steps).mean(axis=1), axis=1)[:, ::-1]


def _set(sweep: Sweep, vectors: NDArray) -> None:
    """Put vectors (M, B, size, K) into the sweep's rows."""
    sweep.adjoint[:] = vectors.swapaxes(2, 3).reshape(sweep.adjoint.shape)
    sweep.exponent[:] = 0


def _orthogonalise(sweep: Sweep) -> NDArray:
    """QR of the rows, in place; returns ln of the diagonal of R, (M, B, K)."""
    rows = sweep.adjoint.reshape(*sweep.exponent.shape, -1)
    q, r = np.linalg.qr(rows.swapaxes(2, 3))
    with np.errstate(divide="ignore"):
        growth = np.log(np.abs(np.diagonal(r, axis1=2, axis2=3)))
    growth = growth + sweep.exponent * np.log(2.0)
    _set(sweep, q)
    return growth


def _next_interval(growth: NDArray, steps: int) -> int:
    """Steps until the exponents have spread by SPREAD, as fast as they just did."""
    finite = growth[np.isfinite(growth)]
    spread = float(np.ptp(finite)) if finite.size else 0.0
    return int(min(LONGEST, max(1.0, SPREAD * steps / max(spread, SPREAD / LONGEST))))
