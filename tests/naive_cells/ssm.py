"""Mamba's selective state-space layer. Its state is (s,), s (B, H, N)."""

import math

import numpy as np
from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State, sigmoid, softplus


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """s' = exp(Delta A) s + Delta B u, y = C s' + D u  (Gu & Dao 2023, Algorithm 2)."""
    (s,) = state
    rank, n = p["dt_proj_weight"].shape[1], p["A_log"].shape[1]
    u = x @ p["in_proj_weight"].T
    low, b, c = np.split(u @ p["x_proj_weight"].T, [rank, rank + n], axis=1)
    a_delta = low @ p["dt_proj_weight"].T + p["dt_proj_bias"]
    delta = softplus(a_delta)
    decay = np.exp(delta[:, :, None] * -np.exp(p["A_log"]))
    new = decay * s + (delta * u)[:, :, None] * b[:, None, :]
    y = (new * c[:, None, :]).sum(axis=2) + p["D"] * u
    saved = {"x": x, "s": s, "u": u, "low": low, "b": b, "c": c, "a_delta": a_delta}
    return (new,), y, saved | {"delta": delta, "decay": decay, "new": new}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    u, delta, a = s["u"], s["delta"], -np.exp(p["A_log"])
    g = handed[0] + gy[:, :, None] * s["c"][:, None, :]
    g_exponent = g * s["decay"] * s["s"]  # of Delta A
    g_drive = (g * s["b"][:, None, :]).sum(axis=2)  # of Delta u
    g_delta = (g_exponent * a).sum(axis=2) + g_drive * u
    g_b = (g * (delta * u)[:, :, None]).sum(axis=1)
    g_c = (gy[:, :, None] * s["new"]).sum(axis=1)
    g_a_delta = g_delta * sigmoid(s["a_delta"])  # the slope of softplus
    g_projected = np.concatenate([g_a_delta @ p["dt_proj_weight"], g_b, g_c], axis=1)
    g_u = gy * p["D"] + g_drive * delta + g_projected @ p["x_proj_weight"]
    grads = {
        "in_proj_weight": g_u.T @ s["x"],
        "x_proj_weight": g_projected.T @ u,
        "dt_proj_weight": g_a_delta.T @ s["low"],
        "dt_proj_bias": g_a_delta.sum(axis=0),
        "A_log": (g_exponent * delta[:, :, None]).sum(axis=0) * a,  # dA/dA_log = A
        "D": (gy * u).sum(axis=0),
    }
    return (g * s["decay"],), g_u @ p["in_proj_weight"], grads


def push(p: Params, s: Saved, v: State) -> State:
    return (s["decay"] * v[0],)


def shapes(hidden: int, inputs: int, state: int) -> Shapes:
    rank = math.ceil(hidden / 16)
    return {
        "in_proj_weight": (hidden, inputs),
        "x_proj_weight": (rank + 2 * state, hidden),
        "dt_proj_weight": (hidden, rank),
        "dt_proj_bias": (hidden,),
        "A_log": (hidden, state),
        "D": (hidden,),
    }


def parts(p: Params) -> Shapes:
    return {"state": p["A_log"].shape}


def loss(s: Saved, gy: Array) -> State:
    return (gy[:, :, None] * s["c"][:, None, :],)


def fade(p: Params) -> None:
    p["dt_proj_bias"] += 4


def shut(p: Params) -> None:
    p["dt_proj_bias"][:] = 1e4
    p["A_log"][:] = 0


CELL = Cell(
    step,
    pull,
    push,
    shapes,
    parts=parts,
    loss=loss,
    gate_bias="dt_proj_bias",
    recurrent="A_log",
    at_rest=("in_proj_weight", "D"),  # h follows Delta slowly
    fade=fade,
    shut=shut,
)
