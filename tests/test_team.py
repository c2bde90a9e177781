"""One product by several threads: the same bits, whoever is there, and an end for all."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import draw
from studies import PATIENCE

import seqlab
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu import team, threads
from seqlab.kernels.cpu.linalg import packed
from seqlab.kernels.cpu.team import (
    ARRIVED,
    CALL,
    DISMISSED,
    DONE,
    Product,
    add_recurrent,
    helpers_for,
    recurrent_product,
    with_helpers,
)
from seqlab.kernels.cpu.threads import share, side_by_side

Array = npt.NDArray[Any]


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
def test_a_team_has_the_bits_of_one(width: int, rows: int, helpers: int) -> None:
    """More helpers than cores, and than strips, too; each takes part in every product that counts
    it in."""
    alone, together = made(0, width, rows), made(helpers, width, rows)
    steps(alone, 30, rows)
    with ThreadPoolExecutor(helpers) as pool:
        beside = [pool.submit(team._help, together) for _ in range(helpers)]
        while together.board[ARRIVED] < helpers:
            pass
        steps(together, 30, rows)
        together.board[CALL] = DISMISSED
        assert all(future.result(PATIENCE) is None for future in beside)
    assert together.board[DONE] == 2 * 30 * helpers
    assert np.array_equal(outcome(together), outcome(alone))


@pytest.mark.tiny
def test_nobody_waits_for_a_helper_that_comes_late() -> None:
    alone, together = made(0, 70, 1), made(1, 70, 1)
    steps(alone, 9, 1)
    steps(together, 4, 1)  # it is not there yet
    assert together.board[DONE] == 0
    late = threading.Thread(target=team._help, args=(together,))
    late.start()
    while together.board[ARRIVED] == 0:
        pass
    steps(together, 5, 1)
    together.board[CALL] = DISMISSED
    late.join(PATIENCE)
    assert not late.is_alive()
    assert together.board[DONE] == 2 * 5
    assert np.array_equal(outcome(together), outcome(alone))


@pytest.mark.parametrize("arch", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
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


def test_two_callers_have_a_team_each(small_teams: Callable[[int], None]) -> None:
    run = draw("lstm", hidden=80, steps=300, batch=1)
    small_teams(1)
    want = seqlab.forward("lstm", run.params, run.x).output
    small_teams(2)
    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(seqlab.forward, "lstm", run.params, run.x) for _ in range(12)]
        assert all(np.array_equal(w.result(PATIENCE).output, want) for w in work)


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
def test_helpers_are_free_again_after_a_failure(small_teams: Callable[[int], None]) -> None:
    small_teams(2)
    product = made(1, 70, 1)

    def kernel(scratch: Any, begin: int, end: int) -> None:
        while product.board[ARRIVED] == 0:
            pass
        raise KeyboardInterrupt

    scratch = SimpleNamespace(product=product)
    with pytest.raises(KeyboardInterrupt):
        share(with_helpers(kernel, 1), 1, lambda: scratch)
    # Both threads of the pool pass only if neither is held.
    both = threading.Barrier(2, timeout=PATIENCE)
    for future in [threads.start(both.wait) for _ in range(2)]:
        future.result(PATIENCE)
