"""`seqlab bench --backend cuda` in a fraction of its time: jobs compile side by side, a process
each, and are timed one after the other once all have compiled, on a machine that is then quiet.

    python experiments/cuda/bench.py OUT SECONDS [BACKEND] [CASES.toml]

OUT gets the tables of all jobs that came to an end within SECONDS, and a log of each.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

from seqlab.bench import contests, figure, machine, report, results, suite
from seqlab.bench.command import bench
from seqlab.bench.race import Contest, Timing, race


def compiled(contests: Sequence[Contest], timing: Timing) -> None:
    """A race whose sides have all run once, begun when the parent says so."""
    race(contests, Timing(0, 0.0, 0.0, 0.0))
    print("ready", flush=True)
    sys.stdin.readline()
    race(contests, timing)


def job(cases: Path, name: str, out: Path, backend: str) -> None:
    """One job in this process."""
    contests.race = compiled  # type: ignore[attr-defined]
    peer = "torch" if backend == "cpu" else "cudnn"
    bench(cases, [name], out, [peer], lambda line: print(line, file=sys.stderr), backend)


def whole(cases: Path, out: Path, seconds: float, backend: str) -> None:
    """All jobs, each in a process."""
    end = time.monotonic() + seconds
    out.mkdir(parents=True, exist_ok=True)
    running = {}
    for name in suite.read(cases).select([]):
        folder = out / "jobs" / name.replace("/", "-")
        folder.mkdir(parents=True)
        command = [sys.executable, __file__, "--job", str(cases), name, str(folder), backend]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        # The word, or nothing where the process ends before it could say it.
        waiting = Thread(target=process.stdout.readline, daemon=True)  # type: ignore[union-attr]
        waiting.start()
        running[name] = process, waiting, folder
    for _, waiting, _ in running.values():
        waiting.join(max(0.0, end - time.monotonic()))
    print(f"compiled, {end - time.monotonic():.0f} s left", flush=True)
    own, measured = machine.machine_class(backend), results.Measured(machine.describe(backend), {})
    for name, (process, _, folder) in running.items():
        try:
            process.communicate("go\n", timeout=max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            print(f"{name}: no time was left", flush=True)
            continue
        print(f"{name}: {end - time.monotonic():.0f} s left", flush=True)
        found = results.Results.open(folder, own, measured.machine)
        measured.jobs.update(found.classes[own].jobs)
    everything = results.Results({own: measured})
    everything.write(out)
    figure.draw(measured, out / figure.name_of(own))
    report.write(suite.read(cases), everything, out)


if __name__ == "__main__":
    if sys.argv[1] == "--job":
        job(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5])
    else:
        backend = sys.argv[3] if sys.argv[3:] else "cuda"
        cases = Path(sys.argv[4]) if sys.argv[4:] else suite.ON_GPU
        whole(cases, Path(sys.argv[1]), float(sys.argv[2]), backend)
