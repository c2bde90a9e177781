"""A course of training: what is solved and when, what does not depend on the others, what ends."""

import numpy as np
import pytest
from courses import course, equal

from seqlab import rules
from seqlab.learning.course import Learned
from seqlab.tasks import JUDGED_BY

NONE, NORM = rules.parse("none"), rules.parse("norm:1")


def only(found: Learned, places: list[int]) -> Learned:
    params = {name: array[places] for name, array in found.params.items()}
    return Learned(*(array[places] for array in found[:-2]), params, found.looks)


def test_an_easy_task_is_solved_and_its_update_told() -> None:
    """The mean of the last seven batches, 112 sequences, first falls under a tenth of the trivial
    loss at the update that is told."""
    found = course().train([0, 1, 2], [NONE] * 3, [0.01] * 3)
    window = -(-JUDGED_BY // 16)
    assert window == 7
    for m in range(3):
        means = np.convolve(found.losses[m], np.ones(window) / window, "valid")
        first = window + int(np.argmax(means < 0.1))
        assert found.solved_at[m] == first < 150
        assert found.best[m] == pytest.approx(means.min(), rel=1e-9)
        assert found.final[m] == pytest.approx(means[-1], rel=1e-9)
    assert found.losses.shape[1] == found.solved_at.max()  # and no update more
    assert (found.ended == -1).all()


def test_what_cannot_be_learned_is_not() -> None:
    """Without a step: the rate is next to nothing."""
    found = course(updates=20).train([0, 1], [NONE] * 2, [1e-12] * 2)
    assert (found.solved_at == -1).all()
    assert found.losses.shape == (2, 20)
    assert found.losses.mean() == pytest.approx(1, abs=0.3)  # near the trivial loss


def test_a_network_learns_the_same_whatever_the_others() -> None:
    """In the same number of updates: a course ends when all is decided."""
    one = course(updates=12, solved=1e-9)
    whole = one.train([0, 1, 0, 1], [NONE, NONE, NORM, NORM], [0.01, 0.01, 0.01, 0.03])
    assert equal(only(whole, [0, 1]), one.train([0, 1], [NONE] * 2, [0.01] * 2))
    assert equal(only(whole, [3]), one.train([1], [NORM], [0.03]))
    assert (whole.fired[:2] == 0).all()
    assert (whole.losses[0, :1] == whole.losses[2, :1]).all()  # the same data, the same start


def test_a_network_without_a_finite_loss_ends() -> None:
    found = course(updates=30, optimiser="sgd", solved=1e-9).train(
        [0, 1], [NONE, NONE], [0.01, 1e30]
    )
    assert found.ended[0] == -1
    assert 0 < found.ended[1] < 10
    assert np.isnan(found.losses[1, found.ended[1] + 1 :]).all()
    assert np.isfinite(found.losses[0]).all()


@pytest.mark.parametrize("name", ["adding", "copy", "temporal-order", "parity", "teacher"])
def test_every_task_begins_beside_its_trivial_loss(name: str) -> None:
    """An untrained readout's outputs are near zero. For adding that costs 1 + 1/6 in place of 1/6,
    seven times as much; for copy ln 9 in place of 10 ln 8/28, three times; else nothing more."""
    one = course(name, length=8, updates=4, solved=1e-9)
    found = one.train([0, 1], [NONE] * 2, [1e-9] * 2)
    share = found.losses.mean() / one.task.trivial(8)
    zero = {"adding": 7.0, "copy": np.log(9) / (10 * np.log(8) / 28)}.get(name, 1.0)
    assert 0.5 < share / zero < 2
