"""The GRU of nn.GRU. Its state is (h,)."""

import numpy as np
from naive_cell import Cell, Saved, affine_gradients, gated_shapes
from naive_functions import Array, Params, State, sigmoid, sigmoid_slope, tanh_slope


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = (1-z) n + z h, n = tanh(W x + b + r (U h + c))  (Cho 2014, PyTorch's form); r, z, n."""
    (h,) = state
    x_r, x_z, x_n = np.split(x @ p["weight_ih"].T + p["bias_ih"], 3, axis=1)
    h_r, h_z, h_n = np.split(h @ p["weight_hh"].T + p["bias_hh"], 3, axis=1)
    a_r, a_z = x_r + h_r, x_z + h_z
    a_n = x_n + sigmoid(a_r) * h_n
    new = sigmoid(-a_z) * np.tanh(a_n) + sigmoid(a_z) * h
    return (new,), new, {"x": x, "h": h, "a_r": a_r, "a_z": a_z, "a_n": a_n, "h_n": h_n}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g = handed[0] + gy
    g_n = g * sigmoid(-s["a_z"]) * tanh_slope(s["a_n"])
    g_z = g * (s["h"] - np.tanh(s["a_n"])) * sigmoid_slope(s["a_z"])
    g_r = g_n * s["h_n"] * sigmoid_slope(s["a_r"])
    g_from_x = np.concatenate([g_r, g_z, g_n], axis=1)
    g_from_h = np.concatenate([g_r, g_z, g_n * sigmoid(s["a_r"])], axis=1)
    before = (g_from_h @ p["weight_hh"] + g * sigmoid(s["a_z"]),)
    return before, g_from_x @ p["weight_ih"], affine_gradients(s, g_from_x, g_from_h)


def push(p: Params, s: Saved, v: State) -> State:
    v_r, v_z, v_hn = np.split(v[0] @ p["weight_hh"].T, 3, axis=-1)
    v_n = tanh_slope(s["a_n"]) * (
        sigmoid(s["a_r"]) * v_hn + s["h_n"] * sigmoid_slope(s["a_r"]) * v_r
    )
    return (
        sigmoid(-s["a_z"]) * v_n
        + sigmoid(s["a_z"]) * v[0]
        + (s["h"] - np.tanh(s["a_n"])) * sigmoid_slope(s["a_z"]) * v_z,
    )


CELL = Cell(
    step,
    pull,
    push,
    gated_shapes(3),
    gates={
        "reset gate": ("a_r", "sigmoid"),
        "update gate": ("a_z", "sigmoid"),
        "candidate": ("a_n", "tanh"),
    },
)
