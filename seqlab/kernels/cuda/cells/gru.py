"""The GRU on a GPU: one unit's step forward, one back; the rest is `recurrent`'s.

Pre-activations are r, z, m, x_n: the reset gate multiplies the recurrent part m of the candidate
alone, so that the input part x_n is kept apart.
"""

from seqlab.cells import gru as algebra
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Recurrent
from seqlab.kernels.cuda.target import device

_unit_step = algebra.make_step(device, sigmoid_pair, tanh)
_unit_adjoint = device(algebra.adjoint)


@device
def _step(z, k, state, j, code):
    n = k.shape[1]
    z_r, z_z, m = z[j] + k[0, j], z[n + j] + k[1, j], z[2 * n + j] + k[2, j]
    state[0, j], factors = _unit_step(z_r, z_z, k[3, j], m, state[0, j])
    k[0, j], k[1, j], k[2, j] = factors[0], factors[1], factors[2]
    k[3, j], k[4, j] = factors[3], factors[4]


@device
def _step_back(state, k, dz, j):
    n = k.shape[1]
    dz[j], dz[n + j], dz[2 * n + j], dz[3 * n + j], state[0, j] = _unit_adjoint(
        state[0, j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j]
    )


_cell = Recurrent(
    algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back, apart=1
)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
