"""The activations, a kernel each: only what is used is compiled."""

from functools import cache
from typing import Any

from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.math import decay, sigmoid, sigmoid_pair, softplus, tanh
from seqlab.kernels.cpu.math_normal import erf, normal
from seqlab.kernels.cpu.threads import share
from seqlab.layers.activation import Choice, Functions, make_activations

_ALGEBRAS = make_activations(
    inlined,
    Functions(sigmoid, sigmoid_pair, tanh, erf, softplus, decay, normal),
)

_WORK = 20  # multiply-adds that one activation takes as long as


@inlined_apart
def _clear(rows, first):
    """Columns of rows (n, C) from `first` on become zero."""
    for j in range(rows.shape[0]):
        for c in range(first, rows.shape[1]):
            rows[j, c] = 0


@cache
def activation_kernel(kind: int) -> Any:
    """The kernel of one of `seqlab.layers.activation.KINDS`: apply(z, slope, out, s, so, first,
    columns, a, scale, scratch, begin, end).

    For networks m from `begin` to `end`: out[m, so], from unit `first` on, is phi(z[m, s]), and
    slope[m, s] phi'(z[m, s]), z and slope (M, S, n, C), one array perhaps, and out (M, So, .., C),
    all contiguous. Columns from
    `columns` on are padding, which becomes zero whatever it was. `scratch` is idle.
    """
    phi = _ALGEBRAS[kind]

    @inlined_apart
    def over(z, slope, out, a, scale):
        # z and slope may be one array all the same: each number is read once, and what takes its
        # place depends on it, so that no order of the loop's reads and writes is wrong.
        for i in range(z.shape[0]):
            out[i], slope[i] = phi(z[i], a, scale)

    @compiled
    def apply(z, slope, out, s, so, first, columns, a, scale, scratch, begin, end):
        real, rows, width = z.dtype.type, z.shape[2], z.shape[3]
        count = rows * width
        for m in range(begin, end):
            values, slopes = out[m, so, first : first + rows], slope[m, s]
            over(
                z[m, s].reshape(count),
                slopes.reshape(count),
                values.reshape(count),
                real(a),
                real(scale),
            )
            _clear(values, columns)
            _clear(slopes, columns)

    return apply


def forward(choice: Choice, z: View, slope: NDArray, out: View, rows: int) -> None:
    """out = phi(z); phi'(z) goes to `slope` (M, S, units, C) at z's place, which may be z's own
    array."""
    arrays = (z.array, slope, out.array, z.s, out.s, out.first, rows, choice.a, choice.scale)
    kernel = activation_kernel(choice.kind)
    share(kernel, len(slope), tuple, *arrays, operations=_WORK * z.size)
