"""Tasks over threads: kernels release the GIL, so a plain thread pool runs them side by side.

A task is one network and a few of its sequences; what it computes does not depend on the thread
that runs it. This compiles in a fraction of the time that Numba's own parallel loops take, and
needs no threading layer.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

from seqlab.errors import InputError

GROUP = 4  # sequences that share one pass over the weights


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


def share(kernel: Callable[..., None], tasks: int, scratch: Callable[[], Any], *args: Any) -> None:
    """Call kernel(*args, scratch(), first, last) so that the calls together cover range(tasks).

    Each call has scratch of its own.
    """
    parts = min(thread_count(), tasks)
    edges = [tasks * part // parts for part in range(parts + 1)]
    waiting = [
        _pool(parts).submit(kernel, *args, scratch(), first, last)
        for first, last in pairwise(edges[1:])
    ]
    kernel(*args, scratch(), edges[0], edges[1])
    for future in waiting:
        future.result()


def group_size(sequences: int) -> int:
    """Sequences a task takes: few are better spread over threads."""
    return GROUP if sequences >= GROUP else 1


def groups(sequences: int) -> int:
    """Tasks that one network's sequences make."""
    return -(-sequences // group_size(sequences))
