"""The cases measured as whole processes: start-up, and long sequences with their memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from seqlab.bench.alone import ask
from seqlab.bench.jobs import Context, Job
from seqlab.bench.rows import Row

MICRO, MIB = 1e-6, 2**20


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
        run = f"seqlab run --arch {self.arch} --steps {self.steps}"
        commands = {
            "python -c pass": ["-c", "pass"],
            "seqlab --help": ["-m", "seqlab", "--help"],
            run: ["-m", *run.split()],
        }
        rows = [self._cold(run, commands[run])]
        with TemporaryDirectory() as cache:
            for arguments in commands.values():
                _wall(arguments, Path(cache))
            times: dict[str, list[float]] = {name: [] for name in commands}
            for _ in range(context.timing.rounds):
                for name, arguments in commands.items():
                    times[name].append(_wall(arguments, Path(cache)))
        warm = [Row({"command": n, "cache": "warm"}, {"seconds": t}) for n, t in times.items()]
        return [*warm, *rows]

    def _cold(self, name: str, arguments: list[str]) -> Row:
        times = []
        for _ in range(self.cold_rounds):
            with TemporaryDirectory() as cache:
                times.append(_wall(arguments, Path(cache)))
        return Row({"command": name, "cache": "cold"}, {"seconds": times})


def _wall(arguments: Sequence[str], cache: Path) -> float:
    """Seconds of one process with this cache of compiled code, its results going there too."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    # A command is found as this process finds seqlab, wherever it works.
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=cache,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
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
        peaks = dict.fromkeys(self.steps, 0.0)
        for _ in range(self.rounds):
            for steps in self.steps:
                got = ask(
                    "long", through=through, steps=steps, hidden=self.hidden, inputs=self.inputs
                )
                times[steps].append(got["seconds"] / steps / MICRO)
                peaks[steps] = max(peaks[steps], got["peak"] / MIB)
        return [
            Row(
                {"through": through, "T": steps},
                {"us a step": times[steps]},
                {
                    f"/ T = {base:,}": [a / b for a, b in zip(own, times[base], strict=True)]
                    for base in self.steps
                    if base < steps
                },
                {"peak, MiB": peaks[steps]},
            )
            for steps, own in times.items()
        ]
