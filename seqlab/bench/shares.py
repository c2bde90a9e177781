"""The machine's floor, and the share of it that each kernel reaches on one thread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import seqlab
from seqlab.bench import floor, problems
from seqlab.bench.contests import MICRO, NANO
from seqlab.bench.growth import limited
from seqlab.bench.jobs import Context, Job
from seqlab.bench.race import DTYPES, OURS, Contest, Side, race, row
from seqlab.bench.rows import Row
from seqlab.cells import Sizes

GIGA, KIB = 1e9, 1024

Task = tuple[str, Side, Sequence[tuple[int, floor.Work]]]  # its name, our side, the steps it takes


@dataclass(frozen=True)
class Floor:
    """What one core does at best."""

    stream_kib: Sequence[int]

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job("core", self._measure)

    def _measure(self, context: Context) -> list[Row]:
        del context
        sizes = {f"read {kib} KiB again and again, GB/s": kib * KIB for kib in self.stream_kib}
        found = {name: floor.stream(size) / GIGA for name, size in sizes.items()}
        for dtype in DTYPES:
            found[f"matrix product in {dtype}, GFLOP/s"] = floor.product(dtype) / GIGA
        for dtype in DTYPES:
            found[f"exponential in {dtype}, ns"] = floor.exponential(dtype) / NANO
        return [Row({"one core": name}, facts={"measured": value}) for name, value in found.items()]


@dataclass(frozen=True)
class Shares:
    """One network on one thread beside its floor, microseconds a step."""

    cells: Sequence[str]
    hidden: int
    inputs: int
    batch: Sequence[int]
    steps: int
    lengths: Sequence[int]

    def jobs(self) -> Iterator[Job]:
        """One for each cell."""
        for cell in self.cells:
            yield Job(cell, partial(self._measure, cell))

    def _measure(self, cell: str, context: Context) -> list[Row]:
        contests, floors = [], []
        for dtype in DTYPES:
            for name, side, steps in self._tasks(cell, dtype):
                ours = Side(OURS, limited(side.call, 1), work=side.work)
                contests.append(Contest({"cell": cell, "dtype": dtype, "work": name}, [ours]))
                floors.append(floor.bounds(cell, self.hidden, dtype, steps).times(1 / side.work))
        race(contests, context.timing)
        return [
            _beside(row(contest, MICRO), bounds, MICRO)
            for contest, bounds in zip(contests, floors, strict=True)
        ]

    def _tasks(self, cell: str, dtype: str) -> Iterator[Task]:
        sizes = Sizes(self.hidden, self.inputs)
        for batch in self.batch:
            problem = problems.Gradients.draw(cell, sizes, self.steps, batch, dtype)
            ahead = (self.steps, floor.forward(cell, sizes, batch))
            back = (self.steps, floor.backward(cell, sizes, batch, gradients=True))
            yield f"forward, B {batch}", _forward(problem), [ahead]
            yield f"all gradients, B {batch}", problem.side(), [ahead, back]
        study = problems.Study.draw(cell, sizes, 1, self.lengths, 0, dtype).side()
        study.work = self.lengths[-1]
        yield "study", study, floor.attenuation(cell, sizes, 1, self.lengths)


def _forward(problem: problems.Gradients) -> Side:
    forward = partial(seqlab.forward, problem.cell, problem.params, problem.x, problem.state)
    return Side(OURS, forward, work=len(problem.x))


def _beside(measured: Row, bounds: floor.Bounds, unit: float) -> Row:
    """A row with its bounds in `unit` seconds, and the shares they are of the time it took."""
    time = measured.value(OURS) * unit
    return measured.with_facts(
        {
            "stream": bounds.stream / unit,
            "product": bounds.product / unit,
            "exp": bounds.exponential / unit,
            "share": bounds.floor / time,
            "share with exp": (bounds.floor + bounds.exponential) / time,
        }
    )


@dataclass(frozen=True)
class ScanShare:
    """The selective scan on one thread beside one exponential of each state in each direction,
    nanoseconds a state."""

    batch: int
    channels: int
    states: int
    steps: int

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job("scan", self._measure)

    def _measure(self, context: Context) -> list[Row]:
        contests = []
        for dtype in DTYPES:
            problem = problems.Scan.draw(self.batch, self.channels, self.states, self.steps, dtype)
            side = problem.side()
            ours = Side(OURS, limited(side.call, 1), work=side.work)
            contests.append(Contest({"dtype": dtype}, [ours]))
        race(contests, context.timing)
        rows = [row(contest, NANO) for contest in contests]
        floors = [2 * floor.exponential(dtype) / NANO for dtype in DTYPES]
        return [
            measured.with_facts({"exp": bound, "share": bound / measured.value(OURS)})
            for measured, bound in zip(rows, floors, strict=True)
        ]
