"""Work over threads: in order, whole items side by side, and an end for all when one fails."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from studies import PATIENCE

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
    both = threading.Barrier(2, timeout=PATIENCE)  # passed only if two items run at once

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
    both = threading.Barrier(2, timeout=PATIENCE)
    begun, calls = [], []

    def work(item: int) -> None:
        begun.append(item)
        both.wait()
        if item == 1:
            raise MemoryError("no room")
        stop = threads._current.stop
        assert stop is not None
        assert stop.wait(PATIENCE)  # it is told to end
        kernel_threads(1)
        calls.append(item)

    with pytest.raises(MemoryError, match="no room"):
        side_by_side(work, range(10))
    assert sorted(begun) == [0, 1]  # nothing that had not begun was begun
    assert calls == []
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
    future = threads.ahead(2, go.wait, PATIENCE)
    assert future is not None
    assert threads.spare(2) == 0
    assert threads.ahead(2, go.wait, PATIENCE) is None  # two threads of each call are all there are
    go.set()
    assert future.result(PATIENCE)
    while threads.spare(2) == 0:  # until the thread has said so
        pass
    assert threads.ahead(3, go.wait, PATIENCE) is None
    assert side_by_side(lambda _: threads.ahead(1, go.wait, PATIENCE), range(4)) == [None] * 4


@pytest.mark.tiny
def test_a_system_without_more_threads_is_said_to_be_that(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(threads, "_pool", lambda count: pool)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="threads: can't start new thread") as caught:
            side_by_side(abs, [1, -2])
    assert caught.value.errno == errno.EAGAIN
