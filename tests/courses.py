"""Courses of training for the tests, small ones."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from seqlab.cells import Draw, Sizes
from seqlab.learning.course import Course, Learned
from seqlab.tasks import find_task


def course(name: str = "latch", length: int = 6, **changes: Any) -> Course:
    task = find_task(name)
    plain = Course(
        arch="rnn",
        sizes=Sizes(16, task.inputs),
        how=Draw(init="orthogonal"),
        activation="tanh",
        task=task,
        length=length,
        sequences=16,
        updates=150,
        optimiser="adam",
        options=(),
        cosine=False,
        solved=task.solved(length),
        seed=0,
        dtype="float32",
    )
    return replace(plain, **changes)


def equal(one: Learned, other: Learned) -> bool:
    pairs = zip(arrays(one), arrays(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def arrays(found: Learned) -> Iterator[Any]:
    """All that becomes of networks, in its order."""
    yield from found[:-2]
    yield from found.params.values()
    yield from found.looks
