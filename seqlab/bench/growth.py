"""How our own time grows: with threads, and with the sizes of an ensemble."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import seqlab
from seqlab.bench import floor, problems
from seqlab.bench.contests import MICRO
from seqlab.bench.jobs import Context, Job
from seqlab.bench.race import DTYPES, OURS, Contest, Side, race, row
from seqlab.bench.rows import Row
from seqlab.cells import CELLS, Draw, Sizes

FLOOR = "floor"
THREADS = "NUMBA_NUM_THREADS"  # read by our kernels at each call


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = os.environ.get(THREADS)
    os.environ[THREADS] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before


def limited(call: Callable[[], Any], threads: int) -> Callable[[], Any]:
    """A call of our kernels on so many threads."""

    def on_threads() -> Any:
        with _threads(threads):
            return call()

    return on_threads


@dataclass(frozen=True)
class Threads:
    """The attenuation study of an ensemble on one thread and on several, seconds."""

    cells: Sequence[str]
    hidden: int
    inputs: int
    networks: int
    lengths: Sequence[int]
    threads: int
    turn: float  # s, long enough that the first call after a rest weighs little

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job("ensemble", self._measure)

    def _measure(self, context: Context) -> list[Row]:
        sizes, several = Sizes(self.hidden, self.inputs), f"{self.threads} threads"
        contests = []
        for cell in self.cells:
            for dtype in DTYPES:
                study = problems.Study.draw(cell, sizes, self.networks, self.lengths, 0, dtype)
                call = study.side().call
                sides = [
                    Side(several, limited(call, self.threads)),
                    Side("1 thread", limited(call, 1)),
                ]
                contests.append(Contest({"cell": cell, "dtype": dtype}, sides))
        race(contests, replace(context.timing, turn=self.turn))
        return [row(contest, 1.0, base=several) for contest in contests]


@dataclass(frozen=True)
class Growth:
    """`seqlab.attenuation` at one length as one size grows: microseconds a step on one thread, and
    the floor of as many steps."""

    cell: str
    dtype: str
    steps: int
    inputs: int
    hidden: Sequence[int]
    batch: Sequence[int]
    networks: Sequence[int]

    def jobs(self) -> Iterator[Job]:
        """One for each size that grows."""
        for size, letter in (("hidden", "H"), ("batch", "B"), ("networks", "M")):
            yield Job(size, partial(self._measure, letter, getattr(self, size)))

    def _measure(self, letter: str, values: Sequence[int], context: Context) -> list[Row]:
        contests, floors = [], []
        for value in values:
            grown = {"H": 64, "B": 1, "M": 1, letter: value}
            side = Side(OURS, limited(self._call(**grown), 1), work=self.steps)
            contests.append(Contest({"grows": letter, "size": value}, [side]))
            sizes = Sizes(grown["H"], self.inputs)
            steps = floor.attenuation(self.cell, sizes, grown["B"], [self.steps])
            bound = floor.bounds(self.cell, sizes.hidden, self.dtype, steps).floor
            floors.append(grown["M"] * bound / self.steps / MICRO)
        race(contests, context.timing)
        return [
            row(contest, MICRO).with_facts({FLOOR: bound})
            for contest, bound in zip(contests, floors, strict=True)
        ]

    def _call(self, H: int, B: int, M: int) -> Callable[[], Any]:
        rng = np.random.default_rng(10)
        drawn = [CELLS[self.cell].draw(rng, Sizes(H, self.inputs), Draw()) for _ in range(M)]
        params = {n: np.stack([one[n] for one in drawn]).astype(self.dtype) for n in drawn[0]}
        x = rng.standard_normal((M, self.steps, B, self.inputs)).astype(self.dtype)
        return lambda: seqlab.attenuation(self.cell, params, x, [self.steps])
