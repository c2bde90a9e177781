"""How far a call is, in one line on the standard error stream, for notebooks and scripts."""

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from seqlab.report.text import fitted
from seqlab.spec.kinds import Progress
from seqlab.wording import refuse

Asked = Progress | bool | None  # what `progress=` takes: True for the line


@contextmanager
def reporting(progress: Asked) -> Iterator[Progress | None]:
    """The function that tells how far a call is, None where nobody asked.

    True stands for a line on stderr, written over itself and gone at the end. Raises InputError for
    anything that is neither a function nor a truth value.
    """
    if progress is None or progress is False:
        yield None
    elif progress is True:
        line = _Line()
        try:
            yield line
        finally:
            line.end()
    elif callable(progress):
        yield progress
    else:
        allowed = "a function of a fraction and a text, or True for a line on stderr"
        raise refuse("progress", progress, allowed)


class _Line:
    """A line of text; a stream that is no terminal, as a notebook's, gets it too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # kernels tell from threads of their own
        self._width = 0  # of what stands there

    def __call__(self, fraction: float, what: str) -> None:
        with self._lock:
            self._width = shutil.get_terminal_size().columns - 1
            self._write(fitted(f"{fraction:4.0%}  {what}", self._width))

    def end(self) -> None:
        """Wipe it."""
        with self._lock:
            if self._width:
                self._write(" " * self._width)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(f"\r{text}\r")
            sys.stderr.flush()
        except (OSError, ValueError):  # a stream that is closed stops no measurement
            pass
