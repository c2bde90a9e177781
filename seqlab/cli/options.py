"""Options that several commands have, and those that come from a table of options."""

from collections.abc import Callable, Collection
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from seqlab.errors import InputError

if TYPE_CHECKING:
    from seqlab.spec.option import Table

Decorator = Callable[[Any], Any]


def backend(default: str = "auto", help: str = "auto, cpu or cuda.") -> Decorator:
    """Where to compute."""
    return click.option("--backend", default=default, metavar="NAME", show_default=True, help=help)


def store(help: str) -> Decorator:
    """Where results are kept."""
    return click.option(
        "--store", default="seqlab-results", metavar="DIR", show_default=True, help=help
    )


def of_results() -> Decorator:
    """What commands have that measure specs and show results, in the order of their help."""
    return _all(
        click.option(
            "--from",
            "source",
            metavar="RESULT.nc",
            help="Measure again what a result file measured.",
        ),
        backend(),
        of_outputs(),
    )


def of_outputs() -> Decorator:
    """Where a command's results go."""
    return _all(
        store("Folder for the result's file."),
        click.option(
            "--plot",
            metavar="FIG",
            help="Draw the curves to a .pdf, .svg or .png; their data: .csv.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table."),
    )


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
            type=None if row.read is bool else row.read,
            is_flag=row.read is bool,
            default=None,
            multiple=row.many,
            metavar=row.metavar,
            help=table.text(field),
        )
        for field, row in table.items()
    ]


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
