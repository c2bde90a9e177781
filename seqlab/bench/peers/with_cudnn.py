"""PyTorch's layers on a GPU, which cuDNN runs; an ensemble is one layer after the other.

DEVICE is where they run: the same code on the CPU is how it is tested without a GPU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from seqlab.bench.peers.with_torch import layer_of, run_layer
from seqlab.bench.problems import Gradients, named
from seqlab.bench.race import Answer, Side
from seqlab.errors import InputError

DEVICE = "cuda"


def _finished(call: Callable[[], Any]) -> Callable[[], Any]:
    """`call`, back when the GPU is done."""

    def finished() -> Any:
        result = call()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return result

    return finished


def gradients(problem: Gradients) -> list[Side]:
    """A layer for each network, and autograd for all gradients; arrays are there beforehand."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise InputError("peers: cudnn needs a PyTorch that finds a GPU; without it: --peers ''")
    single = problem.x.ndim == 3

    def there(array: Any) -> Tensor:
        tensor = torch.tensor(array, device=DEVICE)
        return tensor[None] if single else tensor

    params = {name: there(array) for name, array in problem.params.items()}
    x, grad_output = there(problem.x), there(problem.grad_output)
    initial = tuple(there(part) for part in problem.initial)
    networks = range(len(x))
    layers = [
        layer_of(problem.cell, {n: v[m] for n, v in params.items()}).to(DEVICE) for m in networks
    ]
    names = [name.removesuffix("_l0") for name, _ in layers[0].named_parameters()]
    leaves = [
        tuple(tensor[m].detach().clone().requires_grad_() for tensor in (x, *initial))
        for m in networks
    ]

    def call() -> list[tuple[Tensor, ...]]:
        return [
            torch.autograd.grad(
                run_layer(layers[m], leaves[m][0], leaves[m][1:]),
                [*layers[m].parameters(), *leaves[m]],
                grad_output[m],
            )
            for m in networks
        ]

    def answer(result: list[tuple[Tensor, ...]]) -> Answer:
        arrays = [torch.stack(parts).cpu().numpy() for parts in zip(*result, strict=True)]
        arrays = [array[0] for array in arrays] if single else arrays
        found = dict(zip(names, arrays, strict=False))
        return named(found, arrays[len(names)], arrays[len(names) + 1 :])

    return [Side("cudnn", _finished(call), answer, problem.work)]
