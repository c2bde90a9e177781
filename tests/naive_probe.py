"""The slow truth of probes: products of Jacobians, each by the complex step, with a scale.

A model is a function of one step for one sequence, `step(x_t, state) -> state`, on a flat state
(N,) that may be complex; nothing here comes from seqlab or PyTorch. Stacked layers are PyTorch's:
the state is (hidden of each layer, then cell of each layer), and each layer's input is the hidden
state of the one below, after the step.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from naive import CELLS
from naive_functions import Array, Params, sigmoid
from naive_rules import clip_handed

Step = Callable[[Array, Array], Array]
_NUDGE = 1e-200  # its square is zero: the imaginary part is the derivative, rounded once


def stacked(arch: str, layers: Sequence[Params]) -> Step:
    """Layers of `rnn`, `lstm` or `gru` with PyTorch's parameters, from the input on."""
    units = layers[0]["weight_hh"].shape[1]
    kinds = 2 if arch == "lstm" else 1

    def step(x: Array, state: Array) -> Array:
        before = state.reshape(*state.shape[:-1], kinds, len(layers), units)
        after = np.empty_like(before)
        below = x
        for i, params in enumerate(layers):
            parts = tuple(before[..., kind, i, :] for kind in range(kinds))
            new, below, _ = CELLS[arch].step(params, below, parts, "tanh")
            for kind in range(kinds):
                after[..., kind, i, :] = new[kind]
        return after.reshape(state.shape)

    return step


def projected(layers: Sequence[Params]) -> Step:
    """Layers of `lstm` whose hidden state is `weight_hr` times what it is without (Sak, Senior
    & Beaufays 2014): fewer hidden states than cell states."""
    units, outputs = layers[0]["weight_hr"].shape[::-1]

    def step(x: Array, state: Array) -> Array:
        h, c = np.split(state, [len(layers) * outputs], axis=-1)
        hs, cs, below = [], [], x
        for i, params in enumerate(layers):
            before = h[..., i * outputs : (i + 1) * outputs], c[..., i * units : (i + 1) * units]
            (whole, cell), _, _ = CELLS["lstm"].step(params, below, before, "tanh")
            below = whole @ params["weight_hr"].T
            hs.append(below)
            cs.append(cell)
        return np.concatenate([*hs, *cs], axis=-1)

    return step


def custom(w: Array, u: Array, v: Array) -> Step:
    """h' = tanh(W h + U x) * sigmoid(V h)."""
    return lambda x, h: np.tanh(h @ w.T + x @ u.T) * sigmoid(h @ v.T)


def jacobian(step: Step, x: Array, state: Array) -> Array:
    """d(new state)[i] / d(state)[j] at [i, j]."""
    nudged = state + 1j * _NUDGE * np.eye(len(state))
    columns: Array = step(np.broadcast_to(x, (len(state), *x.shape)), nudged).imag / _NUDGE
    return columns.T


def curves(
    step: Step,
    x: Array,
    state: Array,
    gradient: Array,
    parts: Sequence[int],
    clip: str = "none",
) -> Array:
    """Natural logs of norms, (1 + P, T + 1) at lags 0..T: of the adjoint of the joint state, then
    of its P parts of `parts` entries each.

    x (T, I), state (N,), and `gradient` (N,) the loss's gradient of the last state.
    """
    states = [state]
    for x_t in x:
        states.append(step(x_t[None], states[-1][None])[0])
    cuts = np.cumsum(parts)[:-1]
    adjoint, exponent = gradient.astype(float), 0
    found = np.empty((1 + len(parts), len(x) + 1))

    def log_norm(values: Array) -> float:
        norm = math.hypot(*values)  # without squares that underflow
        return math.log(norm) + exponent * math.log(2) if norm else -math.inf

    for lag in range(len(x) + 1):
        if lag:
            t = len(x) - lag
            adjoint = jacobian(step, x[t], states[t]).T @ adjoint
            shift = math.frexp(np.abs(adjoint).max())[1]
            adjoint, exponent = np.ldexp(adjoint, -shift), exponent + shift
            adjoint = clip_handed(clip, (adjoint[None],), lag, [exponent])[0][0]
        found[:, lag] = [log_norm(piece) for piece in (adjoint, *np.split(adjoint, cuts))]
    return found
