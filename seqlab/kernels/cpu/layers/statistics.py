"""What is seen of one layer's activations: sums over its units and rows."""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.memory import aligned

FAR = 1000  # the furthest power of two by which activations are scaled before they are squared


@inlined_apart
def _largest(h, rows):
    """The largest of the first rows of h (units, C), in absolute value."""
    largest = 0.0
    for j in range(h.shape[0]):
        for p in range(rows):
            largest = max(largest, abs(float(h[j, p])))
    return largest


@inlined_apart
def _squares(h, rows, factor, norms):
    """Sums of squares of each of the first rows of h (units, C), times a factor, float64."""
    for p in range(rows):
        norms[p] = 0
    for j in range(h.shape[0]):
        for p in range(rows):
            scaled = float(h[j, p]) * factor
            norms[p] += scaled * scaled


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
        # Squares leave the range of numbers long before the activations do.
        largest = _largest(part, rows)
        shift = math.frexp(largest)[1] if 0 < largest < math.inf else 0
        shift = min(max(shift, -FAR), FAR)
        factor = math.ldexp(1.0, -shift)
        _squares(part, rows, factor, norms)
        total = 0.0
        for p in range(rows):
            total += norms[p]
            norms[p] = factor / math.sqrt(norms[p]) if norms[p] > 0 else math.nan
        mean = total / (rows * at.units)
        found[m, 0] = (-math.inf if mean == 0 else math.log(mean)) + 2 * shift * math.log(2.0)
        alike = _square_of_sum(part, rows, norms) - rows
        found[m, 1] = alike / (rows * (rows - 1)) if rows > 1 else math.nan


@compiled
def _slopes(k, s, rows, least, found, scratch, begin, end):
    for m in range(begin, end):
        zeros, dead, on, flat, unknown = 0, 0, 0, 0, 0
        units = k.shape[2]
        for j in range(units):
            none = 0
            for p in range(rows):
                slope = abs(k[m, s, j, p])
                none += int(slope == 0)
                flat += int(slope < least)
                unknown += int(slope != slope)
            zeros += none
            dead += int(none == rows)
            on += int(none == 0)
        found[m, 0] = zeros / (units * rows)
        found[m, 1] = dead / units
        found[m, 2] = on / units
        found[m, 3] = flat / (units * rows)
        if unknown > 0:  # a NaN is neither zero nor not
            for i in range(4):
                found[m, i] = math.nan


def state_statistics(state: View, rows: int) -> NDArray:
    """(M, 2): ln of the mean square of the activations, and the mean cosine of two rows."""
    found = np.empty((len(state.array), 2))
    arrays = (state.array, state.place, rows, found)
    share(_state, len(found), lambda: aligned((rows,), np.float64), *arrays, operations=state.size)
    return found


def slope_statistics(slopes: View, rows: int, least: float) -> NDArray:
    """(M, 4) shares: of slopes that are zero; of units whose slope is zero for every row, and is
    for none; of slopes under `least`."""
    found = np.empty((len(slopes.array), 4))
    arrays = (slopes.array, slopes.s, rows, least, found)
    share(_slopes, len(found), tuple, *arrays, operations=slopes.size)
    return found
