"""What goes wrong, told in a line on stderr, and the codes that a command ends with."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from seqlab.cli import streams
from seqlab.errors import Note
from seqlab.wording import printable

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def complain(message: str, code: int) -> int:
    """Tell an error; gives back the code."""
    _say_aside("error", message)
    return code


@contextmanager
def complaints() -> Iterator[Callable[[str], None]]:
    """What to call with a complaint that lets the command go on, and fail at its end."""
    codes: list[int] = []
    yield lambda message: codes.append(complain(message, FAILED))
    if codes:
        sys.exit(FAILED)


@contextmanager
def notes() -> Iterator[None]:
    """Notes as lines on stderr, without their place in code; other warnings as ever."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any) -> None:
            if issubclass(category, Note):
                _say_aside("note", str(message))
            else:
                usual(message, category, *where)

        warnings.simplefilter("always", Note)
        warnings.showwarning = show  # type: ignore[assignment] # catch_warnings puts it back
        yield


def _say_aside(kind: str, message: str) -> None:
    line = "".join(c if c.isprintable() else " " for c in printable(" ".join(message.split())))
    streams.write_error(f"seqlab: {kind}: {line}")
