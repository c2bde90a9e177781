"""The row of the registry: what the rest of the lab may ask of a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, NDArray]


class Sizes(NamedTuple):
    """Units H, input features I, and states per channel N (the selective scan's alone)."""

    hidden: int
    inputs: int
    state: int = 16


@dataclass(frozen=True)
class Draw:
    """How initial parameters are drawn; the fields are those of `seqlab run`.

    A field that means nothing for a cell is None.
    """

    init: str | None = "pytorch"
    gain: float | None = None
    input_scale: float | None = None
    forget_bias: float | str | None = None
    steps: int = 1


@dataclass(frozen=True)
class Cell:
    """One architecture.

    `shapes` gives the parameters' shapes from the sizes, `sizes` reads the sizes back from
    parameters (with or without the leading M axis).
    `pack` and `unpack` turn PyTorch's state (B leading) into one array (..., P, H) and back.
    `options` are the fields that mean something for this cell and not for every other;
    `forget_gate` is the gate whose bias `forget_bias` sets;
    `names_of` is whose names its parameters have;
    `chrono` says whether its forget bias may be drawn by Tallec & Ollivier's rule;
    `silent_drive` whether it has anything to say without input;
    `parts` names the parts of its state, in the order of `state_shape`'s first axis.
    """

    name: str
    options: frozenset[str]
    parts: tuple[str, ...]
    shapes: Callable[[Sizes], dict[str, tuple[int, ...]]]
    sizes: Callable[[Parameters], Sizes]
    state_shape: Callable[[Sizes], tuple[int, int]]
    pack: Callable[[Any], NDArray]
    unpack: Callable[[NDArray], Any]
    draw: Callable[[np.random.Generator, Sizes, Draw], Parameters]
    forget_gate: str | None = None
    names_of: str = "PyTorch"
    chrono: bool = False
    silent_drive: bool = True
