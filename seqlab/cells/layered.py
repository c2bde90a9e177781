"""Several layers of one cell, each fed by the outputs of the one below, as nn.LSTM's `num_layers`.

The first layer is driven by the input, the last one's outputs are the network's. Parameters have
PyTorch's names, `weight_ih_l0` of the first layer, `weight_ih_l1` of the next. The state is that
of all layers after a step: its adjoint counts what goes on to the next step, and not what a layer's
output gives to the layer above at the same step.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes, State


def suffix(layer: int, layers: int) -> str:
    """What ends the names of a layer's parameters."""
    return f"_l{layer}" if layers > 1 else ""


def layer_sizes(of: Sizes, layer: int) -> Sizes:
    """The sizes of one layer."""
    return of if layer == 0 else of._replace(inputs=of.hidden)


def part_names(parts: tuple[str, ...], layers: int) -> tuple[str, ...]:
    """What results call the parts of the state of so many layers, each of which has these parts:
    one part of all layers, then the next."""
    if layers == 1:
        return parts
    return tuple(f"layer {layer} {part}" for part in parts for layer in range(layers))


def in_layers(cell: Cell, layers: int) -> Cell:
    """The row of a network of so many layers.

    Each layer is drawn as the cell draws it, one after the other from the same random numbers, so
    that the first is that of a network without the others. States have a leading axis of layers,
    (..., layers, B, H), as nn.LSTM's. Nothing is known of its decay rate.
    """
    if layers == 1:
        return cell
    one, names = cell, tuple(cell.shapes(Sizes(1, 1, 1)))

    def shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}{suffix(layer, layers)}": shape
            for layer in range(layers)
            for name, shape in one.shapes(layer_sizes(of, layer)).items()
        }

    def sizes(params: Parameters) -> Sizes:
        return one.sizes({name: params[f"{name}_l0"] for name in names if f"{name}_l0" in params})

    def state_shape(of: Sizes) -> tuple[int, int]:
        parts, units = one.state_shape(of)
        return layers * parts, units

    def draw(rng: np.random.Generator, of: Sizes, how: Draw) -> Parameters:
        return {
            f"{name}{suffix(layer, layers)}": array
            for layer in range(layers)
            for name, array in one.draw(rng, layer_sizes(of, layer), how).items()
        }

    def pack(parts: State) -> NDArray:
        """(..., layers, B, ...) each -> (..., B, layers P, H)."""
        each = np.moveaxis(one.pack(parts), -4, -3)
        return each.reshape(*each.shape[:-3], -1, each.shape[-1])

    def unpack(state: NDArray) -> State:
        *lead, rows, units = state.shape
        each = state.reshape(*lead, layers, rows // layers, units)
        return one.unpack(np.moveaxis(each, -3, -4))

    return replace(
        one,
        layers=layers,
        layer=one,
        shapes=shapes,
        sizes=sizes,
        state_shape=state_shape,
        draw=draw,
        pack=pack,
        unpack=unpack,
        recurrent=f"{one.recurrent}_l0",
        gates=None,
        theory=None,
        cost=None,
        closed_forms=(),
    )
