"""stdout and stderr as they may be: closed, full, without a reader, short of letters.

What was measured is not to be lost because it could not be told.
"""

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import TextIO

_SPELLED = "seqlab"  # what an encoding has no letter for, by the name of its error handler


def prepare() -> None:
    """Make all text that is written go where it can; to be called before any work.

    A stream that is closed leads nowhere, so that no file takes its number, for others to write to.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(nowhere, mode, closefd=False))
    codecs.register_error(_SPELLED, _spelled)
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr escapes what it cannot write by itself
        sys.stdout.reconfigure(errors=_SPELLED)


def write_out(text: str) -> None:
    """Write a line to stdout. A reader who went away has had enough; OSError for all else."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        _lead_nowhere(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise


def write_error(text: str) -> None:
    """Write a line to stderr, if it can be written."""
    write(sys.stderr, f"{text}\n")


def write(stream: TextIO, text: str) -> None:
    """Write what is not worth failing for."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):  # ValueError: it was closed by somebody
        _lead_nowhere(stream)


def written(stream: TextIO, text: str) -> str:
    """A text as a stream will write it."""
    encoding, errors = stream.encoding or "utf-8", stream.errors or "strict"
    return text.encode(encoding, errors).decode(encoding, "replace")


def _lead_nowhere(stream: TextIO) -> None:
    """Let what a stream still holds be written, else Python would complain when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _spelled(error: UnicodeError) -> tuple[str | bytes, int]:
    """The bytes of a file's name that are no letters as they are, other letters by their number."""
    if isinstance(error, UnicodeEncodeError) and not error.encoding.startswith(
        ("utf-16", "utf-32")
    ):
        with suppress(UnicodeError):
            return codecs.lookup_error("surrogateescape")(error)
    return codecs.lookup_error("backslashreplace")(error)
