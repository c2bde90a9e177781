"""The slow, obvious truth: every cell and its gradients, written from the equations.

Nothing here comes from seqlab. One network at a time, plain loops over time, float64; `forward`
keeps the dtype it is given, so complex numbers pass through it and a complex step can check the
gradients. x is (T, B, I); names, layouts and gate orders are PyTorch's.

A state is a tuple of arrays with the batch first: rnn and gru (h,), lstm (h, c), ssm (s,) with s
(B, H, N). The adjoint of a state has the same form.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Params = dict[str, Array]
State = tuple[Array, ...]
Saved = dict[str, Array]


# Elementwise functions and their slopes.


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), without overflow and with full relative precision in both tails."""
    positive = a.real >= 0
    e: Array = np.exp(np.where(positive, -a, a))
    value: Array = np.where(positive, 1, e) / (1 + e)
    return value


def sigmoid_slope(a: Array) -> Array:
    return sigmoid(a) * sigmoid(-a)


def tanh_slope(a: Array) -> Array:
    """1 - tanh(a)^2, which is four sigmoid slopes at 2a: no cancellation in a saturated unit."""
    return 4 * sigmoid_slope(2 * a)


def softplus(a: Array) -> Array:
    """ln(1 + exp(a))."""
    positive = a.real >= 0
    return np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))


def silu(a: Array) -> Array:
    return a * sigmoid(a)


def silu_slope(a: Array) -> Array:
    slope: Array = sigmoid(a) * (1 + a * sigmoid(-a))
    return slope


def positive_part(a: Array) -> Array:
    return np.where(a.real <= 0, 0, a)  # NaN stays NaN


def positive_part_slope(a: Array) -> Array:
    return np.where(a.real > 0, 1.0, np.where(a.real <= 0, 0.0, np.nan))


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (np.tanh, tanh_slope),
    "relu": (positive_part, positive_part_slope),
    "sigmoid": (sigmoid, sigmoid_slope),
    "identity": (np.positive, np.ones_like),
}


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


# The parts of a state and the shape of one sequence's, from the parameters.


def hidden_parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:]}


def lstm_parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:], "cell": p["weight_hh"].shape[1:]}


def ssm_parts(p: Params) -> Shapes:
    return {"state": p["A_log"].shape}


# The loss's own gradient at one step's state, from dL/d(output) there.


def hidden_loss(s: Saved, gy: Array) -> State:
    return (gy,)


def lstm_loss(s: Saved, gy: Array) -> State:
    return gy, np.zeros_like(gy)


def ssm_loss(s: Saved, gy: Array) -> State:
    return (gy[:, :, None] * s["c"][:, None, :],)


class Cell(NamedTuple):
    """One cell: see above; `shapes` are those of its parameters from H, I and N."""

    step: Callable[[Params, Array, State, str], tuple[State, Array, Saved]]
    pull: Callable[[Params, Saved, State, Array], tuple[State, Array, Params]]
    push: Callable[[Params, Saved, State], State]
    shapes: Callable[[int, int, int], Shapes]
    activations: tuple[str, ...] = ("tanh",)
    parts: Callable[[Params], Shapes] = hidden_parts
    loss: Callable[[Saved, Array], State] = hidden_loss


CELLS = {
    "rnn": Cell(rnn_step, rnn_pull, rnn_push, gated_shapes(1), tuple(ACTIVATIONS)),
    "lstm": Cell(
        lstm_step, lstm_pull, lstm_push, gated_shapes(4), parts=lstm_parts, loss=lstm_loss
    ),
    "gru": Cell(gru_step, gru_pull, gru_push, gated_shapes(3)),
    "ssm": Cell(ssm_step, ssm_pull, ssm_push, ssm_shapes, parts=ssm_parts, loss=ssm_loss),
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


# Clip rules.


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


# The adjoint at every lag, far beyond the range of float64.


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


# Jacobians and exponents.


def jacobians(
    arch: str, params: Params, x: Array, initial: State | None = None, activation: str = "tanh"
) -> Array:
    """ds_{t+1}/ds_t (T, S, S) of one sequence, x (T, 1, I); the state's parts one after another."""
    run = forward(arch, params, x, initial, activation)
    shapes = [part.shape[2:] for part in run["states"]]
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    size = int(ends[-1])
    result = np.zeros((len(x), size, size))
    for t, saved in enumerate(run["saved"]):
        for column in range(size):
            unit = np.zeros(size)
            unit[column] = 1
            parts = np.split(unit, ends[:-1])
            tangent = tuple(v.reshape(1, *s) for v, s in zip(parts, shapes, strict=True))
            pushed = CELLS[arch].push(params, saved, tangent)
            result[t, :, column] = np.concatenate([part.ravel() for part in pushed])
    return result


def lyapunov(
    arch: str,
    params: Params,
    x: Array,
    K: int,
    activation: str = "tanh",
    frame: Array | None = None,
) -> Array:
    """The K largest Lyapunov exponents, nat/step, of one sequence x (T, 1, I), in falling order.

    Benettin 1980: push a frame (S, K) through every step's Jacobian, orthonormalise by QR, average
    ln|R_kk|. Every step counts. Left out, the frame is a generic one (seeded): the coordinate axes
    would be a trap, since a diagonal Jacobian never turns them.
    """
    steps = jacobians(arch, params, x, None, activation)
    if frame is None:
        frame = np.random.default_rng(0).normal(size=(steps.shape[1], K))
    q, total = np.linalg.qr(frame)[0], np.zeros(K)
    for jacobian in steps:
        q, r = np.linalg.qr(jacobian @ q)
        with np.errstate(divide="ignore"):  # a dead direction has exponent -inf
            total += np.log(np.abs(np.diag(r)))
    return np.sort(total / len(steps))[::-1]


# The bare selective scan, in mamba_ssm's shapes.


def scan_delta(delta: Array, delta_bias: Array | None, delta_softplus: bool) -> tuple[Array, Array]:
    """The step size and its slope with respect to what went in."""
    raw = delta if delta_bias is None else delta + delta_bias[:, None]
    return (softplus(raw), sigmoid(raw)) if delta_softplus else (raw, np.ones_like(raw))


def scan_states(
    u: Array, step: Array, A: Array, B: Array, initial_state: Array | None = None
) -> list[Array]:
    """s_0 (zero when left out), s_1, ..., s_L, each (batch, D, N)."""
    zeros = np.zeros((u.shape[0], *A.shape), np.result_type(u, step, A, B))
    states = [zeros if initial_state is None else initial_state]
    for t in range(u.shape[2]):
        decay = np.exp(step[:, :, t, None] * A)
        states.append(decay * states[-1] + (step * u)[:, :, t, None] * B[:, None, :, t])
    return states


def scan_output(u: Array, states: list[Array], C: Array, D: Array | None) -> Array:
    """C_t s_t + D u_t, before the gate."""
    read = [(s * C[:, None, :, t]).sum(axis=2) for t, s in enumerate(states[1:])]
    y = np.stack(read, axis=2)
    return y if D is None else y + D[:, None] * u


def selective_scan(
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
    initial_state: Array | None = None,
) -> Array:
    """y (batch, D, L) of s_t = exp(Delta_t A) s_{t-1} + Delta_t B_t u_t, y = (C s + D u) silu(z).

    u, delta, z (batch, D, L); A (D, N); B, C (batch, N, L); D, delta_bias (D,); initial_state
    (batch, D, N).
    """
    step, _ = scan_delta(delta, delta_bias, delta_softplus)
    y = scan_output(u, scan_states(u, step, A, B, initial_state), C, D)
    return y if z is None else y * silu(z)


def selective_scan_backward(
    grad_y: Array,
    u: Array,
    delta: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array | None = None,
    z: Array | None = None,
    delta_bias: Array | None = None,
    delta_softplus: bool = False,
    initial_state: Array | None = None,
    grad_last_state: Array | None = None,
) -> dict[str, Array | None]:
    """Gradients of sum(y * grad_y) + sum(s_L * grad_last_state), by argument name; None for what
    was not given."""
    step, slope = scan_delta(delta, delta_bias, delta_softplus)
    states = scan_states(u, step, A, B, initial_state)
    g = grad_y if z is None else grad_y * silu(z)  # of the output before the gate
    g_u = np.zeros_like(u) if D is None else D[:, None] * g
    g_step, g_A, g_B, g_C = (np.zeros_like(array) for array in (delta, A, B, C))
    handed = np.zeros_like(states[0]) if grad_last_state is None else grad_last_state
    for t in reversed(range(u.shape[2])):
        step_t, decay = step[:, :, t], np.exp(step[:, :, t, None] * A)
        a = handed + g[:, :, t, None] * C[:, None, :, t]  # adjoint of s_t
        g_C[:, :, t] = (g[:, :, t, None] * states[t + 1]).sum(axis=1)
        g_B[:, :, t] = (a * (step_t * u[:, :, t])[:, :, None]).sum(axis=1)
        into = (a * B[:, None, :, t]).sum(axis=2)  # adjoint of Delta_t u_t
        exponent = a * decay * states[t]  # adjoint of Delta_t A
        g_u[:, :, t] += into * step_t
        g_step[:, :, t] = into * u[:, :, t] + (exponent * A).sum(axis=2)
        g_A += (exponent * step_t[:, :, None]).sum(axis=0)
        handed = a * decay
    g_delta = g_step * slope
    return {
        "u": g_u,
        "delta": g_delta,
        "A": g_A,
        "B": g_B,
        "C": g_C,
        "D": None if D is None else (g * u).sum(axis=(0, 2)),
        "z": None if z is None else grad_y * scan_output(u, states, C, D) * silu_slope(z),
        "delta_bias": None if delta_bias is None else g_delta.sum(axis=(0, 2)),
        "initial_state": None if initial_state is None else handed,
    }
