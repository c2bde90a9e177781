"""The vanilla network on the CPU: one step over units forward, one back; the rest is
`recurrent`'s."""

from numpy.typing import NDArray

from seqlab.cells import ACTIVATIONS
from seqlab.cells import rnn as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.math import sigmoid_pair, tanh
from seqlab.kernels.cpu.recurrent import Recurrent
from seqlab.kernels.cpu.recurrent_forward import Saved, Weights

TANH, RELU, SIGMOID, IDENTITY = range(len(ACTIVATIONS))
_tanh, _relu, _sigmoid, _identity = algebra.make_activations(inlined, sigmoid_pair, tanh)


@inlined_apart
def _step(activation, z, z_input, before, after, rest, k):
    """z (H) -> h = phi(z) in `after`, phi'(z) in k (1, H)."""
    slope = k[0]
    if activation == TANH:
        for j in range(after.shape[0]):
            after[j], slope[j] = _tanh(z[j])
    elif activation == RELU:
        for j in range(after.shape[0]):
            after[j], slope[j] = _relu(z[j])
    elif activation == SIGMOID:
        for j in range(after.shape[0]):
            after[j], slope[j] = _sigmoid(z[j])
    else:
        for j in range(after.shape[0]):
            after[j], slope[j] = _identity(z[j])


@inlined_apart
def _step_back(dh, rest, k, dz, dz_input):
    """dL/dh_t (H) -> dz (1, H). There is no direct way back."""
    for j in range(dh.shape[0]):
        dz[0, j] = dh[j] * k[0, j]
        dh[j] = 0


_cell = Recurrent(1, 1, (0,), _step, _step_back)
save, saved_width, emitted_width = _cell.save, _cell.saved_width, _cell.emitted_width
forward, backward = _cell.forward, _cell.backward
add_gradients, input_gradient = _cell.add_gradients, _cell.input_gradient


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    code = ACTIVATIONS.index(activation or "tanh")
    return _cell.prepare(params, activation)._replace(code=code)


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
    """The smallest slope of one sequence's step. None for relu, whose zeros are true."""
    return None if weights.code == RELU else _cell.faintest(weights, saved, m, step, b)
