"""The minimal gated recurrent unit. Its state is (h,)."""

from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State, sigmoid, sigmoid_slope


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = (1-z) h + z c, z = sigmoid(W_z x + b_z), c = W_h x + b_h  (Feng et al. 2024)."""
    (h,) = state
    a_z = x @ p["linear_z_weight"].T + p["linear_z_bias"]
    c = x @ p["linear_h_weight"].T + p["linear_h_bias"]
    new = sigmoid(-a_z) * h + sigmoid(a_z) * c
    return (new,), new, {"x": x, "h": h, "a_z": a_z, "c": c}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g = handed[0] + gy
    g_z = g * (s["c"] - s["h"]) * sigmoid_slope(s["a_z"])
    g_c = g * sigmoid(s["a_z"])
    grads = {
        "linear_z_weight": g_z.T @ s["x"],
        "linear_z_bias": g_z.sum(axis=0),
        "linear_h_weight": g_c.T @ s["x"],
        "linear_h_bias": g_c.sum(axis=0),
    }
    g_x = g_z @ p["linear_z_weight"] + g_c @ p["linear_h_weight"]
    return (g * sigmoid(-s["a_z"]),), g_x, grads


def push(p: Params, s: Saved, v: State) -> State:
    return (sigmoid(-s["a_z"]) * v[0],)


def shapes(hidden: int, inputs: int, state: int) -> Shapes:
    return {
        "linear_z_weight": (hidden, inputs),
        "linear_z_bias": (hidden,),
        "linear_h_weight": (hidden, inputs),
        "linear_h_bias": (hidden,),
    }


def parts(p: Params) -> Shapes:
    return {"hidden": p["linear_z_bias"].shape}


def fade(p: Params) -> None:
    p["linear_z_bias"] += 4


def shut(p: Params) -> None:
    p["linear_z_bias"][:] = 1e4


CELL = Cell(
    step,
    pull,
    push,
    shapes,
    parts=parts,
    gate_bias="linear_z_bias",
    recurrent="linear_z_weight",
    gates={"update gate": ("a_z", "sigmoid")},
    at_rest=("linear_h_weight", "linear_h_bias"),  # h is the candidate: a gate says nothing
    fade=fade,
    shut=shut,
)
