"""One line that says how far a long measurement is."""

import shutil
import sys
import threading
from types import TracebackType
from typing import Self, TextIO

from seqlab.cli import interrupts, streams
from seqlab.report.text import fitted


class ProgressLine:
    """A line on a terminal, there once the work has taken a while and gone at its end.

    Anything but a terminal stays silent, and a stream that cannot be written stops nothing. Use it
    as a context manager and call it with a fraction and what is being done; a Ctrl-C that was lost
    on the way is raised there.
    """

    def __init__(self, stream: TextIO | None = None, delay: float = 2.0) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._lock = threading.Lock()
        self._due = threading.Timer(delay, self._begin)
        self._due.daemon = True
        self._text = ""
        self._shown = False

    def __enter__(self) -> Self:
        if self._stream.isatty():
            self._due.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._due.cancel()
        with self._lock:
            self._text = ""
            self._draw()
            self._shown = False

    def __call__(self, fraction: float, what: str) -> None:
        interrupts.check()
        with self._lock:
            self._text = f"{fraction:4.0%}  {what}"
            self._draw()

    def note(self, text: str) -> None:
        """Write a line that stays, above this one."""
        with self._lock:
            here, self._text = self._text, ""
            self._draw()
            streams.write(self._stream, f"{text}\n")
            self._text = here
            self._draw()

    def _begin(self) -> None:
        with self._lock:
            self._shown = True
            self._draw()

    def _draw(self) -> None:
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            text = fitted(streams.shown(self._stream, self._text), width)
            streams.write(self._stream, f"\r{text}\r")
