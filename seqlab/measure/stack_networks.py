"""The deep stacks that a spec names: their layers, drawn when they are asked for, their inputs, and
the losses' readouts.

Layer l of network m has a stream of its own, so that a deeper stack begins like a shorter one, and
layers that do not fit in memory are drawn again on the way back.
"""

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.tape import Level, Tape
from seqlab.kernels.contract import Array, StackKernels
from seqlab.layers.draws import Draw, draw_layer, draw_map
from seqlab.layers.parts import Linear
from seqlab.measure.randomness import Purpose, layer_stream, norm_of, stream
from seqlab.numbers.activations import find_activation
from seqlab.spec.stack import StackSpec
from seqlab.spec.stack_arrays import load_stack
from seqlab.wording import refuse

KEPT_BYTES = 1 << 30  # of layers and states at once; beyond, layers are drawn again
STEM = 0  # the number of the first layer that brings inputs to the width; the others follow


class Layers:
    """The numbers of some networks' layers, (M, L, 1, I), as the engine cuts an array along time:
    `layers[:, first:last]` has them."""

    ndim = 4

    def __init__(self, networks: "Networks", chosen: range) -> None:
        stack = networks.stack
        self.shape = (len(chosen), stack.depth, 1, stack.most_numbers + 1)
        self.dtype = networks.dtype
        self._networks, self._chosen = networks, chosen

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[slice, slice]) -> NDArray:
        layers = range(*key[1].indices(self.shape[1]))
        found = np.zeros((self.shape[0], len(layers), 1, self.shape[3]), self.dtype)
        for i, m in enumerate(self._chosen):
            for s, layer in enumerate(layers):
                numbers = self._networks.layer(m, layer)
                found[i, s, 0, : len(numbers)] = numbers
                found[i, s, 0, -1] = layer
        return found


class Block(NamedTuple):
    """Some networks of a spec: a tape that has not run, and readouts (M, 1, lengths, state), of
    norm one.

    A growing stack's have what exists at each length, and norm one over the newest features, with
    which its curve begins.
    """

    tape: Tape
    readout: NDArray


class Networks:
    """Networks of one spec by number; one's own weights are read once."""

    def __init__(self, spec: StackSpec) -> None:
        self.spec, self.stack, self.dtype = spec, spec.stack, np.dtype(spec.dtype)
        self._how = Draw(spec.init or "pytorch", spec.gain, spec.bias_scale)
        self._own: Any = None
        if spec.params is not None:
            self._own = load_stack(spec.params.source, spec.params.sha256, spec.module)

    def layer(self, m: int, layer: int) -> NDArray:
        """The numbers of a layer, counted from zero, of network m: float64, or one's own."""
        if self._own is not None:
            return np.concatenate([part.ravel() for part in self._own_map(m, layer + 1)])
        numbers = draw_layer(self._stream(m, layer + 1), self.stack, layer, self._how)
        largest = np.finfo(self.dtype).max
        if not np.abs(numbers).max() <= largest:
            weights = numbers[: -self.stack.width]  # all but the last biases, which alone are drawn
            option = "bias_scale" if np.abs(weights).max() <= largest else "gain"
            value = getattr(self.spec, option)
            raise refuse(option, value, f"what is drawn must stay in the range of {self.dtype}")
        return numbers

    def block(self, networks: range, backend: str, kernels: StackKernels, sharers: int) -> Block:
        """Some networks, ready to run."""
        stack = self.stack
        columns = kernels.columns(self.dtype)
        state = np.zeros((len(networks), 1, 1, stack.units * columns), self.dtype)
        inputs = state.reshape(-1, stack.units, columns)[:, : stack.width, : stack.rows]
        for i, m in enumerate(networks):
            inputs[i] = self._inputs(m).T
        layers = cast(Array, Layers(self, networks))
        level = Level(stack, kernels, kernels.prepare({}, None), stack.sizes(columns))
        tape = Tape(backend, [level], layers, state, sharers, KEPT_BYTES)
        return Block(tape, np.stack([self.readouts(m, columns) for m in networks])[:, None])

    def _stream(self, m: int, number: int) -> np.random.Generator:
        return layer_stream(self.spec.seed, m, number)

    def _own_map(self, m: int, number: int) -> tuple[NDArray, NDArray]:
        """W and b of one's own layer; STEM is the first where inputs have another width."""
        weight, bias = self._own[number if self.spec.inputs is not None else number - 1]
        bias = np.zeros(weight.shape[:-1]) if bias is None else bias
        return (weight[m], bias[m]) if weight.ndim == 3 else (weight, bias)

    def _inputs(self, m: int) -> NDArray:
        """h_0 (rows, width): normal numbers, or what a first layer makes of them, which is a map
        with all of a block of an mlp, alone before a residual stack."""
        spec, stack = self.spec, self.stack
        rng = stream(spec.seed, m, Purpose.DRIVE)
        if spec.inputs is None:
            return rng.standard_normal((stack.rows, stack.width))
        x = rng.standard_normal((stack.rows, spec.inputs))
        if self._own is not None:
            weight, bias = self._own_map(m, STEM)
        else:
            of = Linear(stack.width, spec.inputs)
            weight, bias = draw_map(self._stream(m, STEM), of, self._how)
        z = np.einsum("pi,ni->pn", x, weight.astype(float)) + bias  # not BLAS, as in `norm_of`
        if stack.arch != "mlp":
            return z
        return find_activation(stack.activation).value(_normalised(z, stack.norm))

    def readouts(self, m: int, columns: int) -> NDArray:
        """One network's (lengths, units * columns): one normal vector for each row, then scaled."""
        spec, stack = self.spec, self.stack
        rng = stream(spec.seed, m, Purpose.READOUT)
        blocks = stack.depth + 1 if stack.grows else 1
        drawn = rng.standard_normal((blocks, stack.rows, stack.width)).swapaxes(1, 2)
        if stack.arch == "transformer" and spec.readout == "last":
            drawn[..., :-1] = 0
        found = np.zeros((len(spec.lengths), stack.units, columns))
        for k, length in enumerate(spec.lengths):
            first = length if stack.grows and spec.readout == "last" else 0
            last = length + 1 if stack.grows else 1
            units = slice(first * stack.width, last * stack.width)
            found[k, units, : stack.rows] = drawn[first:last].reshape(-1, stack.rows)
            newest = slice(-stack.width if stack.grows else None, None)
            found[k] /= norm_of(found[k, units][newest].ravel())
        return found.reshape(len(spec.lengths), -1)


def _normalised(z: NDArray, norm: str) -> NDArray:
    """z (rows, units) after an mlp's norm."""
    if norm == "none":
        return z
    kind, _, groups = norm.partition(":")
    shape = z.shape if kind == "batch" else (len(z) * int(groups or 1), -1)
    parts, axis = z.reshape(shape), 0 if kind == "batch" else 1
    centred = parts - parts.mean(axis=axis, keepdims=True)
    scale = np.sqrt(np.square(centred).mean(axis=axis, keepdims=True))
    return np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0).reshape(z.shape)
