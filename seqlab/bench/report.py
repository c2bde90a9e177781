"""The results as tables in Markdown."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from seqlab.bench.figure import FIGURE
from seqlab.bench.results import Results
from seqlab.bench.rows import Row, Samples
from seqlab.bench.suite import Case, Suite

TABLES = "results.md"
INTRODUCTION = """\
Written by the command; README.md says how it measures. Times are medians over rounds, ratios
medians of each round's ratio, with the smallest and the largest."""


def write(suite: Suite, results: Results, folder: Path) -> None:
    """Write the page into the folder that has the figure, if there is one."""
    text = document(suite, results, (folder / FIGURE).exists())
    (folder / TABLES).write_text(text, encoding="utf-8")


def document(suite: Suite, results: Results, drawn: bool) -> str:
    """The whole page; `drawn` says whether FIGURE stands beside it."""
    parts = [
        "# Results of `seqlab bench`",
        INTRODUCTION,
        "## Machine",
        table(["what", "value"], [[name, value] for name, value in results.machine.items()]),
        "## Targets",
        targets(suite, results),
    ]
    for case in suite.cases:
        if any(name in results.jobs for name in case.jobs):
            parts += _section(case, results)
    if drawn:
        parts += ["## Growth, drawn", f"![Time and floor as sizes grow]({FIGURE})"]
    return "\n\n".join(parts) + "\n"


def targets(suite: Suite, results: Results) -> str:
    """What was hoped for, and what was found."""
    rows = {case.name: _rows(case, results) for case in suite.cases}
    cells = []
    for target in suite.targets:
        value = target.measured(rows.get(target.case, []))
        found = "" if value is None else number(value)
        wanted = [number(target.must), number(target.aim)]
        cells.append([target.what, *wanted, found, target.verdict(value)])
    return table(["what", "must", "aim", "measured", "reached"], cells)


def _section(case: Case, results: Results) -> list[str]:
    finished = {name: results.jobs[name] for name in case.jobs if name in results.jobs}
    seconds = sum(job.seconds for job in finished.values())
    last = max(job.when for job in finished.values())
    failures = [
        f"**{name} failed: {job.failure}**" for name, job in finished.items() if job.failure
    ]
    took = f"Measured in {seconds:.0f} s, until {last}."
    return [
        f"## {case.title}",
        case.text.strip(),
        *failures,
        *rows_table(_rows(case, results)),
        took,
    ]


def _rows(case: Case, results: Results) -> list[Row]:
    """What a case's finished jobs measured; results may hold jobs that it no longer has."""
    return [row for name in case.jobs if name in results.jobs for row in results.jobs[name].rows]


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
