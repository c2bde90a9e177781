"""Where a call's time goes on a GPU: each kernel's on the device, and what the host adds.

    python experiments/cuda/profile.py [CELL:NETWORKS:HIDDEN:BATCH ...]

Forward and backward over 1,000 steps in float32, arrays along time on the GPU. A kernel's time is
that between two events around its launch, so that of a short one is mostly the launch.
"""

import statistics
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import seqlab.kernels.cuda
from seqlab.bench.problems import Gradients
from seqlab.cells import Sizes
from seqlab.kernels.cuda import target

CASES = (
    "lstm:128:64:1",
    "lstm:1:64:1",
    "lstm:1:256:1",
    "lstm:1:64:16",
    "rnn:1:64:1",
    "gru:128:64:1",
)
STEPS, INPUTS, ROUNDS = 1000, 16, 5
Launch = tuple[str, int, int, Any, Any]  # kernel, blocks, threads, events before and after


def watched(launches: list[Launch]) -> Callable[..., None]:
    """`target.launch`, which also writes down its launches."""
    launch, event = target.launch, target.package.event

    def watching(kernel: Any, blocks: int, threads: int, *args: Any) -> None:
        before, after = event(), event()
        before.record()
        launch(kernel, blocks, threads, *args)
        after.record()
        launches.append((kernel.py_func.__name__, blocks, threads, before, after))

    return watching


def watch(launch: Callable[..., None], instead: Callable[..., None]) -> None:
    """Put one launch in the place of another wherever kernels are launched."""
    package = seqlab.kernels.cuda
    for found in walk_packages(package.__path__, package.__name__ + "."):
        module = import_module(found.name)
        if getattr(module, "launch", None) is launch:
            module.launch = instead  # type: ignore[attr-defined]


def seconds(call: Callable[[], Any]) -> float:
    """One call's, until the GPU is done."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def show(case: str) -> None:
    """One case's times in milliseconds, the longest kernels first."""
    cell, *numbers = case.split(":")
    networks, hidden, batch = map(int, numbers)
    sizes = Sizes(hidden, INPUTS)
    problem = Gradients.draw(cell, sizes, STEPS, batch, "float32", networks)
    call = problem.side("cuda").call
    call()
    wall = statistics.median(seconds(call) for _ in range(ROUNDS))
    launches: list[Launch] = []
    plain, watching = target.launch, watched(launches)
    watch(plain, watching)
    call()
    watch(watching, plain)
    kernels: dict[tuple[str, int, int], list[float]] = {}
    for *key, before, after in launches:
        took = target.package.event_elapsed_time(before, after)
        kernels.setdefault(tuple(key), []).append(took)  # type: ignore[arg-type]
    device = sum(map(sum, kernels.values()))
    print(f"{case}: {1e3 * wall:.2f} ms, on the device {device:.2f} ms")
    for (name, blocks, threads), times in sorted(kernels.items(), key=lambda one: -sum(one[1])):
        print(f"    {name:14} {blocks:6} x {threads:4} {len(times):3} times {sum(times):8.3f} ms")


if __name__ == "__main__":
    print(target.name())
    for asked in sys.argv[1:] or CASES:
        show(asked)
