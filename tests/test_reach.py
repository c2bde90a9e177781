"""Which value of an option keeps so much of the gradient: held to chains that are known exactly."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq
from studies import refusal, seqlab_

import seqlab
from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.spec.table import TABLE
from seqlab.study.reach import Reach
from seqlab.wording import one_of

Array = npt.NDArray[Any]
# What a root in the logarithm is found to (1e-11), and the rounding of a curve of 100 steps, which
# is some 1e-13 in its logarithm, over its slope, the steps.
NEAR = 1e-9
BIASED = one_of(cell.name for cell in CELLS.values() if "forget_bias" in cell.options)
SILENT: dict[str, Any] = {"drive": "zeros", "input_scale": 0}
SMALL: dict[str, Any] = {"hidden": 5, "inputs": 2, "networks": 6, "steps": 20}


def only(found: Reach) -> Any:
    (answer,) = found.answers
    return answer


@pytest.mark.parametrize("keep", [1e-3, 1.0, 50.0])
def test_a_linear_orthogonal_network_keeps_a_power_of_its_gain(keep: float) -> None:
    """|g Q ... r| = g^T |r|, whatever the network."""
    given = {"init": "orthogonal", "activation": "identity", "networks": 6, "hidden": 7}
    answer = only(seqlab.reach(arch="rnn", steps=100, vary="gain", keep=keep, **given))
    assert answer.value == pytest.approx(keep**0.01, rel=NEAR)
    assert (answer.low, answer.high) == pytest.approx((answer.value,) * 2, rel=1.1e-4)
    assert answer.rising
    assert answer.peak == pytest.approx(max(math.log10(keep), 0), abs=NEAR)
    assert answer.peak_lag in ((0,) if keep < 1 else (100,) if keep > 1 else range(101))


def test_the_steps_may_be_those_of_an_input() -> None:
    given = {"init": "orthogonal", "activation": "identity", "networks": 6, "hidden": 7}
    found = seqlab.reach(arch="rnn", vary="gain", keep=0.5, input=np.ones((100, 1, 3)), **given)
    assert only(found).value == pytest.approx(0.5**0.01, rel=NEAR)
    assert found.tried[0].spec.lengths == (100,)


def test_a_silent_tanh_network_is_a_linear_one() -> None:
    """Without input its state stays at zero, where tanh has slope 1."""
    given = {"init": "orthogonal", "networks": 6, "hidden": 7, **SILENT}
    answer = only(seqlab.reach(arch="rnn", steps=100, vary="gain", keep=0.5, **given))
    assert answer.value == pytest.approx(0.5**0.01, rel=NEAR)


def test_a_driven_tanh_network_is_as_mean_field_has_it() -> None:
    """At the root the predicted rate is ln(keep)/T, but for what mean field leaves out, which is of
    order 1/H: 1/64 nat a step."""
    given = {"init": "orthogonal", "hidden": 64, "networks": 6, "input_scale": 0.5}
    answer = only(seqlab.reach(arch="rnn", steps=100, vary="gain", **given))
    theory = float(answer.result.variables["theory"].data)
    assert theory == pytest.approx(math.log(1e-3) / 100, abs=1 / 64)
    assert answer.low < answer.value < answer.high


def lstm_step(gain: float) -> Array:
    """Silent, of one unit with W = g in all gates: all gates are 1/2 at a state of zero. By
    (h, c): h' = c'/2, c' = c/2 + g h/2."""
    return np.array([[gain / 4, 1 / 4], [gain / 2, 1 / 2]])


def gru_step(gain: float) -> Array:
    """h' = h/2 + (1/2) g h/2."""
    return np.array([[1 / 2 + gain / 4]])


@pytest.mark.parametrize(("arch", "step"), [("lstm", lstm_step), ("gru", gru_step)])
def test_silent_gates_are_half_open(arch: str, step: Any) -> None:
    """A gain of 2 keeps all of it, as time goes on: 1/2 + 2/4 = 1. Of one unit, whose orthogonal
    weights are 1 or -1; another sign of the candidate's would leave next to nothing."""
    given = {"init": "orthogonal", "hidden": 1, "networks": 1, "between": (0.5, 4), **SILENT}

    def left(gain: float, steps: int) -> float:
        adjoint = np.eye(len(step(gain)))[0]
        for _ in range(steps):
            adjoint = step(gain).T @ adjoint
        return math.log(np.linalg.norm(adjoint))

    def asked(steps: int, seed: int) -> Reach:
        return seqlab.reach(arch=arch, steps=steps, vary="gain", keep=1.0, seed=seed, **given)

    seed = next(seed for seed in range(20) if asked(10, seed).answers)
    for steps in (10, 1000):
        answer = only(
            seqlab.reach(arch=arch, steps=steps, vary="gain", keep=1.0, seed=seed, **given)
        )
        wanted = brentq(left, 1.2, 2.8, args=(steps,), xtol=1e-12)
        assert answer.value == pytest.approx(wanted, rel=NEAR)
        assert (answer.low, answer.high) == (None, None)  # one network says nothing of others
    assert answer.value == pytest.approx(2, abs=4 / 1000)


def test_what_was_tried_is_kept_and_not_tried_again(here: Path) -> None:
    seen: list[str] = []

    def asked(**more: Any) -> Reach:
        seen.clear()
        return seqlab.reach(
            arch="lstm",
            vary="forget-bias",
            store="store",
            progress=lambda fraction, what: seen.append(what),
            **SMALL | more,
        )

    first = asked()
    assert seen
    assert seen[0].startswith("try 1, forget_bias -5: ")
    files = {path: path.stat().st_mtime_ns for path in Path("store").glob("*.nc")}
    assert len(files) == len(first.tried)
    again = asked()
    assert seen == ["done"]
    assert [one.value for one in again.answers] == [one.value for one in first.answers]
    assert {path: path.stat().st_mtime_ns for path in Path("store").glob("*.nc")} == files
    run = seqlab.run(
        arch="lstm",
        forget_bias=first.answers[0].value,
        clip="none",
        lengths=[20],
        **SMALL,
    )
    assert run.spec == first.answers[0].result.spec
    victim = first.tried[3].path
    victim.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="measured again now"):
        healed = asked()
    assert healed.to_json() == first.to_json()


def test_no_answer_says_what_is_left_at_the_ends() -> None:
    found = seqlab.reach(arch="rnn", vary="gain", init="orthogonal", keep=1e-30, **SMALL)
    assert found.answers == ()
    assert re.search(
        r"none does: 10\^-\d+\.\d\d is left at 0\.1, 10\^-?\d+\.\d\d is left at 10$",
        " ".join(found.summary().split()),
    )
    assert found.to_json()["answers"] == []


def test_table_document_and_figure(here: Path) -> None:
    words = ["reach", "--arch", "lstm", "--vary", "forget-bias", "--keep", 0.01]
    words += [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    done = seqlab_(*words, "--plot", "reach.svg")
    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "which forget bias keeps 0.01 of the gradient over 20 steps?" in done.stdout
    told = json.loads(seqlab_(*words, "--json").stdout)
    (answer,) = told["answers"]
    assert answer["log10_attenuation"] == pytest.approx(-2, abs=1e-9)
    low, high = answer["interval"]
    assert low < answer["value"] < high
    assert f"{answer['value']:.5g}" in done.stdout
    assert [one["value"] for one in told["tried"]] == sorted(one["value"] for one in told["tried"])
    assert Path(answer["result"]).exists()
    assert Path("reach.svg").exists()
    assert Path("reach.csv").read_text().startswith("figure,")


def test_no_answer_is_an_exit_of_1(here: Path) -> None:
    words = ["reach", "--arch", "rnn", "--init", "orthogonal", "--vary", "gain", "--steps", 10]
    done = seqlab_(*words, "--hidden", 3, "--networks", 1, "--between", "0.1:0.2")
    assert done.exit_code == 1
    assert "none does" in done.stdout


def test_the_help_names_all_that_can_be_searched_and_where() -> None:
    told = "".join(seqlab_("reach", "--help").output.split())  # lines may break anywhere
    ranges = {row.name.replace("_", "-"): row.searched for row in TABLE.values() if row.searched}
    assert f"draws networks: {one_of(ranges)}.".replace(" ", "") in told
    for name, (low, high) in ranges.items():
        assert f"{name}{low:g}:{high:g}" in told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--vary", "hidden"],
            "vary: 'hidden' is not allowed; gain, input_scale, forget_bias, r_min or r_max",
        ),
        (["--vary", "gain"], "gain: 0.1 means nothing for init pytorch; it is for init normal"),
        (
            ["--vary", "forget-bias"],
            f"forget_bias: -5.0 means nothing for rnn; it is for {BIASED}",
        ),
        (["--vary", "input-scale", "--keep", 0], "keep: 0.0 is not allowed; a positive, finite"),
        (["--vary", "input-scale", "--between", "3"], "between: '3' is not allowed; two numbers"),
        (["--vary", "input-scale", "--between", "3:1"], "between: (3.0, 1.0) is not allowed; two"),
        (["--vary", "input-scale", "--arch", "nn"], "arch: 'nn' is not allowed; rnn, lstm"),
        (["--vary", "input-scale", "--input-scale", 1], "input_scale: 1.0 means nothing here"),
        (["--vary", "input-scale", "--steps", 0], "steps: 0 is not allowed; a whole number from 1"),
        (
            ["--vary", "input-scale", "--arch", "gru", "--plot", "f.png"],
            "plot: 'f.png' is not allowed with 2 cells; one at a time",
        ),
    ],
)
def test_refusals(here: Path, words: list[Any], line: str) -> None:
    assert refusal(seqlab_("reach", "--arch", "rnn", "--steps", 10, *words)).startswith(line)
    assert list(here.iterdir()) == []


def test_what_each_run_has_anyway_is_refused() -> None:
    with pytest.raises(InputError, match=r"^clip: 'none' means nothing here; leave it out$"):
        seqlab.reach(arch="rnn", vary="input_scale", clip="none", **SMALL)


def test_several_cells_are_answered_one_after_the_other(here: Path) -> None:
    words = ["reach", "--arch", "lstm", "--arch", "gru", "--vary", "forget-bias"]
    words += [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    told = json.loads(seqlab_(*words, "--json").stdout)
    assert len(told) == 2
    shown = seqlab_(*words).stdout
    assert [line.split(":")[0] for line in shown.splitlines() if ": steps" in line] == [
        "lstm",
        "gru",
    ]


def test_steps_are_needed() -> None:
    with pytest.raises(InputError, match=r"^steps: is needed"):
        seqlab.reach(arch="rnn", vary="input_scale")
