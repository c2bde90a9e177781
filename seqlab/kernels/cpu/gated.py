"""What the recurrent cells share: saved arrays, projected input, sums of gradients over time."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.linalg import accumulate, copy, project
from seqlab.kernels.layout import Span, aligned

BLOCK = 16  # steps whose input is projected together


class Saved(NamedTuple):
    """What a forward segment leaves: `hidden` (M, S+1, B, H), before its first step and after
    each, and the adjoint's `coefficients` (M, S, B, C, H)."""

    hidden: NDArray
    coefficients: NDArray

    @property
    def output(self) -> NDArray:
        """The outputs of the segment, (M, S, B, H)."""
        return self.hidden[:, 1:]


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype, coefficients: int) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    return Saved(
        np.zeros((networks, steps + 1, sequences, sizes.hidden), dtype),
        aligned((networks, steps, sequences, coefficients, sizes.hidden), dtype),
    )


def saved_width(sizes: Sizes, coefficients: int) -> int:
    """Numbers that a forward step of one sequence saves."""
    return (coefficients + 1) * sizes.hidden


def transposed(weight: NDArray) -> NDArray:
    """(M, J, K) -> (M, K, J), contiguous and aligned."""
    networks, rows, columns = weight.shape
    out = aligned((networks, columns, rows), weight.dtype)
    out[:] = weight.swapaxes(1, 2)
    return out


@compiled
def project_block(x, m, step, first, last, weight, bias, gathered, out):
    """Project the input of up to BLOCK steps of sequences first..last: out (BLOCK * g, J)."""
    steps = min(BLOCK, x.shape[1] - step)
    group = last - first
    for s in range(steps):
        for b in range(group):
            copy(x[m, step + s, first + b], gathered[s * group + b])
    project(gathered, steps * group, weight, bias, out)


def flat(steps: NDArray) -> NDArray:
    """(M, n, B, ...) -> (M, n * B, ...), contiguous."""
    steps = np.ascontiguousarray(steps)
    return steps.reshape(len(steps), -1, *steps.shape[3:])


def add_gradients(
    dz_hidden: NDArray,
    dz_input: NDArray,
    factor: NDArray,
    saved: Saved,
    x: NDArray,
    span: Span,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the four parameter gradients in `out`.

    dz_hidden and dz_input (M, n, B, G*H) are the gradients of W_hh h + b_hh and of W_ih x + b_ih;
    factor (M, at least n*B) brings each to the sums' common scale.
    """
    here = slice(span.lo, span.hi)
    for dz, y, side in ((dz_hidden, saved.hidden, "hh"), (dz_input, x, "ih")):
        dz = flat(dz)
        scale = np.ascontiguousarray(factor[:, : dz.shape[1]])
        accumulate(dz, scale, flat(y[:, here]), out[f"weight_{side}"])
        out[f"bias_{side}"] += np.einsum("mn,mnj->mj", scale, dz)
