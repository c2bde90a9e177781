"""A forked child, which has one thread and whatever the others held, computes the same bits."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from drawn import draw
from numba.core.compiler_lock import global_compiler_lock
from studies import PATIENCE

import seqlab
from seqlab.claims import checks
from seqlab.kernels import memory
from seqlab.kernels.cpu import team, threads
from seqlab.measure import measure
from seqlab.spec.run import RunSpec

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # That threads make it dangerous is what is tested.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")


def in_child(work: Callable[[], Any], code: int = 0) -> Any:
    """What work() gives in a forked child, which then ends with this exit code."""
    context = multiprocessing.get_context("fork")
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=lambda: answer.send(work()))
    child.start()
    answer.close()
    try:
        assert answers.poll(PATIENCE), "the child hangs"
        found = answers.recv()
        child.join(PATIENCE)
        assert child.exitcode == code, "the child does not end"
        return found
    finally:
        child.kill()
        child.join()
        answers.close()


def a_study() -> list[bytes]:
    """Networks side by side, and the kernel calls of one shared."""
    found = []
    for arch, networks in (("lstm", 4), ("ssm", 1)):
        spec = RunSpec.create(arch=arch, steps=200, hidden=40, networks=networks)
        variables = measure(spec).variables
        found += [variables[name].data.tobytes() for name in sorted(variables)]
    return found


def a_team() -> list[bytes]:
    """One network's products by several threads."""
    run = draw("gru", hidden=80, steps=50, batch=1)
    trajectory = seqlab.forward("gru", run.params, run.x, run.initial)
    gradients = seqlab.backward(trajectory, run.grad)
    return [trajectory.output.tobytes(), *(g.tobytes() for g in gradients.params.values())]


def test_a_child_has_threads_of_its_own() -> None:
    both = threading.Barrier(2)

    def names() -> set[str]:
        waiting = [threads.start(both.wait, PATIENCE) for _ in range(2)]  # passed only together
        assert {future.result() for future in waiting} == {0, 1}
        return {thread.name for thread in threading.enumerate()}

    assert len({name for name in names() if name.startswith("seqlab")}) >= 2
    assert len({name for name in in_child(names) if name.startswith("seqlab")}) == 2


@pytest.mark.parametrize("work", [a_study, a_team])
def test_a_child_computes_the_same_bits(
    work: Callable[[], list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does its own child."""
    monkeypatch.setattr(team, "SHARE", 1)
    here = work()
    assert in_child(work) == here
    assert in_child(lambda: in_child(work)) == here
    assert work() == here  # the parent has all its threads


def test_a_child_of_a_parent_that_computes_computes_the_same_bits() -> None:
    stop, running = threading.Event(), threading.Event()

    def compute() -> None:
        while not stop.is_set():
            a_study()
            running.set()

    here = a_study()
    other = threading.Thread(target=compute)
    other.start()
    try:
        assert running.wait(PATIENCE)
        for _ in range(5):
            assert in_child(a_study) == here
    finally:
        stop.set()
        other.join()


@pytest.fixture
def held() -> Iterator[Callable[[Any, threading.Event], None]]:
    """Makes another thread hold a lock until an event, or until the test ends."""
    events, holders = list[threading.Event](), list[threading.Thread]()

    def hold(lock: Any, until: threading.Event) -> None:
        taken = threading.Event()

        def work() -> None:
            with lock:
                taken.set()
                until.wait()

        events.append(until)
        holders.append(threading.Thread(target=work))
        holders[-1].start()
        assert taken.wait(PATIENCE)

    yield hold
    for event in events:
        event.set()
    for holder in holders:
        holder.join()


def test_memory_that_another_thread_was_at(
    held: Callable[[Any, threading.Event], None],
) -> None:
    held(memory._lock, threading.Event())

    def use() -> int:
        memory.aligned((1000, 100), np.float64).fill(0)
        return memory._kept

    assert in_child(use) >= 1000 * 100 * 8
    # What that thread had begun to change is not relied on.
    assert in_child(lambda: (memory._free, memory._kept)) == ({}, 0)


_forking = threading.Event()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forking.set)  # runs before those that were registered earlier


def test_a_kernel_that_another_thread_was_compiling(
    held: Callable[[Any, threading.Event], None],
) -> None:
    """The fork waits until it is compiled."""
    _forking.clear()
    held(global_compiler_lock, _forking)

    def compile_one() -> str:
        with global_compiler_lock:
            return "compiled"

    assert in_child(compile_one) == "compiled"
    held(global_compiler_lock, threading.Event())  # the parent has let go of it


def test_work_ahead_is_done_by_the_child_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    go, calls = threading.Event(), list[int]()

    def work(number: int) -> int:
        calls.append(os.getpid())
        assert go.wait(PATIENCE)
        return number

    future = threads.ahead(1, work, 7)
    assert future is not None

    def want() -> tuple[int, bool, int]:
        go.set()
        return future.result(), os.getpid() in calls, threads.spare(1)

    assert in_child(want) == (7, True, 3)
    go.set()
    assert future.result(PATIENCE) == 7
    assert calls == [os.getpid()]


def test_work_that_ends_ends_nothing_of_the_child() -> None:
    """A fork from within one of several items, of which another fails."""
    both = threading.Barrier(2)

    def work(item: int) -> None:
        both.wait(PATIENCE)
        if item == 1:
            raise ValueError("no")
        stop = threads._current.stop
        assert stop is not None
        assert stop.wait(PATIENCE)
        # 1: Python does not end well in a process that a thread of a pool has forked.
        ran.append(in_child(share_one, code=1))

    def share_one() -> str:
        done: list[int] = []
        threads.share(lambda scratch, first, last: done.append(last), 3, tuple)
        return f"{max(done)} tasks"

    ran: list[str] = []
    with pytest.raises(ValueError, match="no"):
        threads.side_by_side(work, range(2))
    assert ran == ["3 tasks"]


FAULTS: list[tuple[Callable[[], object], float, float]] = [
    (lambda: None, 1, PATIENCE),
    (lambda: os._exit(1), np.inf, PATIENCE),
    (threading.Event().wait, np.inf, 0),
]


@pytest.mark.parametrize(
    ("fault", "error", "patience"), FAULTS, ids=["differs", "dies", "never-ends"]
)
def test_verify_sees_a_child_that(
    fault: Callable[[], object], error: float, patience: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checks._forked("cpu") == 0
    parent, real = os.getpid(), measure

    def other(spec: RunSpec, backend: str) -> Any:
        if os.getpid() != parent:
            fault()
            spec = RunSpec.create(arch="lstm", steps=21, hidden=8)
        return real(spec, backend)

    monkeypatch.setattr("seqlab.measure.measure", other)
    monkeypatch.setattr(checks, "PATIENCE", patience)
    assert checks._forked("cpu") == error
