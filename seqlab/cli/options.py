"""Options that several commands have, and those that come from a table of options."""

from collections.abc import Callable
from functools import cache
from typing import Any

import click

from seqlab.errors import InputError

Decorator = Callable[[Any], Any]


def backend(default: str = "auto", help: str = "auto, cpu or cuda.") -> Decorator:
    """Where to compute."""
    return click.option("--backend", default=default, metavar="NAME", show_default=True, help=help)


def store(help: str) -> Decorator:
    """Where results are kept."""
    return click.option(
        "--store", default="seqlab-results", metavar="DIR", show_default=True, help=help
    )


class RunCommand(click.Command):
    """A command whose first options are the rows of the table of runs, read when it is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*_of_table(), *super().get_params(ctx)]


@cache  # click tells one option from another by which object it is
def _of_table() -> list[click.Parameter]:
    from seqlab.spec.table import TABLE

    return [
        click.Option(
            [f"--{name.replace('_', '-')}"],
            type=row.read,
            multiple=row.many,
            metavar=row.metavar,
            help=TABLE.text(name),
        )
        for name, row in TABLE.items()
    ]


def check_figure(option: str, name: str) -> None:
    """Refuse a figure that could not be written. Raises InputError."""
    from seqlab.figures import check_path
    from seqlab.study.files import require_writable

    path = check_path(name, option)
    if not path.parent.is_dir():
        raise InputError(f"{option}: {path.parent} is not a folder; make it first")
    for file in (path, path.with_suffix(".csv")):
        require_writable(option, file, 0)
