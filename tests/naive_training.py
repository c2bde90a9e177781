"""Training of one network as the textbooks write it: a cell, a linear readout, one update."""

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
