"""Deep stacks in training: a stack with a linear head, its outputs, loss and gradients."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.backward import Sweep
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import backends
from seqlab.kernels.contract import Saved, StackKernels
from seqlab.kernels.layout import EMPTY, Emitted, power_of_two
from seqlab.layers.stack import Stack
from seqlab.learning.networks import Gradients, Loss, joined
from seqlab.measure.stack_networks import KEPT_BYTES
from seqlab.rules import Rule
from seqlab.tasks import CLASSES

LAYERS, HEAD = "layers", "head"
BACKEND = backends.STACKS[0]


@dataclass(frozen=True)
class StackNetworks:
    """M networks of one stack, each with a linear head without bias that reads its last state: all
    features of a densenet, the mean token of a Transformer.

    `params` has the numbers of the layers, `layers` (M, L, I), those of a layer in the order of its
    maps and zero after its last one; and `head` (M, features, K). They may be changed in place. The
    layers of `frozen` ones have no gradient.

    Inputs x (M, T, B, n) are as tasks draw them: B inputs of one step, or B sequences of T tokens;
    a stack sees them all together. There are answers at the last step alone.
    """

    stack: Stack
    params: dict[str, NDArray]
    frozen: bool = False

    def __len__(self) -> int:
        return len(self.params[HEAD])

    def subset(self, chosen: NDArray | slice) -> "StackNetworks":
        """Some of the networks; of a slice in the same memory."""
        return replace(self, params={name: array[chosen] for name, array in self.params.items()})

    @np.errstate(all="ignore")  # overflow and NaN are results
    def outputs(self, x: NDArray) -> NDArray:
        """y (M, 1, B, K)."""
        return Pass(self, x).forward()

    @np.errstate(all="ignore")
    def gradients(self, x: NDArray, at: NDArray, loss: Loss, rule: Rule) -> Gradients:
        """One pass forward and back, of losses of the answers; `at` is the last step.

        A rule inside the chain acts; what others do to finished gradients is the caller's
        (`Sums.clipped`). All networks go together: kernels share large work among threads, and
        blocks side by side would wait for each other's many small calls.
        """
        del at
        run = Pass(self, x)
        value, errors = loss(range(len(self)), run.forward())
        sums, fired = run.back(errors, rule)
        return Gradients(value, sums, fired)

    @cached_property
    def kernels(self) -> StackKernels:
        """That leave the gradients of layers' numbers."""
        return backends.stack_kernels(BACKEND, self.stack, entries=True)

    @property
    def columns(self) -> int:
        """Of the state's rows."""
        return self.kernels.columns(self.params[HEAD].dtype)

    def states(self, x: NDArray) -> NDArray:
        """The first state (M, 1, 1, units C) of inputs (M, T, B, n), one sequence after the
        other."""
        rows = x.swapaxes(1, 2).reshape(len(x), self.stack.rows, -1)
        state = np.zeros((len(x), self.stack.units, self.columns), x.dtype)
        state[:, : self.stack.width, : self.stack.rows] = rows.swapaxes(1, 2)
        return state.reshape(len(x), 1, 1, -1)

    @property
    def tokens(self) -> int:
        """Rows of the state that the head sees the mean of."""
        stack = self.stack
        return stack.tokens or stack.rows if stack.arch == "transformer" else 1


class Pass:
    """One pass of networks over inputs x (M, T, B, n)."""

    def __init__(self, networks: StackNetworks, x: NDArray) -> None:
        stack, kernels, layers = networks.stack, networks.kernels, networks.params[LAYERS]
        self._networks, self._stack, self._head = networks, stack, networks.params[HEAD]
        numbered = np.zeros((*layers.shape[:2], 1, layers.shape[2] + 1), layers.dtype)
        numbered[:, :, 0, :-1] = layers
        numbered[:, :, 0, -1] = np.arange(stack.depth)
        level = Level(stack, kernels, kernels.prepare({}, None), stack.sizes(networks.columns))
        self.tape = Tape(BACKEND, [level], numbered, networks.states(x), budget=KEPT_BYTES)

    def forward(self) -> NDArray:
        """The answers (M, 1, B, K)."""
        self.tape.run(_unseen)
        state, stack, tokens = self.tape.state, self._stack, self._networks.tokens
        rows = state.reshape(len(state), stack.units, -1)[..., : stack.rows].swapaxes(1, 2)
        apart = rows.reshape(len(rows), -1, tokens, stack.units)
        self._features = apart.mean(axis=2) if tokens > 1 else rows
        return _products(self._features, self._head)[:, np.newaxis]

    def back(self, errors: NDArray, rule: Rule) -> tuple[Sums, NDArray]:
        """The gradients of all parameters, of dL/dy (M, 1, B, K), and the share of layers at which
        a rule inside the chain acted (M,)."""
        errors, depth = errors[:, 0], self._stack.depth
        head = _products(self._features.swapaxes(1, 2), errors).astype(np.float64)
        if self._networks.frozen:
            still = np.zeros(self._networks.params[LAYERS].shape)
            zero = np.zeros(len(head))
            return Sums({LAYERS: still, HEAD: head}, zero.astype(np.int64)), zero
        readout = self._to_state(_products(errors, self._head.swapaxes(1, 2)))
        nothing, layers = readout[:, :0], self.tape.x.shape[:2]
        values = np.zeros((*layers, self.tape.x.shape[3] - 1))
        exponent = np.full(layers, EMPTY)

        def joins(first: int, last: int) -> NDArray:
            return readout if last == depth else nothing

        def keep(first: int, emitted: Emitted) -> None:
            part = slice(first, first + emitted.exponent.shape[1])
            values[:, part] = emitted.values[:, :, 0]
            exponent[:, part] = emitted.exponent[:, :, 0]

        sweep = Sweep(self.tape, [depth], rule, record=False, gradients=True)
        sweep.run(joins, on_gradient=keep)
        largest = exponent.max(axis=1)
        values *= power_of_two(exponent - largest[:, np.newaxis])[..., np.newaxis]
        sums = joined(Sums({LAYERS: values}, largest), {HEAD: head})
        return sums, sweep.fired.sum(axis=(1, 2)) / depth

    def _to_state(self, gradient: NDArray) -> NDArray:
        """The readout (M, 1, 1, 1, units C) of a gradient of the features."""
        stack = self._stack
        found = np.zeros((len(gradient), stack.units, self._networks.columns), gradient.dtype)
        tokens = self._networks.tokens
        found[..., : stack.rows] = np.repeat(gradient, tokens, axis=1).swapaxes(1, 2) / tokens
        return found.reshape(len(gradient), 1, 1, 1, -1)


def draw_head(rng: np.random.Generator, features: int) -> NDArray:
    """Normal weights (features, CLASSES) of variance 1/features."""
    return rng.standard_normal((features, CLASSES)) / np.sqrt(features)


def weights_of(stack: Stack) -> NDArray:
    """Which of the layers' numbers (L, I) are weights, not biases or room for a larger layer's."""
    found = np.zeros((stack.depth, stack.most_numbers), bool)
    for layer in range(stack.depth):
        place = 0
        for one in stack.maps(layer):
            count = one.outputs * one.inputs
            found[layer, place : place + count] = True
            place += count + one.outputs
    return found


def norms_of(values: NDArray, chosen: NDArray) -> NDArray:
    """Norms (M, L) of the chosen ones (L, I) of values (M, L, I), of which a square may be beyond
    the range."""
    sizes = np.where(chosen, np.abs(values.astype(float)), 0)
    largest = sizes.max(axis=2, keepdims=True)
    parts = np.divide(sizes, largest, out=np.zeros_like(sizes), where=largest != 0)
    return largest[..., 0] * np.sqrt(np.square(parts).sum(axis=2))


def _products(a: NDArray, b: NDArray) -> NDArray:
    """Matrix products, one network after the other and not by BLAS: the same bits whatever its
    threads and however many networks there are."""
    return np.stack([np.einsum("ij,jk->ik", x, y) for x, y in zip(a, b, strict=True)])


def _unseen(saved: Saved) -> None:
    """Nobody looks at the activations."""
