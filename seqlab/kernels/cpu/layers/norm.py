"""Normalisation over the rows of each unit, or over the units of each row."""

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.memory import aligned
from seqlab.layers.norm import make_norm
from seqlab.layers.parts import Norm

_along, _back_along, _across, _back_across = make_norm(inlined_apart)
_WORK = 10  # passes over the numbers, in multiply-adds


@compiled
def _forward(batch, y, at, inverses, s, rows, eps, sums, begin, end):
    groups = inverses.shape[2]
    each = at.units // groups
    for m in range(begin, end):
        for group in range(groups):
            first = at.first + group * each
            part, scale = y[m, at.s, first : first + each], inverses[m, s, group]
            if batch:
                _along(part, scale, rows, eps)
            else:
                _across(part, scale, sums, rows, eps)


@compiled
def _back(batch, g, at, y, of, inverses, s, rows, eps, sums, begin, end):
    groups = inverses.shape[2]
    each = at.units // groups
    for m in range(begin, end):
        for loss in range(at.places):
            for group in range(groups):
                low, first = at.first + group * each, of.first + group * each
                adjoint, out = g[m, at.s + loss, low : low + each], y[m, of.s, first : first + each]
                scale = inverses[m, s, group]
                if batch:
                    _back_along(adjoint, out, scale, rows, eps)
                else:
                    _back_across(adjoint, out, scale, sums, rows, eps)


def inverses_shape(part: Norm, units: int, columns: int) -> tuple[int, int]:
    """Of the 1/scale of one layer of one network: by groups of units."""
    return (1, units) if part.batch else (part.groups, columns)


def forward(part: Norm, y: View, inverses: NDArray, s: int, rows: int) -> None:
    """Normalise in place, and keep 1/scale at place s of inverses (M, S, ..)."""
    share(
        _forward,
        len(y.array),
        lambda: _sums(y),
        part.batch,
        y.array,
        y.place,
        inverses,
        s,
        rows,
        part.eps,
        operations=_WORK * y.size,
    )


def back(part: Norm, g: View, y: View, inverses: NDArray, s: int, rows: int) -> None:
    """The adjoint of the normalised y to that of what it was, in place."""
    share(
        _back,
        len(y.array),
        lambda: _sums(y),
        part.batch,
        g.array,
        g.place,
        y.array,
        y.place,
        inverses,
        s,
        rows,
        part.eps,
        operations=_WORK * g.size,
    )


def _sums(y: View) -> NDArray:
    return aligned((2, y.array.shape[3]), y.array.dtype)
