"""What is asked of autograd's graph: where a gradient comes by first, and what it is there.

Places are held as edges of the graph, not as tensors: a tensor that a module changes in place
afterwards stands for another place.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from seqlab.probes.states import Tensor


def places_of(tensors: Iterable[Tensor]) -> list[Any]:
    """Where the tensors, which require gradients, are in the graph now."""
    from torch.autograd.graph import get_gradient_edge

    return [get_gradient_edge(tensor) for tensor in tensors]


def pulled_back(
    sent: Sequence[Tensor], outputs: Sequence[Any], inputs: Sequence[Any]
) -> list[Tensor | None]:
    """What comes back to places from gradients that are sent into others; None where nothing."""
    import torch

    return list(
        torch.autograd.grad(outputs, inputs, list(sent), retain_graph=True, allow_unused=True)
    )


class Reach:
    """To which of some numbered places a gradient comes first."""

    def __init__(self) -> None:
        # By node of the graph: the least number that is reached from it without another between.
        self._numbers: dict[Any, int | None] = {}

    def mark(self, places: Iterable[Any], number: int) -> None:
        for place in places:
            self._numbers[place.node] = number

    def first(self, tensors: Iterable[Tensor]) -> int | None:
        """The least number that a gradient reaches first from the tensors; None if it reaches none.

        A depth-first walk over the graph; every node of it is seen once in a lifetime.
        """
        numbers = self._numbers
        roots = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
        pending = [(node, False) for node in roots]
        while pending:
            node, done = pending.pop()
            if node in numbers and not done:
                continue
            nodes = [each for each, _ in node.next_functions if each is not None]
            if done:
                numbers[node] = _least(numbers[each] for each in nodes)
                continue
            pending.append((node, True))
            pending += [(each, False) for each in nodes if each not in numbers]
        return _least(numbers[node] for node in roots)


def _least(numbers: Iterable[int | None]) -> int | None:
    return min((number for number in numbers if number is not None), default=None)
