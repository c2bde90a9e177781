"""`seqlab reach`: which value of an option keeps so much of the gradient over so many steps."""

import sys
from typing import Any

import click

from seqlab.cli import options, streams
from seqlab.cli.errors import FAILED
from seqlab.errors import InputError


@click.command(
    cls=options.TableCommand,
    table="seqlab.spec.table:TABLE",
    short_help="Find the value of an option that reaches as far as you need.",
)
@click.option(
    "--vary",
    required=True,
    metavar="OPTION",
    help="The number that draws networks, such as forget-bias or gain.",
)
@click.option(
    "--keep",
    type=float,
    default=1e-3,
    show_default=True,
    metavar="SHARE",
    help="What is to be left of the gradient after all steps; 1: it neither fades nor grows.",
)
@click.option("--between", metavar="A:B", help="Where to look. [default: as far as anybody goes]")
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
    from seqlab.study.reach import reach as search

    if len(arch) > 1:
        raise InputError(f"arch: {len(arch)} are given; one at a time is searched")
    if plot is not None:
        options.check_figure("plot", plot)
    fields = {name: value for name, value in given.items() if value not in (None, ())}
    with ProgressLine() as line:
        found = search(
            vary=vary,
            keep=keep,
            between=_ends(between),
            backend=backend,
            store=store,
            progress=line,
            **({"arch": arch[0]} if arch else {}),
            **fields,
        )
    text = json.dumps(found.to_json(), indent=2, allow_nan=False) if as_json else found.summary()
    try:
        streams.say(text)
    finally:  # also where stdout is full
        if plot is not None:
            found.plot(plot)
    if not found.answers:
        sys.exit(FAILED)


def _ends(between: str | None) -> tuple[float, float] | None:
    if between is None:
        return None
    low, _, high = between.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise InputError(f"between: {between!r} is not allowed; two numbers, A:B") from None
