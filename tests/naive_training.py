"""Training of one network as the textbooks write it: a cell, a linear readout, one update by SGD or
by Adam."""

from collections.abc import Callable
from typing import Any

import naive
import numpy as np
import numpy.typing as npt
from naive_rules import clip_after

Array = npt.NDArray[Any]
Params = dict[str, Array]
# From outputs (n, B, K) to a loss and dL/dy.
Loss = Callable[[Array], tuple[float, Array]]


def gradients(
    arch: str, params: Params, x: Array, at: list[int], loss: Loss, activation: str, clip: str
) -> tuple[float, Params]:
    """The loss of y_t = W h_t + b at the steps `at`, and the gradients of all parameters after a
    clip rule; `readout_weight` (K, H) and `readout_bias` (K,) are among them."""
    own = {name: array for name, array in params.items() if not name.startswith("readout_")}
    weight, bias = params["readout_weight"], params["readout_bias"]
    hidden = naive.forward(arch, own, x, activation=activation)["output"]
    y = np.stack([hidden[t] @ weight.T + bias for t in at])
    value, errors = loss(y)
    grad = np.zeros_like(hidden)
    for i, t in enumerate(at):
        grad[t] += errors[i] @ weight
    in_chain = clip if clip.startswith(("step-", "truncate")) else "none"
    found = naive.backward(arch, own, x, grad, activation=activation, clip=in_chain)["params"]
    found["readout_weight"] = sum(errors[i].T @ hidden[t] for i, t in enumerate(at))
    found["readout_bias"] = sum(errors[i].sum(axis=0) for i in range(len(at)))
    return value, found if in_chain != "none" else clip_after(clip, found)


def squared(targets: Array) -> Loss:
    def loss(y: Array) -> tuple[float, Array]:
        errors = y - targets
        count = targets.shape[0] * targets.shape[1]
        return float((errors**2).sum() / count), 2 * errors / count

    return loss


def cross_entropy(classes: Array) -> Loss:
    def loss(y: Array) -> tuple[float, Array]:
        total, errors = 0.0, np.zeros_like(y)
        for place in np.ndindex(classes.shape):
            shares = np.exp(y[place]) / np.exp(y[place]).sum()
            total -= np.log(shares[classes[place]])
            errors[place] = shares - np.eye(y.shape[-1])[classes[place]]
        return total / classes.size, errors / classes.size

    return loss


def by_sgd(rate: float) -> Callable[[Params], Params]:
    return lambda g: {name: -rate * array for name, array in g.items()}


def by_adam(rate: float) -> Callable[[Params], Params]:
    state: dict[str, Any] = {"t": 0, "m": {}, "v": {}}

    def change(g: Params) -> Params:
        state["t"] += 1
        found = {}
        for name, array in g.items():
            m = state["m"][name] = 0.9 * state["m"].get(name, 0) + 0.1 * array
            v = state["v"][name] = 0.999 * state["v"].get(name, 0) + 0.001 * array**2
            mean, square = m / (1 - 0.9 ** state["t"]), v / (1 - 0.999 ** state["t"])
            found[name] = -rate * mean / (np.sqrt(square) + 1e-8)
        return found

    return change


OPTIMISERS = {"sgd": by_sgd, "adam": by_adam}
