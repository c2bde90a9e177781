"""A result's numbers and figure in somebody's log of training."""

import logging
import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic import made_result, probed

from seqlab.errors import InputError
from seqlab.study.face import Face


class Run:
    """What wandb 0.31 has: `Run.log`."""

    def __init__(self) -> None:
        self.said: list[tuple[dict[str, Any], int | None]] = []

    def log(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        self.said.append((data, step))


class DisabledRun(Run):
    """wandb's where it is switched off."""

    def log(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        super().log(data, *args, **kwargs)


class SummaryWriter:
    """What TensorBoard's writer in PyTorch 2.13 has."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        self.said.append((tag, scalar_value, global_step))

    def add_figure(
        self,
        tag: str,
        figure: Figure,
        global_step: int | None = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        self.said.append((tag, figure, global_step))


DRAWN = Figure()


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What results draw; test_result_face.py has how."""
    monkeypatch.setattr(Face, "plot", lambda self: DRAWN)


ONE = {"seqlab/rate": -0.45, "seqlab/horizon": 16.0, "seqlab/float32_zero": 230.0}


def told(found: dict[str, Any]) -> dict[str, float]:
    """The numbers, of a dictionary that has the figure too."""
    assert found["seqlab/figure"] is DRAWN
    return {name: value for name, value in found.items() if name != "seqlab/figure"}


def test_three_numbers_and_a_figure_go_to_each_kind_of_log() -> None:
    run, writer, said = Run(), SummaryWriter(), []
    one = made_result(clip=["none"])
    one.log(run)
    disabled = DisabledRun()
    one.log(disabled, step=3)
    run.said += disabled.said
    one.log(writer, step=3)
    one.log(lambda found, step: said.append((found, step)), step=np.int64(4))
    assert [(told(found), step) for found, step in run.said] == [
        (pytest.approx(ONE), None),
        (pytest.approx(ONE), 3),
    ]
    assert [(told(found), step) for found, step in said] == [(pytest.approx(ONE), 4)]
    assert {step for _, _, step in writer.said} == {3}
    assert told({name: value for name, value, _ in writer.said}) == pytest.approx(ONE)


def test_the_figure_is_a_picture_for_wandb_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which otherwise makes one of plotly's of it."""
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(Image=lambda drawn: ("picture", drawn))
    )
    run = Run()
    probed().log(run)
    assert run.said[0][0]["seqlab/figure"] == ("picture", DRAWN)


def test_rules_have_numbers_of_their_own_and_what_never_is_is_inf() -> None:
    said: list[dict[str, Any]] = []
    slow = {"horizon": np.full((2, 3), -1), "float32_zero_lag": np.array([-1, 7])}
    made_result(clip=["none", "norm:1"], rate=-0.001, spread=0, replaced=slow).log(
        lambda found, step: said.append(found)
    )
    never = math.inf
    assert told(said[0]) == {
        "seqlab/none/rate": -0.001,
        "seqlab/none/horizon": never,
        "seqlab/none/float32_zero": never,
        "seqlab/norm:1/rate": -0.001,
        "seqlab/norm:1/horizon": never,
        "seqlab/norm:1/float32_zero": 7,
    }


def test_a_curve_that_ends_in_nan_is_not_said_to_stay_above() -> None:
    one, said = probed(-0.001), []
    one.log_norm[0, 1, 50:] = np.nan
    one.log(lambda found, step: said.append(found))
    assert np.isnan(list(told(said[0]).values())).all()


@pytest.mark.parametrize("target", [3, "wandb", math, logging.getLogger("a"), object()])
def test_another_target_is_refused(target: Any) -> None:
    with pytest.raises(InputError, match=r"^target: .* is not allowed; a function of a .* Summ"):
        made_result().log(target)


def test_a_step_is_a_whole_number() -> None:
    run = Run()
    with pytest.raises(InputError, match=r"^step: 0.5 is not allowed; a whole number from 0 up"):
        made_result().log(run, step=0.5)  # type: ignore[arg-type]
    assert run.said == []
