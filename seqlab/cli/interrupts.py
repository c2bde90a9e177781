"""Ctrl-C, heard also where somebody else's code has swallowed it.

Libraries catch whatever is raised while they are imported, or while they compile. A
KeyboardInterrupt that falls there is gone, and the work would go on for as long as it takes.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_heard = threading.Event()


@contextmanager
def remembered() -> Iterator[None]:
    """In here `check` raises a Ctrl-C again; one that is ignored stays ignored."""
    _heard.clear()
    usual = signal.default_int_handler
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return

    def hear(number: int, frame: FrameType | None) -> None:
        _heard.set()
        usual(number, frame)

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def check() -> None:
    """Raise KeyboardInterrupt if there was one; to be called now and then in long work."""
    if _heard.is_set():
        raise KeyboardInterrupt
