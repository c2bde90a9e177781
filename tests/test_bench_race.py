"""How a benchmark times its sides and compares them, on sides that are made up."""

from functools import partial

import numpy as np
import pytest

from seqlab.bench import (
    growth,
)
from seqlab.bench.race import (
    Contest,
    Disagreement,
    Side,
    Timing,
    check,
    checked_pair,
    race,
    row,
    turn,
)
from seqlab.kernels.cpu.threads import thread_count

TIMING = Timing(rounds=3, turn=0.0, settle=0.0, patience=1e6)


def saying(log, name):
    """A side that only says that it was called."""
    return Side(name, lambda: log.append(name))


def answering(name, **arrays):
    """A side with that answer."""
    return Side(name, lambda: arrays, lambda result: result)


def test_sides_take_turns_after_a_warm_up():
    log = []
    sides = [saying(log, "seqlab"), saying(log, "peer")]
    race([Contest({}, sides)], TIMING)
    assert log == ["seqlab", "peer"] * 4
    assert [len(side.turns) for side in sides] == [3, 3]
    assert all(side.first is not None for side in sides)


def test_a_rest_serves_all_contests_of_a_side(monkeypatch):
    rests, log = [], []
    monkeypatch.setattr("seqlab.bench.race.time.sleep", rests.append)
    contests = [Contest({}, [saying(log, "seqlab"), saying(log, "peer")]) for _ in range(5)]
    race(contests, Timing(rounds=2, turn=0.0, settle=0.5, patience=1e6))
    assert rests == [0.5] * 4
    assert log[10:] == (["seqlab"] * 5 + ["peer"] * 5) * 2


def test_a_slow_side_sits_out():
    slow = Side("peer", lambda: None)
    quick = Side("seqlab", lambda: None)
    slow.turns.append(2e6)
    race([Contest({}, [quick, slow])], TIMING)
    assert (len(quick.turns), slow.turns) == (3, [2e6])


def test_a_turn_has_at_least_one_call_and_lasts(monkeypatch):
    now, calls = [0.0], []

    def call(seconds):
        calls.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("seqlab.bench.race.time.perf_counter", lambda: now[0])
    assert turn(partial(call, 4.0), 0.0) == 4
    assert calls == [4]
    assert turn(partial(call, 0.25), 2.0) == 0.25
    assert calls == [4, *[0.25] * 8]
    lasting = iter([0.5, 0.125, 1.0])
    assert turn(lambda: call(next(lasting)), 1.5, min) == 0.125


def test_ratios_are_taken_round_by_round():
    ours, fast, slow = (Side(name, lambda: None) for name in ("seqlab", "fast", "slow"))
    ours.turns, fast.turns, slow.turns = [1.0, 2.0, 4.0], [3.0, 4.0, 20.0], [10.0]
    fast.work = slow.work = 0.5
    got = row(Contest({"H": 64}, [ours, fast, slow], error=1e-9), unit=1e-3)
    assert got.times == {
        "seqlab": [1000, 2000, 4000],
        "fast": [6000, 8000, 40000],
        "slow": [20000],
    }
    assert got.ratios == {
        "fast / seqlab": [6, 4, 10],
        "slow / seqlab": [20],
        "best / seqlab": [6, 4, 10],
    }
    assert got.value("best / seqlab") == 6
    assert got.facts == {"difference": 1e-9}


def test_a_floor_is_no_peer():
    ours, peer = (Side(name, lambda: None) for name in ("seqlab", "peer"))
    floor = Side("floor", lambda: None, whole=False)
    ours.turns, peer.turns, floor.turns = [2.0], [4.0], [1.0]
    got = row(Contest({}, [ours, peer, floor]), unit=1.0)
    assert got.ratios == {"peer / seqlab": [2], "floor / seqlab": [0.5], "best / seqlab": [2]}
    assert "best / seqlab" not in row(Contest({}, [ours, floor]), unit=1.0).ratios


def test_compilation_is_reported_apart():
    ours, peer = Side("seqlab", lambda: None), Side("peer", lambda: None, compiles=True)
    race([Contest({}, [ours, peer])], TIMING)
    assert row(Contest({}, [ours, peer]), 1.0).facts == {"peer first call, s": peer.first}


def test_agreeing_sides_pass_the_check():
    ours = answering("seqlab", a=np.array([1.0, 2.0]), b=np.ones((2, 3)))
    near = answering("peer", a=np.array([1.0, 2.0 + 1e-7]), b=np.ones((2, 3)))
    assert check(ours, [near]) == pytest.approx(5e-8, rel=1e-3)
    assert check(ours, []) == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"a": np.array([1.0, 2.0 + 1e-5])},
        {"a": np.array([1.0, np.nan])},
        {"a": np.array([1.0])},
        {"a": np.array([1.0, 2.0], np.float32)},
        {"b": np.array([1.0, 2.0])},
        {},
    ],
)
def test_differing_sides_do_not(answer):
    with pytest.raises(Disagreement):
        check(answering("seqlab", a=np.array([1.0, 2.0])), [answering("peer", **answer)])


def test_float32_is_timed_after_float64_was_checked():
    built = []

    def build(dtype, wrong=0.0):
        built.append(dtype)
        return [
            answering("seqlab", a=np.ones(1, dtype)),
            answering("peer", a=np.ones(1, dtype) + wrong),
        ]

    double, single = checked_pair({"H": 1}, build)
    assert built == ["float64", "float32"]
    assert (double.error, single.error) == (0, None)
    assert double.labels == {"H": 1, "dtype": "float64"}
    with pytest.raises(Disagreement, match="peer"):
        checked_pair({}, partial(build, wrong=0.1))


def test_threads_are_limited_and_restored(monkeypatch):
    monkeypatch.setenv(growth.THREADS, "7")
    assert growth.limited(thread_count, 1)() == 1
    assert thread_count() == 7
    monkeypatch.delenv(growth.THREADS)
    before = thread_count()
    growth.limited(lambda: None, before + 1)()
    assert thread_count() == before
