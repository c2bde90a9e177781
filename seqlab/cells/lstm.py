"""Long short-term memory, in PyTorch's form (gates i, f, g, o; no peepholes).

    i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o),   g = tanh(z_g)
    c_t = f c_{t-1} + i g,   h_t = o tanh(c_t),   z = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh

Source: Hochreiter & Schmidhuber 1997 with the forget gate of Gers, Schmidhuber & Cummins 2000;
layouts of `torch.nn.LSTM`. The adjoint step is linear in the adjoint with six coefficients a
unit, which the forward pass leaves behind, so that the backward pass evaluates no nonlinearity.

A gate comes as the pair (sigmoid(z), sigmoid(-z)) and a squashed value as (tanh(z), tanh'(z)):
1 - s and 1 - t^2 are zero in a saturated unit, where the true numbers are small.
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
from seqlab.cells.draws import (
    GATED_INITS,
    draw_gated,
    gated_shapes,
    gated_sizes,
    set_gate_bias,
)
from seqlab.cells.recurrent import bias_of, block, sigmoid, spread, sums, undriven
from seqlab.errors import InputError
from seqlab.numbers.theory import lstm_rate, spectral_rate

GATES = 4
INPUT_GATE, FORGET_GATE, CANDIDATE, OUTPUT_GATE = range(GATES)
# The coefficients' order.
COEFFICIENTS = ("output_slope", "carry", "candidate", "input_gate", "forget_gate", "output_gate")
NEVER_ZERO = (0, 1, 2)  # those that no finite state makes zero


def make_step(compiled, sigmoid, tanh):
    """One unit's step forward, for a backend: `compiled` compiles a function that its kernels call,
    `sigmoid` and `tanh` give the pairs above."""

    @compiled
    def cell_state(i, f, g, c):
        return f[0] * c + i[0] * g[0]

    @compiled
    def coefficients(i, f, g, o, c, squashed):
        return (
            o[0] * squashed[1],
            f[0],
            i[0] * g[1],
            g[0] * i[0] * i[1],
            c * f[0] * f[1],
            squashed[0] * o[0] * o[1],
        )

    @compiled
    def step(z_i, z_f, z_g, z_o, c):
        """h_t, c_t, and the factors of the adjoint step in the order of COEFFICIENTS; `c` is
        c_{t-1}."""
        i, f = sigmoid(z_i), sigmoid(z_f)
        g, o = tanh(z_g), sigmoid(z_o)
        after = cell_state(i, f, g, c)
        squashed = tanh(after)
        return o[0] * squashed[0], after, coefficients(i, f, g, o, c, squashed)

    return step


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


def draw(rng: np.random.Generator, sizes: Sizes, how: Draw) -> Parameters:
    """Draw one network.

    `forget_bias="chrono"` draws b_f = ln U(1, T-1) and sets b_i = -b_f, T = steps
    (Tallec & Ollivier 2018, eq. 16). Without one `keras` sets b_f = 1 (its unit_forget_bias, after
    Jozefowicz et al. 2015), unless `input_scale` makes all biases zero. Raises InputError when T
    leaves chrono's interval empty.
    """
    params = draw_gated(rng, sizes, how, GATES)
    if how.init == "keras" and how.forget_bias is None and how.input_scale is None:
        set_gate_bias(params, FORGET_GATE, sizes.hidden, 1.0)
    if how.forget_bias == "chrono":
        if how.steps < 3:
            raise InputError(f"forget_bias: chrono needs steps of at least 3, not {how.steps}")
        bias = np.log(rng.uniform(1.0, how.steps - 1.0, sizes.hidden))
        set_gate_bias(params, FORGET_GATE, sizes.hidden, bias)
        set_gate_bias(params, INPUT_GATE, sizes.hidden, -bias)
    elif how.forget_bias is not None:
        set_gate_bias(params, FORGET_GATE, sizes.hidden, float(how.forget_bias))
    return params


def rate(seen: Observed) -> float:
    """ln of the spectral radius at the origin, else the formula of random weights; see lstm_rate.

    Without input and with no bias on the candidate, g = tanh(0) keeps (h, c) at zero whatever the
    gates' biases: c' = f c + i W_g h and h' = o c' to first order. So c' = (f + i W_g o) c, and
    the rest of the state follows: without biases 1/2 + W_g/4, critical at a radius of 2. Of one's
    own weights elsewhere nothing is known: nan.
    """
    i, f, g, o = np.split(bias_of(seen.params), GATES)
    if undriven(seen) and not g.any():
        recurrent = sigmoid(i)[:, None] * block(seen.params, CANDIDATE) * sigmoid(o)
        return spectral_rate(np.diag(sigmoid(f)) + recurrent)
    forget, candidate, output = seen.means
    spread_g = spread(seen.params, CANDIDATE)
    return lstm_rate(forget, spread_g, candidate, output) if seen.drawn else math.nan


def _constant_carry(lab: Lab) -> float:
    steps, bias = 10_000, 2.0
    params = {name: np.zeros(shape) for name, shape in shapes(Sizes(4, 1)).items()}
    params["bias_ih"][4:8] = bias
    result = lab.attenuation("lstm", params, np.zeros((steps, 1, 1)), [steps])
    cell = result.log_norm_cell[0, 0, 1:]
    expected = -np.arange(steps) * np.log1p(np.exp(-bias))
    return float(np.abs(cell - cell[0] - expected).max())


def gates(params: Parameters, x: NDArray, h: NDArray, c: NDArray) -> tuple[Gates, NDArray]:
    """See Cell; the cell state is carried on."""
    into, within = sums(params, x, h)
    i, f, g, o = np.split(into + within, GATES, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    found = {"input gate": i, "forget gate": f, "candidate": g, "output gate": o, "cell": c}
    return found, c


CELL = Cell(
    name="lstm",
    options=frozenset({"init", "gain", "forget_bias"}),
    parts=("hidden", "cell"),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    draw=draw,
    forget_gate="forget",
    chrono=True,
    coefficients=COEFFICIENTS,
    theory=Theory(rate, means=("carry", "candidate", "output_slope")),
    cost=Cost(blocks=GATES, exponentials=5),
    inits=GATED_INITS,
    gates=gates,
    closed_forms=(
        ClosedForm("lstm, (tau - 1) ln sigmoid(b)", 1e-12 + 2e-14 * 10_000, _constant_carry),
    ),
)
