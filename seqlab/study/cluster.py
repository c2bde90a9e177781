"""Runs on a Dask cluster that the user started; nothing is written there.

A spec goes out as a plain dictionary and a result comes back as the bytes of its file, to the one
process that writes the store. Dask does a lost worker's runs again elsewhere, and gives up one
that lost several.
"""

import itertools
import logging
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from seqlab.errors import InputError
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec
from seqlab.study import limits
from seqlab.study.result import Result
from seqlab.study.run import measure_only
from seqlab.wording import extra

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 10  # seconds for a scheduler to answer
AHEAD = 2  # runs at the cluster for each of its threads, so that none waits
RECOUNT = 2.0  # seconds between looks at how many threads there are

# A name or a number; the numbers of IPv6 have brackets around them.
_ADDRESS = re.compile(r"(tcp|tls)://([^\s:/[\]]+|\[[\w.:%]+\]):(\d{1,5})", re.ASCII)
_LAST_PORT = 2**16 - 1
_LOGGERS = ("distributed", "tornado", "asyncio")

Finished = tuple[Spec, Result | Exception]


class LostWorkers(Exception):
    """A run had several workers that were lost, most often for want of memory."""


def connect(address: str) -> "Client":
    """A client of the scheduler at `tcp://HOST:PORT` or `tcp://[IPv6]:PORT`.

    Raises InputError for another spelling, without Dask, and where no scheduler answers.
    """
    parts = _ADDRESS.fullmatch(address)
    if parts is None or not 1 <= int(parts[3]) <= _LAST_PORT:
        raise InputError(
            f"scheduler: {address!r} is not allowed; tcp://HOST:PORT, of IPv6 tcp://[HOST]:PORT"
        )
    try:
        from distributed import Client
    except ImportError:
        raise InputError(f"scheduler: Dask is not here; {extra('dask')}") from None
    _silence()
    try:
        return Client(address, timeout=PATIENCE)
    except (OSError, TypeError, ValueError) as error:  # TypeError: tls without certificates
        raise InputError(f"scheduler: no answer from {address}: {error}") from None


def _silence() -> None:
    """Dask's logs and those of what it runs on: what goes wrong we say ourselves.

    Dask gives some of its loggers a level and a handler of their own: each has to be told.
    """
    for name in (*_LOGGERS, *logging.root.manager.loggerDict):
        if name.split(".")[0] in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def measure_there(client: "Client", backend: str, specs: Iterator[Spec]) -> Generator[Finished]:
    """Each run with its result, or with the error that it failed with, as they finish.

    Specs are taken as the cluster has room. Raises OSError where the scheduler is lost.
    """
    from distributed import as_completed

    running: dict[Future, Spec] = {}
    finished = as_completed(loop=client.loop)
    room = _Room(client)
    try:
        while True:
            for spec in itertools.islice(specs, room.beside(len(running))):
                with _needing_the_scheduler():
                    future = client.submit(_measure, spec.to_dict(), backend, pure=False)
                    running[future] = spec
                    finished.add(future)
            if not running:
                return
            with _needing_the_scheduler():
                future = next(finished)
            yield running.pop(future), _outcome(future)
    finally:
        with suppress(Exception):  # with the scheduler the runs are gone
            client.cancel(list(running))


@contextmanager
def _needing_the_scheduler() -> Iterator[None]:
    """What Dask raises without one, of several kinds, as one OSError."""
    try:
        yield
    except Exception as error:
        raise OSError(f"the scheduler is lost: {error}") from error


def _measure(fields: dict[str, Any], backend: str) -> bytes:
    """What a worker does."""
    spec = kinds.from_dict(fields)
    limits.require_memory(spec)
    return measure_only(spec, backend, None).encode()


def _outcome(future: "Future") -> Result | Exception:
    from distributed import KilledWorker

    if future.status == "error":
        error: Exception = future.exception()
        return LostWorkers(str(error)) if isinstance(error, KilledWorker) else error
    if future.status != "finished":
        raise OSError(f"the scheduler is lost: a run is {future.status}")
    with _needing_the_scheduler():
        data = future.result()
    try:
        return Result.decode(data)
    except InputError as error:  # another version's
        return error


class _Room:
    """How many more runs the cluster takes; it may grow and shrink."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._threads, self._counted = 0, -RECOUNT

    def beside(self, running: int) -> int:
        if time.monotonic() - self._counted > RECOUNT:
            with _needing_the_scheduler():
                self._threads = sum(self._client.nthreads().values())
            self._counted = time.monotonic()
        return max(0, AHEAD * max(1, self._threads) - running)
