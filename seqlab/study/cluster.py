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
from typing import TYPE_CHECKING, Any

from seqlab.errors import InputError
from seqlab.spec import RunSpec
from seqlab.study import limits
from seqlab.study.result import Result
from seqlab.study.run import measure_spec

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 10  # seconds for a scheduler to answer
AHEAD = 2  # runs at the cluster for each of its threads, so that none waits
RECOUNT = 2.0  # seconds between looks at how many threads there are

Finished = tuple[RunSpec, Result | Exception]


class LostWorkers(Exception):
    """A run had several workers that were lost, most often for want of memory."""


def connect(address: str) -> "Client":
    """A client of the scheduler at `tcp://HOST:PORT`.

    Raises InputError for another spelling, without Dask, and where no scheduler answers.
    """
    if not re.fullmatch(r"(tcp|tls)://[^\s:/]+:\d{1,5}", address):
        raise InputError(f"scheduler: {address!r} is not allowed; tcp://HOST:PORT")
    try:
        from distributed import Client
    except ImportError:
        raise InputError("scheduler: Dask is not here; pip install 'seqlab[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong we say ourselves
    try:
        return Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise InputError(f"scheduler: no answer from {address}: {error}") from None


def measure_there(client: "Client", backend: str, specs: Iterator[RunSpec]) -> Generator[Finished]:
    """Each run with its result, or with the error that it failed with, as they finish.

    Specs are taken as the cluster has room. Raises OSError where the scheduler is lost.
    """
    from distributed import as_completed

    running: dict[Future, RunSpec] = {}
    finished = as_completed(loop=client.loop)
    room = _Room(client)
    try:
        while True:
            for spec in itertools.islice(specs, room.beside(len(running))):
                future = client.submit(_measure, spec.to_dict(), backend, pure=False)
                running[future] = spec
                finished.add(future)
            if not running:
                return
            future = next(finished)
            yield running.pop(future), _outcome(future)
    finally:
        client.cancel(list(running))


def _measure(fields: dict[str, Any], backend: str) -> bytes:
    """What a worker does."""
    spec = RunSpec.from_dict(fields)
    limits.require_memory(spec)
    return measure_spec(spec, backend, None, None).encode()


def _outcome(future: "Future") -> Result | Exception:
    from distributed import KilledWorker

    if future.status == "error":
        error: Exception = future.exception()
        return LostWorkers(str(error)) if isinstance(error, KilledWorker) else error
    if future.status != "finished":
        raise OSError(f"the scheduler is lost: a run is {future.status}")
    try:
        return Result.decode(future.result())
    except InputError as error:  # another version's
        return error


class _Room:
    """How many more runs the cluster takes; it may grow and shrink."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._threads, self._counted = 0, -RECOUNT

    def beside(self, running: int) -> int:
        if time.monotonic() - self._counted > RECOUNT:
            self._threads = sum(self._client.nthreads().values())
            self._counted = time.monotonic()
        return max(0, AHEAD * max(1, self._threads) - running)
