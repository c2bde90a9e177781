"""The vanilla (Elman) network: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

Source: Elman 1990; parameters, names and layouts are those of `torch.nn.RNN`, phi one of tanh,
relu, sigmoid, identity. relu's slope at its kink is 0, as in PyTorch. The slopes of tanh and
sigmoid come from z with the exponential that is at hand, never from h: 1 - h^2 is zero in a
saturated unit, whose true slope is small. NaN, which overflow leaves behind, stays NaN. `one` is 1
in the kernel's own dtype: a literal would promote float32 to float64.
"""

import numpy as np

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes
from seqlab.cells.draws import draw_gated, gated_shapes, gated_sizes, pack_hidden, unpack_hidden

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")


def relu(z, one):
    """max(z, 0), NaN kept."""
    return one - one if z < one - one else z


def relu_slope(h, one):
    """phi'(z) of relu from h = phi(z), which is 0 or NaN where it is not positive."""
    return one if h > one - one else h


def sigmoid_slope(h):
    """phi'(z) of the logistic function from the pair (phi(z), phi(-z))."""
    return h[0] * h[1]


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
    pack=pack_hidden,
    unpack=unpack_hidden,
    draw=draw,
)
