"""The minimal GRU on the CPU: one step over units forward, one back; the rest is
`diagonal_units`'s."""

from seqlab.cells import mingru as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.diagonal_units import DiagonalUnits
from seqlab.kernels.cpu.math import sigmoid_pair

_unit_step = algebra.make_step(inlined, sigmoid_pair)
_unit_adjoint = inlined(algebra.adjoint)


@inlined_apart
def _step(z, h, k):
    """z (2 H) and h_{t-1} -> h in place, k (3, H)."""
    n = h.shape[0]
    for j in range(n):
        h[j], k[0, j], k[1, j], k[2, j] = _unit_step(z[j], z[n + j], h[j])


@inlined_apart
def _step_back(dh, k, dz):
    """dL/dh_t (H) -> dL/dh_{t-1} in place, dz (2 H)."""
    n = dh.shape[0]
    for j in range(n):
        dz[j], dz[n + j], dh[j] = _unit_adjoint(dh[j], k[0, j], k[1, j], k[2, j])


_cell = DiagonalUnits(
    algebra.LAYERS, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back
)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
