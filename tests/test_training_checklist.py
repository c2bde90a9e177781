"""The checklist of training: each line on either side of its thresholds, of numbers made up."""

import math

import numpy as np
import pytest
from courses import ACTS, DEAD, ENDED, LAG, NORM, RATIO, SATURATED, SMALLEST, STUCK, Array

from seqlab.numbers.quantity import LN10
from seqlab.numbers.training_checklist import Look, Trained, Units, check_training


def decades(*values: float) -> Array:
    return np.array([values]) * LN10


def one_look(*values: float) -> tuple[Look, ...]:
    return (Look(decades(*values), {}),)


def units(dead: float, on: float, saturated: float | None) -> tuple[Look, ...]:
    flat = None if saturated is None else np.array([saturated])
    return (Look(decades(0), {"gate": Units(np.array([dead]), np.array([on]), flat)}),)


CASES: list[tuple[Trained, str, str, float, str]] = [
    (Trained(looks=one_look(-2.9, -5, 0)), "", LAG, -2.9, "ok"),
    (Trained(looks=one_look(-3.1, -1, 0)), "", LAG, -3.1, "bad"),
    (Trained(looks=one_look(3.1, -1, 0)), "", LAG, 3.1, "bad"),
    (Trained(looks=one_look(-math.inf, -1, 0)), "", LAG, -math.inf, "bad"),
    (Trained(log_gradient={"a": decades(0), "b": decades(-2.9)}), "b", NORM, -2.9, "ok"),
    (Trained(log_gradient={"a": decades(0), "b": decades(-3.1)}), "b", NORM, -3.1, "bad"),
    (Trained(log_gradient={"a": decades(-9), "b": decades(-9)}), "b", NORM, -9, "ok"),
    (Trained(log_gradient={"a": decades(math.nan)}), "a", NORM, math.nan, "bad"),
    (Trained(log_gradient={"a": decades(1, 3, 7)}), "a", NORM, 3, "ok"),
    (Trained(log_gradient={"a": decades(1, 3, math.nan)}), "a", NORM, 2, "ok"),
    (Trained(log_gradient={"a": decades(0), "b": decades(-44)}), "", SMALLEST, -44, "look"),
    (Trained(log_gradient={"a": decades(0), "b": decades(-45)}), "", SMALLEST, -45, "bad"),
    (Trained(log_ratio={"a": decades(-3.9)}), "a", RATIO, -3.9, "ok"),
    (Trained(log_ratio={"a": decades(-4.1)}), "a", RATIO, -4.1, "look"),
    (Trained(log_ratio={"a": decades(-1.9)}), "a", RATIO, -1.9, "look"),
    (Trained(log_ratio={"a": decades(-1, -3, -3)}), "a", RATIO, -3, "ok"),
    (Trained(rule="value:1", fired=np.array([[1.0, 0]])), "value:1", ACTS, 0.5, "ok"),
    (Trained(rule="value:1", fired=np.array([[1.0, 0.01, 0]])), "value:1", ACTS, 2 / 3, "look"),
    (Trained(rule="a", fired=np.array([[1.0, math.nan, math.nan]])), "a", ACTS, 1, "look"),
    (Trained(looks=units(0.4, 0.4, None)), "gate", DEAD, 0.4, "ok"),
    (Trained(looks=units(0.4, 0.2, None)), "gate", DEAD, 0.4, "look"),
    (Trained(looks=units(0.7, 0.1, None)), "gate", DEAD, 0.7, "bad"),
    (Trained(looks=units(0.1, 0.4, 0.4)), "gate", STUCK, 0.1, "ok"),
    (Trained(looks=units(0.2, 0.4, 0.4)), "gate", STUCK, 0.2, "look"),
    (Trained(looks=units(0.6, 0.4, 0.4)), "gate", STUCK, 0.6, "bad"),
    (Trained(looks=units(0, 0.4, 0.49)), "gate", SATURATED, 0.49, "ok"),
    (Trained(looks=units(0, 0.4, 0.51)), "gate", SATURATED, 0.51, "look"),
    (Trained(ended=np.array([False, False])), "", ENDED, 0, "ok"),
    (Trained(ended=np.array([True, False])), "", ENDED, 0.5, "bad"),
]


@pytest.mark.tiny
@pytest.mark.parametrize(("seen", "of", "name", "number", "verdict"), CASES)
def test_each_line_stands_and_falls(
    seen: Trained, of: str, name: str, number: float, verdict: str
) -> None:
    found = {(line.of, line.name): line for line in check_training(seen)}[of, name]
    assert found.number == pytest.approx(number, nan_ok=True)
    assert found.verdict == verdict


@pytest.mark.tiny
def test_the_first_look_is_in_the_note() -> None:
    (line,) = check_training(Trained(looks=one_look(-4, -1, 0) + one_look(-2, -1, 0)))
    assert (line.number, line.verdict) == (pytest.approx(-2), "ok")
    assert line.note == "-4.00 decades at the first update"


@pytest.mark.tiny
def test_what_is_not_known_has_no_line() -> None:
    assert check_training(Trained()) == []
    unknown = Trained(looks=units(math.nan, math.nan, math.nan), fired=np.full((2, 3), math.nan))
    assert check_training(unknown) == []
    assert check_training(Trained(looks=one_look(math.nan, math.nan))) == []


@pytest.mark.tiny
def test_every_line_says_where_its_rule_misleads() -> None:
    found = {line.name: line for seen, *_ in CASES for line in check_training(seen)}
    assert len(found) == 9
    assert all(line.limit.endswith(".") for line in found.values())
