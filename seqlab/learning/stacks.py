"""The first updates of a deep stack that is trained: how far each layer's weights move, and what
becomes of the loss.

The task: the stack's own inputs, the same at every update, in CLASSES classes, as a linear teacher
with normal weights sorts them (a Transformer's one sequence by its mean token). A linear head
without bias, of normal weights with variance 1/inputs, reads the last state: all features of a
densenet, a Transformer's mean token. The loss is the mean softmax cross-entropy; head and stack are
trained.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.backward import Sweep
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import backends
from seqlab.kernels.contract import Saved
from seqlab.kernels.layout import Emitted, unscaled
from seqlab.layers.stack import Stack
from seqlab.learning.optimisers import Adam, Arrays, Optimiser, Sgd
from seqlab.measure.randomness import Purpose, stream
from seqlab.measure.stack_networks import KEPT_BYTES, Networks
from seqlab.numbers.statistics import median
from seqlab.rules import UNCLIPPED
from seqlab.spec.kinds import Progress
from seqlab.spec.stack import StackSpec

CLASSES = 4
UPDATES = 50
TRAINED = 4  # networks of an ensemble, its first ones: a hundred passes each take their time
_ARRAYS = 6  # of the layers' size that training holds: numbers, gradients, and Adam's own four
OPTIMISERS: dict[str, Callable[[Arrays], Optimiser]] = {"SGD": Sgd, "Adam": Adam}


class Training(NamedTuple):
    """What is seen of M networks with one optimiser.

    `loss` (M, updates) before each update; `ratio` (M, L) of each layer's weights, biases left out,
    from the first layer on: the norm of the change over that of the weights, median over the
    updates; `guess` (M,), the least loss of an answer that does not look at the inputs: the entropy
    of the labels.
    """

    loss: NDArray
    ratio: NDArray
    guess: NDArray


class Gradients(NamedTuple):
    """The loss (M,), and its gradients: of the layers' numbers (M, L, 1, I), zero after the last
    number of each, and of the head's weights (M, features, CLASSES)."""

    loss: NDArray
    layers: NDArray
    head: NDArray


class Classifiers:
    """Some networks of a spec with their heads and labels: `layers` (M, L, 1, I + 1), each layer's
    index after its numbers, `head` (M, features, CLASSES), `labels` (M, rows), a Transformer's
    (M, 1), `start` the state of the inputs. Both arrays of weights may be changed."""

    def __init__(self, spec: StackSpec, chosen: range) -> None:
        self._backend = backends.STACKS[0]
        networks = Networks(spec)
        self.stack: Stack = networks.stack
        self._kernels = backends.stack_kernels(self._backend, self.stack, entries=True)
        tape = networks.block(chosen, self._backend, self._kernels, 1).tape
        self.start, self._sizes = tape.state.copy(), tape.levels[0].sizes
        self.layers: NDArray = tape.x[:, : self.stack.depth]
        self._one = self.stack.arch == "transformer"  # sequence, of which the head sees the mean
        drawn = [
            self._draw(stream(spec.seed, m, Purpose.TASK), x)
            for m, x in zip(chosen, self._features(self.start)[..., : spec.hidden], strict=True)
        ]
        self.labels = np.stack([labels for labels, _ in drawn])
        self.head = np.stack([head for _, head in drawn]).astype(self.layers.dtype)

    def gradients(self) -> Gradients:
        """One pass forward and back."""
        level = Level(self.stack, self._kernels, self._kernels.prepare({}, None), self._sizes)
        tape = Tape(self._backend, [level], self.layers, self.start, budget=KEPT_BYTES)
        tape.run(_unseen)
        features = self._features(tape.state)
        loss, errors = _cross_entropy(_products(features, self.head), self.labels)
        head = _products(features.swapaxes(1, 2), errors)
        readout = self._to_state(_products(errors, self.head.swapaxes(1, 2)))
        return Gradients(loss, self._back(tape, readout), head)

    def _back(self, tape: Tape, readout: NDArray) -> NDArray:
        depth, found = self.stack.depth, np.zeros_like(self.layers[..., :-1])
        nothing = readout[:, :0]

        def joins(first: int, last: int) -> NDArray:
            return readout if last == depth else nothing

        def keep(first: int, emitted: Emitted) -> None:
            values, exponent = emitted.values[:, :, 0], emitted.exponent[:, :, 0]
            count = exponent.shape[1]
            found[:, first : first + count, 0] = unscaled(values, exponent)

        sweep = Sweep(tape, [depth], UNCLIPPED, record=False, gradients=True)
        sweep.run(joins, on_gradient=keep)
        return found

    def _features(self, state: NDArray) -> NDArray:
        """What a head sees (M, rows, features), of a state (M, 1, 1, units C)."""
        rows = state.reshape(len(state), self.stack.units, -1)[..., : self.stack.rows]
        rows = rows.swapaxes(1, 2)
        return rows.mean(axis=1, keepdims=True) if self._one else rows

    def _to_state(self, gradient: NDArray) -> NDArray:
        """The readout (M, 1, 1, 1, units C) of a gradient of the features."""
        columns = self.start.shape[-1] // self.stack.units
        found = np.zeros((len(gradient), self.stack.units, columns), self.layers.dtype)
        share = self.stack.rows if self._one else 1
        found[..., : self.stack.rows] = gradient.swapaxes(1, 2) / share
        return found.reshape(len(gradient), 1, 1, 1, -1)

    def _draw(self, rng: np.random.Generator, inputs: NDArray) -> tuple[NDArray, NDArray]:
        """One network's labels of its inputs (rows, width), and its head."""
        teacher = rng.standard_normal((inputs.shape[1], CLASSES))
        labels = np.einsum("bf,fk->bk", inputs, teacher).argmax(axis=1)
        features = self.stack.units
        return labels, rng.standard_normal((features, CLASSES)) / np.sqrt(features)


def training_bytes(spec: StackSpec) -> int:
    """Bytes that one network's numbers take while it is trained."""
    stack = spec.stack
    return _ARRAYS * stack.depth * (stack.most_numbers + 1) * np.dtype(spec.dtype).itemsize


def train(
    spec: StackSpec, updates: int = UPDATES, progress: Progress | None = None
) -> dict[str, Training]:
    """Train the first networks of a spec, TRAINED at most, with each of the OPTIMISERS.

    Numbers are of the spec's dtype: what is under its range is zero, and does not move the weights.
    """
    chosen = range(min(TRAINED, spec.networks))
    blocks = backends.blocks(backends.STACKS[0], len(chosen), training_bytes(spec))
    found = {}
    for place, name in enumerate(OPTIMISERS):
        parts = []
        for block in blocks:
            if progress is not None:
                done = (place * len(chosen) + block.start) / (len(OPTIMISERS) * len(chosen))
                progress(done, f"training with {name}")
            parts.append(train_some(spec, name, block, updates))
        found[name] = Training(*map(np.concatenate, zip(*parts, strict=True)))
    return found


@np.errstate(all="ignore")  # overflow and NaN are results
def train_some(spec: StackSpec, optimiser: str, chosen: range, updates: int) -> Training:
    """Train some networks of a spec with one of the OPTIMISERS."""
    networks = Classifiers(spec, chosen)
    numbers, weights = networks.layers[..., :-1], _weights(networks.stack)
    parameters = {"layers": numbers, "head": networks.head}
    trained = OPTIMISERS[optimiser](parameters)
    losses, ratios = [], []
    for _ in range(updates):
        found = networks.gradients()
        before = _norms(numbers, weights)
        changes = trained.update(parameters, {"layers": found.layers, "head": found.head})
        ratios.append(_norms(changes["layers"], weights) / before)
        losses.append(found.loss)
    ratio = median(np.stack(ratios, axis=1), axis=1)
    return Training(np.stack(losses, axis=1), ratio, _entropy(networks.labels))


def _unseen(saved: Saved) -> None:
    """Nobody looks at the activations."""


def _products(a: NDArray, b: NDArray) -> NDArray:
    """Matrix products, one network after the other and not by BLAS: the same bits whatever its
    threads and however many networks there are."""
    return np.stack([np.einsum("ij,jk->ik", x, y) for x, y in zip(a, b, strict=True)])


def _cross_entropy(logits: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    """Its mean over rows (M,), and its gradient by the logits (M, rows, CLASSES)."""
    shifted = logits - logits.max(axis=2, keepdims=True)
    shares = np.exp(shifted)
    total = shares.sum(axis=2, keepdims=True)
    true = labels[..., np.newaxis] == np.arange(logits.shape[2])
    loss = (np.log(total[..., 0]) - np.where(true, shifted, 0).sum(axis=2)).mean(axis=1)
    return loss, (shares / total - true) / labels.shape[1]


def _entropy(labels: NDArray) -> NDArray:
    """Of the shares of the labels (M, rows), nat."""
    shares = (labels[..., np.newaxis] == np.arange(CLASSES)).mean(axis=1)
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)


def _weights(stack: Stack) -> NDArray:
    """Which of the numbers (L, I) are weights, not biases or room for a larger layer's."""
    found = np.zeros((stack.depth, stack.most_numbers), bool)
    for layer in range(stack.depth):
        place = 0
        for one in stack.maps(layer):
            count = one.outputs * one.inputs
            found[layer, place : place + count] = True
            place += count + one.outputs
    return found


def _norms(values: NDArray, chosen: NDArray) -> NDArray:
    """Norms (M, L) of the chosen ones of values (M, L, 1, I), of which a square may be beyond the
    range."""
    sizes = np.where(chosen, np.abs(values[:, :, 0].astype(float)), 0)
    largest = sizes.max(axis=2, keepdims=True)
    parts = np.divide(sizes, largest, out=np.zeros_like(sizes), where=largest != 0)
    return largest[..., 0] * np.sqrt(np.square(parts).sum(axis=2))
