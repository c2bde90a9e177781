"""A job: the smallest piece of the benchmark that can be run again on its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

from seqlab.bench.race import Timing
from seqlab.bench.rows import Row


@dataclass(frozen=True)
class Context:
    """What every job is given: how to time, the peers, and the backend that is timed."""

    timing: Timing
    peers: Sequence[ModuleType]
    backend: str = "cpu"


@dataclass(frozen=True)
class Job:
    """A name within its case, the measurement, and whether it needs the peers."""

    name: str
    measure: Callable[[Context], list[Row]]
    peers: bool = False
