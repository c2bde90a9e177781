"""The benchmark's floor: what the machine can do, and the work of a step."""

import numpy as np
import pytest

from seqlab.bench import (
    alone,
    floor,
)
from seqlab.cells import Sizes
from seqlab.errors import InputError


def test_the_floor_is_measured():
    assert floor.stream(16384, seconds=0.001) > 0
    assert floor.exponential("float32", seconds=0.001) > 0
    assert alone.ask("gemm", alone.ONE_THREAD, dtype="float64", size=16) > 0
    assert alone.peak_bytes() > 1e6


def test_the_lab_s_exponential_is_what_the_floor_times():
    x, out = np.linspace(-1, 1, 5), np.empty(5)
    floor._exponentials(x, out, 1)
    assert out == pytest.approx(np.exp(x), rel=1e-15)


def test_work_of_a_step():
    lstm = floor.forward("lstm", Sizes(64, 16), 3)
    assert (lstm.passes, lstm.operations, lstm.exponentials) == (
        1,
        2 * 3 * 4 * 64 * (64 + 16),
        3 * 5 * 64,
    )
    back = floor.backward("gru", Sizes(8, 2), 2, gradients=True)
    assert (back.operations, back.exponentials) == (2 * 2 * 2 * 3 * 8 * (8 + 2), 0)
    with pytest.raises(
        InputError, match=r"^cell: 'ssm' has no floor; allowed: rnn, lstm, gru, slstm$"
    ):
        floor.forward("ssm", Sizes(8, 2), 1)


def test_work_of_a_bundle_of_losses():
    ahead, *back = floor.attenuation("rnn", Sizes(8, 2), 1, [10, 30, 100])
    assert ahead[0] == 100
    assert [steps for steps, _ in back] == [10, 20, 70]
    one = floor.backward("rnn", Sizes(8, 2), 1, gradients=False).operations
    assert [work.operations / one for _, work in back] == [3, 2, 1]


def test_what_binds_is_chosen_step_by_step(monkeypatch):
    monkeypatch.setattr(floor, "stream", lambda size: 1e3)
    monkeypatch.setattr(floor, "product", lambda dtype: 1e3)
    monkeypatch.setattr(floor, "exponential", lambda dtype: 0.5)
    size = 4 * 10 * 10 * 8
    steps = [
        (2, floor.Work(passes=1, operations=size / 2, exponentials=3)),
        (1, floor.Work(passes=1, operations=5 * size)),
    ]
    got = floor.bounds("lstm", 10, "float64", steps)
    assert (got.stream, got.product) == pytest.approx((3 * size / 1e3, 6 * size / 1e3))
    assert got.floor == pytest.approx((2 + 5) * size / 1e3)
    assert got.times(2).exponential == 2 * 2 * 3 * 0.5
