"""Gradients against differences of what they are gradients of."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

STEP = 1e-6  # of a central difference: its error is near STEP^2, its rounding near 1e-16/STEP


def error_along(
    loss: Callable[[NDArray], float], at: NDArray, gradient: NDArray, rng: np.random.Generator
) -> float:
    """The error of a gradient along a random direction, relative to the norms of both."""
    direction = rng.standard_normal(at.shape)
    values = [loss(at + step * direction) for step in (STEP, -STEP)]
    numeric = (values[0] - values[1]) / (2 * STEP)
    size = np.linalg.norm(gradient) * np.linalg.norm(direction)
    return float(abs(numeric - np.sum(gradient * direction)) / size)
