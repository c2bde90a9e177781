"""The LSTM of nn.LSTM. Its state is (h, c)."""

import numpy as np
from naive_cell import Cell, Saved, Shapes, affine_gradients, gated_shapes
from naive_functions import Array, Params, State, sigmoid, sigmoid_slope, tanh_slope


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """c' = f c + i g, h' = o tanh(c')  (Gers, Schmidhuber & Cummins 2000); rows i, f, g, o."""
    h, c = state
    a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    new_c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    new_h = sigmoid(a_o) * np.tanh(new_c)
    saved = {"x": x, "h": h, "c": c, "new_c": new_c, "a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o}
    return (new_h, new_c), new_h, saved


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g_h = handed[0] + gy
    g_c = handed[1] + g_h * sigmoid(s["a_o"]) * tanh_slope(s["new_c"])
    g_i = g_c * np.tanh(s["a_g"]) * sigmoid_slope(s["a_i"])
    g_f = g_c * s["c"] * sigmoid_slope(s["a_f"])
    g_g = g_c * sigmoid(s["a_i"]) * tanh_slope(s["a_g"])
    g_o = g_h * np.tanh(s["new_c"]) * sigmoid_slope(s["a_o"])
    g_a = np.concatenate([g_i, g_f, g_g, g_o], axis=1)
    before = (g_a @ p["weight_hh"], g_c * sigmoid(s["a_f"]))
    return before, g_a @ p["weight_ih"], affine_gradients(s, g_a, g_a)


def push(p: Params, s: Saved, v: State) -> State:
    v_i, v_f, v_g, v_o = np.split(v[0] @ p["weight_hh"].T, 4, axis=-1)
    v_c = (
        sigmoid(s["a_f"]) * v[1]
        + s["c"] * sigmoid_slope(s["a_f"]) * v_f
        + np.tanh(s["a_g"]) * sigmoid_slope(s["a_i"]) * v_i
        + sigmoid(s["a_i"]) * tanh_slope(s["a_g"]) * v_g
    )
    v_h = np.tanh(s["new_c"]) * sigmoid_slope(s["a_o"]) * v_o
    return v_h + sigmoid(s["a_o"]) * tanh_slope(s["new_c"]) * v_c, v_c


def parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:], "cell": p["weight_hh"].shape[1:]}


def loss(s: Saved, gy: Array) -> State:
    return gy, np.zeros_like(gy)


CELL = Cell(
    step,
    pull,
    push,
    gated_shapes(4),
    parts=parts,
    loss=loss,
    gates={
        "input gate": ("a_i", "sigmoid"),
        "forget gate": ("a_f", "sigmoid"),
        "candidate": ("a_g", "tanh"),
        "output gate": ("a_o", "sigmoid"),
        "cell": ("new_c", "tanh"),
    },
)
