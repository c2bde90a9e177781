"""Measurements that need a process of their own: `python -m seqlab.bench.alone TASK`.

Its peak of memory is its own, and so are its threads of BLAS.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ENOUGH = 0.3  # seconds of calls
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OPENBLAS", "MKL")}


def ask(task: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> Any:
    """What a task answers in a new process. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "seqlab.bench.alone", json.dumps([task, arguments])]
    whole = {**os.environ, **(environment or {})}
    done = subprocess.run(command, env=whole, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def long(through: str, steps: int, hidden: int, inputs: int) -> dict[str, float]:
    """Seconds of one call for an LSTM, drive included, and the process's peak of memory, bytes."""
    import numpy as np

    import seqlab
    from seqlab.bench.race import turn
    from seqlab.cells import CELLS, Draw, Sizes

    rng = np.random.default_rng(8)
    params = CELLS["lstm"].draw(rng, Sizes(hidden, inputs), Draw())

    def attenuation(steps: int) -> None:
        seqlab.attenuation("lstm", params, rng.standard_normal((steps, 1, inputs)), [steps])

    def run(steps: int) -> None:
        seqlab.run(arch="lstm", steps=steps, hidden=hidden, inputs=inputs, networks=1)

    call = {"attenuation": attenuation, "run": run}[through]
    call(100)
    return {"seconds": turn(lambda: call(steps), ENOUGH), "peak": peak_bytes()}


def gemm(dtype: str, size: int = 1024) -> float:
    """Floating-point operations a second of NumPy's matrix product."""
    import numpy as np

    from seqlab.bench.race import turn

    a = np.random.default_rng(9).standard_normal((size, size)).astype(dtype)
    out = a @ a
    return 2 * size**3 / turn(lambda: np.matmul(a, a, out=out), ENOUGH, min)


def peak_bytes() -> float:
    """The most memory that this process has held.

    Not `ru_maxrss` where Linux has better: it begins at the size of the process that started this.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return peak if sys.platform == "darwin" else peak * 1024


TASKS: dict[str, Callable[..., Any]] = {"long": long, "gemm": gemm}

if __name__ == "__main__":
    task, arguments = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(TASKS[task](**arguments)))
