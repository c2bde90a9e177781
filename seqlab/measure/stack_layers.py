"""What is seen of a stack layer by layer: its activations on the way forward, its parameters'
gradients on the way back."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.contract import Saved, StackKernels
from seqlab.kernels.layout import Emitted
from seqlab.layers.stack import Stack
from seqlab.numbers.activations import find_activation

FLAT = 0.05  # of the steepest slope: under it an activation counts as saturated
_STATES = ("log_mean_square", "cosine")
_SLOPES = ("zero_units", "dead_units", "always_on_units", "saturated_units")


class Activations:
    """Gathers what the quantities by layer need while the forward pass runs."""

    def __init__(self, stack: Stack, kernels: StackKernels) -> None:
        self._kernels = kernels
        self._least = FLAT * find_activation(stack.activation).steepest
        self._states: list[NDArray] = []
        self._slopes: list[NDArray] = []

    def observe(self, saved: Saved) -> None:
        """Look at one segment."""
        states, slopes = self._kernels.layer_statistics(saved, self._least)
        self._states.append(states[:, 1:] if self._states else states)
        self._slopes.append(slopes)

    def by_lag(self, lags: NDArray) -> dict[str, NDArray]:
        """Each quantity (M, lags), of the layer that lies so far before the loss; the inputs, at
        the last lag, come from no activation."""
        states, slopes = (np.concatenate(x, axis=1) for x in (self._states, self._slopes))
        unseen = np.full((len(slopes), 1, slopes.shape[2]), np.nan)
        slopes = np.concatenate([unseen, slopes], axis=1)
        found: dict[str, NDArray] = {}
        for names, table in ((_STATES, states), (_SLOPES, slopes)):
            backwards = table[:, ::-1][:, lags]
            found |= {name: backwards[:, :, i] for i, name in enumerate(names)}
        return found


class Norms(NamedTuple):
    """ln norms of dL/dW and dL/db (M, L) of all layers, from the loss back."""

    weight: NDArray
    bias: NDArray


class Gradients:
    """Gathers the gradients of a stack's parameters while a sweep runs, in logs: their norms, and
    for thresholds `clamps` those of entries clamped there.

    Kernels leave all `entries`, which clamps need, or norms alone.
    """

    def __init__(
        self, stack: Stack, networks: int, entries: bool, clamps: Sequence[float] = ()
    ) -> None:
        self._stack, self._entries, self._clamps = stack, entries, clamps
        shape = (networks, stack.depth)
        self._squares = np.zeros((2, *shape))
        self._exponent = np.zeros(shape)
        self._clamped = {clamp: np.full(shape, -np.inf) for clamp in clamps}
        self._changed = {clamp: np.zeros(networks, bool) for clamp in clamps}

    def observe(self, first: int, emitted: Emitted) -> None:
        """Look at one call, which went back to layer `first`."""
        values, exponent = emitted.values[:, :, 0], emitted.exponent[:, :, 0]
        for i in range(exponent.shape[1]):
            lag = self._stack.depth - 1 - (first + i)
            self._exponent[:, lag] = exponent[:, i]
            self._squares[:, :, lag] = self._of_layer(first + i, lag, values[:, i], exponent[:, i])

    def _of_layer(self, layer: int, lag: int, values: NDArray, exponent: NDArray) -> NDArray:
        """Sums of squares (2, M) of weights' and biases' gradients."""
        if not self._entries:
            return np.square(values.T.astype(float))
        for clamp in self._clamps:
            logs, changed = _clamped(values, exponent, clamp)
            self._clamped[clamp][:, lag] = logs
            self._changed[clamp] |= changed
        squares, place = np.zeros((2, len(values))), 0
        for one in self._stack.maps(layer):
            for kind, count in enumerate((one.outputs * one.inputs, one.outputs)):
                part = values[:, place : place + count].astype(float)
                squares[kind] += np.square(part).sum(axis=1)
                place += count
        return squares

    def norms(self) -> Norms:
        """Of every layer."""
        with np.errstate(divide="ignore"):
            logs = np.log(self._squares) / 2 + self._exponent * np.log(2.0)
        return Norms(*logs)

    def whole(self) -> NDArray:
        """ln norm (M,) of all parameters' gradients together."""
        return _joined(np.concatenate(self.norms(), axis=1))

    def clamped(self, clamp: float) -> tuple[NDArray, NDArray]:
        """The same after each entry was clamped, and which networks that changed."""
        return _joined(self._clamped[clamp]), self._changed[clamp]


def _joined(logs: NDArray) -> NDArray:
    """ln of the norm of vectors (M, n) of such ln norms, put together."""
    with np.errstate(invalid="ignore"):
        return np.logaddexp.reduce(2 * logs, axis=1) / 2


def _clamped(values: NDArray, exponent: NDArray, clamp: float) -> tuple[NDArray, NDArray]:
    """ln norm (M,) of values (M, n) * 2^exponent (M,) with each entry clamped, and whether any
    was."""
    with np.errstate(all="ignore"):
        sizes = np.abs(values.astype(float))
        limit = np.ldexp(clamp, np.clip(-exponent, -2000, 2000).astype(int))[:, None]
        changed = (sizes > limit).any(axis=1)
        # In units of the clamp where it acts: there its square may be beyond the range.
        clipped = np.where(sizes > 0, np.minimum(sizes / limit, 1.0), sizes)
        above = np.log(np.square(clipped).sum(axis=1)) / 2 + np.log(clamp)
        below = np.log(np.square(sizes).sum(axis=1)) / 2 + exponent * np.log(2.0)
    return np.where(changed, above, below), changed
