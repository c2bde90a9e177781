"""One product by several threads: the same bits, whoever is there, and an end for all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from drawn import MIXED, draw

import seqlab
from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu import recurrent, team, threads
from seqlab.kernels.cpu.atomic import add, load, nanoseconds, offer_core
from seqlab.kernels.cpu.linalg import add_strips, packed
from seqlab.kernels.cpu.team import (
    ALONE,
    ARRIVED,
    CALL,
    DISMISSED,
    DONE,
    FIRST,
    IN_VAIN,
    MET,
    MOST,
    OWED,
    TEAM_BITS,
    TIMED,
    Job,
    Pass,
    board_for,
    helpers_for,
    make_team,
    strips_of,
)
from seqlab.kernels.cpu.threads import share, side_by_side

Array = npt.NDArray[Any]


# A kernel that waits for a broken team never ends, and no exception reaches it. So each test runs
# on a thread that Python does not wait for, and fails when that takes longer than SECONDS.
SECONDS = 240  # kernels may have to be compiled first, on a machine as busy as it may be
hung: list[str] = []


class Daemons:
    """In place of a pool: so many threads that Python does not wait for when it ends."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        given = (future, work, arguments)
        threading.Thread(target=self._run, args=given, daemon=True).start()
        return future

    def _run(self, future: Future[Any], work: Callable[..., Any], arguments: Any) -> None:
        with self._free:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(*arguments))
                except BaseException as error:
                    future.set_exception(error)


def must_end(test: Callable[..., None]) -> Callable[..., None]:
    """The test on a thread of its own; it fails when it has not ended in time."""

    @wraps(test)
    def bounded(**fixtures: Any) -> None:
        if hung:
            pytest.fail(f"a team hung in {hung[0]}: nothing else is tried")
        try:
            Daemons(1).submit(lambda: test(**fixtures)).result(SECONDS)
        except TimeoutError:
            hung.append(test.__name__)
            pytest.fail(f"the team is broken: no end after {SECONDS} s")

    return bounded


def wait_until(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError when that never comes."""
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0)


@pytest.fixture(autouse=True)
def no_thread_outlives_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: dict[int, Daemons] = {}
    monkeypatch.setattr(threads, "_pool", lambda n: pools.setdefault(n, Daemons(n)))


@pytest.fixture
def small_teams(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Threads to use from now on, with a team for however little work."""
    monkeypatch.setattr(team, "SHARE", 1)

    def use(count: int) -> None:
        monkeypatch.setenv("NUMBA_NUM_THREADS", str(count))

    return use


class Chain(NamedTuple):
    """Recurrent steps of two networks: what comes out of one goes into the next."""

    left: Array
    weights: Array
    out: Array


@inlined
def columns(on, job, part, parts):
    weights = on.weights[job.network]
    begin, end = strips_of(weights, part, parts)
    left, depth, back = on.left.reshape(on.left.size), weights.shape[0], job.step & 1
    add_strips(left, 0, depth, 1, job.rows, weights, 0, depth, on.out, job.at, begin, end, back)


@inlined
def rows(on, job, first, last, part):
    for r in range(first, last):
        for j in range(on.left.shape[1]):
            on.left[r, j] = on.out[job.at + r, j] * 0.5
            on.out[job.at + r, j] = job.network - 0.25


alone, together, help_out = make_team(columns, rows)


def loop(do: Any) -> Any:
    @compiled
    def steps(on, board, count, rows):
        for s in range(count):
            for m in range(2):
                do(on, board, Job(m, 0, rows, s, m * rows, 0))

    return steps


steps_alone, steps = loop(alone), loop(together)


@compiled
def help_with(on, board):
    help_out(on, board)


def made(width: int, rows: int) -> Chain:
    rng = np.random.default_rng(width)
    weights = packed(rng.normal(size=(2, width, width)) / width)
    return Chain(rng.normal(size=(rows, width)), weights, rng.normal(size=(2 * rows, width)))


def outcome(chain: Chain) -> Array:
    return np.concatenate([chain.left.reshape(-1), chain.out.reshape(-1)])


def wanted(count: int, width: int, rows: int) -> Array:
    chain = made(width, rows)
    steps_alone(chain, board_for(0), count, rows)
    return outcome(chain)


@pytest.mark.parametrize("helpers", [0, 1, 2, 5])
@pytest.mark.parametrize("rows", [1, 3, 6])
@pytest.mark.parametrize("width", [1, 64, 65, 130, 200])
@must_end
def test_a_team_has_the_bits_of_one(width: int, rows: int, helpers: int) -> None:
    """More helpers than cores, than strips and than rows, too; who is counted in takes part."""
    chain, board = made(width, rows), board_for(helpers)
    pool = Daemons(max(helpers, 1))
    beside = [pool.submit(help_with, chain, board) for _ in range(helpers)]
    if helpers:
        wait_until(lambda: board[ARRIVED] == helpers)
    steps(chain, board, 30, rows)
    if helpers:
        board[CALL] = DISMISSED
        assert all(future.result() is None for future in beside)
        assert board[MET] >= TIMED * helpers
        assert board[DONE] == board[OWED] >= TIMED * min(helpers, rows - 1)
    assert np.array_equal(outcome(chain), wanted(30, width, rows))


@pytest.mark.tiny
@must_end
def test_nobody_waits_for_a_helper_that_comes_late() -> None:
    chain, board = made(70, 2), board_for(1)
    steps(chain, board, 4, 2)  # it is not there yet
    assert board[MET] == board[DONE] == 0
    late = Daemons(1).submit(help_with, chain, board)
    wait_until(lambda: board[ARRIVED] == 1)
    steps(chain, board, 5, 2)
    board[CALL] = DISMISSED
    assert late.result() is None
    assert board[MET] == board[DONE] == 2 * 5
    assert np.array_equal(outcome(chain), wanted(9, 70, 2))


@compiled
def help_late(on, board, late):
    """A helper that does its part only `late` ns after it was called, as one that must wait for
    its core; of steps with two rows."""
    seen = 0
    part = add(board, ARRIVED, 1) + 1
    while load(board, CALL) != DISMISSED:
        call = load(board, CALL)
        if call != seen and call != DISMISSED:
            start = nanoseconds()
            while nanoseconds() - start < late:
                offer_core()
            job = team._job(board)
            columns(on, job, part, call & MOST)
            add(board, MET, 1)
            while load(board, FIRST) != call >> TEAM_BITS:
                offer_core()
            rows(on, job, 1, 2, part)
            add(board, DONE, 1)
            seen = call
        offer_core()


@must_end
def test_helpers_that_save_no_time_are_done_without() -> None:
    """For a while; then they are tried again."""
    count, tried = ALONE, TIMED * IN_VAIN
    chain, board = made(130, 2), board_for(1)
    late = Daemons(1).submit(help_late, chain, board, 200_000)
    wait_until(lambda: board[ARRIVED] == 1)
    steps(chain, board, count, 2)
    board[CALL] = DISMISSED
    assert late.result() is None
    assert board[MET] == board[DONE] == board[OWED] == 2 * tried
    assert np.array_equal(outcome(chain), wanted(count, 130, 2))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("arch", MIXED)
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
@must_end
def test_gradients_and_curves_do_not_depend_on_the_team(
    arch: str,
    dtype: type,
    batch: int,
    small_teams: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor on whether there is one: the sequences share a task, as with large weights."""
    monkeypatch.setattr(recurrent, "SHAPES", recurrent.SHAPES._replace(large=1))
    run = draw(arch, hidden=150, steps=200, batch=batch).cast(dtype)
    two = draw(arch, hidden=150, steps=200, batch=1, networks=2).cast(dtype)

    def answers() -> list[Array]:
        trajectory = seqlab.forward(arch, run.params, run.x, run.initial)
        gradients = seqlab.backward(trajectory, run.grad)
        curves = seqlab.attenuation(arch, two.params, two.x, [10, 60, 150, 200], clip="step-norm:1")
        return [
            trajectory.output,
            gradients.x,
            *gradients.params.values(),
            curves.log_norm,
            curves.log_norm_input,
        ]

    small_teams(1)
    alone = answers()
    for count in (2, 5):
        small_teams(count)
        for have, want in zip(answers(), alone, strict=True):
            assert np.array_equal(have, want, equal_nan=True)


@must_end
def test_two_callers_have_a_team_each(small_teams: Callable[[int], None]) -> None:
    run = draw("lstm", hidden=80, steps=300, batch=1)
    small_teams(1)
    want = seqlab.forward("lstm", run.params, run.x).output
    small_teams(2)
    pool = Daemons(3)
    work = [pool.submit(seqlab.forward, "lstm", run.params, run.x) for _ in range(12)]
    assert all(np.array_equal(future.result().output, want) for future in work)


@pytest.mark.tiny
def test_who_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "8")
    monkeypatch.setattr(team, "SHARE", 128 << 10)  # whatever this processor's is
    large, narrow = np.zeros((1, 256, 1024)), np.zeros((1, 8192, 64))
    assert helpers_for(large, 1, 1) == 7
    assert helpers_for(large, 1, 2) == 3  # four threads for each of two tasks
    assert helpers_for(large, 1, 5) == 0
    assert helpers_for(large[:, :64], 1, 1) == 3  # there is no more to do
    assert helpers_for(large[:, :64], 2, 1) == 7
    assert helpers_for(large[:, :16], 1, 1) == 0
    assert helpers_for(narrow[:, :, :1], 1, 1) == 0  # a single strip
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert side_by_side(lambda _: helpers_for(large, 1, 1), range(2)) == [0, 0]
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert helpers_for(large, 1, 1) == 0
    monkeypatch.setenv("NUMBA_NUM_THREADS", "8")
    monkeypatch.setattr(team, "CAN_OFFER", False)
    assert helpers_for(large, 1, 1) == 0


@pytest.mark.tiny
@must_end
def test_helpers_are_free_again_after_a_failure(small_teams: Callable[[int], None]) -> None:
    small_teams(2)
    scratch = SimpleNamespace(board=board_for(1))

    def fail(scratch: Any, begin: int, end: int) -> None:
        wait_until(lambda: scratch.board[ARRIVED] == 1)
        raise KeyboardInterrupt

    def helper(scratch: Any) -> None:
        help_with(made(70, 1), scratch.board)

    with pytest.raises(KeyboardInterrupt):
        share(Pass(fail, fail, helper).by(1), 1, lambda: scratch)
    # Both threads of the pool pass only if neither is held.
    both = threading.Barrier(2)
    for future in [threads.start(both.wait) for _ in range(2)]:
        future.result()
