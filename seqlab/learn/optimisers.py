"""What turns a gradient into a change of the numbers that it is of."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SGD_RATE = 0.01
ADAM_RATE, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8  # what its authors recommend


class Optimiser(Protocol):
    """One array's, which is told its gradients in turn."""

    def change(self, gradient: NDArray) -> NDArray:
        """What is added to the array, in the gradient's dtype."""
        ...


class Sgd:
    """Gradient descent without momentum: -rate g."""

    def __init__(self, rate: float = SGD_RATE) -> None:
        self._rate = rate

    def change(self, gradient: NDArray) -> NDArray:
        return -self._rate * gradient


class Adam:
    """Kingma & Ba 2015, Algorithm 1."""

    def __init__(
        self, rate: float = ADAM_RATE, betas: tuple[float, float] = BETAS, eps: float = EPS
    ) -> None:
        self._rate, self._betas, self._eps = rate, betas, eps
        self._step = 0
        self._mean: NDArray | None = None
        self._square: NDArray | None = None

    def change(self, gradient: NDArray) -> NDArray:
        if self._mean is None or self._square is None:
            self._mean, self._square = np.zeros_like(gradient), np.zeros_like(gradient)
        self._step += 1
        for moment, beta, power in zip(
            (self._mean, self._square), self._betas, (1, 2), strict=True
        ):
            moment *= beta
            moment += (1 - beta) * gradient**power
        mean, square = (
            moment / (1 - beta**self._step)
            for moment, beta in zip((self._mean, self._square), self._betas, strict=True)
        )
        return -self._rate * mean / (np.sqrt(square) + self._eps)


OPTIMISERS: dict[str, Callable[[], Optimiser]] = {"SGD": Sgd, "Adam": Adam}
