"""The slow, obvious truth: every cell and its gradients, written from the equations.

Nothing here, nor in the other files named naive, comes from seqlab: naive_functions.py and
naive_rules.py have what this file needs, naive_adjoint.py norms at every lag, naive_spectrum.py
Jacobians and exponents, naive_scan.py the bare selective scan.

One network at a time, plain loops over time, float64; `forward` keeps the dtype it is given, so
complex numbers pass through it and a complex step can check the gradients. x is (T, B, I); names,
layouts and gate orders are PyTorch's.

A state is a tuple of arrays with the batch first: rnn, gru and mingru (h,), lstm (h, c), ssm (s,)
with s (B, H, N). The adjoint of a state has the same form.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from naive_functions import (
    ACTIVATIONS,
    Array,
    Params,
    State,
    sigmoid,
    sigmoid_slope,
    softplus,
    tanh_slope,
)
from naive_rules import clip_after, clip_handed

Saved = dict[str, Array]


# The cells. For each: `step` makes the next state and the output; `pull` takes the adjoint handed
# to the new state and dL/d(output) back through the step; `push` takes a tangent of the old state
# forward through the linearised step.


def rnn_step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = phi(W_ih x + b_ih + W_hh h + b_hh)  (Elman 1990)."""
    (h,) = state
    a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    new = ACTIVATIONS[activation][0](a)
    return (new,), new, {"x": x, "h": h, "slope": ACTIVATIONS[activation][1](a)}


def rnn_pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g_a = (handed[0] + gy) * s["slope"]
    return (g_a @ p["weight_hh"],), g_a @ p["weight_ih"], affine_gradients(s, g_a, g_a)


def rnn_push(p: Params, s: Saved, v: State) -> State:
    return (s["slope"] * (v[0] @ p["weight_hh"].T),)


def affine_gradients(s: Saved, g_from_x: Array, g_from_h: Array) -> Params:
    """Gradients of W_ih x + b_ih and of W_hh h + b_hh, from the adjoints of the two sums."""
    return {
        "weight_ih": g_from_x.T @ s["x"],
        "weight_hh": g_from_h.T @ s["h"],
        "bias_ih": g_from_x.sum(axis=0),
        "bias_hh": g_from_h.sum(axis=0),
    }


def lstm_step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """c' = f c + i g, h' = o tanh(c')  (Gers, Schmidhuber & Cummins 2000); rows i, f, g, o."""
    h, c = state
    a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=1)
    new_c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    new_h = sigmoid(a_o) * np.tanh(new_c)
    saved = {"x": x, "h": h, "c": c, "new_c": new_c, "a_i": a_i, "a_f": a_f, "a_g": a_g, "a_o": a_o}
    return (new_h, new_c), new_h, saved


def lstm_pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g_h = handed[0] + gy
    g_c = handed[1] + g_h * sigmoid(s["a_o"]) * tanh_slope(s["new_c"])
    g_i = g_c * np.tanh(s["a_g"]) * sigmoid_slope(s["a_i"])
    g_f = g_c * s["c"] * sigmoid_slope(s["a_f"])
    g_g = g_c * sigmoid(s["a_i"]) * tanh_slope(s["a_g"])
    g_o = g_h * np.tanh(s["new_c"]) * sigmoid_slope(s["a_o"])
    g_a = np.concatenate([g_i, g_f, g_g, g_o], axis=1)
    before = (g_a @ p["weight_hh"], g_c * sigmoid(s["a_f"]))
    return before, g_a @ p["weight_ih"], affine_gradients(s, g_a, g_a)


def lstm_push(p: Params, s: Saved, v: State) -> State:
    v_i, v_f, v_g, v_o = np.split(v[0] @ p["weight_hh"].T, 4, axis=-1)
    v_c = (
        sigmoid(s["a_f"]) * v[1]
        + s["c"] * sigmoid_slope(s["a_f"]) * v_f
        + np.tanh(s["a_g"]) * sigmoid_slope(s["a_i"]) * v_i
        + sigmoid(s["a_i"]) * tanh_slope(s["a_g"]) * v_g
    )
    v_h = np.tanh(s["new_c"]) * sigmoid_slope(s["a_o"]) * v_o
    return v_h + sigmoid(s["a_o"]) * tanh_slope(s["new_c"]) * v_c, v_c


def gru_step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = (1-z) n + z h, n = tanh(W x + b + r (U h + c))  (Cho 2014, PyTorch's form); r, z, n."""
    (h,) = state
    x_r, x_z, x_n = np.split(x @ p["weight_ih"].T + p["bias_ih"], 3, axis=1)
    h_r, h_z, h_n = np.split(h @ p["weight_hh"].T + p["bias_hh"], 3, axis=1)
    a_r, a_z = x_r + h_r, x_z + h_z
    a_n = x_n + sigmoid(a_r) * h_n
    new = sigmoid(-a_z) * np.tanh(a_n) + sigmoid(a_z) * h
    return (new,), new, {"x": x, "h": h, "a_r": a_r, "a_z": a_z, "a_n": a_n, "h_n": h_n}


def gru_pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
    g = handed[0] + gy
    g_n = g * sigmoid(-s["a_z"]) * tanh_slope(s["a_n"])
    g_z = g * (s["h"] - np.tanh(s["a_n"])) * sigmoid_slope(s["a_z"])
    g_r = g_n * s["h_n"] * sigmoid_slope(s["a_r"])
    g_from_x = np.concatenate([g_r, g_z, g_n], axis=1)
    g_from_h = np.concatenate([g_r, g_z, g_n * sigmoid(s["a_r"])], axis=1)
    before = (g_from_h @ p["weight_hh"] + g * sigmoid(s["a_z"]),)
    return before, g_from_x @ p["weight_ih"], affine_gradients(s, g_from_x, g_from_h)


def gru_push(p: Params, s: Saved, v: State) -> State:
    v_r, v_z, v_hn = np.split(v[0] @ p["weight_hh"].T, 3, axis=-1)
    v_n = tanh_slope(s["a_n"]) * (
        sigmoid(s["a_r"]) * v_hn + s["h_n"] * sigmoid_slope(s["a_r"]) * v_r
    )
    return (
        sigmoid(-s["a_z"]) * v_n
        + sigmoid(s["a_z"]) * v[0]
        + (s["h"] - np.tanh(s["a_n"])) * sigmoid_slope(s["a_z"]) * v_z,
    )


def ssm_step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
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


def ssm_pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
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


def ssm_push(p: Params, s: Saved, v: State) -> State:
    return (s["decay"] * v[0],)


def mingru_step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
    """h' = (1-z) h + z c, z = sigmoid(W_z x + b_z), c = W_h x + b_h  (Feng et al. 2024)."""
    (h,) = state
    a_z = x @ p["linear_z_weight"].T + p["linear_z_bias"]
    c = x @ p["linear_h_weight"].T + p["linear_h_bias"]
    new = sigmoid(-a_z) * h + sigmoid(a_z) * c
    return (new,), new, {"x": x, "h": h, "a_z": a_z, "c": c}


def mingru_pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
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


def mingru_push(p: Params, s: Saved, v: State) -> State:
    return (sigmoid(-s["a_z"]) * v[0],)


Shapes = dict[str, tuple[int, ...]]


def gated_shapes(blocks: int) -> Callable[[int, int, int], Shapes]:
    """PyTorch's four parameters with so many blocks of H rows, from H, I and (unused) N."""

    def shapes(hidden: int, inputs: int, state: int) -> Shapes:
        rows = blocks * hidden
        return {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, hidden),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }

    return shapes


def ssm_shapes(hidden: int, inputs: int, state: int) -> Shapes:
    rank = math.ceil(hidden / 16)
    return {
        "in_proj_weight": (hidden, inputs),
        "x_proj_weight": (rank + 2 * state, hidden),
        "dt_proj_weight": (hidden, rank),
        "dt_proj_bias": (hidden,),
        "A_log": (hidden, state),
        "D": (hidden,),
    }


def mingru_shapes(hidden: int, inputs: int, state: int) -> Shapes:
    return {
        "linear_z_weight": (hidden, inputs),
        "linear_z_bias": (hidden,),
        "linear_h_weight": (hidden, inputs),
        "linear_h_bias": (hidden,),
    }


# The parts of a state and the shape of one sequence's, from the parameters.


def hidden_parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:]}


def lstm_parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:], "cell": p["weight_hh"].shape[1:]}


def ssm_parts(p: Params) -> Shapes:
    return {"state": p["A_log"].shape}


def mingru_parts(p: Params) -> Shapes:
    return {"hidden": p["linear_z_bias"].shape}


# The loss's own gradient at one step's state, from dL/d(output) there.


def hidden_loss(s: Saved, gy: Array) -> State:
    return (gy,)


def lstm_loss(s: Saved, gy: Array) -> State:
    return gy, np.zeros_like(gy)


def ssm_loss(s: Saved, gy: Array) -> State:
    return (gy[:, :, None] * s["c"][:, None, :],)


# What tests do to parameters in place. Long chains fade, far below the smallest number; or nothing
# at all passes a step, of cells of three units.


def gated_fade(p: Params) -> None:
    p["weight_hh"] *= 0.2


def gated_shut(p: Params) -> None:
    p["bias_ih"][:] = 1e4
    p["bias_ih"][3:6] = -1e4  # forget and update gates; all else is saturated


def ssm_fade(p: Params) -> None:
    p["dt_proj_bias"] += 4


def ssm_shut(p: Params) -> None:
    p["dt_proj_bias"][:] = 1e4
    p["A_log"][:] = 0


def mingru_fade(p: Params) -> None:
    p["linear_z_bias"] += 4


def mingru_shut(p: Params) -> None:
    p["linear_z_bias"][:] = 1e4


class Cell(NamedTuple):
    """One cell: see above; `shapes` are those of its parameters from H, I and N.

    `gate_bias` names the bias that moves every gate, or the step of a scan; `recurrent` the
    parameter that says what a step keeps of the state. `gates` gives of each the name in `Saved` of
    its pre-activations, and its function. `at_rest` names the parameters whose gradient of one step
    keeps its digits while the state rests: all, where it is None. The last two: see above.
    """

    step: Callable[[Params, Array, State, str], tuple[State, Array, Saved]]
    pull: Callable[[Params, Saved, State, Array], tuple[State, Array, Params]]
    push: Callable[[Params, Saved, State], State]
    shapes: Callable[[int, int, int], Shapes]
    activations: tuple[str, ...] = ("tanh",)
    parts: Callable[[Params], Shapes] = hidden_parts
    loss: Callable[[Saved, Array], State] = hidden_loss
    gate_bias: str = "bias_ih"
    recurrent: str = "weight_hh"
    gates: Mapping[str, tuple[str, str]] = MappingProxyType({})
    at_rest: tuple[str, ...] | None = None
    fade: Callable[[Params], None] = gated_fade
    shut: Callable[[Params], None] = gated_shut


CELLS = {
    "rnn": Cell(rnn_step, rnn_pull, rnn_push, gated_shapes(1), tuple(ACTIVATIONS)),
    "lstm": Cell(
        lstm_step,
        lstm_pull,
        lstm_push,
        gated_shapes(4),
        parts=lstm_parts,
        loss=lstm_loss,
        gates={
            "input gate": ("a_i", "sigmoid"),
            "forget gate": ("a_f", "sigmoid"),
            "candidate": ("a_g", "tanh"),
            "output gate": ("a_o", "sigmoid"),
            "cell": ("new_c", "tanh"),
        },
    ),
    "gru": Cell(
        gru_step,
        gru_pull,
        gru_push,
        gated_shapes(3),
        gates={
            "reset gate": ("a_r", "sigmoid"),
            "update gate": ("a_z", "sigmoid"),
            "candidate": ("a_n", "tanh"),
        },
    ),
    "ssm": Cell(
        ssm_step,
        ssm_pull,
        ssm_push,
        ssm_shapes,
        parts=ssm_parts,
        loss=ssm_loss,
        gate_bias="dt_proj_bias",
        recurrent="A_log",
        at_rest=("in_proj_weight", "D"),  # h follows Delta slowly
        fade=ssm_fade,
        shut=ssm_shut,
    ),
    "mingru": Cell(
        mingru_step,
        mingru_pull,
        mingru_push,
        mingru_shapes,
        parts=mingru_parts,
        gate_bias="linear_z_bias",
        recurrent="linear_z_weight",
        gates={"update gate": ("a_z", "sigmoid")},
        at_rest=("linear_h_weight", "linear_h_bias"),  # h is the candidate: a gate says nothing
        fade=mingru_fade,
        shut=mingru_shut,
    ),
}


# Through time.


def zero_state(arch: str, params: Params, batch: int, dtype: npt.DTypeLike = float) -> State:
    return tuple(np.zeros((batch, *shape), dtype) for shape in CELLS[arch].parts(params).values())


def forward(
    arch: str, params: Params, x: Array, initial: State | None = None, activation: str = "tanh"
) -> dict[str, Any]:
    """Run x (T, B, I).

    Gives "output" (T, B, H); "states", a tuple of (T+1, B, ...) arrays in the order of the state,
    entry 0 the initial one; "saved", what each step needs on the way back. `initial` is zero when
    left out.
    """
    state = initial
    if state is None:
        state = zero_state(arch, params, x.shape[1], np.result_type(x, *params.values()))
    states, outputs, saved = [state], [], []
    for x_t in x:
        state, y, kept = CELLS[arch].step(params, x_t, state, activation)
        states.append(state)
        outputs.append(y)
        saved.append(kept)
    parts = tuple(np.stack(part) for part in zip(*states, strict=True))
    return {"output": np.stack(outputs), "states": parts, "saved": saved}


def backward(
    arch: str,
    params: Params,
    x: Array,
    grad_output: Array,
    initial: State | None = None,
    activation: str = "tanh",
    clip: str = "none",
    grad_final: State | None = None,
) -> dict[str, Any]:
    """Full backpropagation through time of sum(output * grad_output), both (T, B, H).

    `grad_final` is the gradient of the last state besides. Gives "params" by name, "x" and
    "initial", each shaped as what went in.
    """
    run = forward(arch, params, x, initial, activation)
    handed = grad_final
    if handed is None:
        handed = tuple(np.zeros_like(part[0]) for part in run["states"])
    total = {name: np.zeros_like(value) for name, value in params.items()}
    g_x = np.zeros_like(x)
    for t in reversed(range(len(x))):
        handed, g_x[t], grads = CELLS[arch].pull(params, run["saved"][t], handed, grad_output[t])
        for name, value in grads.items():
            total[name] = total[name] + value
        handed = clip_handed(clip, handed, len(x) - t, [0] * x.shape[1])
    return {"params": clip_after(clip, total), "x": g_x, "initial": handed}
