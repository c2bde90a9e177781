"""One product by several threads: the same bits, whoever is there, and an end for all."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import draw

import seqlab
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu import team, threads
from seqlab.kernels.cpu.atomic import add, look, nanoseconds, offer_core
from seqlab.kernels.cpu.linalg import packed
from seqlab.kernels.cpu.team import (
    ALONE,
    ARRIVED,
    BACKWARDS,
    CALL,
    DISMISSED,
    DONE,
    IN_VAIN,
    LEFT,
    MOST,
    NETWORK,
    OUT,
    OWED,
    ROWS,
    TIMED,
    Product,
    add_recurrent,
    helpers_for,
    recurrent_product,
    with_helpers,
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


@compiled
def steps(product, count, rows):
    """So many recurrent steps of two networks: what comes out of one goes into the next."""
    width = product.out.shape[1]
    for s in range(count):
        for m in range(2):
            add_recurrent(product, m, 0, rows, m * rows, s & 1)
            for i in range(rows * width):
                r, j = i // width, i % width
                product.left[i] = product.out[m * rows + r, j] * 0.5
                product.out[m * rows + r, j] = m - 0.25


def made(helpers: int, width: int, rows: int) -> Product:
    rng = np.random.default_rng(width)
    weights = packed(rng.normal(size=(2, width, width)) / width)
    left, out = rng.normal(size=(rows, width)), rng.normal(size=(2 * rows, width))
    return recurrent_product(left, weights, out, helpers)


def outcome(product: Product) -> Array:
    return np.concatenate([product.left, product.out.reshape(-1)])


@pytest.mark.parametrize("helpers", [1, 2, 5])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("width", [1, 64, 65, 130, 200])
@must_end
def test_a_team_has_the_bits_of_one(width: int, rows: int, helpers: int) -> None:
    """More helpers than cores, and than strips, too; who is counted in takes part."""
    alone, together = made(0, width, rows), made(helpers, width, rows)
    steps(alone, 30, rows)
    pool = Daemons(helpers)
    beside = [pool.submit(team._help, together) for _ in range(helpers)]
    wait_until(lambda: together.board[ARRIVED] == helpers)
    steps(together, 30, rows)
    together.board[CALL] = DISMISSED
    assert all(future.result() is None for future in beside)
    assert together.board[DONE] == together.board[OWED] >= TIMED * helpers
    assert np.array_equal(outcome(together), outcome(alone))


@pytest.mark.tiny
@must_end
def test_nobody_waits_for_a_helper_that_comes_late() -> None:
    alone, together = made(0, 70, 1), made(1, 70, 1)
    steps(alone, 9, 1)
    steps(together, 4, 1)  # it is not there yet
    assert together.board[DONE] == 0
    late = Daemons(1).submit(team._help, together)
    wait_until(lambda: together.board[ARRIVED] == 1)
    steps(together, 5, 1)
    together.board[CALL] = DISMISSED
    assert late.result() is None
    assert together.board[DONE] == 2 * 5
    assert np.array_equal(outcome(together), outcome(alone))


@compiled
def help_late(product, late):
    """A helper that does its part only `late` ns after it was called, as one that must wait for
    its core."""
    board, seen = product.board, 0
    part = add(board, ARRIVED, 1) + 1
    while look(board, CALL) != DISMISSED:
        call = look(board, CALL)
        if call != seen and call != DISMISSED:
            start = nanoseconds()
            while nanoseconds() - start < late:
                offer_core()
            place = (board[NETWORK], board[LEFT], board[ROWS], board[OUT], board[BACKWARDS])
            team._add_part(product, *place, part, call & MOST)
            add(board, DONE, 1)
            seen = call
        offer_core()


@must_end
def test_helpers_that_save_no_time_are_done_without() -> None:
    """For a while; then they are tried again."""
    count, tried = ALONE, TIMED * IN_VAIN
    alone, together = made(0, 130, 1), made(1, 130, 1)
    steps(alone, count, 1)
    late = Daemons(1).submit(help_late, together, 200_000)
    wait_until(lambda: together.board[ARRIVED] == 1)
    steps(together, count, 1)
    together.board[CALL] = DISMISSED
    assert late.result() is None
    assert together.board[DONE] == together.board[OWED] == 2 * tried
    assert np.array_equal(outcome(together), outcome(alone))


@pytest.mark.parametrize("arch", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@must_end
def test_gradients_and_curves_do_not_depend_on_the_team(
    arch: str, dtype: type, small_teams: Callable[[int], None]
) -> None:
    run = draw(arch, hidden=150, steps=200, batch=1).cast(dtype)
    two = draw(arch, hidden=150, steps=200, batch=1, networks=2).cast(dtype)

    def answers() -> list[Array]:
        trajectory = seqlab.forward(arch, run.params, run.x, run.initial)
        gradients = seqlab.backward(trajectory, run.grad)
        curves = seqlab.attenuation(arch, two.params, two.x, [10, 60, 150, 200])
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
    product = made(1, 70, 1)

    def kernel(scratch: Any, begin: int, end: int) -> None:
        wait_until(lambda: product.board[ARRIVED] == 1)
        raise KeyboardInterrupt

    scratch = SimpleNamespace(product=product)
    with pytest.raises(KeyboardInterrupt):
        share(with_helpers(kernel, 1), 1, lambda: scratch)
    # Both threads of the pool pass only if neither is held.
    both = threading.Barrier(2)
    for future in [threads.start(both.wait) for _ in range(2)]:
        future.result()
