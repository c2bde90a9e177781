"""Clip rules inside the chain, on the joint adjoint of all tensors of a state."""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.probes.states import Tensor
from seqlab.rules import Rule
from seqlab.wording import refuse


class InChain:
    """A rule on adjoints direction x 2^exponent, `direction` (n,) float64 on the host.

    `of` (n,) says which sequence an entry belongs to: `step-norm` and `step-value` act on each
    sequence alone, as in `seqlab.backward`.
    """

    def __init__(self, rule: Rule, of: NDArray) -> None:
        self._rule, self._of, self._sequences = rule, of, int(of.max()) + 1
        self._mantissa, self._limit = math.frexp(rule.threshold)

    def act(self, direction: NDArray, exponent: int, lag: int) -> tuple[NDArray, int, int]:
        """What is handed to `lag`, from 1 up, after the rule, and in how many sequences it acted.

        What was clipped has the threshold's own exponent: in another one it might underflow.
        """
        if self._rule.kind == "truncate":
            if lag < 2 or (lag - 1) % int(self._rule.threshold):
                return direction, exponent, 0
            cut = np.unique(self._of[direction != 0]).size  # what has faded is not cut
            return np.zeros_like(direction), exponent, cut
        gap = exponent - self._limit
        with np.errstate(over="ignore", under="ignore"):
            threshold = np.ldexp(self._mantissa, -gap)
            if self._rule.kind == "step-value":
                beyond = np.abs(direction) > threshold
                fired = np.unique(self._of[beyond]).size
                clipped = np.clip(np.ldexp(direction, gap), -self._mantissa, self._mantissa)
            else:
                norms = np.sqrt(np.bincount(self._of, direction * direction, self._sequences))
                over = norms > threshold
                fired = int(over.sum())
                factors = self._mantissa / np.where(over, norms, 1.0)
                unclipped = np.ldexp(direction, np.where(over[self._of], 0, gap))
                clipped = np.where(over[self._of], direction * factors[self._of], unclipped)
        return (clipped, self._limit, fired) if fired else (direction, exponent, 0)


def sequences_of(tensors: list[Tensor], axis: int | None, sequences: int, rule: Rule) -> NDArray:
    """Which sequence each entry of a state's vector belongs to.

    `axis` is the tensors' axis of sequences; where it is None, the only axis with as many entries
    as there are `sequences`. Raises InputError where several have, or none.
    """
    of = []
    for tensor in tensors:
        place = axis
        if place is None and sequences > 1:
            places = [i for i, size in enumerate(tensor.shape) if size == sequences]
            if len(places) != 1:
                raise refuse(
                    "clip",
                    str(rule),
                    f"it acts on each sequence, and a state of shape {tuple(tensor.shape)} does "
                    f"not tell the {sequences} apart; probe one sequence",
                )
            place = places[0]
        form = [1] * tensor.dim()
        if place is not None:
            form[place] = tensor.shape[place]
        ids = np.arange(math.prod(form)).reshape(form)
        of.append(np.broadcast_to(ids, tuple(tensor.shape)).ravel())
    return np.concatenate(of)
