"""The sLSTM on a GPU: one unit's step forward, one back; the rest is `recurrent`'s."""

from seqlab.cells import slstm as algebra
from seqlab.kernels.cuda.math import exp_near_zero, sigmoid_pair, softplus, tanh
from seqlab.kernels.cuda.recurrent import Recurrent
from seqlab.kernels.cuda.target import device

_unit_step = algebra.make_step(device, sigmoid_pair, tanh, exp_near_zero, softplus)
_unit_adjoint = device(algebra.adjoint)


@device
def _step(z, k, state, j, code):
    n = k.shape[1]
    a_i, a_f = z[j] + k[0, j], z[n + j] + k[1, j]
    a_z, a_o = z[2 * n + j] + k[2, j], z[3 * n + j] + k[3, j]
    state[0, j], state[1, j], state[2, j], state[3, j], factors = _unit_step(
        a_i, a_f, a_z, a_o, state[1, j], state[2, j], state[3, j]
    )
    k[0, j], k[1, j], k[2, j], k[3, j] = factors[0], factors[1], factors[2], factors[3]
    k[4, j], k[5, j], k[6, j], k[7, j] = factors[4], factors[5], factors[6], factors[7]
    k[8, j], k[9, j], k[10, j] = factors[8], factors[9], factors[10]


@device
def _step_back(state, k, dz, j):
    n = k.shape[1]
    dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[1, j], state[2, j] = _unit_adjoint(
        state[0, j],
        state[1, j],
        state[2, j],
        *(k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]),
        *(k[6, j], k[7, j], k[8, j], k[9, j], k[10, j]),
    )
    state[0, j] = state.dtype.type(0)


_cell = Recurrent(algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
