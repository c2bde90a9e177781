"""The estimate of a run's memory against what NumPy really allocates."""

import tracemalloc
from typing import Any

import pytest

from seqlab.measure import measure, memory_bytes
from seqlab.spec import RunSpec

RUNS: list[dict[str, Any]] = [
    {"arch": "rnn", "steps": 1000},
    {"arch": "rnn", "steps": 100, "hidden": 512, "networks": 4},
    {"arch": "rnn", "steps": 10_000, "hidden": 4, "networks": 8},
    {"arch": "lstm", "steps": 1000},
    {"arch": "lstm", "steps": 500, "hidden": 32, "spectrum": 16},
    {"arch": "gru", "steps": 500, "inputs": 400},
    {"arch": "ssm", "steps": 1000},
    {"arch": "ssm", "steps": 1000, "networks": 4, "state": 64},
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run.values())))
def test_estimates_hold_and_are_not_idle(run: dict[str, Any]) -> None:
    """At least what is taken at the peak, at most five times as much."""
    measure(RunSpec.create(**run | {"steps": 20}))  # compiles, imports, fills caches
    spec = RunSpec.create(**run)
    tracemalloc.start()
    try:
        measure(spec)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= memory_bytes(spec) <= 5 * peak
