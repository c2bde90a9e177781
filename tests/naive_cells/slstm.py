"""The sLSTM in the paper's own terms, without a stabiliser. Its state is (h, C, N)."""

import numpy as np
from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State, sigmoid, sigmoid_slope, tanh_slope


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """C' = f C + i z, N' = f N + i, h' = o C'/N', i = exp(a_i)  (Beck et al. 2024, section 2.2,
    with the sigmoid as forget gate); rows i, f, z, o."""
    h, c, n = state
    a = x @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias"]
    a_i, a_f, a_z, a_o = np.split(a, 4, axis=1)
    new_c = sigmoid(a_f) * c + np.exp(a_i) * np.tanh(a_z)
    new_n = sigmoid(a_f) * n + np.exp(a_i)
    new_h = sigmoid(a_o) * new_c / new_n
    saved = {"x": x, "h": h, "c": c, "n": n, "new_c": new_c, "new_n": new_n}
    return (new_h, new_c, new_n), new_h, saved | {"a_i": a_i, "a_f": a_f, "a_z": a_z, "a_o": a_o}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g_h, g_c, g_n = handed[0] + gy, handed[1], handed[2]
    i, f, z, ratio = np.exp(s["a_i"]), sigmoid(s["a_f"]), np.tanh(s["a_z"]), s["new_c"] / s["new_n"]
    g_ratio = g_h * sigmoid(s["a_o"])
    # d(C'/N') by C' and by N', as they come together in ln i and ln f: without a difference of
    # C'/N' and z, or of C'/N' and C/N, which may be all but equal.
    g_log_i = g_ratio * i * f * (z * s["n"] - s["c"]) / s["new_n"] ** 2
    g_i = i * (g_c * z + g_n) + g_log_i
    g_f = sigmoid_slope(s["a_f"]) * (g_c * s["c"] + g_n * s["n"]) - sigmoid(-s["a_f"]) * g_log_i
    g_o = g_h * ratio * sigmoid_slope(s["a_o"])
    g_c = g_c + g_ratio / s["new_n"]
    g_n = g_n - g_ratio * ratio / s["new_n"]
    g_z = g_c * i * tanh_slope(s["a_z"])
    g_a = np.concatenate([g_i, g_f, g_z, g_o], axis=1)
    grads = {"weight_ih": g_a.T @ s["x"], "weight_hh": g_a.T @ s["h"], "bias": g_a.sum(axis=0)}
    return (g_a @ p["weight_hh"], f * g_c, f * g_n), g_a @ p["weight_ih"], grads


def push(p: Params, s: Saved, v: State) -> State:
    v_i, v_f, v_z, v_o = np.split(v[0] @ p["weight_hh"].T, 4, axis=-1)
    i, f, z = np.exp(s["a_i"]), sigmoid(s["a_f"]), np.tanh(s["a_z"])
    v_f, v_z = sigmoid_slope(s["a_f"]) * v_f, tanh_slope(s["a_z"]) * v_z
    v_c = f * v[1] + s["c"] * v_f + i * z * v_i + i * v_z
    v_n = f * v[2] + s["n"] * v_f + i * v_i
    ratio = s["new_c"] / s["new_n"]
    v_ratio = (v_c - ratio * v_n) / s["new_n"]
    v_h = sigmoid_slope(s["a_o"]) * v_o * ratio + sigmoid(s["a_o"]) * v_ratio
    return v_h, v_c, v_n


def shapes(hidden: int, inputs: int, state: int) -> Shapes:
    rows = 4 * hidden
    return {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden), "bias": (rows,)}


def parts(p: Params) -> Shapes:
    return dict.fromkeys(("hidden", "cell", "normalizer"), p["weight_hh"].shape[1:])


def loss(s: Saved, gy: Array) -> State:
    return gy, np.zeros_like(gy), np.zeros_like(gy)


def start(drawn: State) -> State:
    """A normaliser is a sum of exponentials."""
    return drawn[0], drawn[1], np.exp(drawn[2])


def of_lab(state: State) -> State:
    """C and N of (h, c, n, m)."""
    h, c, n, m = state
    return h, c * np.exp(m), n * np.exp(m)


def fade(p: Params) -> None:
    p["weight_hh"] *= 0.2


def shut(p: Params) -> None:
    p["bias"][3:6] = -1e4  # the forget gates
    p["bias"][9:] = -1e4  # and what a loss would see of the cells


CELL = Cell(
    step,
    pull,
    push,
    shapes,
    parts=parts,
    loss=loss,
    gate_bias="bias",
    gates={
        "forget gate": ("a_f", "sigmoid"),
        "candidate": ("a_z", "tanh"),
        "output gate": ("a_o", "sigmoid"),
    },
    start=start,
    of_lab=of_lab,
    fade=fade,
    shut=shut,
)
