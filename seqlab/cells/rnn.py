"""The vanilla (Elman) network: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

Source: Elman 1990; parameters, names and layouts are those of `torch.nn.RNN`, phi one of tanh,
relu, sigmoid, identity. The slope phi' is written as a function of h = phi(z); relu's slope at
its kink is 0, as in PyTorch. `one` is 1 in the kernel's own dtype: a literal would promote
float32 to float64.
"""

import numpy as np

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes
from seqlab.cells.draws import draw_gated, gated_shapes, gated_sizes, pack_hidden, unpack_hidden

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")


def tanh_slope(h, one):
    """phi'(z) of tanh."""
    return one - h * h


def relu(z, one):
    """max(z, 0), NaN kept."""
    return z - z if z < one - one else z


def relu_slope(h, one):
    """phi'(z) of relu."""
    return one if h > one - one else one - one


def sigmoid_slope(h, one):
    """phi'(z) of the logistic function."""
    return h * (one - h)


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
