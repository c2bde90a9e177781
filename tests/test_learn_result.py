"""What a result of training has, what it takes, and how far it is said to be."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from courses import (
    SMALL,
    same,
    small,
)

import seqlab
from seqlab.errors import InputError
from seqlab.learning import cost
from seqlab.learning.of_cells import Cells, measure
from seqlab.learning.progress import Report
from seqlab.study import limits
from seqlab.study.result import Result


def test_a_result_is_kept_read_and_told(here: Path) -> None:
    seen: list[tuple[float, str]] = []
    result = seqlab.learn(
        **SMALL | {"clip": ["none", "norm:0.5x"]},
        store="store",
        progress=lambda *said: seen.append(said),
    )
    assert seen[0] == (0.0, "starting")
    again = Result.read(result.path)
    assert again.spec == result.spec
    assert {n: (v.dims, v.units, v.never) for n, v in again.variables.items()} == {
        n: (v.dims, v.units, v.never) for n, v in result.variables.items()
    }
    same(
        {name: one.data for name, one in again.variables.items()},
        {name: one.data for name, one in result.variables.items()},
    )
    document = json.loads(json.dumps(again.to_json(), allow_nan=False))
    (first, second) = document["curves"]
    assert document["spec"]["kind"] == "learn"
    assert first["networks_solved_by_length"] == [0, 0]
    assert first["clip_threshold"] is None
    assert second["clip_threshold_by_length"] == again.variables["clip_threshold"].data[1].tolist()
    assert first["log10_param_grad_norm"] == {"before": None, "after": None}
    frame = again.to_dataframe()
    assert list(frame.columns[:4]) == ["hash", "arch", "task", "steps"]
    assert set(frame.columns) >= {"log_norm", "log10_norm_trained", "lr", "optimizer"}
    again.plot("curves.svg")
    assert (here / "curves.svg").exists()


def test_a_file_has_these_variables() -> None:
    """Besides those of a run."""
    each, curve = ("network", "rule", "length"), ("network", "rule", "length", "lag")
    own = {
        "update": (("update",), "1"),
        "loss_update": (("loss_update",), "1"),
        "log_norm_trained": (curve, "nat"),
        "trace_log_norm": ((*each, "update", "lag"), "nat"),
        **{f"solved_share{end}": (each[1:], "1") for end in ("", "_low", "_high")},
        **{f"updates_to_solve{end}": (each[1:], "1") for end in ("", "_low", "_high")},
        "solved_at": (each, "1"),
        "trivial_loss": (("length",), "1"),
        **dict.fromkeys(("best_loss", "final_loss", "fired_share"), (each, "1")),
        **dict.fromkeys(("test_loss", "test_accuracy"), (each, "1")),
        "diverged_at": (each, "1"),
        "learning_rate": (each[1:], "1"),
        "clip_threshold": (each[1:], "1"),
        "horizon_trained": (("rule", "length", "threshold"), "step"),
        **{f"learnable_length{end}": (("rule",), "step") for end in ("", "_low", "_high")},
        "loss": ((*each, "loss_update"), "1"),
    }
    found = measure(small(task="parity", trace=6, test_length=9)).variables
    run = seqlab.run(arch="rnn", steps=7, hidden=4, networks=2, lengths=[4, 7]).variables
    apart = ("clipped_fraction", "log_param_grad_norm_before", "log_param_grad_norm_after")
    apart += ("gradient_cosine",)
    of_run = {name: (one.dims, one.units) for name, one in run.items() if name not in apart}
    assert {name: (one.dims, one.units) for name, one in found.items()} == of_run | own
    assert [n for n, v in found.items() if v.never and n not in run] == [
        *("solved_at", "diverged_at", "horizon_trained")
    ]
    assert len({one.long_name for one in found.values()}) == len(found)


def test_runs_have_nothing_of_training(here: Path) -> None:
    """Neither in their documents nor in their tables; in a common table it is missing."""
    run = seqlab.run(arch="rnn", steps=7, hidden=4, inputs=1, networks=2, store="runs")
    assert not {"networks_solved", "learnable_length", "best_loss"} & set(
        run.to_json()["curves"][0]
    )
    plain = seqlab.load("runs")
    assert not {"task", "optimizer", "networks_solved", "trivial_loss"} & set(plain.columns)
    seqlab.learn(**SMALL, store="both")
    (Path("both") / run.path.name).write_bytes(run.path.read_bytes())
    both = seqlab.load("both")
    trained = both["task"].notna()
    assert (len(both), trained.sum()) == (len(plain) + 6, 6)
    assert both.loc[~trained, "networks_solved"].isna().all()
    assert both.loc[trained, "networks_solved"].tolist() == [0] * 6
    columns = list(plain.columns)
    left = both.loc[~trained, columns].reset_index(drop=True)
    assert left.astype(plain.dtypes).equals(plain)


def test_ctrl_c_leaves_nothing_behind(here: Path) -> None:
    def stop(fraction: float, what: str) -> None:
        if "update" in what:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seqlab.learn(**SMALL | {"updates": 10**6, "solved": 1e-9}, store="store", progress=stop)
    assert list(Path("store").glob("*")) == []


# What it takes, and how far it is.


@pytest.mark.parametrize(
    "given", [{}, {"trace": 2}, {"arch": "lstm", "networks": 20}, {"updates": 300, "trace": 100}]
)
def test_a_file_is_hardly_ever_larger_than_was_said(here: Path, given: dict[str, Any]) -> None:
    result = seqlab.learn(**SMALL | given, store="store")
    assert result.path is not None
    said = cost.file_bytes(small(**given))
    assert result.path.stat().st_size <= said <= 4 * result.path.stat().st_size


@pytest.mark.tiny
def test_more_of_anything_takes_more() -> None:
    plain = small()
    for name, value in {
        "hidden": 50,
        "networks": 50,
        "sequences": 500,
        "updates": 50_000,
        "lengths": [4, 700],
        "lr": [0.1, 0.2],
        "clip": [f"norm:{c}" for c in range(1, 20)],
        "test_length": 700,
    }.items():
        more = small(**{name: value})
        assert cost.memory_bytes(more) > cost.memory_bytes(plain), name
        assert cost.seconds(more, 2) > cost.seconds(plain, 2), name
        assert cost.seconds(more, 2) < cost.seconds(more, 1), name
    traced = small(trace=1)
    assert cost.curve_shape(traced) == (2, 3, 2, 13 * cost.curve_shape(plain)[-1])
    with pytest.raises(InputError, match=r"^networks: 90000 is not allowed; with 3 rules"):
        limits.require_file(small(networks=90000, trace=1, updates=1000))


@pytest.mark.tiny
def test_progress_says_where_training_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lengths, rates chosen at each; the last share is a whole."""
    now = iter(range(1000))
    monkeypatch.setattr("seqlab.measure.progress.time.monotonic", lambda: next(now))
    seen: list[tuple[float, str]] = []
    spec = small(lr=[0.1, 0.2], clip="none")
    report = Report(lambda *said: seen.append(said), Cells(spec))
    report.begin("starting")
    for length in spec.lengths:
        for what in ("choosing rates, ", ""):
            report.begin_length(length, what)
            for update in range(spec.updates):
                report.tick(update, np.array([0.25, math.inf]), np.array([True, False]))
    report.end()
    shares, said = zip(*seen, strict=True)
    assert shares[0] == 0
    assert list(shares) == sorted(set(shares))
    assert shares[-2:] == (pytest.approx(1), 1)
    said_first = "choosing rates, length 4, update 1 of 12, loss 0.25, solved 1 of 2"
    assert said[:2] == ("starting", said_first)
    assert said[-2:] == ("length 7, update 12 of 12, loss 0.25, solved 1 of 2", "done")
