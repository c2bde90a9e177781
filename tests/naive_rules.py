"""Clip rules of the naive reference."""

import math

import numpy as np
from naive_functions import Params, State


def read_rule(clip: str) -> tuple[str, float]:
    kind, _, threshold = clip.partition(":")
    if kind not in ("none", *AFTER, *IN_CHAIN):
        raise ValueError(f"{clip!r} is no rule")
    return kind, float(threshold or 0)


def sequence_norms(state: State) -> list[float]:
    """The joint norm of all parts of the state, for each sequence."""
    rows = np.concatenate([part.reshape(len(part), -1) for part in state], axis=1)
    return [math.hypot(*row) for row in rows]  # hypot neither overflows nor underflows


def thresholds(c: float, exponents: list[int]) -> list[float]:
    """c for each sequence, in units of 2^exponents[b]."""
    with np.errstate(over="ignore"):  # an infinite threshold clips nothing, rightly
        return [float(np.ldexp(c, -e)) for e in exponents]


def clip_step_norm(c: float, handed: State, lag: int, exponents: list[int]) -> State:
    limits = zip(sequence_norms(handed), thresholds(c, exponents), strict=True)
    factors = [limit / norm if norm > limit else 1.0 for norm, limit in limits]
    return tuple(
        np.stack([row * factor for row, factor in zip(part, factors, strict=True)])
        for part in handed
    )


def clip_step_value(c: float, handed: State, lag: int, exponents: list[int]) -> State:
    limits = thresholds(c, exponents)
    return tuple(
        np.stack([np.clip(row, -limit, limit) for row, limit in zip(part, limits, strict=True)])
        for part in handed
    )


def cut_off(k: float, handed: State, lag: int, exponents: list[int]) -> State:
    if lag > 1 and (lag - 1) % k == 0:
        return tuple(np.zeros_like(part) for part in handed)
    return handed


def clip_norm(c: float, grads: Params) -> Params:
    size = math.hypot(*np.concatenate([g.ravel() for g in grads.values()]))
    return {name: g * (c / size) for name, g in grads.items()} if size > c else grads


def clip_value(c: float, grads: Params) -> Params:
    return {name: np.clip(g, -c, c) for name, g in grads.items()}


IN_CHAIN = {"step-norm": clip_step_norm, "step-value": clip_step_value, "truncate": cut_off}
AFTER = {"norm": clip_norm, "value": clip_value}


def clip_handed(clip: str, handed: State, lag: int, exponents: list[int]) -> State:
    """An in-chain rule on what is handed to `lag`; sequence b counts in 2^exponents[b]."""
    kind, threshold = read_rule(clip)
    return IN_CHAIN[kind](threshold, handed, lag, exponents) if kind in IN_CHAIN else handed


def clip_after(clip: str, grads: Params) -> Params:
    """A rule on the finished parameter gradients of the network."""
    kind, threshold = read_rule(clip)
    return AFTER[kind](threshold, grads) if kind in AFTER else grads
