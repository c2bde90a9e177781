"""Gradients summed over time in log scale, and the rules that clip them when they are finished."""

import math

import clips
import numpy as np
import pytest

from seqlab import rules
from seqlab.engine.sums import Sums
from seqlab.kernels.layout import EMPTY, unscaled

pytestmark = pytest.mark.tiny

FAR = 3000  # of an exponent: far beyond float64 on both sides


def sums(*exponents: int) -> Sums:
    """Networks with entries 3 and 4 times a power of two, in two arrays: norms of 5."""
    ones = np.ones(len(exponents))
    return Sums({"a": 3 * ones[:, None, None], "b": -4 * ones[:, None]}, np.array(exponents))


def test_norms_of_any_scale() -> None:
    want = np.log(5) + np.array([0, FAR, -FAR]) * np.log(2)
    assert sums(0, FAR, -FAR).log_norm() == pytest.approx(want, abs=1e-12)
    empty = Sums.zeros({"a": (2, 3), "b": (4,)}, 2)
    assert (empty.log_norm() == -np.inf).all()
    assert empty.values["a"].shape == (2, 2, 3)
    assert empty.values["b"].dtype == np.float64


def test_norms_of_values_whose_squares_leave_the_range() -> None:
    """And of their neighbours in one ensemble, which have the bits that they have alone."""
    size = np.array([1.0, 2.0**700, 2.0**-700, 0.0])
    both = {"a": 3 * size[:, None, None], "b": -4 * size[:, None]}
    have = Sums(both, np.zeros(4, np.int64)).log_norm()
    want = np.log(5) + np.array([0, 700, -700]) * np.log(2)
    assert have[:3] == pytest.approx(want, abs=1e-12)
    assert have[3] == -np.inf
    assert have[0] == sums(0).log_norm()[0]
    strange = Sums({"a": np.array([[np.inf], [np.nan], [3.0]])}, np.zeros(3, np.int64)).log_norm()
    assert strange[0] == np.inf
    assert np.isnan(strange[1])
    assert strange[2] == pytest.approx(math.log(3), abs=1e-15)


def test_a_larger_share_raises_the_scale() -> None:
    """What was summed keeps its value; what comes is scaled to the larger of the two."""
    have = sums(10, 10, 10)
    factor = have.share(np.array([[10, 7], [12, EMPTY], [-5, 3]]))
    assert np.array_equal(factor, [[1, 0.125], [1, 0], [2.0**-15, 2.0**-7]])
    assert np.array_equal(have.exponent, [10, 12, 10])
    assert np.array_equal(have.values["a"][:, 0, 0], [3, 0.75, 3])
    assert np.array_equal(have.values["b"][:, 0], [-4, -1, -4])
    # A share beyond all proportion leaves nothing of the rest, and nothing of itself.
    assert np.array_equal(have.share(np.full((3, 1), FAR)), np.ones((3, 1)))
    assert not have.values["a"].any()
    assert np.array_equal(have.share(np.full((3, 1), -FAR)), np.zeros((3, 1)))


def test_norm_clips_all_gradients_of_a_network_together() -> None:
    for exponent in (0, 5, FAR):
        clipped, changed = sums(exponent, -FAR, -2).clipped(rules.parse("norm:2"))
        assert np.array_equal(changed, [True, False, False])
        assert clipped.log_norm()[0] == pytest.approx(math.log(2), abs=1e-14)
        first = {
            name: unscaled(v, clipped.exponent)[0].item() for name, v in clipped.values.items()
        }
        assert first == pytest.approx({"a": 1.2, "b": -1.6}, rel=1e-15)
        assert clipped.exponent[1] == -FAR
        assert clipped.values["a"][1, 0, 0] == 3


def test_value_clips_each_entry() -> None:
    clipped, changed = sums(0, FAR, -FAR, -1).clipped(rules.parse("value:3.5"))
    assert np.array_equal(changed, [True, True, False, False])
    found = {name: unscaled(v, clipped.exponent).ravel() for name, v in clipped.values.items()}
    assert np.array_equal(found["a"], [3, 3.5, 0, 1.5])
    assert np.array_equal(found["b"], [-3.5, -3.5, 0, -2])
    assert clipped.log_norm()[2] == pytest.approx(math.log(5) - FAR * math.log(2), abs=1e-12)


def test_other_rules_leave_sums_alone() -> None:
    before = sums(0, FAR)
    for text in ("none", *clips.alike(1, 1, rules.IN_CHAIN)):
        clipped, changed = before.clipped(rules.parse(text))
        assert clipped is before
        assert not changed.any()


def test_plain_numbers_end_in_zero_or_infinity() -> None:
    values = np.array([[1.0, -1.0]] * 5)
    have = unscaled(values, np.array([0, 1023, 1024, -1074, -1076]))
    assert np.array_equal(have[:, 0], [1, 2.0**1023, np.inf, 2.0**-1074, 0])
    assert np.array_equal(have[:, 1], -have[:, 0])
    assert unscaled(values[:1].astype(np.float32), np.array([EMPTY])).dtype == np.float32


def test_scaling_by_network() -> None:
    """By logs, far beyond what a factor could hold."""
    logs = np.array([np.log(2), -np.log(2), 5000.0, -5000.0])
    have = sums(2, -3, 0, FAR)
    want = have.log_norm() + logs
    assert have.scaled(logs).log_norm() == pytest.approx(want, abs=1e-11)
