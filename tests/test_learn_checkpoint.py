"""Training that is stopped and goes on comes to the same bits."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from checkpointed import (
    NETWORKS,
    PATH,
    RATES,
    RULES,
    Array,
    State,
    bits,
    kept,
    state_kept,
    stopped_at,
    told,
    train,
    undisturbed,
)
from courses import course, equal

from seqlab import learning
from seqlab.errors import InputError
from seqlab.learning import checkpoint as module
from seqlab.learning.batches import _shared, batches_of
from seqlab.learning.checkpoint import Checkpoint
from seqlab.learning.course import Course
from seqlab.study.files import write_whole
from seqlab.tasks import TASKS, find_task


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(
    ("optimiser", "options"),
    [("sgd", ()), ("sgd", (("momentum", 0.9),)), ("rmsprop", ()), ("adam", ())],
)
def test_the_same_bits_when_stopped_twice(
    optimiser: str, options: tuple[tuple[str, float], ...], cosine: bool, dtype: str, here: Path
) -> None:
    """Judged by three batches, so that a window begins before a stop and ends after it."""
    one = course(
        optimiser=optimiser,
        options=options,
        cosine=cosine,
        dtype=dtype,
        updates=10,
        sequences=40,
        solved=1e-9,
    )
    whole, end = undisturbed(one)
    assert equal(whole, train(one))
    assert whole.ended.tolist() == [-1, 1, -1, -1]
    seen: list[int] = []
    stopped_at(4, one, kept(), seen)
    stopped_at(6, one, kept(), seen)
    found = train(one, kept(), partial(told, seen))
    assert seen == [0, 1, 2, 3, 4, 4, 5, 6, 6, 7, 8, 9]
    assert equal(found, whole)
    assert bits(state_kept()) == bits(end)


def test_what_is_finished_is_not_done_again(here: Path) -> None:
    one = course(updates=5)
    found = train(one, kept())
    seen: list[int] = []
    again = train(one, kept(), partial(told, seen))
    assert seen == []
    assert equal(again, found)
    kept().remove()
    kept().remove()
    assert list(here.iterdir()) == []


def test_all_that_is_kept_is_needed(here: Path) -> None:
    """Training that goes on without one part of the state, as it is at the start, comes to other
    numbers, but for the rates, which are those of the start."""
    one = course(updates=60, sequences=100, solved=0.5)
    whole, end = undisturbed(one)
    assert 0 < whole.solved_at[0] < 50  # before the stop, and others not
    assert whole.solved_at[3] == -1
    stopped_at(50, one, kept(), [])
    state, alive = state_kept(), state_kept()["trainer/alive"]
    assert alive.tolist() == [True, False, True, True]
    unneeded = []
    for name, array in state.items():
        without = state | {name: at_the_start(one, name, array, alive)}
        kept().save(without)
        try:
            found = train(one, kept())
        except InputError:
            continue
        if equal(found, whole) and bits(state_kept()) == bits(end):
            unneeded.append(name)
    assert unneeded == ["trainer/optimiser/rate"]


def at_the_start(one: Course, name: str, array: Array, alive: Array) -> Array:
    """One array of a state, before any update."""
    whose, own = name.split("/", 1)
    if whose == "trainer":
        fresh = one.trainer(NETWORKS, RULES, RATES).state()[own]
        return fresh if fresh.shape == array.shape else fresh[alive]
    empty = {"fired": 0, "seen": 0, "solved_at": -1, "ended": -1}
    return np.full_like(array, empty.get(own, np.nan))


# Ctrl-C may fall between any two lines, in the middle of an update too.


def interrupted(line: int, work: Callable[[], object]) -> int:
    """Do the work, and raise KeyboardInterrupt once, before the line of `learning` of this number
    that is come to; gives the number of lines that were."""
    room, lines = os.path.dirname(learning.__file__), 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(room):
            return None
        if event == "line":
            lines += 1
            if lines == line:
                raise KeyboardInterrupt
        return trace

    usual = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(usual)
    return lines


def test_an_interrupt_may_fall_anywhere(here: Path) -> None:
    one = course(updates=4, sequences=40, solved=1e-9)
    whole, end = undisturbed(one)
    lines = interrupted(0, lambda: train(one, kept()))
    assert lines > 500
    resumed = 0
    for line in range(1, lines, 29):
        PATH.unlink(missing_ok=True)
        with pytest.raises(KeyboardInterrupt):
            interrupted(line, lambda: train(one, kept()))
        seen: list[int] = []
        found = train(one, kept(), partial(told, seen))
        resumed += bool(seen) and seen[0] > 0
        assert equal(found, whole), line
        assert bits(state_kept()) == bits(end), line
    assert resumed > 10


# SIGKILL may fall anywhere too: what counts then is what is on the disk.


def a_teacher() -> Course:
    """A task of which something is drawn once, and kept while a process lives."""
    return course("teacher", length=8, updates=12, solved=1e-9, optimiser="rmsprop", cosine=True)


def train_and_die(folder: Path) -> None:
    """Written after the second, fourth and sixth update; killed in the seventh."""
    os.chdir(folder)

    def tick(update: int, loss: Array, solved: Array) -> None:
        if update == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    train(a_teacher(), kept(seconds=module.WRITTEN_EVERY / 2), tick)


def test_the_same_bits_after_a_kill(here: Path) -> None:
    whole, end = undisturbed(a_teacher())
    process = multiprocessing.get_context("spawn").Process(target=train_and_die, args=(here,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    seen: list[int] = []
    found = train(a_teacher(), kept(), partial(told, seen))
    assert seen == [6, 7, 8, 9, 10, 11]
    assert equal(found, whole)
    assert bits(state_kept()) == bits(end)


@pytest.mark.parametrize("name", list(TASKS))
def test_a_batch_is_drawn_again_by_its_number(name: str) -> None:
    def at(update: int) -> list[Array]:
        return list(batches_of(find_task(name), 3, [0, 2], update, 12, 4))

    in_turn = [at(update) for update in range(4)]
    for update in (3, 1):
        _shared.cache_clear()
        for again, first in zip(at(update), in_turn[update], strict=True):
            assert np.array_equal(again, first)
    assert not np.array_equal(in_turn[0][0], in_turn[1][0])


# When.


class Counting:
    """Work of so many pieces, each of some seconds."""

    def __init__(self, pieces: int, seconds: float) -> None:
        self.now, self._seconds, self._pieces, self._done = 0.0, seconds, pieces, 0
        self.taken = 0

    def pieces(self) -> Iterator[None]:
        while self._done < self._pieces:
            self._done += 1
            self.now += self._seconds
            yield

    def state(self) -> State:
        self.taken += 1
        return {"done": np.array(self._done)}

    def restore(self, state: State) -> None:
        self._done = int(state["done"])


@pytest.mark.parametrize("seconds", [0.01, 0.3, 1.0, 7.0, 30.0])
def test_what_a_kill_costs(seconds: float, here: Path) -> None:
    """Twenty seconds, an update, and a second; and not by writing all the time, nor by taking the
    state more than once a second. The clock's sums are rounded, by less than a thousandth."""
    work, written, near = Counting(int(70 / seconds), seconds), [0.0], 1e-3

    def write(path: Path, data: bytes) -> None:
        write_whole(path, data)
        age = work.now - int(state_kept()["done"]) * seconds
        assert -near < age < 1 + near
        written.append(work.now)

    Checkpoint(PATH, "k", write, print, lambda: work.now).carry(work)
    *gaps, last = np.diff(written)
    assert len(gaps) >= 2
    assert work.taken <= 71
    for gap in gaps:
        assert 20 - near < gap < 20 + seconds + near or gap == seconds == 30
    assert last < 20 + seconds + near  # at the end
    assert int(state_kept()["done"]) == int(70 / seconds)
