"""The group that finds its commands in a folder, and the one place where errors end."""

import atexit
import gc
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, cast

import click

from seqlab.cli import commands, interrupts, streams
from seqlab.cli.errors import FAILED, INTERRUPTED, REFUSED, complain, notes
from seqlab.errors import InputError

# Python would look through all that is there for garbage before it ends: 0.1 s.
atexit.register(gc.freeze)


class Files(Mapping[str, click.Command]):
    """The commands in the files of `seqlab.cli.commands`, each in one of its own name; a file is
    loaded when its command is asked for."""

    def __getitem__(self, name: str) -> click.Command:
        if name not in _names():
            raise KeyError(name)
        found: click.Command = getattr(import_module(f"{commands.__name__}.{name}"), name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_names())

    def __len__(self) -> int:
        return len(_names())


class Commands(click.Group):
    """A group of all commands, whose every error is one line on stderr, without usage and without
    traceback."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.commands = cast(dict[str, click.Command], Files())

    def main(self, *args: Any, **extra: Any) -> Any:
        streams.prepare()
        try:
            with notes(), interrupts.remembered():
                code = super().main(*args, **extra | {"standalone_mode": False})
        except click.ClickException as error:
            message = error.format_message()
            if message == "Missing command.":
                message = "a command is missing; seqlab --help lists them"
            code = complain(message, REFUSED)
        except InputError as error:
            code = complain(str(error), REFUSED)
        except click.Abort:
            code = complain("interrupted", INTERRUPTED)
        except MemoryError:
            code = complain("out of memory", FAILED)
        except OSError as error:
            code = complain(str(error), FAILED)
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.Abort from None  # before click, which would add an empty line
        except EOFError as error:  # nobody is asked for input, but click would say "interrupted"
            raise OSError(f"something that was read ends too soon: {error}") from error


@cache
def _names() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(commands.__path__)]
