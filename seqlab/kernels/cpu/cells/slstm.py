"""The sLSTM on the CPU: one step over units forward, one back; the rest is `recurrent`'s."""

from seqlab.cells import slstm as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import exp, sigmoid_pair, softplus, tanh
from seqlab.kernels.cpu.recurrent import Recurrent

_unit_step = algebra.make_step(inlined, sigmoid_pair, tanh, exp, softplus)
_unit_adjoint = inlined(algebra.adjoint)


@inlined_apart
def _step(code, z, z_input, before, after, rest, k):
    """z (4H), c, n and m in rest -> those in place, h in `after`, k (11, H)."""
    units, c, n, m = after.shape[0], rest[0], rest[1], rest[2]
    for j in range(units):
        after[j], c[j], n[j], m[j], factors = _unit_step(
            z[j], z[units + j], z[2 * units + j], z[3 * units + j], c[j], n[j], m[j]
        )
        k[0, j], k[1, j], k[2, j], k[3, j] = factors[:4]
        k[4, j], k[5, j], k[6, j], k[7, j] = factors[4:8]
        k[8, j], k[9, j], k[10, j] = factors[8:]


@inlined_apart
def _units_back(dh, dc, dn, k, dz):
    for j in range(dh.shape[0]):
        dz[0, j], dz[1, j], dz[2, j], dz[3, j], dc[j], dn[j] = _unit_adjoint(
            dh[j],
            dc[j],
            dn[j],
            *(k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]),
            *(k[6, j], k[7, j], k[8, j], k[9, j], k[10, j]),
        )
        dh[j] = 0


@inlined
def _step_back(dh, rest, k, dz, dz_input):
    """dL/dh_t (H), and in rest (2H) dL/dC_t and dL/dN_t -> dz (4, H). The direct way back: nothing
    to h, the carry to C and N."""
    units = dh.shape[0]
    _units_back(dh, rest[:units], rest[units:], k, dz)


_cell = Recurrent(algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
