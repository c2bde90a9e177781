"""The benchmark's harness, on sides that are made up: nothing here depends on how long things take,
and no peer is needed."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import seqlab
from seqlab.bench import (
    alone,
    command,
    contests,
    floor,
    growth,
    machine,
    peers,
    problems,
    report,
    suite,
)
from seqlab.bench.contests import Gradients
from seqlab.bench.jobs import Job
from seqlab.bench.race import (
    Contest,
    Disagreement,
    Side,
    Timing,
    check,
    checked_pair,
    race,
    row,
    turn,
)
from seqlab.bench.results import Finished, Results
from seqlab.bench.rows import Row
from seqlab.cells import Sizes
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.kernels.cpu.threads import thread_count

TIMING = Timing(rounds=3, turn=0.0, settle=0.0, patience=1e6)
SIZES = Sizes(3, 2)


def saying(log, name):
    """A side that only says that it was called."""
    return Side(name, lambda: log.append(name))


def answering(name, **arrays):
    """A side with that answer."""
    return Side(name, lambda: arrays, lambda result: result)


def finished(*rows, failure=None):
    return Finished(list(rows), failure, 1.5, "2030-01-02T03:04:05+00:00")


# Racing


def test_sides_take_turns_after_a_warm_up():
    log = []
    sides = [saying(log, "seqlab"), saying(log, "peer")]
    race([Contest({}, sides)], TIMING)
    assert log == ["seqlab", "peer"] * 4
    assert [len(side.turns) for side in sides] == [3, 3]
    assert all(side.first is not None for side in sides)


def test_a_rest_serves_all_contests_of_a_side(monkeypatch):
    rests, log = [], []
    monkeypatch.setattr("seqlab.bench.race.time.sleep", rests.append)
    contests = [Contest({}, [saying(log, "seqlab"), saying(log, "peer")]) for _ in range(5)]
    race(contests, Timing(rounds=2, turn=0.0, settle=0.5, patience=1e6))
    assert rests == [0.5] * 4
    assert log[10:] == (["seqlab"] * 5 + ["peer"] * 5) * 2


def test_a_slow_side_sits_out():
    slow = Side("peer", lambda: None)
    quick = Side("seqlab", lambda: None)
    slow.turns.append(2e6)
    race([Contest({}, [quick, slow])], TIMING)
    assert (len(quick.turns), slow.turns) == (3, [2e6])


def test_a_turn_has_at_least_one_call_and_lasts(monkeypatch):
    now, calls = [0.0], []

    def call(seconds):
        calls.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("seqlab.bench.race.time.perf_counter", lambda: now[0])
    assert turn(partial(call, 4.0), 0.0) == 4
    assert calls == [4]
    assert turn(partial(call, 0.25), 2.0) == 0.25
    assert calls == [4, *[0.25] * 8]
    lasting = iter([0.5, 0.125, 1.0])
    assert turn(lambda: call(next(lasting)), 1.5, min) == 0.125


def test_ratios_are_taken_round_by_round():
    ours, fast, slow = (Side(name, lambda: None) for name in ("seqlab", "fast", "slow"))
    ours.turns, fast.turns, slow.turns = [1.0, 2.0, 4.0], [3.0, 4.0, 20.0], [10.0]
    fast.work = slow.work = 0.5
    got = row(Contest({"H": 64}, [ours, fast, slow], error=1e-9), unit=1e-3)
    assert got.times == {
        "seqlab": [1000, 2000, 4000],
        "fast": [6000, 8000, 40000],
        "slow": [20000],
    }
    assert got.ratios == {
        "fast / seqlab": [6, 4, 10],
        "slow / seqlab": [20],
        "best / seqlab": [6, 4, 10],
    }
    assert got.value("best / seqlab") == 6
    assert got.facts == {"difference": 1e-9}


def test_compilation_is_reported_apart():
    ours, peer = Side("seqlab", lambda: None), Side("peer", lambda: None, compiles=True)
    race([Contest({}, [ours, peer])], TIMING)
    assert row(Contest({}, [ours, peer]), 1.0).facts == {"peer first call, s": peer.first}


def test_agreeing_sides_pass_the_check():
    ours = answering("seqlab", a=np.array([1.0, 2.0]), b=np.ones((2, 3)))
    near = answering("peer", a=np.array([1.0, 2.0 + 1e-7]), b=np.ones((2, 3)))
    assert check(ours, [near]) == pytest.approx(5e-8, rel=1e-3)
    assert check(ours, []) == 0


@pytest.mark.parametrize(
    "answer",
    [
        {"a": np.array([1.0, 2.0 + 1e-5])},
        {"a": np.array([1.0, np.nan])},
        {"a": np.array([1.0])},
        {"a": np.array([1.0, 2.0], np.float32)},
        {"b": np.array([1.0, 2.0])},
        {},
    ],
)
def test_differing_sides_do_not(answer):
    with pytest.raises(Disagreement):
        check(answering("seqlab", a=np.array([1.0, 2.0])), [answering("peer", **answer)])


def test_float32_is_timed_after_float64_was_checked():
    built = []

    def build(dtype, wrong=0.0):
        built.append(dtype)
        return [
            answering("seqlab", a=np.ones(1, dtype)),
            answering("peer", a=np.ones(1, dtype) + wrong),
        ]

    double, single = checked_pair({"H": 1}, build)
    assert built == ["float64", "float32"]
    assert (double.error, single.error) == (0, None)
    assert double.labels == {"H": 1, "dtype": "float64"}
    with pytest.raises(Disagreement, match="peer"):
        checked_pair({}, partial(build, wrong=0.1))


# Our sides


def test_our_study_is_the_gradient_of_the_last_output():
    study = problems.Study.draw("lstm", SIZES, 2, [2, 5], checked=5, dtype="float64")
    side = study.side()
    got = side.answer(side.run())
    assert len(got) == 4
    for m in range(2):
        params = {name: array[m] for name, array in study.params.items()}
        trajectory = seqlab.forward("lstm", params, study.x[m])
        loss = np.zeros_like(trajectory.output)
        loss[-1, 0] = study.readout[m]
        h, c = seqlab.backward(trajectory, loss).initial
        norm = np.hypot(np.linalg.norm(h), np.linalg.norm(c))
        assert got[f"network {m}, length 5"] == pytest.approx([norm], rel=1e-12)


def test_norms_of_gradients_too_small_to_square():
    study = problems.Study.draw("rnn", SIZES, 2, [1], checked=1, dtype="float64")
    tiny = np.array([[3.0, 4.0], [0.3, 0.4]]) * 1e-200
    got = study.gradients([tiny])
    assert list(got) == ["network 0, length 1", "network 1, length 1"]
    assert np.concatenate(list(got.values())) == pytest.approx([5e-200, 5e-201], rel=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_our_gradients_have_the_names_that_peers_give(cell):
    problem = problems.Gradients.draw(cell, SIZES, steps=4, batch=2, dtype="float64")
    got = problem.side().answer(problem.side().run())
    names = {*problem.params, "x", "initial 0"} | ({"initial 1"} if cell == "lstm" else set())
    assert set(got) == names
    assert got["x"].shape == problem.x.shape
    assert got["initial 0"].shape == (2, 3)


def test_both_dtypes_have_the_same_numbers():
    double, single = (
        problems.Scan.draw(2, 3, 4, 5, dtype).inputs for dtype in ("float64", "float32")
    )
    assert all(np.array_equal(double[n].astype("float32"), single[n]) for n in double)


# Floor


def test_the_floor_is_measured():
    assert floor.stream(16384, seconds=0.001) > 0
    assert floor.exponential("float32", seconds=0.001) > 0
    assert alone.ask("gemm", alone.ONE_THREAD, dtype="float64", size=16) > 0
    assert alone.peak_bytes() > 1e6


def test_the_lab_s_exponential_is_what_the_floor_times():
    x, out = np.linspace(-1, 1, 5), np.empty(5)
    floor._exponentials(x, out, 1)
    assert out == pytest.approx(np.exp(x), rel=1e-15)


def test_work_of_a_step():
    lstm = floor.forward("lstm", Sizes(64, 16), 3)
    assert (lstm.passes, lstm.operations, lstm.exponentials) == (
        1,
        2 * 3 * 4 * 64 * (64 + 16),
        3 * 5 * 64,
    )
    back = floor.backward("gru", Sizes(8, 2), 2, gradients=True)
    assert (back.operations, back.exponentials) == (2 * 2 * 2 * 3 * 8 * (8 + 2), 0)
    with pytest.raises(InputError, match=r"^cell: 'ssm' has no floor; allowed: rnn, lstm, gru$"):
        floor.forward("ssm", Sizes(8, 2), 1)


def test_work_of_a_bundle_of_losses():
    ahead, *back = floor.attenuation("rnn", Sizes(8, 2), 1, [10, 30, 100])
    assert ahead[0] == 100
    assert [steps for steps, _ in back] == [10, 20, 70]
    one = floor.backward("rnn", Sizes(8, 2), 1, gradients=False).operations
    assert [work.operations / one for _, work in back] == [3, 2, 1]


def test_what_binds_is_chosen_step_by_step(monkeypatch):
    monkeypatch.setattr(floor, "stream", lambda size: 1e3)
    monkeypatch.setattr(floor, "product", lambda dtype: 1e3)
    monkeypatch.setattr(floor, "exponential", lambda dtype: 0.5)
    size = 4 * 10 * 10 * 8
    steps = [
        (2, floor.Work(passes=1, operations=size / 2, exponentials=3)),
        (1, floor.Work(passes=1, operations=5 * size)),
    ]
    got = floor.bounds("lstm", 10, "float64", steps)
    assert (got.stream, got.product) == pytest.approx((3 * size / 1e3, 6 * size / 1e3))
    assert got.floor == pytest.approx((2 + 5) * size / 1e3)
    assert got.times(2).exponential == 2 * 2 * 3 * 0.5


def test_threads_are_limited_and_restored(monkeypatch):
    monkeypatch.setenv(growth.THREADS, "7")
    assert growth.limited(thread_count, 1)() == 1
    assert thread_count() == 7
    monkeypatch.delenv(growth.THREADS)
    before = thread_count()
    growth.limited(lambda: None, before + 1)()
    assert thread_count() == before


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


@pytest.mark.parametrize("name", ["torch", "jax", "mambapy"])
def test_a_missing_peer_is_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    for module in peers.PEERS.values():
        monkeypatch.delitem(sys.modules, f"seqlab.bench.peers.{module}", raising=False)
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["bench", "--only", "scan", "--peers", name, "--out", str(out)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"seqlab: error: peers: {name} needs ")
    assert done.stderr.endswith("pip install 'seqlab[peers]'\n")
    assert done.stderr.count("\n") == 1
    assert not out.exists()


def test_an_unknown_peer_is_refused():
    with pytest.raises(InputError, match="peers: 'mxnet' is unknown; allowed: torch, jax, mambapy"):
        peers.load(["mxnet"])


def test_peers_take_part_where_they_can():
    class Peer:
        @staticmethod
        def scan(problem):
            return [Side("fake", lambda: problem)]

    assert peers.sides([Peer], "study", 1) == []
    assert [side.name for side in peers.sides([Peer], "scan", 1)] == ["fake"]


def test_a_contest_with_a_peer_makes_rows():
    class Peer:
        @staticmethod
        def gradients(problem):
            side = problem.side()
            return [Side("fake", side.call, side.answer, side.work)]

    kind = Gradients(["gru"], [2], [1, 2], steps=3, inputs=2)
    [job] = kind.jobs()
    assert (job.name, job.peers) == ("gru-2", True)
    rows = job.measure(command.Context(TIMING, [Peer]))
    assert [(r.labels["B"], r.labels["dtype"]) for r in rows] == [
        (1, "float64"),
        (1, "float32"),
        (2, "float64"),
        (2, "float32"),
    ]
    assert rows[0].facts == {"difference": 0}
    assert set(rows[1].ratios) == {"fake / seqlab", "best / seqlab"}


# A GPU


def test_the_gpu_s_cases_are_sound():
    cases = suite.read(suite.ON_GPU)
    names = {case.name for case in cases.cases}
    assert {target.case for target in cases.targets} <= names


def test_on_a_gpu_our_own_cpu_is_a_peer():
    problem = problems.Gradients.draw("gru", SIZES, 4, 2, "float64")
    [ours, cpu] = contests._sides(command.Context(TIMING, [], "cuda"), "gradients", problem)
    assert (ours.name, cpu.name) == ("seqlab", "cpu")
    [alone] = contests._sides(command.Context(TIMING, []), "gradients", problem)
    assert alone.name == "seqlab"
    assert check(alone, [cpu]) == 0


def test_an_ensemble_is_timed_by_the_steps_of_its_networks():
    together = problems.Gradients.draw("lstm", SIZES, 4, 2, "float64", networks=3)
    side = together.side()
    assert side.work == 12
    answer = side.answer(side.call())
    assert {name: array.shape for name, array in answer.items()} == {
        **{name: array.shape for name, array in together.params.items()},
        "x": (3, 4, 2, 2),
        "initial 0": (3, 2, 3),
        "initial 1": (3, 2, 3),
    }


def test_no_gpu_is_said_before_any_work(tmp_path):
    if backends.describe()["cuda"] == backends.AVAILABLE:
        pytest.skip("this machine has a GPU")
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["bench", "--backend", "cuda", "--out", str(out)])
    assert done.exit_code == 2
    assert done.stderr.startswith("seqlab: error: backend: cuda is not available: ")
    assert done.stderr.count("\n") == 1
    assert not out.exists()
