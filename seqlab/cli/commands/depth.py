"""`seqlab depth`: one stack measured through its layers, or several beside each other."""

from typing import Any

import click

from seqlab.cli import options
from seqlab.cli.measuring import measure_and_show


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.stack_table:STACK_TABLE",
    short_help="Measure one deep stack, or compare several.",
)
@options.of_results()
@click.option(
    "--check",
    "checks",
    is_flag=True,
    help="Go through the checklist of vanishing and exploding gradients: train a little, and say "
    "what each rule of thumb finds and where it misleads.",
)
def depth(arch: tuple[str, ...], **given: Any) -> None:
    """Measure how far down a deep stack the gradient of its output reaches.

    Prints the decay rate with its interval, the attenuation, the horizon and what each clip rule
    changes, beside what theory predicts, and keeps all numbers in a result file.

    Example: seqlab depth --depth 50 --activation tanh --init xavier
    """
    from seqlab.spec.stack import StackSpec
    from seqlab.spec.stack_table import DEFAULT_ARCH, STACK_TABLE

    with STACK_TABLE.in_own_words():
        measure_and_show(StackSpec.create, arch, default_arch=DEFAULT_ARCH, **given)
