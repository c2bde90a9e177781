"""The gated delta rule. Its state is (s,), s (B, H, K)."""

import numpy as np
from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State, sigmoid, sigmoid_slope, silu, silu_slope, softplus

EPSILON = 1e-6


def direction(a: Array) -> Array:
    """a / sqrt(|a|^2 + 1e-6), along the last axis. Of one entry that is its sign but for 1e-6, of
    whose slope a complex step would see the rounding."""
    if a.shape[-1] == 1:
        alone: Array = np.sign(a.real) / np.sqrt(1 + EPSILON / (a * a))
        return alone
    unit: Array = a / np.sqrt((a * a).sum(axis=-1, keepdims=True) + EPSILON)
    return unit


def direction_pull(a: Array, g: Array) -> Array:
    """The adjoint of `direction`, (B, K): the part of g across a, pair by pair of entries, since a
    difference of sums would leave few digits of a g along a; and of that part what 1e-6 leaves."""
    square = (a * a).sum(axis=-1, keepdims=True) + EPSILON
    turned = a[:, None, :] * g[:, :, None] - a[:, :, None] * g[:, None, :]
    across = (turned * a[:, None, :]).sum(axis=-1)
    out: Array = (across + EPSILON * g) / square**1.5
    return out


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """s' = alpha s (1 - beta k k^T) + beta v k^T, y = s' q / sqrt K  (Yang et al. 2024, eq. 10)."""
    (s,) = state
    raw = {name: x @ p[f"{name}_proj_weight"].T for name in "qkvab"}
    q, k = (direction(silu(raw[name])) for name in "qk")
    v, a = silu(raw["v"]), raw["a"] + p["dt_bias"]
    alpha = np.exp(-np.exp(p["A_log"]) * softplus(a))[:, :, None]
    beta = sigmoid(raw["b"])[:, :, None]
    kept = alpha * (s - beta * (s @ k[:, :, None]) * k[:, None, :])
    new = kept + beta * v[:, :, None] * k[:, None, :]
    y = (new @ q[:, :, None])[:, :, 0] / np.sqrt(q.shape[1])
    saved = {"x": x, "s": s, "q": q, "k": k, "v": v, "a": a, "alpha": alpha, "beta": beta}
    return (new,), y, saved | {"new": new, "raw": raw}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    raw, k, v, alpha, beta = (s[name] for name in ("raw", "k", "v", "alpha", "beta"))
    before, root = s["s"], np.sqrt(k.shape[1])
    g = handed[0] + gy[:, :, None] * s["q"][:, None, :] / root
    row, column = k[:, None, :], k[:, :, None]
    read, along = before @ column, g @ column  # (B, H, 1): what the key finds in each
    back = alpha * (g - beta * along * row)
    g_alpha = (g * (before - beta * read * row)).sum(axis=(1, 2))
    g_beta = (along * (v[:, :, None] - alpha * read)).sum(axis=(1, 2))
    # From beta v k^T, and from both keys in - alpha beta s k k^T.
    g_k = (beta * g * v[:, :, None]).sum(axis=1)
    g_k -= (alpha * beta * (before * along + g * read)).sum(axis=1)
    g_q = (gy[:, :, None] * s["new"]).sum(axis=1) / root
    g_log = (g_alpha * alpha[:, 0, 0])[:, None]
    rate = np.exp(p["A_log"])
    g_raw = {
        "q": direction_pull(silu(raw["q"]), g_q) * silu_slope(raw["q"]),
        "k": direction_pull(silu(raw["k"]), g_k) * silu_slope(raw["k"]),
        "v": (beta * along)[:, :, 0] * silu_slope(raw["v"]),
        "a": -g_log * rate * sigmoid(s["a"]),  # the slope of softplus
        "b": g_beta[:, None] * sigmoid_slope(raw["b"]),
    }
    g_x = np.zeros_like(s["x"])
    for name, g_z in g_raw.items():
        g_x = g_x + g_z @ p[f"{name}_proj_weight"]
    grads = {f"{name}_proj_weight": g_z.T @ s["x"] for name, g_z in g_raw.items()}
    grads["A_log"] = -(g_log * rate * softplus(s["a"])).sum(axis=0)
    grads["dt_bias"] = g_raw["a"].sum(axis=0)
    return (back,), g_x, grads


def push(p: Params, s: Saved, v: State) -> State:
    k = s["k"]
    return (s["alpha"] * (v[0] - s["beta"] * (v[0] @ k[:, :, None]) * k[:, None, :]),)


def shapes(hidden: int, inputs: int, state: int) -> Shapes:
    rows = {"q": state, "k": state, "v": hidden, "a": 1, "b": 1}
    weights = {f"{name}_proj_weight": (count, inputs) for name, count in rows.items()}
    return {**weights, "A_log": (1,), "dt_bias": (1,)}


def parts(p: Params) -> Shapes:
    return {"state": (len(p["v_proj_weight"]), len(p["k_proj_weight"]))}


def loss(s: Saved, gy: Array) -> State:
    return (gy[:, :, None] * s["q"][:, None, :] / np.sqrt(s["q"].shape[1]),)


def hold(p: Params) -> None:
    p["A_log"] -= 2


def fade(p: Params) -> None:
    p["dt_bias"] += 4


def shut(p: Params) -> None:
    p["dt_bias"][:] = 1e4
    p["A_log"][:] = 0


CELL = Cell(
    step,
    pull,
    push,
    shapes,
    parts=parts,
    loss=loss,
    gate_bias="dt_bias",
    recurrent="k_proj_weight",
    # A key of few entries is all but zero now and then, and its direction a rounding.
    states=6,
    # The state at rest and its adjoint feel alpha's rounding 1/(1 - alpha) times; where both count
    # it shows twice.
    at_rest=("q_proj_weight",),
    hold=hold,
    fade=fade,
    shut=shut,
)
