"""The cases measured as whole processes: start-up, and long sequences with their memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory

from seqlab.bench.alone import ask
from seqlab.bench.jobs import Context, Job
from seqlab.bench.rows import Row

MICRO, MIB = 1e-6, 2**20
PER_STEP = "us a step"


@dataclass(frozen=True)
class Startup:
    """Seconds of wall clock from the start of a command to its end."""

    arch: str
    steps: int
    cold_rounds: int

    def jobs(self) -> Iterator[Job]:
        """One."""
        yield Job("commands", self._measure)

    def _measure(self, context: Context) -> list[Row]:
        with TemporaryDirectory() as store:
            run = f"seqlab run --arch {self.arch} --steps {self.steps}"
            measure = ["-m", *run.split(), "--store", store]
            cold = [_in_new_cache(measure) for _ in range(self.cold_rounds)]
            commands = {
                "python -c pass": ["-c", "pass"],
                "seqlab --help": ["-m", "seqlab", "--help"],
                run: measure,
            }
            warm = _in_one_cache(commands, context.timing.rounds)
        return [
            *(Row({"command": name, "cache": "warm"}, {"s": took}) for name, took in warm.items()),
            Row({"command": run, "cache": "cold"}, {"s": cold}),
        ]


def _in_new_cache(arguments: Sequence[str]) -> float:
    """Seconds of one process that has to compile everything."""
    with TemporaryDirectory() as cache:
        return _wall(arguments, cache)


def _in_one_cache(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[float]]:
    """Seconds of processes that find compiled what they need, in turns."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    with TemporaryDirectory() as cache:
        for arguments in commands.values():
            _wall(arguments, cache)
        for _ in range(rounds):
            for name, arguments in commands.items():
                times[name].append(_wall(arguments, cache))
    return times


def _wall(arguments: Sequence[str], cache: str) -> float:
    """Seconds of one Python process with this cache of compiled code."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
    )
    return time.perf_counter() - start


@dataclass(frozen=True)
class Long:
    """An LSTM on ever longer sequences: microseconds a step, and the process's peak of memory."""

    through: Sequence[str]
    steps: Sequence[int]
    hidden: int
    inputs: int
    rounds: int

    def jobs(self) -> Iterator[Job]:
        """One for each way to measure."""
        for through in self.through:
            yield Job(through, partial(self._measure, through))

    def _measure(self, through: str, context: Context) -> list[Row]:
        del context
        times: dict[int, list[float]] = {steps: [] for steps in self.steps}
        peaks: dict[int, list[float]] = {steps: [] for steps in self.steps}
        for _ in range(self.rounds):
            for steps in self.steps:
                got = ask(
                    "long", through=through, steps=steps, hidden=self.hidden, inputs=self.inputs
                )
                times[steps].append(got["seconds"] / steps / MICRO)
                peaks[steps].append(got["peak"] / MIB)
        return [
            Row(
                {"through": through, "T": steps},
                {PER_STEP: times[steps]},
                {
                    f"/ T = {base:,}": [a / b for a, b in zip(own, times[base], strict=True)]
                    for base in self.steps
                    if base < steps
                },
                {"peak, MiB": median(peaks[steps])},
            )
            for steps, own in times.items()
        ]
