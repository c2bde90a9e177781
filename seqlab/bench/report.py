"""The results as tables: in Markdown, and the targets for a terminal."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from seqlab.bench.figure import name_of
from seqlab.bench.results import Finished, Measured, Results
from seqlab.bench.rows import Row, Samples
from seqlab.bench.suite import Case, Suite
from seqlab.report.text import fill, grid

TABLES = "results.md"
INTRODUCTION = """\
Written by the command; README.md says how it measures. Times are medians over rounds, ratios
medians of each round's ratio, with the smallest and the largest. One machine of each class, by the
vector registers that the kernels were compiled for."""
COLUMNS = ("must", "aim", "measured", "reached")


def write(suite: Suite, results: Results, folder: Path) -> None:
    """Write the page into the folder that has the figures, if there are any."""
    drawn = [name for name in results.classes if (folder / name_of(name)).exists()]
    (folder / TABLES).write_text(document(suite, results, drawn), encoding="utf-8")


def document(suite: Suite, results: Results, drawn: Collection[str]) -> str:
    """The whole page; `drawn` says of which machine classes a figure stands beside it."""
    parts = ["# Results of `seqlab bench`", INTRODUCTION, "## Machines", _machines(results)]
    for name, measured in results.classes.items():
        parts += [f"## {name}", "### Targets"]
        parts.append(table(["what", *COLUMNS], _targets(suite, measured, name)))
        for case in suite.cases:
            if any(job in measured.jobs for job in case.jobs):
                parts += _section(case, measured)
        if name in drawn:
            parts += ["### Growth, drawn", f"![Time and floor as sizes grow]({name_of(name)})"]
    return "\n\n".join(parts) + "\n"


def targets(suite: Suite, results: Results, machine_class: str) -> str:
    """What was hoped for of a machine class, and what was found, for a terminal of 80 columns."""
    measured = results.classes[machine_class]
    title = fill(f"Targets for {machine_class}, measured on {measured.machine['processor']}")
    rows = [(what, list(cells)) for what, *cells in _targets(suite, measured, machine_class)]
    return f"{title}\n\n{grid([COLUMNS], rows)}" if rows else title


def _machines(results: Results) -> str:
    """What was measured on which machine, with what, and when: a column a class."""
    described = {
        name: {**one.machine, "measured": _days(one.jobs.values())}
        for name, one in results.classes.items()
    }
    names = [*_union(one.machine for one in results.classes.values()), "measured"]
    cells = [[name, *(one.get(name, "") for one in described.values())] for name in names]
    return table(["class", *described], cells)


def _days(jobs: Iterable[Finished]) -> str:
    """The first and the last day."""
    days = sorted(job.when[:10] for job in jobs)
    return " to ".join(dict.fromkeys([*days[:1], *days[-1:]]))


def _targets(suite: Suite, measured: Measured, machine_class: str) -> Iterator[list[str]]:
    """What is wanted, then COLUMNS; blank where a class has no target."""
    rows = {case.name: _rows(case, measured) for case in suite.cases}
    for target in suite.targets:
        value = target.measured(rows.get(target.case, []))
        goal = target.goal(machine_class)
        wanted = ["", ""] if goal is None else [number(goal.must), number(goal.aim)]
        found = "" if value is None else number(value)
        yield [target.what, *wanted, found, target.verdict(value, machine_class)]


def _section(case: Case, measured: Measured) -> list[str]:
    finished = {name: measured.jobs[name] for name in case.jobs if name in measured.jobs}
    seconds = sum(job.seconds for job in finished.values())
    last = max(job.when for job in finished.values())
    failures = [
        f"**{name} failed: {job.failure}**" for name, job in finished.items() if job.failure
    ]
    took = f"Measured in {seconds:.0f} s, until {last}."
    return [
        f"### {case.title}",
        case.text.strip(),
        *failures,
        *rows_table(_rows(case, measured)),
        took,
    ]


def _rows(case: Case, measured: Measured) -> list[Row]:
    """What a case's finished jobs measured; results may hold jobs that it no longer has."""
    return [row for name in case.jobs if name in measured.jobs for row in measured.jobs[name].rows]


def rows_table(rows: Sequence[Row]) -> list[str]:
    """One table of all rows, a column for whatever any of them has; none without rows."""
    if not rows:
        return []
    labels = _union(row.labels for row in rows)
    times = _union(row.times for row in rows)
    ratios = _union(row.ratios for row in rows)
    facts = _union(row.facts for row in rows)
    cells = [
        [
            *(str(row.labels.get(name, "")) for name in labels),
            *(number(median(row.times[n])) if n in row.times else "" for n in times),
            *(_spread(row.ratios[n]) if n in row.ratios else "" for n in ratios),
            *(number(row.facts[n]) if n in row.facts else "" for n in facts),
        ]
        for row in rows
    ]
    return [table([*labels, *times, *ratios, *facts], cells)]


def table(header: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Three digits, without an exponent where that is readable."""
    if not math.isfinite(value) or value == round(value):
        return f"{value:,g}"
    size = math.floor(math.log10(abs(value)))
    if not -3 <= size < 6:
        return f"{value:.1e}"
    return f"{value:,.{max(0, 2 - size)}f}"


def _spread(samples: Samples) -> str:
    return f"{number(median(samples))} ({number(min(samples))} to {number(max(samples))})"


def _union(keys: Iterable[Iterable[str]]) -> list[str]:
    """Every key once, in the order of appearance."""
    return list(dict.fromkeys(key for some in keys for key in some))
