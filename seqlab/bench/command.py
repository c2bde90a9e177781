"""A whole run of the benchmark: `seqlab bench`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from subprocess import CalledProcessError

from seqlab.bench import figure, machine, peers, report, suite
from seqlab.bench.jobs import Context, Job
from seqlab.bench.race import BEST, Disagreement
from seqlab.bench.results import Finished, Results
from seqlab.bench.rows import Row
from seqlab.report.text import fill

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """The targets as a table, and the names of the jobs that failed."""

    targets: str
    failed: Sequence[str]


def bench(
    cases: Path,
    only: Sequence[str],
    out: Path,
    names: Sequence[str],
    say: Say,
    backend: str = "cpu",
) -> Outcome:
    """Run the chosen jobs of a cases file against the named peers, and write tables to `out`.

    Each finished job is kept at once, beside those of other machine classes. Raises InputError
    before any work.
    """
    asked = suite.read(cases)
    jobs = asked.select(only)
    rivals = peers.load(names) if any(job.peers for job in jobs.values()) else []
    own = machine.machine_class(backend)
    results = Results.open(out, own, machine.describe(backend))
    measured = results.classes[own]
    out.mkdir(parents=True, exist_ok=True)
    context = Context(asked.timing, rivals, backend)
    for place, (name, job) in enumerate(jobs.items(), 1):
        say(f"[{place}/{len(jobs)}] {name} ...")
        measured.jobs[name] = _finish(job, context)
        results.write(out)
        figure.draw(measured, out / figure.name_of(own))
        report.write(asked, results, out)
        say(fill(f"[{place}/{len(jobs)}] {name}: {_summary(measured.jobs[name])}"))
    failed = [name for name in jobs if measured.jobs[name].failure]
    return Outcome(report.targets(asked, results, own), failed)


def _finish(job: Job, context: Context) -> Finished:
    start, rows, failure = time.perf_counter(), list[Row](), None
    try:
        rows = job.measure(context)
    except Disagreement as error:
        failure = str(error)
    except CalledProcessError as error:
        last = (error.stderr or b"").decode(errors="replace").strip().splitlines()[-1:]
        failure = ": ".join([str(error), *last])
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return Finished(rows, failure, time.perf_counter() - start, when)


def _summary(job: Finished) -> str:
    """The job in one line."""
    if job.failure:
        return f"FAILED: {job.failure}"
    best = [row.value(BEST) for row in job.rows if BEST in row.ratios]
    found = f"best / seqlab {min(best):.2f} to {max(best):.2f}, " if best else ""
    return f"{found}{job.seconds:.0f} s"
