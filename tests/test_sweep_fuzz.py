"""Whatever a study file or a command line says, it is done or refused."""

import os
import re
import shutil

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from studies import (
    PATIENCE,
    made,
    refusal,
    seqlab_,
    start,
    toml,
    tree,
    write,
)

from seqlab.cells import ACTIVATIONS, CELLS, INITS

ODD = (
    st.sampled_from([-1, 0, 2**31 - 1, 2**70, True, "", "x", [], [[1]], -0.0, 1e300])
    | st.floats()
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=4)
)
GOOD = {
    "arch": st.sampled_from([*CELLS]),
    "steps": st.integers(1, 30),
    "hidden": st.integers(1, 4),
    "inputs": st.integers(1, 3),
    "state": st.integers(1, 3),
    "networks": st.integers(1, 5),
    "seed": st.integers(0, 9),
    "activation": st.sampled_from(ACTIVATIONS),
    "init": st.sampled_from(INITS),
    "gain": st.floats(0.1, 2),
    "input_scale": st.floats(0, 1),
    "drive": st.sampled_from(["white", "zeros"]),
    "forget_bias": st.floats(-1, 5) | st.just("chrono"),
    "clip": st.sampled_from(["none", "norm:1", "step-value:0.1", ["none", "truncate:3"]]),
    "lengths": st.sampled_from(["1:20:3", [20], [5, 20]]),
    "spectrum": st.integers(1, 3),
    "dtype": st.sampled_from(["float64", "float32"]),
    "params": st.just("w.npz"),
    "input": st.just("x.npy"),
}
SMALL = {"steps": 9, "hidden": 2, "inputs": 2, "networks": 2}  # so that nothing takes long


@st.composite
def study_files(draw):
    """The text of a study file: most are sound or nearly so."""
    content = {"study": {"name": "fuzz"}, "fixed": {"arch": "rnn"} | SMALL, "grid": {}, "zip": {}}
    for name in draw(st.lists(st.sampled_from([*GOOD]), unique=True, max_size=5)):
        table = draw(st.sampled_from(["fixed", "grid", "zip"]))
        values = GOOD[name] if draw(st.integers(0, 7)) else ODD
        count = 2 if table == "zip" else draw(st.integers(1, 3))
        content["fixed"].pop(name, None)
        several = draw(st.lists(values, min_size=count, max_size=count))
        content[table][name] = several[0] if table == "fixed" else several
    if draw(st.integers(0, 9)) == 0:
        content[draw(st.sampled_from(["study", "fixed", "grid", "gird"]))] = {"x": draw(ODD)}
    text = toml(content)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(["[", '"', "=", "\n", "\0"])) + text[place:]
    return text


WORDS = [
    *("sweep", "table", "export", "study.toml", "bad.toml", "--store", "store", "new", "--dry-run"),
    *("--retry-failed", "--backend", "cpu", "cuda", "--scheduler", "here", "-o", "t.csv", "t.xls"),
    *("--help", "--", ""),
]
LINES = st.lists(st.sampled_from(WORDS), max_size=7)
SWEEP = ("sweep", "study.toml", "--store", "new")


@pytest.fixture
def folder(here, monkeypatch):
    """A folder with a study, a file that is none, and a store with a result."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    write(here / "study.toml")
    (here / "bad.toml").write_text("[study")
    made(seed=5).write(here / "store")
    return here


def done_or_refused(folder, words, text=None):
    """Run a command; check its exit code and what it leaves behind."""
    if text is not None:
        (folder / "study.toml").write_text(text, encoding="utf-8")
    before = tree(folder)
    result = seqlab_(*words)
    assert result.exit_code in (0, 1, 2), (text, result.exception)
    if result.exit_code == 2:
        refusal(result)
        assert tree(folder) == before
    if result.exit_code == 1:  # runs that failed
        assert re.search(r"[1-9]\d* failed in", result.stdout), result.stderr
        shutil.rmtree(folder / "new")


def fuzzed(examples):
    return settings(max_examples=examples)


@given(study_files())
@fuzzed(250)
@example("")
def test_any_study_is_done_or_refused(made_up, folder, text):
    done_or_refused(folder, SWEEP, text)


@given(LINES)
@fuzzed(250)
def test_any_command_line_is_done_or_refused(made_up, folder, words):
    done_or_refused(folder, words)


@pytest.mark.slow
@given(study_files(), LINES)
@fuzzed(2000)
def test_two_thousand_studies_and_command_lines(folder, text, words):
    done_or_refused(folder, SWEEP, text)
    done_or_refused(folder, words, text)


@pytest.mark.slow
@given(study_files(), LINES)
@fuzzed(25)
def test_fifty_processes(folder, text, words):
    (folder / "study.toml").write_text(text, encoding="utf-8")
    for command in (SWEEP, words):
        before = tree(folder)
        running = start(*command)
        stdout, stderr = running.communicate(timeout=PATIENCE)
        assert running.returncode in (0, 1, 2)
        assert "Traceback" not in stderr
        if running.returncode == 2:
            assert (stdout, stderr.count("\n")) == ("", 1)
            assert tree(folder) == before
