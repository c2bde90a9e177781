"""A second process that compiles kernels into the cache, while this one compiles others.

Numba compiles one function after another, whatever threads ask for them. The second process says
nothing and fails alone: what it did not compile is not in the cache, and is compiled here. It ends
when this one does.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from seqlab.kernels import _cache

PATIENCE = 300  # seconds: longer than any kernel takes, so that one that hangs is given up

_PROGRAM = """
import gc, json, sys
gc.disable()  # it does not live for long
sys.path[:] = json.loads(sys.argv[1])
from seqlab.kernels._beside import ending_with_parent
with ending_with_parent():
    from importlib import import_module
    getattr(import_module(sys.argv[2]), sys.argv[3])(*sys.argv[4:])
"""


@contextmanager
def beside(module: str, function: str, *words: str) -> Iterator[None]:
    """Call a function of a module in a process of its own, from when a kernel is first missed in
    the cache within this block until the block ends, which waits for it.

    There is none where kernels cannot be kept, and where Python cannot be started.
    """
    started: list[subprocess.Popen] = []

    def start() -> None:
        with suppress(OSError):  # no more processes, no memory for one
            started.append(_start(module, function, *words))

    with _cache.when_missing(start):
        try:
            yield
            with suppress(subprocess.TimeoutExpired):
                for process in started:
                    process.wait(PATIENCE)
        finally:
            for process in started:
                process.kill()
                process.communicate()


def _start(*words: str) -> subprocess.Popen:
    """Python with this one's paths and cache. Raises OSError where it cannot be started."""
    if not Path(sys.executable or "").stem.lower().startswith("python"):
        raise OSError("another program has Python within")
    paths = json.dumps([path for path in sys.path if isinstance(path, str)])
    # One thread: it has one core to itself, and starts no process in its turn.
    own = {"NUMBA_NUM_THREADS": "1"}
    if _cache.CACHE_DIR is not None:
        own["NUMBA_CACHE_DIR"] = str(_cache.CACHE_DIR.parent)
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, paths, *words],
        env=os.environ | own,
        stdin=subprocess.PIPE,  # whose other end closes when this process ends, in whatever way
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def ending_with_parent() -> Iterator[None]:
    """End the process when its standard input does, and, done with this block, at once."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    yield
    os._exit(0)


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
