"""`seqlab plot`: a figure of a store."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from seqlab.cli import completion, options, streams
from seqlab.cli.errors import complaints
from seqlab.cli.outputs import figure_note
from seqlab.errors import InputError
from seqlab.wording import one_of

if TYPE_CHECKING:
    from pathlib import Path

    from seqlab.study.result import Result


def _names(option: str) -> tuple[str, ...]:
    """What an option takes, from where figures find it."""
    from seqlab.report import drawable

    of_axes = tuple(drawable.AXES)
    if option == "where":
        return tuple(f"{field}=" for field in drawable.FIELDS)
    found = {
        "kind": drawable.KINDS,
        "value": drawable.VALUES,
        "width": drawable.WIDTHS,
        "xscale": drawable.SCALES,
        "yscale": drawable.SCALES,
    }
    return tuple(found.get(option, of_axes))


def _described(option: str) -> list[str]:
    """The same with what helps to choose."""
    from seqlab.report.drawable import ABOUT

    about = {name: f"{name} ({text})" for name, text in ABOUT.items() if text}
    return [about.get(name, name) if option == "kind" else name for name in _names(option)]


def _words(option: str) -> completion.Complete:
    return completion.words(lambda: _names(option))


class Drawing(click.Command):
    """A command whose help says what may be drawn."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        told = {
            "kind": "{}. [default: heatmap, of training curves]",
            "value": "What is measured: {}. [default: log10_attenuation, of training solved_share]",
            "x": "The axis below: {}; part is of the state, relative_length length / horizon at "
            "initialisation.",
            "y": "Rows of a heatmap, colours of the other kinds: as for --x.",
            "facet": "A panel for each value: as for --x, without lag and update.",
        }
        found = super().get_params(ctx)
        for option in found:
            if isinstance(option, click.Option) and option.name in told:
                option.help = told[option.name].format(one_of(_described(option.name)))
        return found


@click.command(cls=Drawing, short_help="Draw a store.")
@click.argument("store", metavar="STORE", shell_complete=completion.folders)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FIG",
    help="A .pdf, .svg or .png; its data: .csv.",
    shell_complete=completion.files,
)
@click.option(
    "--kind",
    metavar="NAME",
    shell_complete=_words("kind"),
)
@click.option("--value", metavar="NAME", shell_complete=_words("value"))
@click.option("--x", metavar="FIELD", shell_complete=_words("x"))
@click.option("--y", metavar="FIELD", shell_complete=_words("y"))
@click.option("--facet", metavar="FIELD", shell_complete=_words("facet"))
@click.option(
    "--where",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Only such runs; repeat it for other fields, or for other values of one.",
    shell_complete=_words("where"),
)
@click.option(
    "--width",
    metavar="NAME",
    help="single, double or slide. [default: double]",
    shell_complete=_words("width"),
)
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
    shell_complete=_words("xscale"),
)
@click.option(
    "--yscale",
    metavar="NAME",
    help="curves, distribution, of what is a logarithm: linear has its number in its place. "
    "[default: log]",
    shell_complete=_words("yscale"),
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

    from seqlab.figures import Looks, plot, resolve_request

    given = {name: value for name, value in looks.items() if value is not None}
    fields = {
        name: given.pop(name) for name in ("kind", "value", "x", "y", "facet") if name in given
    }
    drawn = Looks(**given, value_range=_range(value_range))
    options.check_figure("output", output)
    with complaints() as complain:
        results = _Stored(Path(store), cache(complain))
        plot(results, output, resolve_request(results, **fields, where=_where(where)), drawn)
        streams.write_error(figure_note(output))


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
