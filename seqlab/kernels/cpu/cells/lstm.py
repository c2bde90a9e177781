"""The LSTM on the CPU: one step over units forward, one back; the rest is `recurrent`'s."""

from seqlab.cells import lstm as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import sigmoid_pair, tanh
from seqlab.kernels.cpu.recurrent import Recurrent

_unit_step = algebra.make_step(inlined, sigmoid_pair, tanh)
_unit_adjoint = inlined(algebra.adjoint)


@inlined_apart
def _step(code, z, z_input, before, after, rest, k):
    """z (4H), c in rest[0] -> c in place, h in `after`, k (6, H)."""
    n, c = after.shape[0], rest[0]
    for j in range(n):
        after[j], c[j], factors = _unit_step(z[j], z[n + j], z[2 * n + j], z[3 * n + j], c[j])
        k[0, j], k[1, j], k[2, j] = factors[:3]
        k[3, j], k[4, j], k[5, j] = factors[3:]


@inlined_apart
def _step_back(dh, dc, k, dz, dz_input):
    """dL/dh_t and dL/dc_t (H) -> dz (4, H). The direct way back: nothing to h, the carry to c."""
    for j in range(dh.shape[0]):
        dz[0, j], dz[1, j], dz[2, j], dz[3, j], dc[j] = _unit_adjoint(
            dh[j], dc[j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j], k[5, j]
        )
        dh[j] = 0


_cell = Recurrent(algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
