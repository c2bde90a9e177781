"""Several layers of one cell by the naive reference: a cell whose state is that of all layers."""

import math

import numpy as np
from naive_cell import Cell, Saved, Shapes
from naive_functions import Array, Params, State


def layer_params(p: Params, layer: int) -> Params:
    """One layer's parameters under the cell's own names."""
    end = f"_l{layer}"
    return {name.removesuffix(end): value for name, value in p.items() if name.endswith(end)}


def stack(cell: Cell, layers: int) -> Cell:
    """The cell of so many layers, parameters `<name>_l0` and so on, its state the parts of the
    first layer, then those of the next."""

    def each(parts: State) -> list[State]:
        count = len(parts) // layers
        return [parts[k * count : (k + 1) * count] for k in range(layers)]

    def step(p: Params, x: Array, state: State, activation: str) -> tuple[State, Array, Saved]:
        after: State = ()
        saved: Saved = {}
        for layer, own in enumerate(each(state)):
            new, x, kept = cell.step(layer_params(p, layer), x, own, activation)
            after += new
            saved |= {f"{name}_l{layer}": value for name, value in kept.items()}
        return after, x, saved

    def pull(p: Params, s: Saved, handed: State, gy: Array) -> tuple[State, Array, Params]:
        before: State = ()
        grads: Params = {}
        for layer, own in reversed(list(enumerate(each(handed)))):
            kept = layer_params(s, layer)
            earlier, gy, of_layer = cell.pull(layer_params(p, layer), kept, own, gy)
            before = earlier + before
            grads |= {f"{name}_l{layer}": value for name, value in of_layer.items()}
        return before, gy, grads

    def loss(s: Saved, gy: Array) -> State:
        last = cell.loss(layer_params(s, layers - 1), gy)
        return tuple(np.zeros_like(part) for part in last) * (layers - 1) + last

    def shapes(hidden: int, inputs: int, state: int) -> Shapes:
        return {
            f"{name}_l{layer}": shape
            for layer in range(layers)
            for name, shape in cell.shapes(hidden, hidden if layer else inputs, state).items()
        }

    def parts(p: Params) -> Shapes:
        return {
            f"{name}_l{layer}": shape
            for layer in range(layers)
            for name, shape in cell.parts(layer_params(p, layer)).items()
        }

    def push(p: Params, s: Saved, v: State) -> State:
        raise NotImplementedError("see jacobians")

    return Cell(step, pull, push, shapes, cell.activations, parts, loss)


def jacobians(cell: Cell, p: Params, saved: list[Saved], units: int) -> Array:
    """ds_{t+1}/ds_t (T, S, S) of one sequence with so many outputs: each row is what the step back
    makes of a unit vector."""
    shapes = list(cell.parts(p).values())
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    size = int(ends[-1])
    result = np.zeros((len(saved), size, size))
    for t, kept in enumerate(saved):
        for row, unit in enumerate(np.eye(size)):
            handed = tuple(
                part.reshape(1, *shape)
                for part, shape in zip(np.split(unit, ends[:-1]), shapes, strict=True)
            )
            before, _, _ = cell.pull(p, kept, handed, np.zeros((1, units)))
            result[t, row] = np.concatenate([part.ravel() for part in before])
    return result
