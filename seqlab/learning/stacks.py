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

from seqlab.kernels import backends
from seqlab.kernels.layout import unscaled
from seqlab.learning.optimisers import Adam, Arrays, Optimiser, Sgd
from seqlab.learning.stack_networks import (
    BACKEND,
    HEAD,
    LAYERS,
    StackNetworks,
    draw_head,
    norms_of,
    weights_of,
)
from seqlab.measure.progress import Pace
from seqlab.measure.randomness import Purpose, stream
from seqlab.measure.stack_networks import Networks
from seqlab.numbers.statistics import median
from seqlab.rules import UNCLIPPED
from seqlab.spec.kinds import Progress
from seqlab.spec.stack import StackSpec
from seqlab.tasks import CLASSES
from seqlab.tasks.losses import LOSSES

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


class Classifiers:
    """Some networks of a spec with their heads, inputs and labels: `networks`, whose numbers may be
    changed in place; the inputs `x` (M, T, B, n) as StackNetworks has them, and their `labels`
    (M, 1, B)."""

    def __init__(self, spec: StackSpec, chosen: range) -> None:
        drawn = Networks(spec)
        stack, kernels = drawn.stack, backends.stack_kernels(BACKEND, drawn.stack, entries=True)
        tape = drawn.block(chosen, BACKEND, kernels, 1).tape
        layers: NDArray = tape.x[:, : stack.depth]
        start = tape.state.reshape(len(chosen), stack.units, -1)[:, : stack.width, : stack.rows]
        tokens = stack.rows if stack.arch == "transformer" else 1
        self.x = start.reshape(len(chosen), stack.width, -1, tokens).transpose(0, 3, 2, 1)
        tasks = [
            self._draw(stream(spec.seed, m, Purpose.TASK), x.mean(axis=0), stack.units)
            for m, x in zip(chosen, self.x, strict=True)
        ]
        self.labels = np.stack([labels for labels, _ in tasks])[:, np.newaxis]
        head = np.stack([head for _, head in tasks]).astype(layers.dtype)
        self.networks = StackNetworks(stack, {LAYERS: layers[:, :, 0, :-1].copy(), HEAD: head})

    def gradients(self) -> tuple[NDArray, dict[str, NDArray]]:
        """One pass forward and back: the loss (M,), and the gradients of both parameters."""

        def loss(networks: range, y: NDArray) -> tuple[NDArray, NDArray]:
            return LOSSES["cross-entropy"](y, self.labels)

        last = np.array([self.x.shape[1] - 1])
        value, sums, _ = self.networks.gradients(self.x, last, loss, UNCLIPPED)
        dtype = self.x.dtype
        found = {n: unscaled(v, sums.exponent).astype(dtype) for n, v in sums.values.items()}
        return value, found

    @staticmethod
    def _draw(rng: np.random.Generator, inputs: NDArray, features: int) -> tuple[NDArray, NDArray]:
        """One network's labels of its inputs (B, width), and its head."""
        teacher = rng.standard_normal((inputs.shape[1], CLASSES))
        labels = np.einsum("bf,fk->bk", inputs, teacher).argmax(axis=1)
        return labels, draw_head(rng, features)


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
    blocks = backends.blocks(BACKEND, len(chosen), training_bytes(spec))
    found, pace, work = {}, Pace(progress), updates * len(OPTIMISERS) * len(chosen)
    done = 0
    for name in OPTIMISERS:
        parts = []
        for block in blocks:

            def tick(update: int, name: str = name, of: range = block, before: int = done) -> None:
                pace((before + update * len(of)) / work, f"training with {name}")

            parts.append(train_some(spec, name, block, updates, tick))
            done += updates * len(block)
        found[name] = Training(*map(np.concatenate, zip(*parts, strict=True)))
    pace(1.0, "trained")
    return found


@np.errstate(all="ignore")  # overflow and NaN are results
def train_some(
    spec: StackSpec,
    optimiser: str,
    chosen: range,
    updates: int,
    tick: Callable[[int], None] = lambda update: None,
) -> Training:
    """Train some networks of a spec with one of the OPTIMISERS; `tick(update)` is told of each."""
    classifiers = Classifiers(spec, chosen)
    parameters, weights = classifiers.networks.params, weights_of(classifiers.networks.stack)
    trained = OPTIMISERS[optimiser](parameters)
    losses, ratios = [], []
    for update in range(updates):
        tick(update)
        loss, gradients = classifiers.gradients()
        before = norms_of(parameters[LAYERS], weights)
        changes = trained.update(parameters, gradients)
        ratios.append(norms_of(changes[LAYERS], weights) / before)
        losses.append(loss)
    ratio = median(np.stack(ratios, axis=1), axis=1)
    return Training(np.stack(losses, axis=1), ratio, _entropy(classifiers.labels))


def _entropy(labels: NDArray) -> NDArray:
    """Of the shares of the labels (M, 1, B), nat."""
    shares = (labels[:, 0, :, np.newaxis] == np.arange(CLASSES)).mean(axis=1)
    return -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
