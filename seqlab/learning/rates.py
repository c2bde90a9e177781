"""The learning rate of each rule: the best of several, on networks that nobody is told of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from seqlab.learning.checkpoint import Checkpoint
from seqlab.learning.course import Course, Learned, Tick
from seqlab.measure.randomness import Purpose, stream
from seqlab.rules import Rule


def best_rates(
    course: Course,
    networks: int,
    rules: Sequence[Rule],
    rates: Sequence[float],
    tick: Tick,
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """For each rule the rate at which most networks solve the task; of equals the one that takes
    fewest updates together, then the one with the smallest mean of last losses, then the first.

    As many networks are trained as are to be reported, with other seeds: their own and their
    sequences'. A loss that is not finite is larger than all others.
    """
    if len(rates) == 1:
        return [rates[0]] * len(rules)
    other = replace(course, seed=seed_of_choice(course.seed))
    grid = [(rule, rate, m) for rule in rules for rate in rates for m in range(networks)]
    of_rule, of_rate, numbers = (list(column) for column in zip(*grid, strict=True))
    learned = other.train(numbers, of_rule, of_rate, tick, checkpoint=checkpoint)
    return [rates[place] for place in best(learned, (len(rules), len(rates), networks))]


def best(learned: Learned, shape: tuple[int, int, int]) -> list[int]:
    """The place of each rule's best rate, of networks laid out as (rules, rates, networks)."""
    solved_at = learned.solved_at.reshape(shape)
    solved = solved_at >= 0
    last = np.where(np.isfinite(learned.final) & (learned.ended < 0), learned.final, np.inf)
    unsolved = -solved.sum(axis=2)
    updates = np.where(solved, solved_at, 0).sum(axis=2)
    losses = last.reshape(shape).mean(axis=2)
    return [int(np.lexsort(keys)[0]) for keys in zip(losses, updates, unsolved, strict=True)]


def seed_of_choice(seed: int) -> int:
    """The seed of the networks on which rates are chosen: another one for each seed."""
    return int(stream(seed, 0, Purpose.RATES).integers(2**63))
