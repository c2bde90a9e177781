"""The batches that networks are trained on.

A batch depends on the seed, the network and the number of the update alone: it is the same for
every clip rule, rate and optimiser, however many networks there are, and after a resume.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from seqlab.measure.randomness import Purpose, stream
from seqlab.tasks import Batch, Task


def batch_of(
    task: Task,
    seed: int,
    network: int,
    update: int,
    length: int,
    sequences: int,
    purpose: Purpose = Purpose.TASK,
) -> Batch:
    """One network's batch for an update, counted from 0.

    With `Purpose.HELD_OUT` it is as many batches that it is never trained on. What the batches of a
    network share (its teacher) is the same for both purposes, and another one for every network, so
    that an interval over networks covers it.
    """
    rng = stream(seed, network, purpose, update)
    if task.shared is None:
        return task.batch(rng, length, sequences)
    shared = _shared(task.shared, seed, network, length, task.value)
    return task.batch(rng, length, sequences, shared)


def batches_of(
    task: Task,
    seed: int,
    networks: Iterable[int],
    update: int,
    length: int,
    sequences: int,
    purpose: Purpose = Purpose.TASK,
) -> Batch:
    """Batches of M networks for an update, as an ensemble takes them: x (M, T', B, I), targets
    (M, n, B, K) or (M, n, B). A network may be there several times, once for every rule and rate:
    its sequences are drawn once."""
    order = tuple(networks)
    drawn = {
        m: batch_of(task, seed, m, update, length, sequences, purpose) for m in dict.fromkeys(order)
    }
    chosen = [drawn[m] for m in order]
    x, targets = (np.stack(parts) for parts in list(zip(*chosen, strict=True))[:2])
    return Batch(x, targets, chosen[0].at)


@lru_cache(maxsize=1024)
def _shared(
    draw: Callable[..., NDArray], seed: int, network: int, length: int, value: float | None
) -> NDArray:
    """Kept between updates, for it takes longer to draw than a batch."""
    found = draw(stream(seed, network, Purpose.TEACHER), length, value)
    found.flags.writeable = False
    return found
