"""Jacobians and Lyapunov exponents by the naive reference."""

import math

import numpy as np
from naive import CELLS, forward
from naive_functions import Array, Params, State


def jacobians(
    arch: str, params: Params, x: Array, initial: State | None = None, activation: str = "tanh"
) -> Array:
    """ds_{t+1}/ds_t (T, S, S) of one sequence, x (T, 1, I); the state's parts one after another."""
    run = forward(arch, params, x, initial, activation)
    shapes = [part.shape[2:] for part in run["states"]]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    size = int(ends[-1])
    result = np.zeros((len(x), size, size))
    for t, saved in enumerate(run["saved"]):
        for column in range(size):
            unit = np.zeros(size)
            unit[column] = 1
            parts = np.split(unit, ends[:-1])
            tangent = tuple(v.reshape(1, *s) for v, s in zip(parts, shapes, strict=True))
            pushed = CELLS[arch].push(params, saved, tangent)
            result[t, :, column] = np.concatenate([part.ravel() for part in pushed])
    return result


def lyapunov(
    arch: str,
    params: Params,
    x: Array,
    K: int,
    activation: str = "tanh",
    frame: Array | None = None,
) -> Array:
    """The K largest Lyapunov exponents, nat/step, of one sequence x (T, 1, I), in falling order.

    Benettin 1980: push a frame (S, K) through every step's Jacobian, orthonormalise by QR, average
    ln|R_kk|. Every step counts. Left out, the frame is a generic one (seeded): the coordinate axes
    would be a trap, since a diagonal Jacobian never turns them.
    """
    steps = jacobians(arch, params, x, None, activation)
    if frame is None:
        frame = np.random.default_rng(0).normal(size=(steps.shape[1], K))
    q, total = np.linalg.qr(frame)[0], np.zeros(K)
    for jacobian in steps:
        q, r = np.linalg.qr(jacobian @ q)
        with np.errstate(divide="ignore"):  # a dead direction has exponent -inf
            total += np.log(np.abs(np.diag(r)))
    return np.sort(total / len(steps))[::-1]
