"""A claim put to the test: its cases found in a store or measured, and what follows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seqlab.claims.claim import Case, Claim
from seqlab.measure.progress import parts
from seqlab.numbers.estimate import Estimate, exactly
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress
from seqlab.study import run
from seqlab.study.result import Result
from seqlab.study.store import Store


class Number(NamedTuple):
    """What a case gave, and what theory says of it, or a paper prints; None for nothing."""

    found: Estimate
    theory: float | None


@dataclass(frozen=True)
class Finding:
    """A claim and the numbers of its cases, None where not all are measured."""

    claim: Claim
    numbers: tuple[Number, ...] | None

    @property
    def verdict(self) -> str | None:
        """What follows from the numbers, None where there are none."""
        if self.numbers is None:
            return None
        return self.claim.verdict([number.found for number in self.numbers])


class Court:
    """Where claims are settled: a store of results, and the backend that measures what it lacks."""

    def __init__(self, store: Path, backend: str, report: Callable[[str], None]) -> None:
        self._store, self._folder = Store(store), store
        self._backend, self._report = backend, report

    def stored(self, claim: Claim) -> Finding:
        """What the store says of a claim."""
        there = self.results(claim)
        missing = [s for case in claim.cases for s in case.specs if s.hash not in there]
        return Finding(claim, None) if missing else _finding(claim, there)

    def results(self, claim: Claim) -> dict[str, Result]:
        """The runs of a claim that the store has, by the hash of their spec."""
        specs = {spec.hash: spec for case in claim.cases for spec in case.specs}
        found = {name: self._store.find(spec, self._report) for name, spec in specs.items()}
        return {name: one for name, one in found.items() if one is not None}

    def measure(self, claim: Claim, again: bool, progress: Progress | None) -> Finding:
        """It measured, as far as the store has not, or `again` whatever it has.

        Raises InputError before any work, and WriteError where a result cannot be kept.
        """
        there = {} if again else self.results(claim)
        specs = {spec.hash: spec for case in claim.cases for spec in case.specs}
        wanted = [spec for name, spec in specs.items() if name not in there]
        for spec in wanted:
            run.check(spec, self._folder, self._backend)
        named = _named(progress, claim.id)
        weights = [kinds.cost(spec).seconds(spec, threads=1) for spec in wanted]
        for spec, part in zip(wanted, parts(named, weights), strict=True):
            there[spec.hash] = run.measure_spec(
                spec, self._backend, self._folder, part, self._report
            )
        return _finding(claim, there)


def seconds_left(claims: Sequence[Claim], store: Path | None) -> list[float]:
    """About how long measuring each claim takes on one thread, as far as a store, if there is one,
    lacks its runs; what several need is measured for the first of them."""
    known, found = set() if store is None else Store(store).hashes(), []
    for claim in claims:
        specs = {spec.hash: spec for case in claim.cases for spec in case.specs}
        lacking = [spec for name, spec in specs.items() if name not in known]
        known |= specs.keys()
        found.append(sum(kinds.cost(spec).seconds(spec, threads=1) for spec in lacking))
    return found


def seconds(claim: Claim, threads: int) -> float:
    """About how long measuring all of a claim takes on a CPU."""
    specs = [spec for case in claim.cases for spec in case.specs]
    return sum(kinds.cost(spec).seconds(spec, threads) for spec in specs)


def _finding(claim: Claim, results: Mapping[str, Result]) -> Finding:
    numbers = tuple(_number(claim, case, results) for case in claim.cases)
    return Finding(claim, numbers or None)


def _number(claim: Claim, case: Case, results: Mapping[str, Result]) -> Number:
    if case.slope is not None:
        return Number(exactly(case.slope.value()), case.theory)
    assert claim.reading is not None
    given = [results[spec.hash] for spec in case.specs]
    theory = case.theory
    if theory is None and not claim.paper:
        theory = claim.reading.predicted(*given)
    return Number(claim.reading.of(*given), theory)


def _named(progress: Progress | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda fraction, what: progress(fraction, f"{name}: {what}")
