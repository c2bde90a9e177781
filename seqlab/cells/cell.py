"""The row of the registry: what the rest of the lab may ask of a cell."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Parameters = dict[str, NDArray]
State = tuple[NDArray, ...]  # one array for each named part


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


def stack_parts(parts: State) -> NDArray:
    """Parts (..., B, H) each -> (..., B, P, H)."""
    return np.stack(parts, axis=-2)


def split_parts(state: NDArray) -> State:
    """(..., B, P, H) -> parts (..., B, H) each, views."""
    return tuple(np.moveaxis(state, -2, 0))


@dataclass(frozen=True)
class Cell:
    """One architecture.

    `shapes` gives the parameters' shapes from the sizes, `sizes` reads the sizes back from
    parameters (with or without the leading M axis).
    `pack` and `unpack` turn the state, a tuple of its parts (..., B, H) or what its reference
    implementation has, into the kernels' one array (..., B, P, H) and back.
    `options` are the fields that mean something for this cell and not for every other;
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
    draw: Callable[[np.random.Generator, Sizes, Draw], Parameters]
    chrono: bool = False
    silent_drive: bool = True
    pack: Callable[[State], NDArray] = stack_parts
    unpack: Callable[[NDArray], State] = split_parts
