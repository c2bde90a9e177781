"""The vanilla (Elman) network: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh).

Source: Elman 1990; parameters, names and layouts are those of `torch.nn.RNN`, phi one of tanh,
relu, sigmoid, identity. relu's slope at its kink is 0, as in PyTorch. The slopes of tanh and
sigmoid come from z with the exponential that is at hand, never from h: 1 - h^2 is zero in a
saturated unit, whose true slope is small. NaN, which overflow leaves behind, stays NaN.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import (
    Cell,
    ClosedForm,
    Cost,
    Draw,
    Gates,
    Lab,
    Observed,
    Parameters,
    Sizes,
    Theory,
)
from seqlab.cells.draws import GATED_INITS, draw_gated, gated_shapes, gated_sizes
from seqlab.cells.recurrent import bias_of, block, sums, undriven
from seqlab.numbers.theory import mean_field, spectral_rate

ACTIVATIONS = ("tanh", "relu", "sigmoid", "identity")
_STEPS = 1 << 12  # of a drive that are projected at once
SLOPE_AT_ORIGIN = {"tanh": 1.0, "relu": 0.0, "identity": 1.0}  # where phi(0) = 0


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


def rate(seen: Observed) -> float:
    """ln of the spectral radius where the Jacobian is the same at every step, else mean field.

    It is W_hh in a linear network, and phi'(0) W_hh in one that rests at the origin: phi(0) = 0,
    no input, no bias. tanh is critical there at a radius of 1; relu's slope is 0, and the rate
    -inf. Mean field takes the variances of the drawn weights and of what they are driven with; of
    one's own weights it knows nothing, nor of numbers beyond the range of floats: nan.
    """
    weight, phi = block(seen.params, 0), seen.activation or "tanh"
    if phi == "identity":
        return spectral_rate(weight)
    bias = bias_of(seen.params)
    if phi in SLOPE_AT_ORIGIN and undriven(seen) and not bias.any():
        return spectral_rate(SLOPE_AT_ORIGIN[phi] * weight)
    sw2 = float(np.mean(np.square(weight)) * len(weight))
    s02 = _mean_square(seen.x, seen.params["weight_ih"].astype(float), bias)
    if not (seen.drawn and math.isfinite(sw2) and math.isfinite(s02)):
        return math.nan
    field = mean_field(phi, sw2, s02)
    return math.nan if field is None else field.rate


def _mean_square(x: NDArray, weight: NDArray, bias: NDArray) -> float:
    """Of W x_t + b over steps, sequences and units, some steps at a time: of a long drive all would
    be larger than what the run itself keeps."""
    total = 0.0
    for first in range(0, len(x), _STEPS):
        total += float(np.sum(np.square(x[first : first + _STEPS] @ weight.T + bias)))
    return total / (len(x) * x.shape[1] * len(bias))


def gates(params: Parameters, x: NDArray, h: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    """See Cell: the units."""
    into, within = sums(params, x, h)
    return {"hidden": into + within}, carried


def orthogonal_network(size: int, gain: float) -> Parameters:
    """A network whose recurrent matrix is `gain` times an orthogonal one, with no input."""
    params = draw(np.random.default_rng(22), Sizes(size, 1), Draw("orthogonal", gain))
    return params | {n: np.zeros_like(params[n]) for n in ("weight_ih", "bias_ih", "bias_hh")}


def _linear_chain(lab: Lab) -> float:
    steps, gain = 10_000, 0.5
    params, x = orthogonal_network(16, gain), np.zeros((steps, 1, 1))
    curve = lab.attenuation("rnn", params, x, [steps], "identity").log_norm[0, 0]
    return float(np.abs(curve - np.arange(steps + 1) * np.log(gain)).max())


CELL = Cell(
    name="rnn",
    options=frozenset({"activation", "init", "gain"}),
    parts=("hidden",),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    draw=draw,
    theory=Theory(rate),
    cost=Cost(blocks=1, exponentials=1),
    inits=GATED_INITS,
    gates=gates,
    closed_forms=(ClosedForm("linear rnn, tau ln g to lag 10,000", 1e-8, _linear_chain),),
)
