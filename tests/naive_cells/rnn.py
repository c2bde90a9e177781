"""The vanilla recurrent network, rows as in nn.RNN. Its state is (h,)."""

from naive_cell import Cell, Saved, affine_gradients, gated_shapes
from naive_functions import ACTIVATIONS, Array, Params, State


def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh)  (Elman 1990)."""
    (h,) = state
    a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    new = ACTIVATIONS[activation][0](a)
    return (new,), new, {"x": x, "h": h, "slope": ACTIVATIONS[activation][1](a)}


def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g_a = (handed[0] + gy) * s["slope"]
    return (g_a @ p["weight_hh"],), g_a @ p["weight_ih"], affine_gradients(s, g_a, g_a)


def push(p: Params, s: Saved, v: State) -> State:
    return (s["slope"] * (v[0] @ p["weight_hh"].T),)


CELL = Cell(step, pull, push, gated_shapes(1), tuple(ACTIVATIONS))
