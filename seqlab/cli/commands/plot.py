"""`seqlab plot`: a figure of a store."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from seqlab.cli import options
from seqlab.cli.errors import complaints
from seqlab.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.study.result import Result


@click.command(short_help="Draw a store.")
@click.argument("store", metavar="STORE")
@click.option(
    "-o", "--output", required=True, metavar="FIG", help="A .pdf, .svg or .png; its data: .csv."
)
@click.option(
    "--kind",
    metavar="NAME",
    help="heatmap, curves, profile (lag x length of single runs; of several layers lag x layer), "
    "distribution (of networks) or histogram (of networks and lags). [default: heatmap, of "
    "training curves]",
)
@click.option(
    "--value",
    metavar="NAME",
    help="What is measured. [default: log10_attenuation, of training solved_share]",
)
@click.option(
    "--x",
    metavar="FIELD",
    help="A field of the runs, length, lag or part (of the state); of training update, or "
    "relative_length (length / horizon at initialisation).",
)
@click.option("--y", metavar="FIELD", help="Rows of a heatmap, colours of the other kinds.")
@click.option("--facet", metavar="FIELD", help="A panel for each value.")
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only such runs; repeat it for other fields, or for other values of one.",
)
@click.option("--width", metavar="NAME", help="single, double or slide. [default: double]")
@click.option("--title", metavar="TEXT", help="Instead of what is written there; '' for nothing.")
@click.option("--xlabel", metavar="TEXT", help="The label below.")
@click.option("--ylabel", metavar="TEXT", help="The label on the left.")
@click.option("--value-label", metavar="TEXT", help="For the colour bar, or the axis of --value.")
@click.option("--value-range", metavar="LOW:HIGH", help="Of the colours, or the axis of --value.")
@click.option("--contours", is_flag=True, help="heatmap, profile: lines at 1e-3 and 1e-6.")
@click.option("--numbers", is_flag=True, help="heatmap of names: the value in each cell.")
@click.option(
    "--xscale",
    metavar="NAME",
    help="curves: log or linear [default: both]. histogram, of what is a logarithm: linear has its "
    "number in its place.",
)
@click.option(
    "--yscale",
    metavar="NAME",
    help="curves, distribution, of what is a logarithm: linear has its number in its place. "
    "[default: log]",
)
def plot(
    store: str, output: str, value_range: str | None, where: tuple[str, ...], **looks: Any
) -> None:
    """Draw the results in a folder (or one result's file); the figure's data lie beside it.

    Fields that no option names are put where they tell most.
    Exit 1 if a file is damaged; the figure has all others.

    Example: seqlab plot results -o attenuation.pdf
    """
    from pathlib import Path

    from seqlab.figures import Looks, ask, plot

    given = {name: value for name, value in looks.items() if value is not None}
    fields = {
        name: given.pop(name) for name in ("kind", "value", "x", "y", "facet") if name in given
    }
    drawn = Looks(**given, value_range=_range(value_range))
    options.check_figure("output", output)
    with complaints() as complain:
        results = _Stored(Path(store), cache(complain))
        plot(results, output, ask(results, **fields, where=_where(where)), drawn)


class _Stored:
    """The results in a folder or one file, read again each time they are gone through."""

    def __init__(self, path: "Path", report: Callable[[str], None]) -> None:
        self.path = path
        self.report = report

    def __iter__(self) -> "Iterator[Result]":
        from seqlab.study.result import Result
        from seqlab.study.store import Store

        if self.path.is_file():
            return iter([Result.read(self.path)])
        return Store(self.path).results(self.report)


def _where(words: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"where: {word!r} is not FIELD=VALUE")
        found.setdefault(field, []).append(value)
    return found


def _range(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise InputError(f"value_range: {text!r} is not LOW:HIGH") from None
    return low, high
