"""Losses of an ensemble's answers and their gradients."""

import math
from collections.abc import Callable
from typing import Any

import naive_learn as naive
import numpy as np
import numpy.typing as npt
import pytest

from seqlab.tasks.losses import LOSSES, accuracy

Array = npt.NDArray[Any]
NAIVE: dict[str, Callable[[Array, Array], float]] = {
    "squared": naive.squared,
    "cross-entropy": naive.cross_entropy,
}
SHAPE = (3, 4, 5, 6)  # networks, steps, sequences, outputs
# A hundred terms of order one, each rounded at 1.1e-16.
NEAR = 1e-13


def answers(kind: str, shape: tuple[int, ...] = SHAPE, scale: float = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(5)
    y = scale * rng.standard_normal(shape)
    if kind == "squared":
        return y, rng.standard_normal(shape)
    return y, rng.integers(shape[-1], size=shape[:-1])


@pytest.mark.tiny
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("scale", [1, 1000])  # at 1000 exp overflows unless logits are shifted
def test_losses_are_the_naive_ones(kind: str, scale: float) -> None:
    y, targets = answers(kind, scale=scale)
    loss, _ = LOSSES[kind](y, targets)
    want = [NAIVE[kind](*one) for one in zip(y, targets, strict=True)]
    assert loss.dtype == np.float64
    assert loss == pytest.approx(want, rel=NEAR)


@pytest.mark.tiny
@pytest.mark.parametrize("kind", LOSSES)
def test_gradients_by_central_differences(kind: str) -> None:
    y, targets = answers(kind)
    _, gradient = LOSSES[kind](y, targets)
    assert gradient.shape == y.shape
    # Third derivatives are below one: h^2/6 = 2e-11; a loss of order one rounds by 1e-16/h = 1e-11.
    h = 1e-5
    for place in np.ndindex(*SHAPE):
        moved = [y.copy(), y.copy()]
        moved[0][place] += h
        moved[1][place] -= h
        up, down = (LOSSES[kind](one, targets)[0] for one in moved)
        slopes = (up - down) / (2 * h)
        assert slopes[place[0]] == pytest.approx(gradient[place], abs=1e-9)
        others = np.delete(slopes, place[0])
        assert not others.any()  # of another network's answers


@pytest.mark.tiny
@pytest.mark.parametrize("kind", LOSSES)
def test_float32_answers(kind: str) -> None:
    y, targets = answers(kind)
    exact, exact_gradient = LOSSES[kind](y, targets)
    loss, gradient = LOSSES[kind](y.astype(np.float32), targets)
    assert loss.dtype == np.float64
    assert gradient.dtype == np.float32
    # Answers and their few functions round at 6e-8, relative to numbers below 10.
    assert loss == pytest.approx(exact, rel=1e-6)
    assert gradient == pytest.approx(exact_gradient, abs=1e-6)


@pytest.mark.tiny
def test_sums_of_float32_are_taken_in_float64() -> None:
    y = np.full((1, 1000, 100, 1), 0.1, np.float32)
    loss, _ = LOSSES["squared"](y, np.zeros(y.shape))
    # 1e5 terms add 1e-16 each at most; a float32 sum, or float32 squares, would be off by 1e-8.
    assert loss[0] == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-11)
    y = np.full((1, 1000, 100, 2), 0.1, np.float32)
    loss, _ = LOSSES["cross-entropy"](y, np.zeros(y.shape[:-1], int))
    assert loss[0] == pytest.approx(math.log(2), rel=1e-11)


@pytest.mark.tiny
def test_logits_move_together_without_effect() -> None:
    y, classes = answers("cross-entropy")
    y = np.round(y * 1024) / 1024  # so that nothing is rounded when they move
    loss, gradient = LOSSES["cross-entropy"](y, classes)
    moved, moved_gradient = LOSSES["cross-entropy"](y + 2.0**30, classes)
    assert (moved == loss).all()
    assert (moved_gradient == gradient).all()
    assert np.abs(gradient.sum(axis=-1)).max() < 1e-16  # probabilities sum to one


@pytest.mark.tiny
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("order", ["C", "F"])  # NumPy sums in the order of memory
@pytest.mark.parametrize("shape", [(5, 37, 61, 5), (5, 2257, 1, 1)])
def test_a_network_has_the_same_bits_among_others(
    kind: str, dtype: str, order: Any, shape: tuple[int, ...]
) -> None:
    # Above the 8192 entries that NumPy reduces at a time.
    y, targets = answers(kind, shape)
    y = y.astype(dtype)
    ordered = (np.asarray(array, order=order) for array in (y, targets))
    together, gradients = LOSSES[kind](*ordered)
    for m in range(len(y)):
        loss, gradient = LOSSES[kind](y[m : m + 1], targets[m : m + 1])
        assert loss[0] == together[m]
        assert (gradient[0] == gradients[m]).all()


@pytest.mark.tiny
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_answers_that_are_not_finite_spoil_their_own_network(
    kind: str, dtype: str, value: float
) -> None:
    y, targets = answers(kind)
    y = y.astype(dtype)
    want, want_gradient = LOSSES[kind](y, targets)
    spoiled = y.copy()
    spoiled[1] = value
    loss, gradient = LOSSES[kind](spoiled, targets)
    assert not math.isfinite(loss[1])
    kept = [0, 2]
    assert (loss[kept] == want[kept]).all()
    assert (gradient[kept] == want_gradient[kept]).all()


@pytest.mark.tiny
def test_a_sure_answer_costs_nothing_or_without_end() -> None:
    y = np.array([[[[0, -math.inf]]]])
    loss, gradient = LOSSES["cross-entropy"](y, np.array([[[0]]]))
    assert loss == 0
    assert not gradient.any()
    loss, _ = LOSSES["cross-entropy"](y, np.array([[[1]]]))
    assert loss == math.inf
    # exp(-1e4) is zero, and the cost is told all the same.
    loss, gradient = LOSSES["cross-entropy"](np.array([[[[1e4, 0]]]]), np.array([[[1]]]))
    assert loss == 1e4
    assert gradient.ravel().tolist() == [1, -1]


@pytest.mark.tiny
def test_accuracy() -> None:
    nan = math.nan
    y = np.array(
        [
            [[[1, 2, 0], [5, 1, 1]], [[0, 0, 1], [3, 2, 1]]],
            [[[1, 1, 0], [nan, nan, nan]], [[0, nan, 1], [1, 2, 3]]],
        ],
        float,
    )
    classes = np.array([[[1, 0], [2, 1]], [[0, 0], [2, 2]]])
    # The second network: a tie, nothing but NaN, a NaN beside the class, and one right answer.
    assert accuracy(y, classes).tolist() == [0.75, 0.25]
