"""Two or more sides doing the same work, in turns: checked first, then timed side by side."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.bench.rows import Label, Row

TOLERANCE = 1e-6  # of a gradient in float64, relative to its largest entry
OURS = "seqlab"
BEST = f"best / {OURS}"  # the fastest peer's ratio
DTYPES = ("float64", "float32")

Answer = Mapping[str, NDArray]


class Disagreement(Exception):
    """Two sides did not compute the same thing: there is nothing to time."""


@dataclass(frozen=True)
class Timing:
    """How to time: each side has `rounds` turns, alternating; a turn calls it until `turn` seconds
    have passed, after `settle` seconds of rest; a side whose turns took more than `patience`
    seconds in all sits out the rounds that are left."""

    rounds: int
    turn: float
    settle: float
    patience: float


@dataclass
class Side:
    """One contestant. `call` does the work and returns when it is done; `answer` makes what it
    returned comparable; times are divided by `work` (steps, say)."""

    name: str
    call: Callable[[], Any]
    answer: Callable[[Any], Answer] = lambda result: {}
    work: float = 1.0
    compiles: bool = False  # so that its first call is worth reporting
    whole: bool = True  # whether it does all that the others do; else it is a floor, and no peer
    facts: Mapping[str, float] = field(default_factory=dict)  # about how it ran
    first: float | None = None  # seconds of the first call, with what it had to compile
    turns: list[float] = field(default_factory=list)  # seconds of one call

    def run(self) -> Any:
        """Call once; the first time is kept."""
        start = time.perf_counter()
        result = self.call()
        if self.first is None:
            self.first = time.perf_counter() - start
        return result


@dataclass(frozen=True)
class Contest:
    """Sides that do the same, under labels that say what, and what a check found."""

    labels: Mapping[str, Label]
    sides: Sequence[Side]
    error: float | None = None


def checked_pair(
    labels: Mapping[str, Label], build: Callable[[str], Sequence[Side]]
) -> list[Contest]:
    """A contest in float64, which is checked, and the same in float32.

    `build(dtype)` gives the sides, ours first. Raises Disagreement.
    """
    double, single = DTYPES
    sides = build(double)
    error = check(sides[0], sides[1:])
    return [
        Contest({**labels, "dtype": double}, sides, error),
        Contest({**labels, "dtype": single}, build(single)),
    ]


def check(ours: Side, peers: Iterable[Side]) -> float:
    """The largest relative difference between our answer and the peers', all in float64.

    Raises Disagreement where it is above TOLERANCE, or where names or shapes differ.
    """
    mine = ours.answer(ours.run())
    return max((_difference(mine, peer.name, peer.answer(peer.run())) for peer in peers), default=0)


def _difference(mine: Answer, name: str, theirs: Answer) -> float:
    if mine.keys() != theirs.keys():
        raise Disagreement(f"{name} answers {sorted(theirs)}, seqlab {sorted(mine)}")
    worst = 0.0
    for key, want in theirs.items():
        have = mine[key]
        if have.shape != want.shape or have.dtype != want.dtype:
            raise Disagreement(f"{key}: {name} has {want.shape} {want.dtype}, seqlab {have.shape}")
        error = float(np.abs(have - want).max() / np.abs(want).max())
        if not error <= TOLERANCE:
            raise Disagreement(f"{key}: seqlab is {error:.1e} away from {name}")
        worst = max(worst, error)
    return worst


def race(contests: Sequence[Contest], timing: Timing) -> None:
    """Time all sides, alternating: in each round every side has one turn in each contest.

    A side takes its turns of all contests one after the other, so that one rest serves them.
    """
    names = list(dict.fromkeys(side.name for contest in contests for side in contest.sides))
    for contest in contests:
        for side in contest.sides:
            if side.first is None:
                side.run()
    for _ in range(timing.rounds):
        for name in names:
            willing = [
                side
                for contest in contests
                for side in contest.sides
                if side.name == name and sum(side.turns) <= timing.patience
            ]
            if willing:
                time.sleep(timing.settle)
            for side in willing:
                side.turns.append(turn(side.call, timing.turn))


def turn(
    call: Callable[[], Any],
    seconds: float,
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> float:
    """The time of a call, the median `of` the calls that fit in `seconds`, at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return of(times)


def row(contest: Contest, unit: float, base: str = OURS) -> Row:
    """What a finished contest measured: times in `unit` seconds, and their ratios to the side
    `base`, round by round."""
    times = {side.name: [t / side.work / unit for t in side.turns] for side in contest.sides}
    ratios = {
        f"{name} / {base}": [theirs / mine for theirs, mine in zip(side, times[base], strict=False)]
        for name, side in times.items()
        if name != base
    }
    peers = [ratios[f"{s.name} / {base}"] for s in contest.sides if s.whole and s.name != base]
    if peers and base == OURS:
        ratios[BEST] = min(peers, key=statistics.median)
    facts: dict[str, float] = {}
    for side in contest.sides:
        facts |= side.facts
        if side.compiles:
            facts[f"{side.name} first call, s"] = side.first or 0.0
    if contest.error is not None:
        facts["difference"] = contest.error
    return Row(contest.labels, times, ratios, facts)
