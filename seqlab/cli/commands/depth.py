"""`seqlab depth`: one stack measured through its layers, or several beside each other."""

from typing import Any

import click

from seqlab.cli import options
from seqlab.cli.measuring import measure_and_show

_UNSAID: tuple[Any, ...] = (None, (), False)  # what an option is that was left out


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.stack_table:STACK_TABLE",
    short_help="Measure one deep stack, or compare several.",
)
@options.of_results()
@click.option(
    "--critical",
    is_flag=True,
    help="Measure nothing: print the edge of chaos of --activation, for --bias-scale or for some, "
    "and how deep a signal reaches with the weights of --init and --gain.",
)
@click.option(
    "--check",
    "checks",
    is_flag=True,
    help="Go through the checklist of vanishing and exploding gradients: train a little, and say "
    "what each rule of thumb finds and where it misleads.",
)
def depth(arch: tuple[str, ...], critical: bool, **given: Any) -> None:
    """Measure how far down a deep stack the gradient of its output reaches.

    Prints the decay rate with its interval, the attenuation, the horizon and what each clip rule
    changes, beside what theory predicts, and keeps all numbers in a result file.

    Example: seqlab depth --depth 50 --activation tanh --init xavier
    """
    from seqlab.spec.stack import StackSpec
    from seqlab.spec.stack_table import DEFAULT_ARCH, STACK_TABLE

    with STACK_TABLE.in_own_words():
        if critical:
            _print_edge({"arch": arch, **given})
            return
        measure_and_show(
            StackSpec.create, lambda _: STACK_TABLE, arch, default_arch=DEFAULT_ARCH, **given
        )


def _print_edge(given: dict[str, Any]) -> None:
    """The edge of chaos, of the options that mean something beside it. Raises InputError."""
    from seqlab.cli import streams
    from seqlab.cli.outputs import Outputs
    from seqlab.errors import InputError
    from seqlab.report.edge_table import ASKED_BY, asked, critical_document, critical_table
    from seqlab.spec.stack_table import STACK_TABLE

    outputs = Outputs.taken({**given})
    # What a table and a document may be told by, and what has a value in any case.
    always = ("as_json", "by_line", "backend", "store", "progress")
    known = {n: v for n, v in given.items() if n not in always and not any(v is x for x in _UNSAID)}
    for name in known:
        if name not in ASKED_BY:
            raise InputError(f"{name}: means nothing beside critical, which measures nothing")
    edge = asked({name: STACK_TABLE[name].parse(name, value) for name, value in known.items()})
    if outputs.as_json:
        streams.write_out(outputs.documents([critical_document(*edge)]))
    else:
        streams.write_out(critical_table(*edge))
