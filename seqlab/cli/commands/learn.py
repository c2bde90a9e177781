"""`seqlab learn`: one cell trained on a task at several lengths, or several beside each other."""

from typing import Any

import click

from seqlab.cli import options
from seqlab.cli.measuring import measure_and_show


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.learn_table:LEARN_TABLE",
    short_help="Train one cell on a task of growing length, or compare several.",
)
@options.of_results()
@click.option(
    "--check",
    "checks",
    is_flag=True,
    help="Go through the checklist of training: make the first updates at the longest length "
    "again, and say what each rule of thumb finds and where it misleads.",
)
def learn(arch: tuple[str, ...], **given: Any) -> None:
    """Train networks on a task and say up to what length they learn it.

    Prints for each clip rule and length how many networks solve the task and after how many
    updates, how far the gradient reaches before and after training, and the learnable length, and
    keeps all numbers in a result file.

    Example: seqlab learn --arch lstm --task latch --lengths 10:40:3
    """
    from seqlab.spec.learn import LearnSpec
    from seqlab.spec.learn_table import LEARN_TABLE

    measure_and_show(LearnSpec.create, lambda _: LEARN_TABLE, arch, **given)
