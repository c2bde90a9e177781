"""The vanilla network on a GPU: one unit's step forward, one back; the rest is `recurrent`'s."""

from numpy.typing import NDArray

from seqlab.cells import ACTIVATIONS
from seqlab.cells import rnn as algebra
from seqlab.kernels.cuda.math import sigmoid_pair, tanh
from seqlab.kernels.cuda.recurrent import Recurrent, Saved, Weights
from seqlab.kernels.cuda.target import device

TANH, RELU, SIGMOID, IDENTITY = range(len(ACTIVATIONS))
_tanh, _relu, _sigmoid, _identity = algebra.make_activations(device, sigmoid_pair, tanh)


@device
def _step(z, k, state, j, activation):
    total = z[j] + k[0, j]
    if activation == TANH:
        h, slope = _tanh(total)
    elif activation == RELU:
        h, slope = _relu(total)
    elif activation == SIGMOID:
        h, slope = _sigmoid(total)
    else:
        h, slope = _identity(total)
    state[0, j], k[0, j] = h, slope


@device
def _step_back(state, k, dz, j):
    dz[j] = state[0, j] * k[0, j]
    state[0, j] = state.dtype.type(0)


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
