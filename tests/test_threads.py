"""Work over threads: in order, whole items side by side, and an end for all when one fails."""

import threading
from typing import Any

import pytest

from seqlab.kernels.cpu import threads
from seqlab.kernels.cpu.threads import share, side_by_side


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")


def here(names: list[str], scratch: Any, first: int, last: int) -> None:
    """A kernel that notes which thread had which tasks."""
    names.extend([threading.current_thread().name] * (last - first))


def kernel_threads(tasks: int, operations: int | None = None) -> set[str]:
    names: list[str] = []
    share(here, tasks, tuple, names, operations=operations)
    assert len(names) == tasks
    return set(names)


def test_a_kernel_call_is_shared() -> None:
    assert len(kernel_threads(2)) == 2
    assert len(kernel_threads(1)) == 1


def test_little_work_wakes_no_other_thread() -> None:
    assert len(kernel_threads(10, operations=1000)) == 1
    assert len(kernel_threads(10, operations=1_000_000)) == 2


def test_items_side_by_side_keep_their_kernels_to_themselves() -> None:
    both = threading.Barrier(2, timeout=30)  # passed only if two items run at once

    def work(item: int) -> tuple[int, set[str]]:
        both.wait()
        return item, kernel_threads(4)

    done = side_by_side(work, range(6))
    assert [item for item, _ in done] == list(range(6))
    assert all(len(names) == 1 for _, names in done)
    assert len(set.union(*(names for _, names in done))) == 2
    assert len(kernel_threads(2)) == 2  # the caller's own calls are shared again


def test_too_few_items_are_done_in_turn() -> None:
    [names] = side_by_side(kernel_threads, [2])
    assert len(names) == 2  # its kernel calls are shared


@pytest.mark.tiny
def test_a_failure_ends_the_others_at_their_next_kernel_call() -> None:
    failed, calls = threading.Event(), []

    def work(item: int) -> None:
        if item == 1:
            failed.set()
            raise MemoryError("no room")
        failed.wait(30)
        while True:  # until it is told to end
            kernel_threads(1)
            calls.append(item)
            assert len(calls) < 1_000_000

    with pytest.raises(MemoryError, match="no room"):
        side_by_side(work, range(10))
    assert set(calls) <= {0}  # nothing that had not begun was begun
    assert side_by_side(lambda item: item, range(4)) == [0, 1, 2, 3]


@pytest.mark.tiny
def test_ctrl_c_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def work(item: int) -> None:
        try:
            while True:
                kernel_threads(1)
        finally:
            ended.append(item)

    real, waits = threads.wait, list[Any]()

    def wait(futures: Any, **options: Any) -> Any:
        waits.append(options)
        if len(waits) == 1:
            raise KeyboardInterrupt
        return real(futures, **options)

    monkeypatch.setattr(threads, "wait", wait)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, range(2))
    assert len(waits) == 2  # for the items to end
    begun = set(ended)
    assert kernel_threads(2)  # the threads are free again
    assert set(ended) == begun <= {0, 1}


@pytest.mark.tiny
def test_work_ahead_takes_what_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    go = threading.Event()
    assert threads.spare(2) == 1
    future = threads.ahead(2, go.wait, 30)
    assert future is not None
    assert threads.spare(2) == 0
    assert threads.ahead(2, go.wait, 30) is None  # two threads of each call are all there are
    go.set()
    assert future.result(30)
    while threads.spare(2) == 0:  # until the thread has said so
        pass
    assert threads.ahead(3, go.wait, 30) is None
    assert side_by_side(lambda _: threads.ahead(1, go.wait, 30), range(4)) == [None] * 4
