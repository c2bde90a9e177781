"""Slopes of activations, which need no run: the largest anywhere, or at a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from seqlab.errors import InputError
from seqlab.numbers.activations import find_activation

REACH, POINTS = 20.0, 40_001  # of the grid that the largest slope is first looked for on


@dataclass(frozen=True)
class Slope:
    """|phi'(z)| of an activation at `at`, or the largest where that is None, over `of`."""

    activation: str
    at: float | None = None
    of: float = 1.0

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "Slope":
        """Raises InputError."""
        try:
            slope = cls(**given)
        except TypeError as error:
            raise InputError(f"slope: {error}") from error
        find_activation(slope.activation)
        return slope

    def value(self) -> float:
        """It, to rounding at a place and to 1e-12 for the largest."""
        phi = find_activation(self.activation)

        def size(z: float) -> float:
            return float(np.abs(phi.slope(np.array(z))))

        if self.at is not None:
            return size(self.at) / self.of
        grid = np.linspace(-REACH, REACH, POINTS)
        first = grid[np.abs(phi.slope(grid)).argmax()]
        step = 2 * REACH / (POINTS - 1)
        near = minimize_scalar(
            lambda z: -size(z), bounds=(first - step, first + step), options={"xatol": 1e-10}
        )
        return max(size(first), -float(near.fun)) / self.of
