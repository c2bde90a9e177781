"""A benchmark's cases, targets, tables and results, and the command that makes them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from seqlab.bench import (
    command,
    floor,
    growth,
    machine,
    report,
    suite,
)
from seqlab.bench.jobs import Job
from seqlab.bench.race import (
    Disagreement,
)
from seqlab.bench.results import Finished, Results
from seqlab.bench.rows import Row
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.kernels import backends


def finished(*rows, failure=None):
    return Finished(list(rows), failure, 1.5, "2030-01-02T03:04:05+00:00")


# Tables


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.0, "2"),
        (1536.0, "1,536"),
        (12345.6, "12,346"),
        (3.14159, "3.14"),
        (0.0123456, "0.0123"),
        (1.2345e-7, "1.2e-07"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert report.number(value) == text


def test_a_table_has_every_column_that_any_row_has():
    rows = [
        Row({"H": 64}, {"seqlab": [3.0, 1.0, 2.5]}, {"jax / seqlab": [4.0, 6.5, 5.5]}),
        Row({"H": 128}, {"seqlab": [1.0]}, facts={"difference": 1e-15}),
    ]
    [table] = report.rows_table(rows)
    assert table.splitlines() == [
        "| H | seqlab | jax / seqlab | difference |",
        "| --- | --- | --- | --- |",
        "| 64 | 2.50 | 5.50 (4 to 6.50) |  |",
        "| 128 | 1 |  | 1.0e-15 |",
    ]
    assert report.rows_table([]) == []


def test_targets_want_much_or_little():
    rows = [Row({"cell": c}, ratios={"x": [v]}) for c, v in (("rnn", 2.0), ("gru", 8.0))]
    much = suite.Target("ratio", "study", "x", "min", must=3.0, aim=6.0)
    little = suite.Target("time", "study", "x", "max", must=3.0, aim=2.0, where={"cell": ["rnn"]})
    mean = suite.Target("mean", "study", "x", "geometric mean", must=3.0, aim=9.0)
    none = suite.Target("none", "study", "x", "min", 1.0, 2.0, where={"cell": "lstm"})
    found = [target.measured(rows) for target in (much, little, mean, none)]
    assert found == [2, 2, pytest.approx(4), None]
    verdicts = [t.verdict(v) for t, v in zip((much, little, mean, none), found, strict=True)]
    assert verdicts == ["missed", "aim", "must", "not measured"]


# Cases and results


def test_the_built_in_cases_are_the_ones_in_experiments():
    shown = Path(__file__).parent.parent / "experiments" / "bench" / "cases.toml"
    assert shown.read_bytes() == suite.BUILT_IN.read_bytes()
    built_in = suite.read()
    names = [case.name for case in built_in.cases]
    assert len(set(names)) == len(names)
    assert all(target.case in names for target in built_in.targets)
    assert all(target.take in suite.TAKES for target in built_in.targets)


def test_jobs_are_chosen_by_case_or_by_name():
    built_in = suite.read()
    assert list(built_in.select(["study"])) == ["study/rnn", "study/lstm", "study/gru"]
    assert list(built_in.select(["gradients/gru-64"])) == ["gradients/gru-64"]
    assert len(built_in.select([])) == sum(len(case.jobs) for case in built_in.cases)
    with pytest.raises(InputError, match="only: 'grad' is unknown; allowed: study"):
        built_in.select(["grad"])


CASE = '[timing]\nrounds = 1\nturn = 0.0\nsettle = 0.0\npatience = 1e6\n[[case]]\nname = "growth"\n'
GROWTH = (
    'kind = "growth"\ntitle = "Growth"\ncell = "rnn"\ndtype = "float64"\nsteps = 4\ninputs = 2\n'
    "hidden = [2, 4]\nbatch = [1]\nnetworks = [1]\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("[timing", "cannot be used"),
        ("", "'timing'"),
        (CASE + 'kind = "growth"\n', "title"),
        (CASE + GROWTH + "weight = 3\n", "weight"),
        (CASE + GROWTH.replace('"growth"', '"groth"'), "kind: 'groth' is unknown; allowed: study"),
        ("speed = 1\n" + CASE + GROWTH, "speed"),
    ],
)
def test_a_wrong_cases_file_is_refused(tmp_path, text, message):
    path = tmp_path / "cases.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        suite.read(path)


def test_results_are_kept_job_by_job(tmp_path):
    here = {"processor": "A", "seqlab": "1"}
    kept = Results.open(tmp_path, here)
    kept.jobs["study/rnn"] = finished(Row({"cell": "rnn"}, {"seqlab": [1.0]}))
    kept.jobs["growth/H"] = finished(failure="no")
    kept.write(tmp_path)
    again = Results.open(tmp_path, here)
    assert again == kept
    assert again.rows("study") == [Row({"cell": "rnn"}, {"seqlab": [1.0]})]
    assert again.rows("stud") == []


def test_results_of_another_machine_or_a_damaged_file_are_refused(tmp_path):
    Results({"processor": "A"}, {}).write(tmp_path)
    with pytest.raises(InputError, match=r"out: .* with processor A, and here it is B; "):
        Results.open(tmp_path, {"processor": "B"})
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match=r"out: .*results.json is damaged"):
        Results.open(tmp_path, {"processor": "A"})


@pytest.fixture
def cases(tmp_path, monkeypatch):
    """A tiny cases file, with a floor that costs nothing to measure."""
    monkeypatch.setattr(floor, "stream", lambda size: 1e9)
    monkeypatch.setattr(floor, "product", lambda dtype: 1e9)
    monkeypatch.setattr(floor, "exponential", lambda dtype: 1e-9)
    path = tmp_path / "cases.toml"
    path.write_text(CASE + GROWTH)
    return path


def test_a_run_writes_tables_and_a_figure_and_can_be_taken_up_again(tmp_path, cases):
    said, out = [], tmp_path / "out"
    first = command.bench(cases, ["growth/hidden"], out, [], said.append)
    assert (list(first.failed), said[0]) == ([], "[1/1] growth/hidden ...")
    assert {path.name for path in out.iterdir()} == {"results.json", "results.md", "growth.png"}
    command.bench(cases, ["growth/batch"], out, [], said.append)
    assert set(json.loads((out / "results.json").read_text())["jobs"]) == {
        "growth/hidden",
        "growth/batch",
    }
    page = (out / "results.md").read_text()
    assert "| H | 4 |" in page
    assert "| B | 1 |" in page
    assert machine.processor() in page


def test_a_job_whose_sides_disagree_fails_loudly(tmp_path, cases, monkeypatch):
    def disagree(context):
        raise Disagreement("weight_hh: seqlab is 1.0e-03 away from jax")

    monkeypatch.setattr(growth.Growth, "jobs", lambda self: iter([Job("bad", disagree)]))
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["bench", str(cases), "--out", str(out)])
    assert done.exit_code == 1
    assert "FAILED: weight_hh" in done.stderr
    assert done.stderr.endswith("failed: growth/bad\n")
    assert "**growth/bad failed: weight_hh" in (out / "results.md").read_text()


def test_the_gpu_s_cases_are_sound():
    cases = suite.read(suite.ON_GPU)
    names = {case.name for case in cases.cases}
    assert {target.case for target in cases.targets} <= names


def test_no_gpu_is_said_before_any_work(tmp_path):
    if backends.describe()["cuda"] == backends.AVAILABLE:
        pytest.skip("this machine has a GPU")
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["bench", "--backend", "cuda", "--out", str(out)])
    assert done.exit_code == 2
    assert done.stderr.startswith("seqlab: error: backend: cuda is not available: ")
    assert done.stderr.count("\n") == 1
    assert not out.exists()
