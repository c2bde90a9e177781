"""States at the borders of chunks, kept on the way forward or computed again on the way back."""

import math
from collections.abc import Callable, Sequence

from seqlab.probes.states import State, kept, tensors_of

_ROOM = 2**28  # bytes of states that are kept without a thought


def borders_of(lengths: Sequence[int], every: int) -> list[int]:
    """0 and every step at which some length has a lag that is a multiple of `every`, rising."""
    return sorted({0, *(t for n in lengths for t in range(n, -1, -every))})


class Trail:
    """Where all states fit into 256 MiB they are kept; else about the square root of their number
    is, and as many again are computed from the nearest one before, a second forward pass: states of
    4 KiB at 100,000 borders take 3 MiB."""

    def __init__(self, forward: Callable[..., State], borders: Sequence[int], state: State) -> None:
        self._forward, self._borders = forward, borders
        self._anchors = {0: kept(state)}
        self._near: dict[int, State] = {}
        self._stride = 1

    def run(self) -> State:
        """Go forward to the last border; its state."""
        chunks = len(self._borders) - 1
        state = self._from(0)
        for i in range(1, chunks + 1):
            state = self._forward(self._borders[i - 1], self._borders[i], state)
            if i == 1:
                size = sum(t.numel() * t.element_size() for t in tensors_of(state))
                self._stride = 1 if size * chunks <= _ROOM else math.isqrt(chunks)
            if i % self._stride == 0 and i < chunks:
                self._anchors[i] = kept(state)
        return state

    def at(self, i: int) -> State:
        """The state at border i; to be asked for in falling order, each once."""
        if i % self._stride == 0:
            self._near.clear()
            return self._anchors.pop(i)
        if i not in self._near:
            begin = i - i % self._stride
            state = self._from(begin)
            self._near.clear()
            for j in range(begin + 1, i + 1):
                state = self._forward(self._borders[j - 1], self._borders[j], state, False)
                self._near[j] = kept(state)
        return self._near.pop(i)

    def _from(self, i: int) -> State:
        """A copy to go on from, so that a module that changes its state in place changes no
        other."""
        return kept(self._anchors[i])
