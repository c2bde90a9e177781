"""`seqlab reach`: which value of an option keeps so much of the gradient over so many steps."""

import sys
from typing import Any

import click

from seqlab.cli import options, streams
from seqlab.cli.errors import FAILED
from seqlab.errors import InputError
from seqlab.wording import one_of


class Search(options.TableCommand):
    """A command whose help says what can be searched, and where."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        rows = options.find_table(self.table).values()
        ranges = {row.name.replace("_", "-"): row.searched for row in rows if row.searched}
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
@click.option("--vary", required=True, metavar="OPTION")
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
    store: str,
    plot: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Find the value of an option at which a share of the gradient is left after all steps.

    Prints it with an interval over networks, and the largest that the gradient is on the way.
    Each value tried is a run, kept in the store, and not measured again when it is asked for once
    more. Exit 1 where no value keeps that share.

    Example: seqlab reach --arch lstm --steps 1000 --vary forget-bias
    """
    import json

    from seqlab.cli.progress import ProgressLine
    from seqlab.study.reach import Search

    if plot is not None:
        options.check_figure("plot", plot)
        if len(arch) > 1:
            raise InputError(f"plot: {plot!r} is not allowed with {len(arch)} cells; one at a time")
    ends = _ends(between)
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    cells = [{"arch": name} for name in dict.fromkeys(arch)] or [{}]
    with ProgressLine() as line:
        # All are refused before any is begun.
        searches = [Search(vary, keep, ends, cell | fields, backend, store, line) for cell in cells]
        found = [search.found() for search in searches]
    if as_json:
        documents = [one.to_json() for one in found]
        text = json.dumps(documents if len(found) > 1 else documents[0], indent=2, allow_nan=False)
    else:
        text = "\n\n".join(one.summary() for one in found)
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            found[0].plot(plot)
    if not all(one.answers for one in found):
        sys.exit(FAILED)


def _ends(between: str | None) -> tuple[float, float] | None:
    if between is None:
        return None
    low, _, high = between.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"between: {between!r} is not allowed; two numbers, A:B") from None
