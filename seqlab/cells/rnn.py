"""The vanilla (Elman) network: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

Source: Elman 1990; parameters, names and layouts are those of `torch.nn.RNN`, phi one of tanh,
relu, sigmoid, identity. relu's slope at its kink is 0, as in PyTorch. The slopes of tanh and
sigmoid come from z with the exponential that is at hand, never from h: 1 - h^2 is zero in a
saturated unit, whose true slope is small. NaN, which overflow leaves behind, stays NaN.
"""

import numpy as np

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes
from seqlab.cells.draws import draw_gated, gated_shapes, gated_sizes

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")


def make_activations(compiled, sigmoid, tanh):
    """phi and its slope for each of ACTIVATIONS, for a backend: `compiled` compiles a function that
    its kernels call, `sigmoid` and `tanh` give (sigmoid(z), sigmoid(-z)) and (tanh(z), tanh'(z)).

    Zero and one come in z's own dtype: a literal would promote float32 to float64.
    """

    @compiled
    def hyperbolic(z):
        return tanh(z)

    @compiled
    def relu(z):
        zero, one = type(z)(0), type(z)(1)
        h = zero if z < zero else z
        return h, one if h > zero else h  # 0, or NaN

    @compiled
    def logistic(z):
        both = sigmoid(z)
        return both[0], both[0] * both[1]

    @compiled
    def identity(z):
        return z, type(z)(1)

    return hyperbolic, relu, logistic, identity


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    return gated_shapes(1, sizes)


def state_shape(sizes: Sizes) -> tuple[int, int]:
    """The state of one sequence: h alone, (1, H)."""
    return (1, sizes.hidden)


def draw(rng: np.random.Generator, sizes: Sizes, how: Draw) -> Parameters:
    """Draw one network."""
    return draw_gated(rng, sizes, how, gates=1)


CELL = Cell(
    name="rnn",
    options=frozenset({"activation", "init", "gain"}),
    parts=("hidden",),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    draw=draw,
)
