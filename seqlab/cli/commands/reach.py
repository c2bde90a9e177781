"""`seqlab reach`: which value of an option keeps so much of the gradient over so many steps."""

import sys
from typing import Any

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.errors import FAILED
from seqlab.cli.outputs import Outputs
from seqlab.errors import InputError
from seqlab.wording import one_of


def _searched() -> dict[str, tuple[float, float]]:
    """What can be searched, by its option, and where."""
    rows = options.find_table("seqlab.spec.table:TABLE").values()
    return {row.name.replace("_", "-"): row.searched for row in rows if row.searched}


class Search(options.TableCommand):
    """A command whose help says what can be searched, and where."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        ranges = _searched()
        told = {
            "vary": f"The number that draws networks: {one_of(ranges)}.",
            "between": "Where to look. [default: "
            + ", ".join(f"{name} {low:g}:{high:g}" for name, (low, high) in ranges.items())
            + "]",
        }
        found = super().get_params(ctx)
        for option in found:
            if isinstance(option, click.Option) and option.name in told:
                option.help = told[option.name]
        return found


@click.command(
    cls=Search,
    table="seqlab.spec.table:TABLE",
    without=("clip", "lengths", "spectrum", "params", "module", "truncation"),
    short_help="Find the value of an option that reaches as far as you need.",
)
@click.option(
    "--vary",
    required=True,
    metavar="OPTION",
    shell_complete=completion.words(lambda: _searched()),
)
@click.option(
    "--keep",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="SHARE",
    help="What is to be left of the gradient after all steps; 1: it neither fades nor grows.",
)
@click.option("--between", metavar="A:B")
@options.backend()
@options.of_outputs()
def reach(
    arch: tuple[str, ...],
    vary: str,
    keep: float,
    between: str | None,
    backend: str,
    **given: Any,
) -> None:
    """Find the value of an option at which a share of the gradient is left after all steps.

    Prints it with an interval over networks, and the largest that the gradient is on the way.
    Each value tried is a run, kept in the store, and not measured again when it is asked for once
    more. Exit 1 where no value keeps that share.

    Example: seqlab reach --arch lstm --steps 1000 --vary forget-bias
    """
    from seqlab.measure.progress import parts
    from seqlab.report import reach_table
    from seqlab.spec.dropped import for_each
    from seqlab.spec.table import TABLE
    from seqlab.study.reach import Search

    outputs = Outputs.taken(given)
    outputs.check()
    if outputs.plot is not None and len(arch) > 1:
        raise InputError(
            f"plot: {outputs.plot!r} is not allowed with {len(arch)} cells; one at a time"
        )
    ends = _ends(between)
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    cells, notes = for_each(list(dict.fromkeys(arch)) or [""], fields, lambda _: TABLE)
    with outputs.line() as line:
        # All are refused before any is begun.
        searches = [
            Search(vary, keep, ends, _with_arch(cell), backend, outputs.store, part)
            for cell, part in zip(cells, parts(line, [1.0] * len(cells)), strict=True)
        ]
        for note in notes:
            outputs.tell(note)
        found = [search.found() for search in searches]
    if outputs.as_json:
        text = outputs.documents([one.to_json() for one in found])
    else:
        text = reach_table.table(found, brief=outputs.quiet)
    try:
        streams.write_out(text)
    finally:  # also where stdout is full
        if outputs.plot is not None:
            found[0].plot(outputs.plot)
    outputs.drawn()
    if not all(one.answers for one in found):
        sys.exit(FAILED)


def _with_arch(fields: dict[str, Any]) -> dict[str, Any]:
    """Without an architecture where none was given, for the search to ask for one."""
    return {name: value for name, value in fields.items() if value != ""}


def _ends(between: str | None) -> tuple[float, float] | None:
    if between is None:
        return None
    low, _, high = between.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"between: {between!r} is not allowed; two numbers, A:B") from None
