"""Measure what a store lacks of a study, here or on a cluster, and lose nothing on the way.

The store is the only memory: a run is done when its file is there and sound, so that going on
after an interruption is sweeping again. Each run is claimed while it is measured; what another
sweep has claimed is left to the end and measured only if that sweep did not.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seqlab.errors import DeviceError
from seqlab.kernels.cpu.threads import thread_count
from seqlab.report.preview import preview_text
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress, Spec
from seqlab.spec.study import StudySpec
from seqlab.study import files, limits
from seqlab.study.cluster import Finished, LostWorkers, measure_there
from seqlab.study.locks import Claims
from seqlab.study.progress_line import Asked, reporting
from seqlab.study.result import Result
from seqlab.study.run import Folder, measure_only
from seqlab.study.store import Report, Store, describe
from seqlab.study.unfinished import Unfinished
from seqlab.study.watch import Watch

if TYPE_CHECKING:
    from distributed import Client

POLL = 0.2  # seconds between looks at what another sweep is on
# The machine's failures that leave the other runs a chance: a smaller one may fit.
LACKS = (MemoryError, DeviceError, LostWorkers)


@dataclass(frozen=True)
class Outcome:
    """How many runs of a study this sweep measured, found in the store, and has failures of."""

    measured: int
    found: int
    failed: int

    def __str__(self) -> str:
        return f"{self.measured} runs measured, {self.found} found, {self.failed} failed"


def sweep(
    study: str | os.PathLike[str] | StudySpec,
    store: Folder = "seqlab-results",
    *,
    backend: str = "auto",
    client: "Client | None" = None,
    retry_failed: bool = False,
    progress: Asked = None,
    report: Report = lambda line: None,
) -> Outcome:
    """Measure every run of a study that the store has no sound result of.

    `study` is a TOML file (see `seqlab.spec.study`); `client` a Dask client whose cluster measures
    instead of this machine. A run that fails is recorded and not tried again but with
    `retry_failed`. Where the machine fails, which says nothing of the run, nothing is recorded: for
    want of memory the other runs go on, and what else the system refuses ends the sweep.
    `progress(fraction, what)` is called as time goes by, `report(line)` for whatever the user
    should know: a damaged file, a failure. `progress=True` shows a line on stderr.

    Raises InputError before any work; WriteError where the store cannot be written any more, and
    OSError where the scheduler is lost or the system fails a run: what was finished is kept then,
    as it is when interrupted.
    """
    spec = study if isinstance(study, StudySpec) else StudySpec.read(study)
    folder = Path(store)
    check(spec, folder, backend, client is not None)
    for note in spec.notes:
        report(note)
    with reporting(progress) as tell, Claims(folder) as claims:
        kept = Store(folder)
        kept.remove_drafts(claims)
        going = _Sweep(spec, kept, claims, retry_failed, tell or _silent, report)
        if client is None:
            return going.run(partial(going.one_by_one, backend))
        return going.run(partial(measure_there, client, backend))


def _silent(fraction: float, what: str) -> None:
    """The progress of a sweep that nobody watches."""


def check(study: StudySpec, folder: Path, backend: str, elsewhere: bool) -> None:
    """Refuse what cannot be measured or kept; leaves nothing behind. Raises InputError.

    What runs `elsewhere` is checked there for its backend, but for the cells that it lacks, and for
    its memory.
    """
    for one in {spec.arch: spec for spec in study.runs}.values():
        kinds.cost(one).require_backend(one, backend, elsewhere)
    if not elsewhere:
        thread_count()
    present, needed = Store(folder).hashes(), 0
    for spec in study.runs:
        limits.require_file(spec)
        if not elsewhere:
            limits.require_memory(spec)
        needed += 0 if spec.hash in present else kinds.cost(spec).file_bytes(spec)
    files.require_writable("store", folder / "any.nc", needed)


def preview(study: StudySpec, folder: Path) -> str:
    """What a sweep of the study into this store would do, and take; at most 80 columns."""
    return preview_text(study, folder, _missing(study, Store(folder)), thread_count())


def _missing(study: StudySpec, store: Store) -> list[Spec]:
    """The runs of a study that have no file, sound or not."""
    present = store.hashes()
    return [spec for spec in study.runs if spec.hash not in present]


class _Sweep:
    """One sweep's way through its study, and its counts."""

    def __init__(
        self,
        study: StudySpec,
        store: Store,
        claims: Claims,
        retry_failed: bool,
        progress: Progress,
        report: Report,
    ) -> None:
        self.study, self.store, self.claims = study, store, claims
        self.retry_failed, self.report = retry_failed, report
        self.measured = self.found = self.failed = 0
        weights = {s.hash: kinds.cost(s).seconds(s, threads=1) for s in _missing(study, store)}
        self.watch = Watch(progress, len(study.runs), weights)

    def run(self, measure: Callable[[Iterator[Spec]], Generator[Finished]]) -> Outcome:
        """Settle every run of the study."""
        left = list(self.study.runs)
        try:
            while left:
                busy: list[Spec] = []
                with closing(measure(self._unsettled(left, busy))) as finished:
                    for spec, outcome in finished:
                        self._keep(spec, outcome)
                        self._let_go(spec)
                if left := busy:
                    time.sleep(POLL)
        except BaseException:
            self.report(
                f"{self.measured + self.found} of {len(self.study.runs)} runs are in "
                f"{self.store.folder}; to go on, sweep again"
            )
            raise
        self.watch.end()
        return Outcome(self.measured, self.found, self.failed)

    def one_by_one(self, backend: str, specs: Iterator[Spec]) -> Generator[Finished]:
        """Measure on this machine, one run after the other."""
        for spec in specs:
            say = partial(self.watch.report, self.study.label(spec), spec.hash)
            try:
                unfinished = Unfinished(self.store.folder, spec, backend, self.report)
                yield spec, measure_only(spec, backend, say, unfinished.stage)
            except Exception as error:
                yield spec, error

    def _unsettled(self, specs: list[Spec], busy: list[Spec]) -> Iterator[Spec]:
        """Claim what is to be measured; `busy` gets what another sweep is on."""
        for spec in specs:
            if not self.claims.take(spec.hash):
                busy.append(spec)
            elif self._is_settled(spec):
                self._let_go(spec)
            else:
                yield spec

    def _is_settled(self, spec: Spec) -> bool:
        if self.store.has(spec, self.report):
            self.found += 1
        elif not self.retry_failed and (why := self.store.failure(spec)):
            self._count_failure(spec, f"{why} (--retry-failed tries again)")
        else:
            return False
        return True

    def _keep(self, spec: Spec, outcome: Result | Exception) -> None:
        if isinstance(outcome, Result):
            self.store.keep(outcome)
            self.measured += 1
        elif isinstance(outcome, LACKS):
            self._count_failure(spec, f"{describe(outcome)} (to try it again, sweep again)")
        elif isinstance(outcome, OSError):
            raise outcome
        else:
            self.store.keep_failure(spec, outcome)
            self._count_failure(spec, describe(outcome))

    def _count_failure(self, spec: Spec, why: str) -> None:
        self.failed += 1
        self.report(f"failed: {self.study.label(spec)}: {why}")

    def _let_go(self, spec: Spec) -> None:
        self.claims.drop(spec.hash)
        self.watch.finish(spec.hash)
        self.watch.report(self.study.label(spec), spec.hash, 0.0, "done")
