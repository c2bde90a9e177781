"""The bare selective scan of the naive reference, in mamba_ssm's shapes."""

import numpy as np
from naive_functions import Array, sigmoid, silu, silu_slope, softplus


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
