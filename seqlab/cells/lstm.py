"""Long short-term memory, in PyTorch's form (gates i, f, g, o; no peepholes).

    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o),   g = tanh(z_g)
    c_t = f c_{t-1} + i g,   h_t = o tanh(c_t),   z = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers, Schmidhuber & Cummins 2000;
layouts of `torch.nn.LSTM`. The adjoint step is linear in the adjoint with six coefficients a
unit, which the forward pass leaves behind, so that the backward pass evaluates no nonlinearity.

A gate comes as the pair (sigmoid(z), sigmoid(-z)) and a squashed value as (tanh(z), tanh'(z)):
1 - s and 1 - t^2 are zero in a saturated unit, where the true numbers are small.
"""

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes
from seqlab.cells.draws import draw_gated, gated_shapes, gated_sizes, set_gate_bias
from seqlab.errors import InputError

GATES = 4
INPUT_GATE, FORGET_GATE, CANDIDATE, OUTPUT_GATE = range(GATES)
# The coefficients' order; the first three are also the means that the decay theory asks for.
COEFFICIENTS = ("output_slope", "carry", "candidate", "input_gate", "forget_gate", "output_gate")
NEVER_ZERO = (0, 1, 2)  # those that no finite state makes zero


def cell_state(i, f, g, c):
    """c_t from the gates and c_{t-1}."""
    return f[0] * c + i[0] * g[0]


def coefficients(i, f, g, o, c, squashed):
    """The six factors of the adjoint step, in the order of COEFFICIENTS; `c` is c_{t-1},
    `squashed` the pair of tanh(c_t)."""
    return (
        o[0] * squashed[1],
        f[0],
        i[0] * g[1],
        g[0] * i[0] * i[1],
        c * f[0] * f[1],
        squashed[0] * o[0] * o[1],
    )


def adjoint(dh, dc, output_slope, carry, candidate, input_gate, forget_gate, output_gate):
    """One unit's step back: (dL/dh_t, dL/dc_t) -> dL/dz_i, dL/dz_f, dL/dz_g, dL/dz_o, dL/dc_{t-1}.

    dL/dh_{t-1} then is W_hh^T dL/dz.
    """
    dc_all = dc + dh * output_slope
    return (
        dc_all * input_gate,
        dc_all * forget_gate,
        dc_all * candidate,
        dh * output_gate,
        dc_all * carry,
    )


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    return gated_shapes(GATES, sizes)


def state_shape(sizes: Sizes) -> tuple[int, int]:
    """The state of one sequence: (h, c), (2, H)."""
    return (2, sizes.hidden)


def pack(initial: tuple[NDArray, NDArray]) -> NDArray:
    """PyTorch's (h, c), (..., H) each -> (..., 2, H)."""
    return np.stack(initial, axis=-2)


def unpack(state: NDArray) -> tuple[NDArray, NDArray]:
    """(..., 2, H) -> (h, c)."""
    return state[..., 0, :], state[..., 1, :]


def draw(rng: np.random.Generator, sizes: Sizes, how: Draw) -> Parameters:
    """Draw one network.

    `forget_bias="chrono"` draws b_f = ln U(1, T-1) and sets b_i = -b_f, T = steps
    (Tallec & Ollivier 2018, eq. 16). Raises InputError when T leaves that interval empty.
    """
    params = draw_gated(rng, sizes, how, GATES)
    if how.forget_bias == "chrono":
        if how.steps < 3:
            raise InputError(f"forget_bias: chrono needs steps of at least 3, not {how.steps}")
        bias = np.log(rng.uniform(1.0, how.steps - 1.0, sizes.hidden))
        set_gate_bias(params, FORGET_GATE, sizes.hidden, bias)
        set_gate_bias(params, INPUT_GATE, sizes.hidden, -bias)
    elif how.forget_bias is not None:
        set_gate_bias(params, FORGET_GATE, sizes.hidden, float(how.forget_bias))
    return params


CELL = Cell(
    name="lstm",
    options=frozenset({"init", "gain", "forget_bias"}),
    parts=("hidden", "cell"),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    pack=pack,
    unpack=unpack,
    draw=draw,
    forget_gate="forget",
    chrono=True,
)
