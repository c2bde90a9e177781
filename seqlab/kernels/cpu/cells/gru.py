"""The GRU on the CPU: one step over units forward, one back; the rest is `recurrent`'s.

The reset gate multiplies the recurrent part m of the candidate alone, so that the input part x_n is
kept apart.
"""

from seqlab.cells import gru as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import sigmoid_pair, tanh
from seqlab.kernels.cpu.recurrent import Recurrent

_unit_step = algebra.make_step(inlined, sigmoid_pair, tanh)
_unit_adjoint = inlined(algebra.adjoint)


@inlined_apart
def _step(code, z, xn, before, after, rest, k):
    """z (3H) with m last, xn (H), h_{t-1} -> h in `after`, k (5, H)."""
    n = after.shape[0]
    for j in range(n):
        after[j], factors = _unit_step(z[j], z[n + j], xn[j], z[2 * n + j], before[j])
        k[0, j], k[1, j], k[2, j] = factors[:3]
        k[3, j], k[4, j] = factors[3:]


@inlined_apart
def _step_back(dh, rest, k, dz, dz_input):
    """dL/dh_t (H) -> dz (3, H) of both products. The direct way back: through the update gate."""
    for j in range(dh.shape[0]):
        reset, update, m, x, dh[j] = _unit_adjoint(
            dh[j], k[0, j], k[1, j], k[2, j], k[3, j], k[4, j]
        )
        dz[0, j], dz[1, j], dz[2, j] = reset, update, m
        dz_input[0, j], dz_input[1, j], dz_input[2, j] = reset, update, x


_cell = Recurrent(
    algebra.GATES, len(algebra.COEFFICIENTS), algebra.NEVER_ZERO, _step, _step_back, apart=1
)
prepare, save, saved_width = _cell.prepare, _cell.save, _cell.saved_width
emitted_width, forward, backward = _cell.emitted_width, _cell.forward, _cell.backward
faintest, add_gradients = _cell.faintest, _cell.add_gradients
input_gradient = _cell.input_gradient
