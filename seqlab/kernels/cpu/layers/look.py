"""What is seen of one layer's activations: sums over its units and rows."""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.memory import aligned


@inlined_apart
def _squares(h, rows, norms):
    """Sums of squares of each of the first rows of h (units, C), float64."""
    for p in range(rows):
        norms[p] = 0
    for j in range(h.shape[0]):
        for p in range(rows):
            norms[p] += float(h[j, p]) * float(h[j, p])


@inlined_apart
def _square_of_sum(h, rows, factors):
    """Of the sum of the rows, each times its factor."""
    total = 0.0
    for j in range(h.shape[0]):
        along = 0.0
        for p in range(rows):
            along += h[j, p] * factors[p]
        total += along * along
    return total


@compiled
def _state(h, at, rows, found, norms, begin, end):
    for m in range(begin, end):
        part = h[m, at.s, at.first : at.first + at.units]
        _squares(part, rows, norms)
        total = 0.0
        for p in range(rows):
            total += norms[p]
            norms[p] = 1 / math.sqrt(norms[p])
        found[m, 0] = total / (rows * at.units)
        alike = _square_of_sum(part, rows, norms) - rows
        found[m, 1] = alike / (rows * (rows - 1)) if rows > 1 else math.nan


@compiled
def _slopes(k, s, rows, least, found, scratch, begin, end):
    for m in range(begin, end):
        zeros, dead, on, flat = 0, 0, 0, 0
        units = k.shape[2]
        for j in range(units):
            none = 0
            for p in range(rows):
                slope = abs(k[m, s, j, p])
                none += int(slope == 0)
                flat += int(slope < least)
            zeros += none
            dead += int(none == rows)
            on += int(none == 0)
        found[m, 0] = zeros / (units * rows)
        found[m, 1] = dead / units
        found[m, 2] = on / units
        found[m, 3] = flat / (units * rows)


def look_at_state(state: View, rows: int) -> NDArray:
    """(M, 2): the mean square of the activations, and the mean cosine of two rows."""
    found = np.empty((len(state.array), 2))
    arrays = (state.array, state.place, rows, found)
    share(_state, len(found), lambda: aligned((rows,), np.float64), *arrays, operations=state.size)
    return found


def look_at_slopes(slopes: View, rows: int, least: float) -> NDArray:
    """(M, 4) shares: of slopes that are zero; of units whose slope is zero for every row, and is
    for none; of slopes under `least`."""
    found = np.empty((len(slopes.array), 4))
    arrays = (slopes.array, slopes.s, rows, least, found)
    share(_slopes, len(found), tuple, *arrays, operations=slopes.size)
    return found
