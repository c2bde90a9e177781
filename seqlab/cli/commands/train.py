"""`seqlab train`: deep stacks trained at several depths, one kind or several beside each other."""

from typing import Any

import click

from seqlab.cli import options
from seqlab.cli.measuring import measure_and_show


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.train_table:TRAIN_TABLE",
    short_help="Train deep stacks of growing depth, or compare several.",
)
@options.of_results()
def train(arch: tuple[str, ...], **given: Any) -> None:
    """Train deep stacks to sort inputs into four classes and say up to what depth they learn it.

    The classes are those of a linear teacher, another one for each network; a linear head reads
    the last layer, and head and stack are trained. Prints for each clip rule and depth how many
    networks learn the classes and after how many updates, how they do on new inputs, how far the
    gradient reaches before and after training, and the learnable depth, and keeps all numbers in a
    result file.

    Example: seqlab train --activation sigmoid --depths 2,4,6 --optimizer sgd
    """
    from seqlab.spec.stack_table import DEFAULT_ARCH
    from seqlab.spec.train import TrainSpec
    from seqlab.spec.train_table import TRAIN_TABLE

    with TRAIN_TABLE.in_own_words():
        measure_and_show(
            TrainSpec.create, lambda _: TRAIN_TABLE, arch, default_arch=DEFAULT_ARCH, **given
        )
