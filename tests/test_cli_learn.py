"""`seqlab learn`: its table, its documents, studies of training, and an end in time."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from studies import PATIENCE, data, hear_ctrl_c, seqlab_, start, toml
from synthetic import NOW, measurement

import seqlab
from seqlab.errors import InputError
from seqlab.numbers.quantities import in_files
from seqlab.numbers.variables import Measurement
from seqlab.report import checklist, learn_table
from seqlab.report.store_table import _learnable
from seqlab.spec import kinds
from seqlab.spec.learn import LearnSpec
from seqlab.study.result import Result

WORDS = ("learn", "--hidden", 4, "--networks", 2, "--sequences", 25, "--updates", 8)
FIXED = {"arch": "rnn", "hidden": 4, "networks": 2, "sequences": 25, "updates": 8, "lengths": [5]}


def made(**changes: Any) -> Result:
    """A result of training that is made up: eight networks, two rules, lengths 10 and 20."""
    given = {"arch": "lstm", "lengths": [10, 20], "clip": ["none", "norm:0.1x"]} | changes
    spec = LearnSpec.create(**given)
    solved_at = np.full((8, 2, 2), -1)
    solved_at[:, :, 0] = 100
    solved_at[:3, 0, 1] = 1500
    diverged_at = np.full((8, 2, 2), -1)
    diverged_at[6:, 1, 1] = 5
    ruled = np.ones((2, 2))
    own: dict[str, Any] = {
        "solved_at": solved_at,
        "diverged_at": diverged_at,
        "solved_share": ruled,
        "solved_share_low": ruled * 0.25,
        "solved_share_high": ruled * 0.75,
        "updates_to_solve": np.array([[100, np.nan], [100, np.nan]]),
        "updates_to_solve_low": ruled,
        "updates_to_solve_high": ruled * np.nan,
        "trivial_loss": np.ones(2),
        "best_loss": np.full((8, 2, 2), 0.0123456),
        "final_loss": np.full((8, 2, 2), np.inf),
        "fired_share": np.full((8, 2, 2), 0.5),
        "learning_rate": ruled * 0.003,
        "clip_threshold": np.array([[np.nan, np.nan], [0.0211, 0.0123]]),
        "horizon_trained": np.array([[[3, 9, -1], [4, 17, -1]], [[3, -1, -1], [np.nan] * 3]]),
        "learnable_length": np.array([14.1, np.nan]),
        "learnable_length_low": np.array([12, np.nan]),
        "learnable_length_high": np.array([np.nan, np.nan]),
    }
    rows = in_files(("hidden", "cell"))
    found = measurement(spec, rate=-0.5).variables
    found |= {name: rows[name].variable(value) for name, value in own.items()}
    return Result.from_measurement(spec, Measurement("cpu", found), NOW, 12.0)


@pytest.mark.tiny
def test_the_table() -> None:
    text = made().summary()
    assert max(map(len, text.splitlines())) <= 80
    first, criterion, trained, reach, *_ = text.split("\n\n")
    assert " ".join(first.split()) == (
        "lstm: task latch, steps 20, hidden 64, networks 8, seed 0, updates 2000, sequences 16, "
        "optimizer adam, lr 0.003, schedule constant, solved 0.1, dtype float32, init pytorch; "
        "measured on cpu in 12 s"
    )
    assert criterion == "latch: trivial loss 1; solved under 0.1, 0.1 of it"
    assert [line.rstrip() for line in trained.splitlines()] == [
        "              solved   updates    best  final         learning  horizon",
        "      [95% interval]  to solve    loss   loss  fired      rate    after",
        "none",
        "  10  8/8 [25%, 75%]       100  0.0123    inf  50.0%     0.003        9",
        "  20  3/8 [25%, 75%]         -  0.0123    inf  50.0%     0.003       17",
        "norm:0.1x (threshold 0.0211, 0.0123)",
        "  10  8/8 [25%, 75%]       100  0.0123    inf  50.0%     0.003     > 10",
        "  20  0/8 [25%, 75%]         -  0.0123    inf  50.0%     0.003     > 20",
    ]
    assert reach.splitlines() == [
        "               horizon at  horizon after  learnable length",
        "           initialisation       training",
        "none                   14             17   14.1 [12, > 20]",
        "norm:0.1x              14           > 20                 -",
    ]
    said = " ".join(text.split())
    assert "lstm, norm:0.1x, length 20: 2 of 8 networks had no finite loss or gradient" in said


def test_the_checklist_of_training(here: Path) -> None:
    """Below the table, and by rule in the document."""
    words = (*WORDS, "--arch", "gru", "--lengths", 5, "--clip", "none", "--clip", "norm:0.1x")
    shown = seqlab_(*words, "--check").stdout
    assert max(map(len, shown.splitlines())) <= 80
    table, _, lists = shown.partition("stored: ")
    assert table
    for line in ("gru, none", "gru, norm:0.1x", "  norm:0.1x: updates at which a rule acts"):
        assert line in lists.splitlines()
    assert "8 updates of 2 networks by adam on latch, 25 sequences of length 5;" in lists
    checks = json.loads(seqlab_(*words, "--check", "--json").stdout)["checks"]
    assert list(checks) == ["none", "norm:0.1x"]
    result = seqlab.learn(**FIXED | {"arch": "gru", "clip": ["none", "norm:0.1x"]})
    for rule, lines in checks.items():
        assert checklist.document(result.checks(rule=rule)) == lines
    assert result.checks() == result.checks(rule="none")
    with pytest.raises(InputError, match=r"^rule: 'norm:1' is not allowed; none or norm:0.1x$"):
        result.checks(rule="norm:1")


@pytest.mark.tiny
def test_several_cells_share_a_table() -> None:
    text = learn_table.table([made(), made(arch="rnn", task="copy", solved=0.25)])
    assert "lstm, rnn: steps 20, " in text
    assert "rnn: task copy, solved 0.25, activation tanh" in " ".join(text.split())
    assert "copy: trivial loss 0.6931 at 10, 0.5199 at 20; solved under 0.25 of it" in text
    assert "\n    10  8/8" in text


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("solved", "ends", "text"),
    [
        ([8, 8], (None, None, None), "> 20"),
        ([0, 0], (None, None, None), "< 10"),
        ([8, 4], (20.0, 12.0, None), "20 [12, > 20]"),
        ([4, 1], (None, None, 16.0), "- [< 10, 16]"),
        ([8, 4], (20.0, None, None), "20"),
    ],
)
def test_learnable_lengths(solved: list[int], ends: Any, text: str) -> None:
    names = ("learnable_length", "learnable_length_low", "learnable_length_high")
    entry = {"networks_solved_by_length": solved, **dict(zip(names, ends, strict=True))}
    spec = LearnSpec.create(arch="rnn", lengths=[10, 20])
    assert learn_table._learnable(spec, entry) == text


def test_the_command_trains_keeps_and_draws(here: Path) -> None:
    words = ("--arch", "rnn", "--lengths", "5,8", "--clip", "none", "--clip", "norm:1x")
    done = seqlab_(*WORDS, *words, "--lr", 0.01, "--lr", 0.1, "--plot", "a.svg")
    assert done.exit_code == 0, done.stderr
    assert "lr 0.01+0.1" in done.stdout
    assert "latch: trivial loss 1; solved under 0.1, 0.1 of it" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    (file,) = Path("seqlab-results").iterdir()
    assert Path("a.svg").exists()
    fields = FIXED | {"lengths": [5, 8], "clip": ["none", "norm:1x"], "lr": [0.01, 0.1]}
    spec = LearnSpec.create(**fields)
    assert file.name == f"{spec.hash}.nc"
    assert kinds.of_spec(Result.read(file).spec).name == "learn"
    again = seqlab_("learn", "--from", file, "--json", "--store", "again")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["spec"] == json.loads(json.dumps(spec.to_dict()))
    assert data("again") == data("seqlab-results")


def test_a_study_is_swept_resumed_shown_and_exported(here: Path) -> None:
    grid = {"arch": ["rnn", "lstm"], "lr": [[0.01, 0.1], 0.02]}
    fixed = {name: value for name, value in FIXED.items() if name != "arch"}
    content = {"study": {"name": "a study", "kind": "learn"}, "fixed": fixed, "grid": grid}
    (here / "study.toml").write_text(toml(content))
    done = seqlab_("sweep", "study.toml", "--store", "store")
    assert done.stdout == "a study: 4 runs measured, 0 found, 0 failed in store\n", done.stderr
    before = data("store")
    first = min(Path("store").glob("*.nc"))
    first.unlink()
    done = seqlab_("sweep", "study.toml", "--store", "store")
    assert done.stdout == "a study: 1 runs measured, 3 found, 0 failed in store\n"
    assert data("store") == before
    shown = seqlab_("table", "store").stdout
    assert shown.startswith("networks that learn the task, by length, of those that were trained\n")
    assert re.search(r"^  lr 0\.01\+0\.1, clip none +0/2 +>5 +-$", shown, re.MULTILINE)
    assert seqlab_("export", "store", "-o", "table.csv").exit_code == 0
    table = pd.read_csv("table.csv")
    assert table["lr"].tolist() == ["0.01+0.1", "0.01+0.1", "0.02", "0.02"] * 2
    assert table["networks_solved"].tolist() == [0] * 8
    assert set(table["learning_rate"]) <= {0.01, 0.1, 0.02}
    assert table["horizon_trained_1e-3"].isna().all()  # not within so few steps
    assert table.columns.is_unique


def test_a_store_of_both_kinds_has_two_tables(here: Path) -> None:
    assert seqlab_(*WORDS, "--arch", "rnn", "--lengths", 5).exit_code == 0
    assert seqlab_("run", "--arch", "rnn", "--steps", 12, "--networks", 2).exit_code == 0
    shown = seqlab_("table", "seqlab-results").stdout
    titles = [line for line in shown.splitlines() if line.startswith(("attenuation", "networks"))]
    assert titles[0].startswith("attenuation by length")
    assert titles[1].startswith("networks that learn the task")


def test_ctrl_c_ends_training(here: Path) -> None:
    """And it is said that what was done is kept, if there is any yet."""
    words = ("--arch", "lstm", "--lengths", 100, "--updates", 10**6, "--solved", 1e-9)
    with start("learn", *words, preexec_fn=hear_ctrl_c) as running:
        time.sleep(4)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    *kept, last = said.splitlines()
    assert last == "seqlab: error: interrupted"
    assert all(line.startswith("what was done is kept in seqlab-results") for line in kept)
    assert not list(here.rglob("*.nc"))


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (39.73, 34.2, 49.4, "39.7 [34.2, 49.4]"),
        (41.9, 33.9, None, "41.9 [33.9, >56]"),
        (9.0, None, 12.0, "9 [<, 12]"),
        (None, 55.6, None, ">55.6"),
        (None, None, 5.0, "<5"),
        (None, None, None, "-"),
    ],
)
def test_a_learnable_length_is_said_as_far_as_it_is_known(
    value: float | None, low: float | None, high: float | None, text: str
) -> None:
    row = {"learnable_length": value, "learnable_length_low": low, "learnable_length_high": high}
    assert _learnable(row | {"steps": 56}) == text
