"""The cases that have peers: gradients, the attenuation study, the selective scan, deep stacks,
training."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from seqlab.bench import problems, training
from seqlab.bench.jobs import Context, Job
from seqlab.bench.peers import sides
from seqlab.bench.race import Contest, Disagreement, Side, checked_pair, race, row
from seqlab.bench.rows import Row
from seqlab.cells import Sizes

MICRO, NANO = 1e-6, 1e-9


def _sides(context: Context, contest: str, problem: Any) -> list[Side]:
    """Ours first; on a GPU our own CPU is one of the peers."""
    own = [problem.side(context.backend)]
    if context.backend != "cpu":
        own.append(problem.side("cpu", "cpu"))
    return own + sides(context.peers, contest, problem)


def _rows(contests: Sequence[Contest], context: Context, unit: float) -> list[Row]:
    race(contests, context.timing)
    return [row(contest, unit) for contest in contests]


@dataclass(frozen=True)
class Gradients:
    """Forward and backward of one network, or of an ensemble, for all gradients: microseconds a
    step of one network."""

    cells: Sequence[str]
    hidden: Sequence[int]
    batch: Sequence[int]
    steps: int
    inputs: int
    networks: int | None = None

    def jobs(self) -> Iterator[Job]:
        """One for each cell and width."""
        for cell in self.cells:
            for hidden in self.hidden:
                sizes = Sizes(hidden, self.inputs)
                yield Job(f"{cell}-{hidden}", partial(self._measure, cell, sizes), peers=True)

    def _measure(self, cell: str, sizes: Sizes, context: Context) -> list[Row]:
        contests: list[Contest] = []
        for batch in self.batch:

            def build(dtype: str, batch: int = batch) -> list[Side]:
                problem = problems.Gradients.draw(
                    cell, sizes, self.steps, batch, dtype, self.networks
                )
                return _sides(context, "gradients", problem)

            contests += checked_pair({"cell": cell, "H": sizes.hidden, "B": batch}, build)
        return _rows(contests, context, MICRO)


@dataclass(frozen=True)
class Study:
    """The gradient of the last output with respect to the first state, for many lengths: seconds
    for an ensemble."""

    cells: Sequence[str]
    hidden: int
    inputs: int
    networks: int
    lengths: Sequence[int]
    checked: int

    def jobs(self) -> Iterator[Job]:
        """One for each cell."""
        for cell in self.cells:
            yield Job(cell, partial(self._measure, cell), peers=True)

    def _measure(self, cell: str, context: Context) -> list[Row]:
        def build(dtype: str) -> list[Side]:
            problem = problems.Study.draw(
                cell,
                Sizes(self.hidden, self.inputs),
                self.networks,
                self.lengths,
                self.checked,
                dtype,
            )
            return _sides(context, "study", problem)

        return _rows(checked_pair({"cell": cell}, build), context, 1.0)


@dataclass(frozen=True)
class Scan:
    """A selective scan forward and backward, nanoseconds for each of its B D N L states."""

    batch: int
    channels: int
    states: int
    steps: Sequence[int]

    def jobs(self) -> Iterator[Job]:
        """One for each length."""
        for steps in self.steps:
            yield Job(f"{steps}", partial(self._measure, steps), peers=True)

    def _measure(self, steps: int, context: Context) -> list[Row]:
        def build(dtype: str) -> list[Side]:
            problem = problems.Scan.draw(self.batch, self.channels, self.states, steps, dtype)
            return _sides(context, "scan", problem)

        return _rows(checked_pair({"L": steps}, build), context, NANO)


@dataclass(frozen=True)
class Stacks:
    """Forward and backward of deep stacks for all gradients, beside the products alone:
    microseconds a layer of one stack. Each of `sizes` has networks, layers and width."""

    sizes: Sequence[Mapping[str, int]]
    batch: int

    def jobs(self) -> Iterator[Job]:
        """One for each size."""
        for size in self.sizes:
            yield self._job(**size)

    def _job(self, networks: int, layers: int, width: int) -> Job:
        def measure(context: Context) -> list[Row]:
            def build(dtype: str) -> list[Side]:
                problem = problems.Stacks.draw(networks, layers, width, self.batch, dtype)
                return [*_sides(context, "stacks", problem), problem.products()]

            labels = {"M": networks, "L": layers, "n": width}
            return _rows(checked_pair(labels, build), context, MICRO)

        return Job(f"{networks}x{layers}x{width}", measure, peers=True)


@dataclass(frozen=True)
class Training:
    """Updates of networks that learn to add, for each of `networks` trained together: microseconds
    an update of one network. A call makes so many `updates`."""

    cells: Sequence[str]
    hidden: int
    batch: int
    steps: int
    networks: Sequence[int]
    updates: int

    def jobs(self) -> Iterator[Job]:
        """One for each cell."""
        for cell in self.cells:
            yield Job(cell, partial(self._measure, cell), peers=True)

    def _measure(self, cell: str, context: Context) -> list[Row]:
        contests: list[Contest] = []
        for networks in self.networks:

            def build(dtype: str, networks: int = networks) -> list[Side]:
                problem = training.Training.draw(
                    cell, self.hidden, networks, self.updates, self.steps, self.batch, dtype
                )
                return _sides(context, "training", problem)

            contests += checked_pair({"cell": cell, "M": networks}, build)
        rows = _rows(contests, context, MICRO)
        for contest in contests:
            for side in contest.sides:
                _still_trains(side)
        return rows


def _still_trains(side: Side) -> None:
    """Raises Disagreement where a side's training came to numbers that are not finite: what was
    timed was not what was checked."""
    for name, array in side.answer(side.run()).items():
        if not np.isfinite(array).all():
            raise Disagreement(f"{name}: {side.name} has trained to what is not finite")
