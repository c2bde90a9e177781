"""`seqlab run`: one cell measured, or several beside each other."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from seqlab.cli import options, streams
from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.spec.kinds import Spec


@click.command(cls=options.RunCommand, short_help="Measure one cell, or compare several.")
@click.option(
    "--from", "source", metavar="RESULT.nc", help="Measure again what a result file measured."
)
@options.backend()
@options.store("Folder for the result's file.")
@click.option(
    "--plot", metavar="FIG", help="Draw the curves to a .pdf, .svg or .png; their data: .csv."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def run(
    arch: tuple[str, ...],
    source: str | None,
    backend: str,
    store: str,
    plot: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Measure how far back the gradient of the last output reaches.

    Prints the decay rate with its interval, the attenuation, the horizon and what each clip rule
    changes, beside what theory predicts, and keeps all numbers in a result file.

    Example: seqlab run --arch lstm --steps 1000
    """
    import json

    from seqlab.cli.progress import ProgressLine
    from seqlab.report import run_table
    from seqlab.study.run import check, measure_spec

    given = {name: value for name, value in fields.items() if value not in (None, ())}
    specs = _specs(arch, given) if source is None else [_repeated(source, arch, given)]
    if plot is not None:
        options.check_figure("plot", plot)
    for spec in specs:
        check(spec, store, backend)
    results = []
    with ProgressLine() as line:
        for spec in specs:
            results.append(measure_spec(spec, backend, store, partial(_say, line, spec.arch)))
    if as_json:
        documents = [result.to_json() for result in results]
        whole = documents if len(documents) > 1 else documents[0]
        text = json.dumps(whole, indent=2, allow_nan=False)
    else:
        text = run_table.table(results)
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            from seqlab.figures import plot_results

            plot_results(results, plot)


def _specs(arch: tuple[str, ...], given: dict[str, Any]) -> "list[Spec]":
    from seqlab.spec import kinds
    from seqlab.study.limits import require_memory

    for name in arch:
        if arch.count(name) > 1:
            raise InputError(f"arch: {name!r} is given twice; each cell once")
    return [kinds.create(require_memory, arch=name, **given) for name in arch or (None,)]


def _repeated(source: str, arch: tuple[str, ...], given: dict[str, Any]) -> "Spec":
    from seqlab.study.result import read_spec

    if beside := [*(["arch"] if arch else []), *given]:
        raise InputError(f"{beside[0]}: means nothing beside from, whose file says what to measure")
    return read_spec(source)


def _say(line: Callable[[float, str], None], arch: str, fraction: float, what: str) -> None:
    line(fraction, f"{arch}: {what}")
