"""Courses of training for the tests, small ones: as a CellCourse, as a spec, and naive ones."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

import naive_training
import numpy as np
import numpy.typing as npt

from seqlab.cells import Draw, Sizes
from seqlab.learning.batches import batch_of
from seqlab.learning.course import Learned
from seqlab.learning.of_cells import CellCourse, course_of, measure
from seqlab.spec.learn import LearnSpec
from seqlab.tasks import find_task

Array = npt.NDArray[Any]
Params = dict[str, Array]

LOSSES = {"squared": naive_training.squared, "cross-entropy": naive_training.cross_entropy}
# Of numbers of training against the naive ones: twelve updates of some thousand roundings of
# 1.1e-16 each.
NEAR = 1e-9
SMALL: dict[str, Any] = {
    "arch": "rnn",
    "lengths": [4, 7],
    "hidden": 4,
    "networks": 2,
    "updates": 12,
    "sequences": 25,
    "seed": 3,
    "dtype": "float64",
    "clip": ["none", "norm:0.5x", "step-norm:0.2"],
}


def small(**given: Any) -> LearnSpec:
    return LearnSpec.create(**SMALL | given)


def data(spec: LearnSpec, **more: Any) -> dict[str, Array]:
    return {name: one.data for name, one in measure(spec, **more).variables.items()}


C = TypeVar("C", bound=CellCourse)


def course(
    name: str = "latch",
    length: int = 6,
    kind: type[C] = CellCourse,
    **changes: Any,
) -> C:
    task = find_task(name)
    plain = kind(
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


# The naive course.


def gradients(spec: LearnSpec, params: Params, batch: Any, clip: str) -> tuple[float, Params]:
    loss = LOSSES[spec.trained_on.loss](batch.targets)
    activation = spec.activation or "tanh"
    at = batch.at.tolist()
    return naive_training.gradients(spec.arch, params, batch.x, at, loss, activation, clip)


def norm(grads: Params) -> float:
    return math.sqrt(sum(float((g**2).sum()) for g in grads.values()))


def batch_at(spec: LearnSpec, m: int, update: int, length: int) -> Any:
    return batch_of(spec.trained_on, spec.seed, m, update, length, spec.sequences)


def naive_course(spec: LearnSpec, m: int, length: int, clip: str) -> dict[str, Any]:
    """One network's losses and parameters after all updates, and whether its rule acted."""
    params = {name: array.copy() for name, array in course_of(spec, length).drawn(m).items()}
    (rate,) = spec.lr
    change = naive_training.OPTIMISERS[spec.optimizer](rate)
    losses, fired = [], []
    for update in range(spec.updates):
        batch = batch_at(spec, m, update, length)
        loss, found = gradients(spec, params, batch, clip)
        plain = gradients(spec, params, batch, "none")[1]
        fired.append(any((found[name] != plain[name]).any() for name in plain))
        losses.append(loss)
        for name, step in change(found).items():
            params[name] = params[name] + step
    return {"losses": losses, "params": params, "fired": fired}


def same(one: dict[str, Array], other: dict[str, Array]) -> None:
    assert one.keys() == other.keys()
    for name, values in other.items():
        np.testing.assert_array_equal(one[name], values, err_msg=name, strict=True)


# The lines of the checklist of training, by name.
LAG = "gradient, first over last step"
NORM = "gradient norm"
RATIO = "updates over weights"
SMALLEST = "smallest gradient of a parameter"
ACTS = "updates at which a rule acts"
DEAD = "dead units"
STUCK = "units without a slope"
SATURATED = "saturated activations"
ENDED = "networks that have ended"
