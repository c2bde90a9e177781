"""The adjoint at every lag by the naive reference, far beyond the range of float64."""

import math

import numpy as np
from naive import CELLS, forward
from naive_functions import Array, Params, State
from naive_rules import clip_handed, sequence_norms


def renormalise(state: State, exponents: list[int]) -> tuple[State, list[int]]:
    """Bring each sequence's norm into [0.5, 1) by a power of two, which rounds nothing."""
    shifts = [math.frexp(norm)[1] for norm in sequence_norms(state)]
    parts = tuple(
        np.stack([np.ldexp(row, -shift) for row, shift in zip(part, shifts, strict=True)])
        for part in state
    )
    return parts, [e + shift for e, shift in zip(exponents, shifts, strict=True)]


def log_norm(state: State, exponents: list[int]) -> float:
    """ln of the norm over batch and state; sequence b counts in 2^exponents[b]."""
    logs = [
        math.log(norm) + e * math.log(2) if norm != 0 else -math.inf
        for norm, e in zip(sequence_norms(state), exponents, strict=True)
    ]
    return float(np.logaddexp.reduce(2 * np.array(logs))) / 2


def adjoint_curve(
    arch: str,
    params: Params,
    x: Array,
    readout: Array,
    activation: str = "tanh",
    clip: str = "none",
) -> dict[str, Array]:
    """Natural-log norms of the adjoint of readout . y_T at lags 0..T; readout (H,) or (B, H).

    "log_norm" is the state's, "log_norm_input" the input's (nan at lag T), and of a state with
    several parts "log_norm_hidden" and so on are those. Sums of squares over batch and state,
    absolute, after the in-chain rule. Entries under 1e-300 of their sequence's norm may be lost.
    """
    run = forward(arch, params, x, None, activation)
    steps, batch = x.shape[:2]
    gy = np.broadcast_to(readout, run["output"][0].shape)
    parts = [f"log_norm_{part}" for part in CELLS[arch].parts(params)]
    names = ["log_norm", "log_norm_input", *(parts if len(parts) > 1 else [])]
    curve = {name: np.full(steps + 1, np.nan) for name in names}

    def record(lag: int, adjoint: State, exponents: list[int]) -> None:
        curve["log_norm"][lag] = log_norm(adjoint, exponents)
        for name, part in zip(parts, adjoint, strict=True):
            if name in curve:
                curve[name][lag] = log_norm((part,), exponents)

    exponents = [0] * batch
    record(0, CELLS[arch].loss(run["saved"][-1], gy), exponents)
    handed = tuple(np.zeros_like(part[0]) for part in run["states"])
    for lag in range(steps):
        saved = run["saved"][steps - 1 - lag]
        handed, g_x, _ = CELLS[arch].pull(params, saved, handed, gy)
        curve["log_norm_input"][lag] = log_norm((g_x,), exponents)
        handed, exponents = renormalise(handed, exponents)
        handed = clip_handed(clip, handed, lag + 1, exponents)
        record(lag + 1, handed, exponents)
        gy = np.zeros_like(gy)  # the loss sees the last output only
    return curve
