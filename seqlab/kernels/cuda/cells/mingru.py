"""The minimal GRU on a GPU: one unit's step forward, one back; the rest is `diagonal_units`'s."""

from seqlab.cells import mingru as algebra
from seqlab.kernels.cuda.diagonal_units import DiagonalUnits
from seqlab.kernels.cuda.math import sigmoid_pair
from seqlab.kernels.cuda.target import device

_unit_step = algebra.make_step(device, sigmoid_pair)
_unit_adjoint = device(algebra.adjoint)


@device
def _step(k, h, j):
    after, carry, _, _ = _unit_step(k[0, j], k[1, j], h)
    return after, carry


@device
def _save_step(k, h, j):
    after, k[0, j], k[1, j], k[2, j] = _unit_step(k[0, j], k[1, j], h)
    return after


@device
def _step_back(dh, k, dz, j):
    dz[j], dz[k.shape[1] + j], _ = _unit_adjoint(dh, k[0, j], k[1, j], k[2, j])


_cell = DiagonalUnits(
    algebra.LAYERS, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _save_step, _step_back
)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
