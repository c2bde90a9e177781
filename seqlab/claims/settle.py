"""A claim put to the test: its cases found in a store or measured, and what follows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqlab.claims.claim import Case, Claim
from seqlab.numbers.estimate import Estimate, exactly
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress, Spec
from seqlab.study import run
from seqlab.study.result import Result
from seqlab.study.store import Store


@dataclass(frozen=True)
class Finding:
    """A claim and the numbers of its cases, None for those not measured; `seconds` is what that
    took, 0 for what was in the store."""

    claim: Claim
    found: tuple[Estimate, ...] | None
    seconds: float = 0.0

    @property
    def verdict(self) -> str | None:
        """What follows from the numbers, None where there are none."""
        return None if self.found is None else self.claim.verdict(self.found)


class Court:
    """Where claims are settled: a store of results, and the backend that measures what it lacks."""

    def __init__(self, store: Path, backend: str, report: Callable[[str], None]) -> None:
        self._store, self._folder = Store(store), store
        self._backend, self._report = backend, report

    def recall(self, claim: Claim) -> Finding:
        """What the store says of a claim."""
        if not claim.measured:
            return Finding(claim, None)
        found = []
        for case in claim.cases:
            results = [self._store.find(spec, self._report) for spec in case.specs]
            if None in results:
                return Finding(claim, None)
            found.append(_estimate(claim, case, [one for one in results if one is not None]))
        return Finding(claim, tuple(found))

    def results(self, claim: Claim) -> dict[str, Result]:
        """The runs of a claim that the store has, by the hash of their spec."""
        specs = {spec.hash: spec for case in claim.cases for spec in case.specs}
        found = {name: self._store.find(spec, self._report) for name, spec in specs.items()}
        return {name: one for name, one in found.items() if one is not None}

    def settle(self, claim: Claim, again: bool, progress: Progress) -> Finding:
        """It measured, as far as the store has not, or `again` whatever it has.

        Raises InputError before any work, and WriteError where a result cannot be kept.
        """
        known = self.recall(claim)
        if not claim.measured or (known.found is not None and not again):
            return known
        start = time.perf_counter()
        found = tuple(
            self._settled(claim, case, again, _part(progress, place, len(claim.cases), claim.id))
            for place, case in enumerate(claim.cases)
        )
        return Finding(claim, found, time.perf_counter() - start)

    def _settled(self, claim: Claim, case: Case, again: bool, progress: Progress) -> Estimate:
        results = [self._measured(spec, again, progress) for spec in case.specs]
        return _estimate(claim, case, results)

    def _measured(self, spec: Spec, again: bool, progress: Progress) -> Result:
        known = None if again else self._store.find(spec, self._report)
        if known is not None:
            return known
        run.check(spec, self._folder, self._backend)
        return run.measure_spec(spec, self._backend, self._folder, progress, self._report)


def seconds(claim: Claim, threads: int) -> float:
    """About how long measuring all of a claim takes on a CPU."""
    specs = [spec for case in claim.cases for spec in case.specs]
    return sum(kinds.cost(spec).seconds(spec, threads) for spec in specs)


def _estimate(claim: Claim, case: Case, results: list[Result]) -> Estimate:
    if case.slope is not None:
        return exactly(case.slope.value())
    assert claim.reading is not None
    return claim.reading.of(*results)


def _part(progress: Progress, place: int, count: int, name: str) -> Progress:
    def say(fraction: float, what: str) -> None:
        progress((place + fraction) / count, f"{name}: {what}")

    return say
