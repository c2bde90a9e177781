"""Training of one network as the textbooks write it: a cell with a linear readout or a deep stack
with a linear head, one update by SGD, by RMSprop or by Adam."""

from collections.abc import Callable
from typing import Any

import naive
import naive_depth
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


def stack_gradients(
    stack: naive_depth.Stack, params: Params, x: Array, loss: Loss, clip: str
) -> tuple[float, Params]:
    """The loss of what the head (F, K) reads from the last layer, and the gradients of all
    parameters after a clip rule: `head`, and `0.weight` and so on of the layers.

    A stack sees all of x (T, B, n) together, one sequence's T rows after the other; a Transformer's
    tokens look at those of their sequence alone, and its head sees the mean of each one's.
    """
    depth = 1 + max(int(name.partition(".")[0]) for name in params if name != "head")
    layers = [
        {n.partition(".")[2]: a for n, a in params.items() if n.startswith(f"{layer}.")}
        for layer in range(depth)
    ]
    steps, sequences, _ = x.shape
    rows = np.concatenate([x[:, b] for b in range(sequences)])
    path = naive_depth.forward(rows, stack._replace(tokens=steps), layers)
    features = path.states[-1].reshape(sequences, steps, -1).mean(axis=1)
    value, errors = loss((features @ params["head"])[np.newaxis])
    found = {"head": features.T @ errors[0]}
    readout = np.repeat(errors[0] @ params["head"].T / steps, steps, axis=0)
    in_chain = clip if clip.startswith(("step-", "truncate")) else "none"
    back = naive_depth.adjoints(path, stack, readout, in_chain)
    for layer, (scale, grads) in enumerate(reversed(back.gradients)):
        found |= {f"{layer}.{name}": np.exp(scale) * array for name, array in grads.items()}
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


def by_sgd(rate: float, momentum: float = 0.0) -> Callable[[Params], Params]:
    velocity: dict[str, Any] = {}

    def change(g: Params) -> Params:
        for name, array in g.items():
            velocity[name] = momentum * velocity.get(name, 0) + array
        return {name: -rate * array for name, array in velocity.items()}

    return change


def by_rmsprop(rate: float, eps: float = 1e-8) -> Callable[[Params], Params]:
    square: dict[str, Any] = {}

    def change(g: Params) -> Params:
        for name, array in g.items():
            square[name] = 0.99 * square.get(name, 0) + 0.01 * array**2
        return {name: -rate * a / (np.sqrt(square[name]) + eps) for name, a in g.items()}

    return change


def by_adam(rate: float, eps: float = 1e-8) -> Callable[[Params], Params]:
    state: dict[str, Any] = {"t": 0, "m": {}, "v": {}}

    def change(g: Params) -> Params:
        state["t"] += 1
        found = {}
        for name, array in g.items():
            m = state["m"][name] = 0.9 * state["m"].get(name, 0) + 0.1 * array
            v = state["v"][name] = 0.999 * state["v"].get(name, 0) + 0.001 * array**2
            mean, square = m / (1 - 0.9 ** state["t"]), v / (1 - 0.999 ** state["t"])
            found[name] = -rate * mean / (np.sqrt(square) + eps)
        return found

    return change


OPTIMISERS = {"sgd": by_sgd, "rmsprop": by_rmsprop, "adam": by_adam}
