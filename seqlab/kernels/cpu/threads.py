"""Work over threads: kernels release the GIL, so a plain thread pool runs them side by side.

Whole networks go side by side where there are enough of them, everything between kernel calls
included. Otherwise each kernel call is shared: its tasks are a network and a few of its sequences.
What is computed depends on neither. This compiles in a fraction of the time that Numba's own
parallel loops take, and needs no threading layer.
"""

import errno
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import cache, partial
from itertools import pairwise
from typing import Any, TypeVar

from seqlab.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

WORTH = 2_000_000  # multiply-adds that take as long as to wake a thread


def thread_count() -> int:
    """Threads to use: NUMBA_NUM_THREADS, or the cores that this process may run on.

    Raises InputError when that variable is not a whole number from 1 up.
    """
    asked = os.environ.get("NUMBA_NUM_THREADS")
    if asked is None:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise InputError(f"NUMBA_NUM_THREADS: {asked!r} is not allowed; a whole number from 1 up")
    return int(asked)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="seqlab")


def start(work: Callable[..., Result], *arguments: Any) -> "Future[Result]":
    """Call work(*arguments) on another thread, as soon as one is free.

    Raises OSError where the system gives no more threads.
    """
    try:
        return _pool(thread_count()).submit(work, *arguments)
    except RuntimeError as error:  # Python's own word for it, which says nothing of the system
        raise OSError(errno.EAGAIN, f"threads: {error}") from error


class _Current(threading.local):
    """What this thread is doing: `stop` is set when the others of its kind are to end."""

    stop: threading.Event | None = None


class _Stopped(Exception):
    """Another piece of the same work has failed, or the user wants no more of it."""


_current = _Current()


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """[work(item) for item in items], each item on one thread with all the kernels that it calls.

    Fewer items than threads are done in turn, and their kernel calls shared. An exception ends
    the other items at their next kernel call.
    """
    if not 1 < thread_count() <= len(items):
        return [work(item) for item in items]
    stop = threading.Event()

    def alone(item: Item) -> Result:
        if stop.is_set():
            raise _Stopped
        _current.stop = stop
        try:
            return work(item)
        except BaseException:
            stop.set()
            raise
        finally:
            _current.stop = None

    futures = [start(alone, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        for future in futures:
            future.cancel()
        wait(futures)
    errors = [f.exception() for f in futures if not f.cancelled()]
    for error in errors:
        if error is not None and not isinstance(error, _Stopped):
            raise error
    return [future.result() for future in futures]


def share(
    kernel: Callable[..., None],
    tasks: int,
    scratch: Callable[[], Any],
    *args: Any,
    operations: int | None = None,
) -> None:
    """Call kernel(*args, scratch(), first, last) so that the calls together cover range(tasks).

    `operations` is what a task has of them; too few are not worth another thread.

    Each call has scratch of its own. Within `side_by_side` there is one call, on this thread.
    """
    if _current.stop is not None:
        if _current.stop.is_set():
            raise _Stopped
        kernel(*args, scratch(), 0, tasks)
        return
    worth = tasks if operations is None else max(1, tasks * operations // WORTH)
    parts = min(tasks, worth)
    if parts > 1:  # to count threads takes as long as a small kernel
        parts = min(thread_count(), parts)
    edges = [tasks * part // parts for part in range(parts + 1)]
    waiting = [start(kernel, *args, scratch(), first, last) for first, last in pairwise(edges[1:])]
    kernel(*args, scratch(), edges[0], edges[1])
    for future in waiting:
        future.result()


# What `ahead` has under way, and how to do it again.
_ahead: dict["Future[Any]", Callable[[], Any]] = {}


def spare(tasks: int) -> int:
    """Threads that `share` and `ahead` leave idle for each that has some of `tasks` tasks."""
    if _current.stop is not None:
        return 0
    return max(0, thread_count() // min(thread_count(), tasks) - 1 - len(_ahead))


def ahead(tasks: int, work: Callable[..., Result], *arguments: Any) -> "Future[Result] | None":
    """`start`, if `share` leaves threads idle for another call of so many tasks."""
    if spare(tasks) == 0:
        return None
    future = start(work, *arguments)
    _ahead[future] = partial(work, *arguments)
    future.add_done_callback(_ahead.pop)
    return future


def _begin_in_child() -> None:
    """A forked process has the thread that forked it and no other. What the others were on is
    theirs, but for work ahead: who asks for that does it."""
    _pool.cache_clear()
    for future, again in _ahead.items():
        future.result = again  # type: ignore[method-assign, assignment]
    _ahead.clear()
    _current.stop = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_in_child)
