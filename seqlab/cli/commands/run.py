"""`seqlab run`: one cell measured, or several beside each other."""

from typing import Any

import click

from seqlab.cli import options
from seqlab.cli.measuring import measure_and_show


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.table:TABLE",
    short_help="Measure one cell, or compare several.",
)
@options.of_results()
def run(arch: tuple[str, ...], **given: Any) -> None:
    """Measure how far back the gradient of the last output reaches.

    Prints the decay rate with its interval, the attenuation, the horizon and what each clip rule
    changes, beside what theory predicts, and keeps all numbers in a result file.

    Example: seqlab run --arch lstm --steps 1000
    """
    from seqlab.spec import kinds

    measure_and_show(kinds.create, lambda name: kinds.of(name).table, arch, **given)
