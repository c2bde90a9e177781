"""A benchmark's cases, targets, tables and results, and the command that makes them."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

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
from seqlab.bench.results import Finished, Measured, Results
from seqlab.bench.rows import Row
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.kernels import backends, processor


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


MUCH, LITTLE = suite.Goal(must=3.0, aim=6.0), suite.Goal(must=3.0, aim=2.0)


def test_targets_want_much_or_little():
    rows = [Row({"cell": c}, ratios={"x": [v]}) for c, v in (("rnn", 2.0), ("gru", 8.0))]
    much = suite.Target("ratio", "study", "x", "min", {}, MUCH)
    little = suite.Target("time", "study", "x", "max", {}, LITTLE, where={"cell": ["rnn"]})
    mean = suite.Target("mean", "study", "x", "geometric mean", {}, suite.Goal(3.0, 9.0))
    none = suite.Target("none", "study", "x", "min", {}, MUCH, where={"cell": "lstm"})
    found = [target.measured(rows) for target in (much, little, mean, none)]
    assert found == [2, 2, pytest.approx(4), None]
    verdicts = [
        t.verdict(v, "avx2") for t, v in zip((much, little, mean, none), found, strict=True)
    ]
    assert verdicts == ["missed", "aim", "must", "not measured"]


def test_a_target_is_what_a_machine_class_can_do():
    own = suite.Target("ratio", "study", "x", "min", {"avx2": suite.Goal(2.0, 4.0)}, MUCH)
    assert [own.verdict(2.5, name) for name in ("avx2", "avx512")] == ["must", "missed"]
    only = suite.Target("ratio", "study", "x", "min", {"avx2": suite.Goal(2.0, 4.0)})
    assert [only.verdict(2.5, name) for name in ("avx2", "neon")] == ["must", "no target"]


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
TARGET = CASE + GROWTH + '[[target]]\nwhat = "fast"\ncase = "growth"\n'
TARGET += 'column = "seqlab"\ntake = "max"\n'


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
        (TARGET + "must = 1.0\n", "target 'fast' needs must and aim"),
        (TARGET, "target 'fast' needs must and aim"),
        (TARGET + "on.avx2 = { must = 1.0 }\n", "aim"),
        (TARGET + "on.avx = { must = 1.0, aim = 2.0 }\n", "on: 'avx' is unknown; allowed: avx512"),
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
    kept = Results.open(tmp_path, "avx2", here)
    own = kept.classes["avx2"]
    own.jobs["study/rnn"] = finished(Row({"cell": "rnn"}, {"seqlab": [1.0]}))
    own.jobs["growth/H"] = finished(failure="no")
    kept.write(tmp_path)
    again = Results.open(tmp_path, "avx2", here)
    assert again == kept
    assert again.classes["avx2"].rows("study") == [Row({"cell": "rnn"}, {"seqlab": [1.0]})]
    assert again.classes["avx2"].rows("stud") == []


def test_a_class_leaves_what_others_measured(tmp_path):
    before = Measured({"processor": "A"}, {"study/rnn": finished(Row({"cell": "rnn"}))})
    Results({"avx512": before}).write(tmp_path)
    results = Results.open(tmp_path, "avx2", {"processor": "B"})
    results.classes["avx2"].jobs["study/rnn"] = finished(Row({"cell": "rnn"}, {"seqlab": [2.0]}))
    results.write(tmp_path)
    again = Results.open(tmp_path, "avx512", {"processor": "A"})
    assert again.classes["avx512"] == before
    assert again.classes["avx2"].machine == {"processor": "B"}
    assert again.classes["avx2"].jobs["study/rnn"].rows[0].times == {"seqlab": [2.0]}


def test_results_of_another_machine_or_a_damaged_file_are_refused(tmp_path):
    Results({"sse": Measured({"processor": "A"}, {})}).write(tmp_path)
    with pytest.raises(InputError, match=r"out: .* has sse measured with processor A, .* is B; "):
        Results.open(tmp_path, "sse", {"processor": "B"})
    with pytest.raises(InputError, match=r"out: .* has results of sse, and this is cuda; choose"):
        Results.open(tmp_path, "cuda", {"processor": "A"})
    for damaged in ("{", '{"format": 3, "classes": {}}', '{"format": 2, "classes": {"sse": {}}}'):
        (tmp_path / "results.json").write_text(damaged)
        with pytest.raises(InputError, match=r"out: .*results.json is damaged"):
            Results.open(tmp_path, "sse", {"processor": "A"})


def test_a_file_of_the_first_format_is_of_this_machine_s_class(tmp_path):
    own = Measured({"processor": "A"}, {"study/rnn": finished(Row({"cell": "rnn"}))})
    (tmp_path / "results.json").write_text(json.dumps(own.to_dict()))
    assert Results.open(tmp_path, "avx512", {"processor": "A"}).classes == {"avx512": own}
    with pytest.raises(InputError, match="processor A, and here it is B; choose another folder"):
        Results.open(tmp_path, "avx512", {"processor": "B"})


# Machine classes


@pytest.mark.parametrize(
    ("processor", "name"),
    [("haswell", "avx2"), ("x86-64-v2", "sse"), ("znver4", "avx512"), ("cascadelake", "avx512")],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for processors of x86-64")
def test_a_machine_s_class_is_what_kernels_are_compiled_for(processor, name):
    told = "from seqlab.bench import machine as m; print(m.machine_class(), m.describe())"
    environment = {**os.environ, "NUMBA_CPU_NAME": processor}
    done = subprocess.run([sys.executable, "-c", told], env=environment, stdout=PIPE, check=True)
    answer = done.stdout.decode()
    assert answer.split()[0] == name
    assert f"'compiled for': '{processor}'" in answer


def test_a_gpu_is_a_class_and_so_is_an_architecture_without_known_vectors(monkeypatch):
    assert machine.machine_class("cuda") == "cuda"
    monkeypatch.setattr(processor, "KINDS", {})
    assert processor._registers() == (platform.machine(), 16, 16)


def test_a_page_has_a_section_a_class_with_its_own_targets(cases):
    own = [
        f"on.{c} = {{ must = {m}, aim = {a} }}\n" for c, m, a in (("avx512", 4, 2), ("avx2", 2, 1))
    ]
    cases.write_text(TARGET + "".join(own))
    asked = suite.read(cases)
    rows = {"avx512": 3.0, "avx2": 3.0, "neon": 0.5}
    results = Results(
        {
            name: Measured(
                {"processor": f"P {name}"},
                {"growth/hidden": finished(Row({"grows": "H", "size": 4}, {"seqlab": [value]}))},
            )
            for name, value in rows.items()
        }
    )
    page = report.document(asked, results, ["avx2"])
    assert page.splitlines()[8:12] == [
        "| class | avx512 | avx2 | neon |",
        "| --- | --- | --- | --- |",
        "| processor | P avx512 | P avx2 | P neon |",
        "| measured | 2030-01-02 | 2030-01-02 | 2030-01-02 |",
    ]
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    assert heads == ["## Machines", "## avx512", "## avx2", "## neon"]
    assert "| fast | 4 | 2 | 3 | must |" in page
    assert "| fast | 2 | 1 | 3 | missed |" in page
    assert "| fast |  |  | 0.500 | no target |" in page
    assert page.count(".png") == 1
    assert page.index("## avx2") < page.index("(growth-avx2.png)") < page.index("## neon")
    text = report.targets(asked, results, "avx2")
    assert text.splitlines() == [
        "Targets for avx2, measured on P avx2",
        "",
        "      must  aim  measured  reached",
        "fast     2    1         3   missed",
    ]


def test_the_targets_fit_a_terminal():
    built_in, here = suite.read(), {"processor": "A processor with a rather long name of its own"}
    for name in machine.CLASSES:
        text = report.targets(built_in, Results({name: Measured(here, {})}), name)
        assert max(map(len, text.splitlines())) <= 80


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
    own = machine.machine_class()
    names = {path.name for path in out.iterdir()}
    assert names == {"results.json", "results.md", f"growth-{own}.png"}
    command.bench(cases, ["growth/batch"], out, [], said.append)
    assert set(json.loads((out / "results.json").read_text())["classes"][own]["jobs"]) == {
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
