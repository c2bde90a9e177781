"""The LSTM on a GPU: one unit's step forward, one back; the rest is `recurrent`'s."""

from seqlab.cells import lstm as algebra
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Recurrent
from seqlab.kernels.cuda.target import device

_unit_step = algebra.make_step(device, sigmoid_pair, tanh)
_unit_adjoint = device(algebra.adjoint)


@device
def _step(z, k, state, j, code):
    n = k.shape[1]
    z_i, z_f = z[j] + k[0, j], z[n + j] + k[1, j]
    z_g, z_o = z[2 * n + j] + k[2, j], z[3 * n + j] + k[3, j]
    state[0, j], state[1, j], factors = _unit_step(z_i, z_f, z_g, z_o, state[1, j])
    k[0, j], k[1, j], k[2, j] = factors[0], factors[1], factors[2]
    k[3, j], k[4, j], k[5, j] = factors[3], factors[4], factors[5]


@device
def _step_back(state, k, dz, j):
    n = k.shape[1]
    dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[1, j] = _unit_adjoint(
        state[0, j], state[1, j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]
    )
    state[0, j] = state.dtype.type(0)


_cell = Recurrent(algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
