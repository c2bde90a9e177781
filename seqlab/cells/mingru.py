"""Minimal gated recurrent unit: a GRU whose gate and candidate see the input alone.

    z_t = sigmoid(W_z x_t + b_z),   c_t = W_h x_t + b_h,   h_t = (1 - z_t) h_{t-1} + z_t c_t

and the output is h_t. Source: Feng et al. 2024, 'Were RNNs All We Needed?', section 3.1, in the
plain form of their listing 1, whose two `nn.Linear`, `linear_z` and `linear_h`, give the parameters
their names. Their form in logarithms, which published code has instead, keeps states positive by a
function g of the candidate, c + 1/2 from 0 up and sigmoid(c) below, and the most used code has no
biases; here the candidate is linear and both layers have theirs.

The state's Jacobian is diag(1 - z_t) and depends on the input alone: over T steps ln |dh_T/dh_0| of
a unit is the sum of ln(1 - z_t). 1 - z is the sigmoid of minus the pre-activation: one minus the
gate would be zero where the gate is open, and lose its digits where it nearly is.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import (
    Cell,
    ClosedForm,
    Draw,
    Gates,
    Lab,
    Observed,
    Parameters,
    Sizes,
    Theory,
)
from seqlab.cells.draws import scaled_input
from seqlab.numbers.theory import diagonal_rate

LAYERS = ("linear_z", "linear_h")
# The adjoint's factors, in the order of the kernels.
COEFFICIENTS = ("carry", "update_gate", "candidate")
NEVER_ZERO = (0,)  # those that no finite state makes zero


def make_step(compiled, sigmoid):
    """One unit's step forward, for a backend: `compiled` compiles a function that its kernels call,
    `sigmoid` gives the pair (sigmoid(a), sigmoid(-a))."""

    @compiled
    def step(a, c, h):
        """h_t, and the factors of the adjoint step in the order of COEFFICIENTS; `h` is h_{t-1}."""
        z, carry = sigmoid(a)
        return carry * h + z * c, carry, (c - h) * z * carry, z

    return step


def adjoint(dh, carry, update_gate, candidate):
    """One unit's step back: dL/dh_t -> dL/da, dL/dc, dL/dh_{t-1}, a being the gate's
    pre-activation."""
    return dh * update_gate, dh * candidate, dh * carry


def shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    own = {"weight": (of.hidden, of.inputs), "bias": (of.hidden,)}
    return {f"{layer}_{kind}": shape for layer in LAYERS for kind, shape in own.items()}


def sizes(params: Parameters) -> Sizes:
    """H and I from one network's parameters."""
    return Sizes(*params["linear_z_weight"].shape[-2:])


def state_shape(of: Sizes) -> tuple[int, int]:
    """The state of one sequence: h alone, (1, H)."""
    return (1, of.hidden)


def draw(rng: np.random.Generator, of: Sizes, how: Draw) -> Parameters:
    """Draw one network as nn.Linear draws each layer: weights and biases U(+-1/sqrt I).

    `input_scale` replaces the weights, and zeroes the biases.
    """
    bound = 1.0 / math.sqrt(of.inputs)
    params = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes(of).items()}
    if how.input_scale is not None:
        for layer in LAYERS:
            weight = f"{layer}_weight"
            params[weight] = scaled_input(rng, params[weight].shape, how.input_scale)
            params[f"{layer}_bias"][:] = 0.0
    return params


def rate(seen: Observed) -> float:
    """The decay rate over just these T steps, exact: the means over time of ln(1 - z) say all.

    dh_T/dh_0 of a unit is exp(T <ln(1 - z)>), and the loss r . y_T begins with r. As T grows the
    rate becomes that of the slowest unit; before, faster ones fade away too. nan where every unit's
    gate is so open that 1 - z left the range of the dtype.
    """
    (log_carry,) = seen.means
    steps = len(seen.x)
    start = np.broadcast_to(seen.readout, log_carry.shape)
    found = diagonal_rate(start, steps * log_carry, steps)
    return math.nan if found == -math.inf else found


def gates(params: Parameters, x: NDArray, h: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    """See Cell; the candidate is linear."""
    z = np.einsum("mbi,mhi->mbh", x, params["linear_z_weight"])
    return {"update gate": z + params["linear_z_bias"][:, np.newaxis]}, carried


def _product_of_gates(lab: Lab) -> float:
    """The first state's gradient is the loss's times exp(-sum ln(1 + exp(a))), a from -36, where
    1 - z is one but for its last digit, to 1/2 over many steps, and to 36 over few: more would
    leave the range of float64."""
    worst, of = 0.0, Sizes(hidden=9, inputs=3)
    for steps, highest in ((400, 0.5), (18, 36.0)):
        rng = np.random.default_rng(20)
        params, x = draw(rng, of, Draw()), rng.standard_normal((steps, 1, of.inputs))
        params["linear_z_bias"] = np.linspace(-36.0, highest, of.hidden)
        first, loss = np.ones((1, of.hidden)), np.zeros((steps, 1, of.hidden))
        loss[-1] = rng.standard_normal(of.hidden)
        got = lab.backward("mingru", params, x, first, loss).initial[0]
        a = x[:, 0] @ params["linear_z_weight"].T + params["linear_z_bias"]
        expected = np.log(np.abs(loss[-1, 0])) - np.logaddexp(0, a).sum(axis=0)
        worst = max(worst, float(np.abs(np.log(np.abs(got)) - expected).max()))
    return worst


# A step's factor is off by the roundings of sigmoid and of the product, and by those of a, which
# count z times: within (3 |a| z + 8) 2^-53, so by 1.3e-14 nats at |a| = 36 and 1.1e-15 at 1/2.
_TOLERANCE = 18 * 1.3e-14 + 400 * 1.1e-15

CELL = Cell(
    name="mingru",
    options=frozenset(),
    parts=("hidden",),
    shapes=shapes,
    sizes=sizes,
    state_shape=state_shape,
    draw=draw,
    names_of="Feng et al. 2024",
    recurrent="linear_z_weight",
    gates=gates,
    coefficients=COEFFICIENTS,
    theory=Theory(rate, means=("carry",), each=True, of=np.log),
    closed_forms=(ClosedForm("mingru, product of 1 - z", _TOLERANCE, _product_of_gates),),
)
