"""One line that says how far a long command is."""

import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TextIO

from seqlab.cli import interrupts, streams
from seqlab.report.text import fitted
from seqlab.wording import lasting

MINUTE = 60.0  # seconds from line to line where there is no terminal
# What there must be before a time left is told: so many seconds, in which such a share was done.
_JUDGED_BY = (3.0, 0.01)


class _Pace:
    """How fast the work goes, judged by all that was done since it began, but for the longest wait:
    a kernel may have been compiled in it."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None  # when, and how far
        self._last = self._longest = (0.0, 0.0)

    def left(self, now: float, fraction: float) -> str:
        """The time left as text, nothing before there is something to judge it by."""
        if self._first is None:
            if fraction > 0:
                self._first = self._last = now, fraction
            return ""
        self._longest = max(self._longest, (now - self._last[0], fraction - self._last[1]))
        self._last = now, fraction
        taken = now - self._first[0] - self._longest[0]
        made = fraction - self._first[1] - self._longest[1]
        seconds, share = _JUDGED_BY
        if taken < seconds or made < share or fraction >= 1:
            return ""
        return f", {lasting(taken * (1 - fraction) / made)} left"


class ProgressLine:
    """A line on a terminal, there once the work has taken a while and gone at its end; elsewhere a
    line a minute. `mode` is one of `options.MODES`: `always` is as on a terminal, and at once.

    A stream that cannot be written stops nothing. Use it as a context manager and call it with a
    fraction and what is being done; a Ctrl-C that was lost on the way is raised there.
    """

    def __init__(
        self, stream: TextIO | None = None, delay: float = 2.0, mode: str = "auto"
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._drawn = mode == "always" or (mode == "auto" and self._stream.isatty())
        self._by_minute = mode == "auto" and not self._drawn
        self._lock = threading.Lock()
        self._due = threading.Timer(0.0 if mode == "always" else delay, self._begin)
        self._due.daemon = True
        self._text, self._shown = "", False
        self._said = time.monotonic()  # when the last of the lines of each minute was
        self._pace = _Pace()

    def __enter__(self) -> Self:
        if self._drawn:
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
        now = time.monotonic()
        with self._lock:
            self._text = f"{fraction:4.0%}  {what}{self._pace.left(now, fraction)}"
            self._draw()
            if self._by_minute and now - self._said >= MINUTE:
                self._said = now
                streams.write(self._stream, f"{self._text.strip()}\n")

    def note(self, text: str) -> None:
        """Write a line that stays, above this one."""
        with self.aside():
            streams.write(self._stream, f"{text}\n")

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, the line is gone, so that others can be written to its terminal."""
        with self._lock:
            text, self._text = self._text, ""
            self._draw()
            yield
            self._text = text
            self._draw()

    def _begin(self) -> None:
        with self._lock:
            self._shown = True
            self._draw()

    def _draw(self) -> None:
        if self._shown:
            width = shutil.get_terminal_size().columns - 1
            text = fitted(streams.written(self._stream, self._text), width)
            streams.write(self._stream, f"\r{text}\r")
