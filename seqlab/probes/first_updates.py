"""The first updates of a network in training: its parameters' gradients, and how far each moves."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.training_checklist import Trained
from seqlab.probes.states import Tensor


class FirstUpdates:
    """What is seen of modules' parameters at as many as `count` updates.

    Numbers stay on the parameters' device until `seen`: to read them would wait for it.
    """

    def __init__(self, count: int) -> None:
        self._left = count
        self._gradients: list[dict[str, Any]] = []
        self._ratios: list[dict[str, Any]] = []
        self._before: dict[str, Any] = {}  # copies from before the last update that is looked at

    def before_update(self, modules: Sequence[Any]) -> None:
        """Gradients are there, and are not clipped yet."""
        self.after_update(modules)
        if self._left == 0:
            return
        self._left -= 1
        named = _named(modules)
        self._gradients.append(
            {name: _log_norm(p.grad) for name, p in named.items() if p.grad is not None}
        )
        self._before = {name: p.detach().clone() for name, p in named.items() if p.ndim > 1}

    def after_update(self, modules: Sequence[Any]) -> None:
        """The parameters are those after the last update, or its like: the next ones' before."""
        if self._before:
            now = _named(modules)
            self._ratios.append(
                {
                    name: _log_norm(now[name].detach() - old) - _log_norm(old)
                    for name, old in self._before.items()
                    if name in now
                }
            )
        self._before = {}

    def seen(self) -> Trained:
        """Of one network."""
        return Trained(log_gradient=_rows(self._gradients), log_ratio=_rows(self._ratios))


def _named(modules: Sequence[Any]) -> dict[str, Any]:
    """The parameters of the first module, which has the others, that are trained."""
    named = (pair for module in modules[:1] for pair in module.named_parameters())
    return {name: p for name, p in named if p.requires_grad and p.numel()}


def _log_norm(tensor: Tensor) -> Tensor:
    """ln of a norm, of which the square may be beyond the range, on the tensor's device."""
    import torch

    values = tensor.coalesce().values() if tensor.is_sparse else tensor
    values = values.detach().to(torch.promote_types(values.dtype, torch.float32))
    largest = values.abs().max()
    log = largest.log() + torch.linalg.vector_norm(values / largest).log()
    return torch.where(largest == 0, -math.inf, log)


def _rows(found: Sequence[dict[str, Any]]) -> dict[str, NDArray]:
    """(1, updates) by name, nan where there was none."""
    names = dict.fromkeys(name for one in found for name in one)
    return {
        name: np.array([[float(one[name]) if name in one else math.nan for one in found]])
        for name in names
    }
