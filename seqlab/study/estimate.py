"""What runs take, before they run: a model of time, and sizes that are known."""

import math
from itertools import islice
from pathlib import Path

from seqlab import measure, rules
from seqlab.cells import CELLS
from seqlab.kernels.cpu.threads import thread_count
from seqlab.report.text import fill, lasting, size
from seqlab.spec.run import FIELDS, RunSpec
from seqlab.spec.study import StudySpec
from seqlab.study import limits
from seqlab.study.store import Store
from seqlab.wording import describe_settings

FIRST = 3  # specs that a preview shows

# Fitted to runs of 10 to 10,000 steps and 2 to 256 units on two cores: within a factor of two.
_A_RUN = 2e-3  # seconds, whatever its size
_A_PRODUCT = 3e-10  # seconds for a multiplication and addition, on one thread
_A_STATE = 15  # products that the elementwise work on one entry of the state takes
_A_STEP = 2000  # products that any step takes


def seconds(spec: RunSpec, threads: int) -> float:
    """About how long a run takes on a CPU, compilation apart.

    Networks x steps x passes x (parameters + elementwise work): a pass forward, one for the
    parameter gradients, one back for each in-chain rule and none of them, with as many losses as
    lengths are underway, and three for each Lyapunov exponent.
    """
    cell = CELLS[spec.arch]
    sweeps = 1 + sum(rules.parse(rule).in_chain for rule in spec.clip)
    passes = 2 + sweeps * (1 + sum(spec.lengths) / spec.steps) + 3 * (spec.spectrum or 0)
    parameters = sum(math.prod(shape) for shape in cell.shapes(spec.sizes).values())
    products = parameters + _A_STATE * math.prod(cell.state_shape(spec.sizes)) + _A_STEP
    return _A_RUN + spec.networks * spec.steps * passes * products * _A_PRODUCT / threads


def preview(study: StudySpec, folder: Path) -> str:
    """What a sweep of the study into this store would do, and take; at most 80 columns."""
    present, threads = Store(folder).hashes(), thread_count()
    todo = [spec for spec in study.runs if spec.hash not in present]
    found = len(study.runs) - len(todo)
    lines = [fill(f"{study.name}: {len(study.runs)} runs, {found} of them in {folder}")]
    if todo:
        time = lasting(sum(seconds(spec, threads) for spec in todo))
        largest = max(todo, key=measure.memory_bytes)
        disk = sum(map(limits.file_bytes, todo))
        lines += [
            f"time    about {time} on this machine's {threads} threads, give or take a factor of 2",
            fill(f"memory  {size(measure.memory_bytes(largest))}, for {study.label(largest)}"),
            f"disk    {size(disk)}",
            "first runs:" if len(todo) > 1 else "the run:",
            *(
                fill(f"  {describe_settings({name: getattr(spec, name) for name in FIELDS})}")
                for spec in islice(todo, FIRST)
            ),
        ]
    return "\n".join(lines)
