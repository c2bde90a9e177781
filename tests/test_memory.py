"""The estimate of a run's memory against what NumPy really allocates; memory used again."""

import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from seqlab.cells import CELLS
from seqlab.engine import lane, tape
from seqlab.kernels import memory
from seqlab.kernels.memory import aligned
from seqlab.measure import measure
from seqlab.measure.cost import memory_bytes
from seqlab.spec.run import RunSpec

RUNS: list[dict[str, Any]] = [
    *({"arch": arch, "steps": 1000} for arch in CELLS),
    {"arch": "rnn", "steps": 100, "hidden": 512, "networks": 4},
    {"arch": "rnn", "steps": 10_000, "hidden": 4, "networks": 8},
    {"arch": "lstm", "steps": 500, "hidden": 32, "spectrum": 16},
    {"arch": "gru", "steps": 500, "inputs": 400},
    {"arch": "ssm", "steps": 1000, "networks": 4, "state": 64},
]


def _peak(spec: RunSpec) -> int:
    """Bytes that a run holds at its peak, from none that are kept."""
    memory.release()
    tracemalloc.start()
    try:
        measure(spec)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run.values())))
def test_estimates_hold_and_are_not_idle(
    run: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least what is taken at the peak, at most five times as much; of several threads the peaks
    need not meet."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
    measure(RunSpec.create(**run | {"steps": 20}))  # compiles, imports, fills caches
    spec = RunSpec.create(**run)
    peak = _peak(spec)
    assert peak <= memory_bytes(spec) <= 5 * threads * peak


@pytest.mark.parametrize(("arch", "parts", "saved"), [("rnn", 1, 2), ("lstm", 2, 7)])
def test_a_long_run_keeps_its_drive_its_records_and_few_segments(
    arch: str, parts: int, saved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every lag of every length the squares of each part and of the input, an exponent, and two
    numbers while they are read; of segments the one that is used, the one computed meanwhile, and
    what is emitted of one. A whole trajectory would be 100 segments."""
    steps, hidden, inputs = 30_000, 16, 4
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    monkeypatch.setattr(lane, "REUSED_POINTS", 0)  # as for a run that is truly long
    asked = {"arch": arch, "hidden": hidden, "inputs": inputs, "networks": 1}
    measure(RunSpec.create(**asked, steps=20))
    monkeypatch.setattr(tape, "SEGMENT_BYTES", steps * saved * hidden * 8 // 100)
    spec = RunSpec.create(**asked, steps=steps, clip=["norm:1", "step-norm:1"])
    peak = _peak(spec)
    drive, records = steps * inputs * 8, (sum(spec.lengths) + len(spec.lengths)) * 8 * (parts + 4)
    longest = 2 * steps * 8  # of both rules, the state's curve whole
    assert peak <= 1.1 * (drive + records + longest + 4 * tape.SEGMENT_BYTES) + (1 << 18)


@pytest.fixture
def nothing_kept() -> Iterator[None]:
    memory.release()
    yield
    memory.release()


@pytest.mark.usefixtures("nothing_kept")
def test_memory_is_used_again_when_nothing_refers_to_it() -> None:
    first = aligned((1000, 100), np.float64)
    place = first.ctypes.data
    assert place % 64 == 0
    view = first[3:]
    del first
    other = aligned((1000, 100), np.float64)
    assert not np.shares_memory(other, view)
    del view
    assert aligned((100, 1000), np.float64).ctypes.data == place
    assert aligned((200_500,), np.float32).ctypes.data == place  # nearly as large
    assert aligned((300_000,), np.float32).ctypes.data != place


@pytest.mark.usefixtures("nothing_kept")
def test_little_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the limit; a block that does not fit beside the others takes their place."""
    monkeypatch.setattr(memory, "KEPT_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        for size in (300_000, 400_000, 500_000, 2_000_000, 600_000):
            aligned((size,), np.uint8)
            kept = tracemalloc.get_traced_memory()[0]
            fits = size <= memory.KEPT_BYTES
            assert (size if fits else 0) <= kept <= (1_010_000 if fits else 10_000), size
        memory.release()
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("nothing_kept")
def test_threads_never_share_a_block() -> None:
    def work(number: int) -> None:
        for _ in range(2000):
            mine = aligned((10_000,), np.int64)
            mine.fill(number)
            wrong.append(bool((mine != number).any()))

    wrong: list[bool] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 2000
    assert not any(wrong)
