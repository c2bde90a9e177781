"""Slow, obvious step of Mamba's blocks on a residual stream, for `naive_probe`'s Jacobians.

Gu and Dao (2023), section 3.4 and figure 3; the scan as the paper's code discretises it: A exactly,
B by Delta B. One vector per network: each layer's scan state (units, N) and the inputs that its
convolution keeps (units, width), layer by layer, then the model's output.
"""

from collections.abc import Sequence

import numpy as np
from naive_functions import Array, Params, sigmoid
from naive_probe import Step


def norm(x: Array, weight: Array, eps: float) -> Array:
    y: Array = x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight
    return y


def silu(x: Array) -> Array:
    y: Array = x * sigmoid(x)
    return y


def block(p: Params, x: Array, scan: Array, seen: Array) -> tuple[Array, Array, Array]:
    """Its output (M, D), scan state (M, E, N) and kept inputs (M, E, width) after a step."""
    rank, states = p["dt_proj.weight"].shape[1], scan.shape[2]
    into, gate = np.split(x @ p["in_proj.weight"].T, 2, axis=-1)
    window = np.concatenate([seen, into[..., None]], axis=-1)
    taps = p["conv1d.weight"][:, 0]
    u = silu((window[..., -taps.shape[1] :] * taps).sum(axis=-1) + p["conv1d.bias"])
    rates, b, c = np.split(u @ p["x_proj.weight"].T, [rank, rank + states], axis=-1)
    delta = np.log1p(np.exp(rates @ p["dt_proj.weight"].T + p["dt_proj.bias"]))[..., None]
    scan = np.exp(-delta * np.exp(p["A_log"])) * scan + delta * b[:, None] * u[..., None]
    y = (scan * c[:, None]).sum(axis=-1) + p["D"] * u
    return (y * silu(gate)) @ p["out_proj.weight"].T, scan, window[..., 1:]


def mamba(
    layers: Sequence[Params], width: int, eps: float, last_norm: Array | None
) -> tuple[Step, list[int]]:
    """A step of residual blocks y = x + block(norm(x)), and the sizes of its parts."""
    units, states = layers[0]["A_log"].shape
    sizes = [units * states, units * width] * len(layers)

    def step(x: Array, state: Array) -> Array:
        parts = np.split(state, np.cumsum(sizes), axis=-1)
        after = []
        for i, p in enumerate(layers):
            scan = parts[2 * i].reshape(-1, units, states)
            seen = parts[2 * i + 1].reshape(-1, units, width)
            into = np.broadcast_to(norm(x, p["norm.weight"], eps), (len(state), x.shape[-1]))
            y, scan, seen = block(p, into, scan, seen)
            after += [scan.reshape(len(state), -1), seen.reshape(len(state), -1)]
            x = x + y
        after.append(x if last_norm is None else norm(x, last_norm, eps))
        return np.concatenate(after, axis=-1)

    return step, [*sizes, layers[0]["in_proj.weight"].shape[1]]
