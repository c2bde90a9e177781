"""How trained networks do on sequences of their task that they never saw, of another length."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Parameters
from seqlab.learning.batches import batches_of
from seqlab.learning.networks import Networks
from seqlab.measure.randomness import Purpose
from seqlab.spec.learn import LearnSpec
from seqlab.tasks import TESTED_BY
from seqlab.tasks.losses import LOSSES, accuracy


def held_out(
    spec: LearnSpec, length: int, params: Parameters, networks: Sequence[int]
) -> tuple[NDArray, NDArray | None]:
    """The mean loss (E,) of TESTED_BY sequences or more, and the share (E,) of right answers where
    answers are classes.

    `params` (E, ...) are those of networks `networks` after training on a length. Of sequences that
    are longer than those of training, the steps past the last one of these are judged alone.
    """
    task, test = spec.trained_on, spec.test_length
    assert test is not None
    trained = Networks.of(spec.arch, params, spec.activation)
    costs, right = [], []
    for part in range(-(-TESTED_BY // spec.sequences)):
        # Part 0 of what is held out is the sequence of the curves.
        batch = batches_of(
            task, spec.seed, networks, 1 + part, test, spec.sequences, Purpose.HELD_OUT
        )
        judged = batch.at >= task.steps(length) if test > length else np.ones(len(batch.at), bool)
        y = trained.outputs(batch.x.astype(spec.dtype), batch.at[judged])
        targets = batch.targets[:, judged]
        costs.append(LOSSES[task.loss](y, targets)[0])
        if task.classifies:
            right.append(accuracy(y, targets))
    return np.mean(costs, axis=0), np.mean(right, axis=0) if right else None
