"""What a cell of the naive reference is, and what cells with PyTorch's four parameters share.

A cell is a file of `naive_cells`, three functions and `CELL`: `step` makes the next state and the
output; `pull` takes the adjoint handed to the new state and dL/d(output) back through the step;
`push` takes a tangent of the old state forward through the linearised step.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from naive_functions import Array, Params, State

Saved = dict[str, Array]
Shapes = dict[str, tuple[int, ...]]


def affine_gradients(s: Saved, g_from_x: Array, g_from_h: Array) -> Params:
    """Gradients of W_ih x + b_ih and of W_hh h + b_hh, from the adjoints of the two sums."""
    return {
        "weight_ih": g_from_x.T @ s["x"],
        "weight_hh": g_from_h.T @ s["h"],
        "bias_ih": g_from_x.sum(axis=0),
        "bias_hh": g_from_h.sum(axis=0),
    }


def gated_shapes(blocks: int) -> Callable[[int, int, int], Shapes]:
    """PyTorch's four parameters with so many blocks of H rows, from H, I and (unused) N."""

    def shapes(hidden: int, inputs: int, state: int) -> Shapes:
        rows = blocks * hidden
        return {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, hidden),
            "bias_ih": (rows,),
            "bias_hh": (rows,),
        }

    return shapes


# The parts of a state and the shape of one sequence's, from the parameters; the loss's own gradient
# at one step's state, from dL/d(output) there.


def hidden_parts(p: Params) -> Shapes:
    return {"hidden": p["weight_hh"].shape[1:]}


def hidden_loss(s: Saved, gy: Array) -> State:
    return (gy,)


def unchanged(state: State) -> State:
    return state


# What tests do to parameters in place. Long chains fade, far below the smallest number; or nothing
# at all passes a step, of cells of three units.


def gated_fade(p: Params) -> None:
    p["weight_hh"] *= 0.2


def gated_shut(p: Params) -> None:
    p["bias_ih"][:] = 1e4
    p["bias_ih"][3:6] = -1e4  # forget and update gates; all else is saturated


def as_drawn(p: Params) -> None:
    """Numbers of order one are as good as any."""


class Cell(NamedTuple):
    """One cell: see above; `shapes` are those of its parameters from H, I and N.

    `gate_bias` names the bias that moves every gate, or the step of a scan; `recurrent` the
    parameter that says what a step keeps of the state. `gates` gives of each the name in `Saved` of
    its pre-activations, and its function. `at_rest` names the parameters whose gradient of one step
    keeps its digits while the state rests: all, where it is None. `hold` makes chains of random
    parameters that would die in a few steps hold on; with so many `states` no step of theirs is all
    rounding. `start` makes a state of random numbers, `of_lab` of one as the lab keeps it. The last
    two: see above.
    """

    step: Callable[[Params, Array, State, str], tuple[State, Array, Saved]]
    pull: Callable[[Params, Saved, State, Array], tuple[State, Array, Params]]
    push: Callable[[Params, Saved, State], State]
    shapes: Callable[[int, int, int], Shapes]
    activations: tuple[str, ...] = ("tanh",)
    parts: Callable[[Params], Shapes] = hidden_parts
    loss: Callable[[Saved, Array], State] = hidden_loss
    gate_bias: str = "bias_ih"
    recurrent: str = "weight_hh"
    gates: Mapping[str, tuple[str, str]] = MappingProxyType({})
    at_rest: tuple[str, ...] | None = None
    states: int = 2
    hold: Callable[[Params], None] = as_drawn
    start: Callable[[State], State] = unchanged
    of_lab: Callable[[State], State] = unchanged
    fade: Callable[[Params], None] = gated_fade
    shut: Callable[[Params], None] = gated_shut
