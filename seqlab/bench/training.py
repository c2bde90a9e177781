"""Training as all sides are given it, and our own side of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqlab.bench.problems import Arrays
from seqlab.bench.race import OURS, Answer, Side
from seqlab.cells import CELLS, Draw, Sizes
from seqlab.learning.batches import batches_of
from seqlab.learning.networks import BIAS, WEIGHT, Networks
from seqlab.learning.optimisers import Adam
from seqlab.learning.trainer import Seen, Trainer
from seqlab.rules import Rule
from seqlab.tasks import TASKS
from seqlab.tasks.task import Batch


@dataclass(frozen=True)
class Training:
    """M networks of a cell with a linear readout learn to add two numbers of a sequence: one update
    for each of `batches`, the squared error at the last step, gradients clipped by their norm at
    `threshold`, and Adam.

    A call makes these updates, and the next one goes on from there: parameters change, the work
    does not, for the batches are the same. params (M, ...), the readout's among them.
    """

    cell: str
    params: Arrays
    batches: Sequence[Batch]
    threshold: float
    rate: float

    @classmethod
    def draw(
        cls, cell: str, hidden: int, networks: int, updates: int, steps: int, batch: int, dtype: str
    ) -> "Training":
        """PyTorch's initialisation, of the readout too; the same numbers in both dtypes."""
        task, rng = TASKS["adding"], np.random.default_rng(12)
        sizes, bound = Sizes(hidden, task.inputs), 1 / math.sqrt(hidden)
        drawn = [CELLS[cell].draw(rng, sizes, Draw()) for _ in range(networks)]
        params = {name: np.stack([one[name] for one in drawn]) for name in drawn[0]}
        params[WEIGHT] = rng.uniform(-bound, bound, (networks, task.outputs, hidden))
        params[BIAS] = rng.uniform(-bound, bound, (networks, task.outputs))
        batches = [
            batches_of(task, 12, range(networks), update, steps, batch) for update in range(updates)
        ]
        return cls(
            cell,
            {name: array.astype(dtype) for name, array in params.items()},
            [Batch(one.x.astype(dtype), one.targets.astype(dtype), one.at) for one in batches],
            threshold=1.0,
            rate=1e-3,
        )

    @property
    def work(self) -> int:
        """Updates in a call, of one network each."""
        return len(self.batches) * len(self.params[BIAS])

    def side(self, backend: str = "cpu", name: str = OURS) -> Side:
        """`Trainer`, all networks as one ensemble."""
        params = {key: array.copy() for key, array in self.params.items()}  # training changes them
        trainer = Trainer(
            Networks.of(self.cell, params, backend=backend),
            TASKS["adding"].loss,
            [Rule("norm", self.threshold)] * len(params[BIAS]),
            Adam(params, self.rate),
        )

        def call() -> list[Seen]:
            return [trainer.update(batch) for batch in self.batches]

        def answer(result: list[Seen]) -> Answer:
            return self.trained(trainer.parameters(), np.array([seen.loss for seen in result]))

        return Side(name, call, answer, self.work)

    def trained(self, params: Arrays, losses: NDArray) -> Answer:
        """Parameters (M, ...) after a call, and the losses (updates, M) before each update, of
        every network as arrays of its own."""
        networks = range(len(params[BIAS]))
        found = {f"{name} {m}": array[m] for name, array in params.items() for m in networks}
        return found | {f"loss {m}": losses[:, m] for m in networks}
