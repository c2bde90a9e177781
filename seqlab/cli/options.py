"""Options that several commands have, and those that come from a table of options."""

from collections.abc import Callable, Collection
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from seqlab.cli import completion
from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.spec.option import Option, Table

Decorator = Callable[[Any], Any]
MODES = ("auto", "always", "never")  # of what says how far a command is


class Whole(click.ParamType):
    """Whole numbers, `1e4` among them."""

    name = "integer"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        from seqlab.spec.fields import whole_of

        found = value if isinstance(value, int) else whole_of(value)
        if found is None:
            self.fail(f"{value!r} is not a valid integer.", param, ctx)
        return found


WHOLE = Whole()


def backend(default: str = "auto", help: str = "auto, cpu or cuda.") -> Decorator:
    """Where to compute."""
    return click.option(
        "--backend",
        default=default,
        metavar="NAME",
        show_default=True,
        help=help,
        shell_complete=completion.words(_backends),
    )


def _backends() -> Collection[str]:
    from seqlab.kernels.backends import CHOICES

    return CHOICES


def store(help: str) -> Decorator:
    """Where results are kept."""
    return click.option(
        "--store",
        default="seqlab-results",
        metavar="DIR",
        show_default=True,
        help=help,
        shell_complete=completion.folders,
    )


def of_results() -> Decorator:
    """What commands have that measure specs and show results, in the order of their help."""
    return _all(
        click.option(
            "--from",
            "source",
            metavar="RESULT.nc",
            help="Measure again what a result file measured.",
            shell_complete=completion.files,
        ),
        backend(),
        of_outputs(),
    )


def of_outputs() -> Decorator:
    """Where a command's results go; `seqlab.cli.outputs.Outputs` has what they say."""
    return _all(
        store("Folder for the result's file."),
        click.option("--no-store", is_flag=True, help="Write no result file."),
        plot("Draw the curves to a .pdf, .svg or .png; their data: .csv."),
        as_json("Print JSON instead of the table: an object, of several cells a list."),
        click.option(
            "--jsonl",
            "by_line",
            is_flag=True,
            help="Print JSON Lines: an object in a line, however many.",
        ),
        click.option(
            "--quiet",
            is_flag=True,
            help="Only numbers and warnings: no legend, no progress, no notes, nor where files "
            "are.",
        ),
        progress(),
    )


def plot(help: str) -> Decorator:
    """A figure to be drawn."""
    return click.option("--plot", metavar="FIG", help=help, shell_complete=completion.files)


def as_json(help: str) -> Decorator:
    """A document for programs."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def progress() -> Decorator:
    """What says how far a command is."""
    return click.option(
        "--progress",
        type=click.Choice(MODES),
        default=MODES[0],
        metavar="WHEN",
        show_default=True,
        help="How far it is, on stderr: auto (a line on a terminal, elsewhere a line a minute), "
        "always (the line, at once) or never.",
    )


def was_given(name: str) -> bool:
    """Whether the command that runs was given an option, by the name of its parameter."""
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _all(*decorators: Decorator) -> Decorator:
    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


class TableCommand(click.Command):
    """A command whose first options are the rows of a table, "module:name", but for those in
    `without`, read when it is used; each has the word that the command of the table's kind has for
    it."""

    def __init__(
        self, *args: Any, table: str, without: Collection[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.table, self._without = table, without

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        rows = [row for row in _of_table(self.table) if row.name not in self._without]
        return [*rows, *super().get_params(ctx)]


@cache  # click tells one option from another by which object it is
def _of_table(name: str) -> list[click.Parameter]:
    table = find_table(name)
    return [
        click.Option(
            [f"--{table.words[field].replace('_', '-')}", field],
            type=None if row.read is bool else WHOLE if row.read is int else row.read,
            is_flag=row.read is bool,
            default=None,
            multiple=row.many,
            metavar=row.metavar,
            help=table.text(field),
            shell_complete=_completion(row),
        )
        for field, row in table.items()
    ]


def _completion(row: "Option") -> completion.Complete:
    from seqlab.spec.fields import words_of

    return completion.files if row.is_file else completion.words(lambda: words_of(row.parse))


def find_table(name: str) -> "Table":
    """The table of options at "module:name"."""
    module, _, attribute = name.partition(":")
    found: Table = getattr(import_module(module), attribute)
    return found


def check_figure(option: str, name: str) -> None:
    """Refuse a figure that could not be written. Raises InputError."""
    from seqlab.figures import check_path
    from seqlab.study.files import require_writable

    path = check_path(name, option)
    if not path.parent.is_dir():
        raise InputError(f"{option}: {path.parent} is not a folder; make it first")
    for file in (path, path.with_suffix(".csv")):
        require_writable(option, file, 0)


def at_most_one(**flags: bool) -> None:
    """Refuse flags that exclude each other. Raises InputError."""
    given = [f"--{name}" for name, flag in flags.items() if flag]
    if len(given) > 1:
        raise InputError(f"{given[1][2:]}: not allowed beside {given[0]}; one of them")
