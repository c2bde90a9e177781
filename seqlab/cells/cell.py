"""The row of the registry: what the rest of the lab may ask of a cell."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, NDArray]
State = tuple[NDArray, ...]  # one array for each named part
Gates = dict[str, NDArray]  # pre-activations (m, B, H) at one step


class Sizes(NamedTuple):
    """Units H, input features I, and states per channel N (of cells that have several)."""

    hidden: int
    inputs: int
    state: int = 16


@dataclass(frozen=True)
class Draw:
    """How initial parameters are drawn; the fields, and their defaults, are those of `seqlab run`.

    None leaves it to the cell.
    """

    init: str | None = "pytorch"
    gain: float | None = None
    input_scale: float | None = None
    forget_bias: float | str | None = None
    steps: int = 1
    r_min: float = 0.0
    r_max: float = 1.0
    max_phase: float = 6.28
    decay: str | None = None

    @classmethod
    def of(cls, spec: Any) -> "Draw":
        """As a spec of recurrent networks says; what means nothing for its cell stays as it is."""
        said = ((field.name, getattr(spec, field.name)) for field in fields(cls))
        return cls(**{name: value for name, value in said if value is not None})


def stack_parts(parts: State) -> NDArray:
    """Parts (..., B, H) each -> (..., B, P, H)."""
    return np.stack(parts, axis=-2)


def split_parts(state: NDArray) -> State:
    """(..., B, P, H) -> parts (..., B, H) each, views."""
    return tuple(np.moveaxis(state, -2, 0))


class Observed(NamedTuple):
    """What the theory of a cell may look at: one network of a run, which starts from a zero state.

    params; the drive x (T, B, I); the readout (H,) of the loss r . y_T; the activation, of a cell
    that has one; `means` over time of the coefficients that the theory names, and `last`, those of
    the last step, see Theory; `drawn` says that the weights were drawn by the lab, as the theory of
    random matrices wants them.
    """

    params: Parameters
    x: NDArray
    readout: NDArray
    activation: str | None
    means: NDArray
    drawn: bool
    last: NDArray


class Theory(NamedTuple):
    """What is known of a cell's decay rate, (ln norm at lag T - at lag 0)/T in nats per step.

    `rate` is one network's, nan where nothing valid is known. `means` names the coefficients whose
    means over time it needs: over sequences and units too, (K,), or with `each` of every one,
    (K, B, H). Where there is an `of`, they are the means of that function of them, in float64.
    `last` names those of which it needs the last step's, (K, B, H).
    """

    rate: Callable[[Observed], float]
    means: tuple[str, ...] = ()
    each: bool = False
    of: Callable[[NDArray], NDArray] | None = None
    last: tuple[str, ...] = ()


class Cost(NamedTuple):
    """What one step of a sequence takes at least: recurrent blocks H x H, exponentials a unit."""

    blocks: int
    exponentials: int


class Lab(Protocol):
    """What a closed form is compared with: the lab's answers, float64, on one backend."""

    def attenuation(
        self,
        arch: str,
        params: Parameters,
        x: NDArray,
        lengths: list[int],
        activation: str = "tanh",
    ) -> Any:
        """`seqlab.attenuation`, unclipped."""

    def backward(
        self, arch: str, params: Parameters, x: NDArray, initial: Any, grad_output: NDArray
    ) -> Any:
        """`seqlab.backward` of `seqlab.forward`."""


class ClosedForm(NamedTuple):
    """A gradient of the cell that is known in closed form: a row of `seqlab verify`.

    `error` measures it and gives the largest difference, in nats.
    """

    name: str
    tolerance: float
    error: Callable[[Lab], float]


@dataclass(frozen=True)
class Cell:
    """One architecture.

    `shapes` gives the parameters' shapes from the sizes, `sizes` reads the sizes back from
    parameters (with or without the leading M axis).
    `pack` and `unpack` turn the state, a tuple of its parts (..., B, H) or what its reference
    implementation has, into the kernels' one array (..., B, P, H) and back; the adjoint likewise.
    `options` are the fields that mean something for this cell and not for every other;
    `inits` the draws of its recurrent weights, of `INITS`, the default first;
    `forget_gate` is the gate whose bias `forget_bias` sets;
    `names_of` is whose names its parameters have;
    `chrono` says whether its forget bias may be drawn by Tallec & Ollivier's rule;
    `silent_drive` whether it has anything to say without input;
    `parts` names the parts of its state, in the order of `state_shape`'s first axis, as far as they
    have an adjoint; `without_adjoint` those that follow and have none: only how the others are
    written down depends on them. `from_zero` names those that are never negative;
    `coefficients` what a step leaves for the way back and for `theory`, one number a unit each, in
    the order of the kernels' `Saved.coefficients` (M, S, B, C, H).
    `cost` is what the benchmark's floor counts, `closed_forms` what `verify` compares with.
    `recurrent` is the parameter that says what a step keeps of the state: what each step gives to
    its gradient is looked at in training.
    `gates` gives the pre-activations of gates and units whose slopes may be lost, by name, from all
    parameters (m, ...), x_t (m, B, I), the output h_{t-1} (m, B, H) and what it carried beside it,
    which begins as zeros (m, B, H); and what is carried on. None for a cell without such slopes,
    of which `slopes_kept` says why.
    `layers` is how many of them a network has, `layer` the row of each where there are several; see
    `seqlab.cells.layered`.
    """

    name: str
    options: frozenset[str]
    parts: tuple[str, ...]
    shapes: Callable[[Sizes], dict[str, tuple[int, ...]]]
    sizes: Callable[[Parameters], Sizes]
    state_shape: Callable[[Sizes], tuple[int, int]]
    draw: Callable[[np.random.Generator, Sizes, Draw], Parameters]
    forget_gate: str | None = None
    names_of: str = "PyTorch"
    chrono: bool = False
    silent_drive: bool = True
    inits: tuple[str, ...] = ()
    without_adjoint: tuple[str, ...] = ()
    from_zero: frozenset[str] = frozenset()
    pack: Callable[[State], NDArray] = stack_parts
    unpack: Callable[[NDArray], State] = split_parts
    coefficients: tuple[str, ...] = ()
    theory: Theory | None = None
    recurrent: str = "weight_hh"
    gates: Callable[[Parameters, NDArray, NDArray, NDArray], tuple[Gates, NDArray]] | None = None
    slopes_kept: str = "the states are linear and have no slope to lose"
    cost: Cost | None = None
    closed_forms: tuple[ClosedForm, ...] = ()
    layers: int = 1
    layer: "Cell | None" = None

    @property
    def state_parts(self) -> tuple[str, ...]:
        """All parts of the state, those without an adjoint last."""
        return (*self.parts, *self.without_adjoint)

    def adjoint_shape(self, sizes: Sizes) -> tuple[int, int]:
        """The shape of one sequence's adjoint: as `state_shape`, of the parts that have one."""
        planes, units = self.state_shape(sizes)
        return planes - self.layers * len(self.without_adjoint), units
