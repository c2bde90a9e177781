"""Gated recurrent unit, in PyTorch's form (gates r, z, n; reset after the matrix product).

    r, z = sigmoid(z_r), sigmoid(z_z),   n = tanh(x_n + r m),   h_t = (1 - z) n + z h_{t-1}

with x_n = W_in x_t + b_in and m = W_hn h_{t-1} + b_hn. Source: Cho et al. 2014; layouts and the
place of the reset gate are those of `torch.nn.GRU`. The adjoint step is linear in the adjoint
with five coefficients a unit, which the forward pass leaves behind.

A gate comes as the pair (sigmoid(z), sigmoid(-z)) and the candidate as (tanh(z), tanh'(z)):
1 - s and 1 - t^2 are zero in a saturated unit, where the true numbers are small.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Cell, Cost, Draw, Gates, Observed, Parameters, Sizes, Theory
from seqlab.cells.draws import (
    GATED_INITS,
    draw_gated,
    gated_shapes,
    gated_sizes,
    set_gate_bias,
)
from seqlab.cells.recurrent import bias_of, block, sigmoid, spread, sums, undriven
from seqlab.numbers.theory import gru_rate, spectral_rate

GATES = 3
RESET_GATE, UPDATE_GATE, CANDIDATE = range(GATES)
# The coefficients' order.
COEFFICIENTS = ("carry", "hidden_candidate", "input_candidate", "update_gate", "reset_gate")
NEVER_ZERO = (0, 1, 2)  # those that no finite state makes zero


def make_step(compiled, sigmoid, tanh):
    """One unit's step forward, for a backend: `compiled` compiles a function that its kernels call,
    `sigmoid` and `tanh` give the pairs above."""

    @compiled
    def hidden_state(z, n, h):
        return z[1] * n[0] + z[0] * h

    @compiled
    def coefficients(r, z, n, m, h):
        candidate = z[1] * n[1]
        return (
            z[0],
            candidate * r[0],
            candidate,
            (h - n[0]) * z[0] * z[1],
            candidate * m * r[0] * r[1],
        )

    @compiled
    def step(z_r, z_z, x_n, m, h):
        """h_t, and the factors of the adjoint step in the order of COEFFICIENTS; `h` is h_{t-1}."""
        r, z = sigmoid(z_r), sigmoid(z_z)
        n = tanh(x_n + r[0] * m)
        return hidden_state(z, n, h), coefficients(r, z, n, m, h)

    return step


def adjoint(dh, carry, hidden_candidate, input_candidate, update_gate, reset_gate):
    """One unit's step back: dL/dh_t -> dL/dz_r, dL/dz_z, dL/dm, dL/dx_n, direct dL/dh_{t-1}.

    W_hh^T (dz_r, dz_z, dm) is the rest of dL/dh_{t-1}.
    """
    return (
        dh * reset_gate,
        dh * update_gate,
        dh * hidden_candidate,
        dh * input_candidate,
        dh * carry,
    )


def shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    return gated_shapes(GATES, sizes)


def state_shape(sizes: Sizes) -> tuple[int, int]:
    """The state of one sequence: h alone, (1, H)."""
    return (1, sizes.hidden)


def draw(rng: np.random.Generator, sizes: Sizes, how: Draw) -> Parameters:
    """Draw one network; `forget_bias` is the update gate's, which keeps the old state."""
    params = draw_gated(rng, sizes, how, GATES)
    if how.forget_bias is not None:
        set_gate_bias(params, UPDATE_GATE, sizes.hidden, float(how.forget_bias))
    return params


def rate(seen: Observed) -> float:
    """ln of the spectral radius at the origin, else the formula of random weights; see gru_rate.

    Without input and with neither bias on the candidate, n = tanh(0) keeps h at zero whatever the
    gates' biases: h' = (z + (1 - z) r W_n) h to first order. Without biases that is 1/2 + W_n/4,
    critical at a radius of 2. Of one's own weights elsewhere nothing is known: nan.
    """
    r, z, _ = np.split(bias_of(seen.params), GATES)
    units = len(z)
    into, within = (seen.params[name][-units:] for name in ("bias_ih", "bias_hh"))
    if undriven(seen) and not (into.any() or within.any()):
        open_gates = (sigmoid(-z) * sigmoid(r))[:, None]
        return spectral_rate(np.diag(sigmoid(z)) + open_gates * block(seen.params, CANDIDATE))
    carry, candidate = seen.means
    spread_n = spread(seen.params, CANDIDATE)
    return gru_rate(carry, spread_n, candidate) if seen.drawn else math.nan


def gates(params: Parameters, x: NDArray, h: NDArray, carried: NDArray) -> tuple[Gates, NDArray]:
    """See Cell."""
    into, within = sums(params, x, h)
    r, z, n = np.split(into, GATES, axis=-1)
    r_within, z_within, m = np.split(within, GATES, axis=-1)
    r = r + r_within
    found = {"reset gate": r, "update gate": z + z_within, "candidate": n + sigmoid(r) * m}
    return found, carried


CELL = Cell(
    name="gru",
    options=frozenset({"init", "gain", "forget_bias"}),
    parts=("hidden",),
    shapes=shapes,
    sizes=gated_sizes,
    state_shape=state_shape,
    draw=draw,
    coefficients=COEFFICIENTS,
    theory=Theory(rate, means=("carry", "hidden_candidate")),
    cost=Cost(blocks=GATES, exponentials=3),
    forget_gate="update",
    inits=GATED_INITS,
    gates=gates,
)
