"""What goes number by number: slopes, and the sums of residual blocks."""

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.threads import share


@inlined_apart
def _times(g, slope, into):
    for i in range(into.shape[0]):
        for c in range(into.shape[1]):
            into[i, c] = g[i, c] * slope[i, c]


@inlined_apart
def _times_in_place(g, slope):
    for i in range(g.shape[0]):
        for c in range(g.shape[1]):
            g[i, c] *= slope[i, c]


@inlined_apart
def _scaled(h, factor, into):
    for i in range(into.shape[0]):
        for c in range(into.shape[1]):
            into[i, c] = factor * h[i, c]


@inlined_apart
def _add(h, factor, into):
    for i in range(into.shape[0]):
        for c in range(into.shape[1]):
            into[i, c] += factor * h[i, c]


@compiled
def _slopes(g, at, slope, s, into, to, same, scratch, begin, end):
    for m in range(begin, end):
        k = slope[m, s]
        for i in range(at.places):
            source = g[m, at.s + i, at.first : at.first + at.units]
            if same:
                _times_in_place(source, k)
            else:
                _times(source, k, into[m, to.s + i, to.first : to.first + to.units])


@compiled
def _combine(h, at, factor, into, to, keep, scratch, begin, end):
    scale = h.dtype.type(factor)
    for m in range(begin, end):
        for i in range(at.places):
            source = h[m, at.s + i, at.first : at.first + at.units]
            target = into[m, to.s + i, to.first : to.first + to.units]
            if keep:
                _add(source, scale, target)
            else:
                _scaled(source, scale, target)


def slopes(g: View, slope: NDArray, s: int, into: View) -> None:
    """into = g phi'(z), `slope` (M, S, units, C) at place s; `into` may be g."""
    same = into.array is g.array
    arrays = (g.array, g.place, slope, s, into.array, into.place, same)
    share(_slopes, len(slope), tuple, *arrays, operations=g.size)


def combine(h: View, factor: float, into: View, keep: bool) -> None:
    """into = factor h, added to what is there where `keep`."""
    arrays = (h.array, h.place, factor, into.array, into.place, keep)
    share(_combine, len(h.array), tuple, *arrays, operations=h.size)
