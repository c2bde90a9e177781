"""Sweeps: nothing lost, nothing measured twice."""

import contextlib
import cProfile
import math
import os
import pstats
import re
import resource
import shutil
from pathlib import Path

import pytest
from studies import (
    SEEDS,
    data,
    make_older,
    refusal,
    seqlab_,
    study,
    tree,
    write,
)

import seqlab
from seqlab.errors import DeviceError, InputError
from seqlab.measure.cost import seconds
from seqlab.report.text import size
from seqlab.spec.study import StudySpec
from seqlab.spec.table import TABLE
from seqlab.study.cluster import LostWorkers
from seqlab.study.sweep import Outcome
from seqlab.wording import lasting

# What is measured, and what is not.


def test_what_the_store_has_is_not_measured_again(made_up, here):
    assert seqlab.sweep(study(grid={"seed": [0, 1]}), "store") == Outcome(2, 0, 0)
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(1, 2, 0)
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(0, 3, 0)
    assert made_up.seeds == [0, 1, 2]
    assert set(data("store")) == {f"{spec.hash}.nc" for spec in study(grid=SEEDS).runs}


def test_a_sweep_measures_what_a_run_measures(here):
    write(here / "study.toml", grid={"arch": ["lstm", "ssm"]})
    seqlab.sweep("study.toml", "swept")
    for spec in StudySpec.read("study.toml").runs:
        fields = {name: getattr(spec, name) for name in TABLE}
        seqlab.run(store="run", **fields)
    assert data("swept") == data("run")


def test_a_failing_run_is_recorded_and_the_others_go_on(made_up, here, said):
    made_up.failing = {1: ValueError("matrices\ndo not fit")}
    write(here / "study.toml", grid=SEEDS)
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.exit_code == 1
    assert result.stdout == "a study: 2 runs measured, 0 found, 1 failed in store\n"
    assert result.stderr == "failed: seed 1: ValueError: matrices do not fit\n"
    again = seqlab_("sweep", "study.toml", "--store", "store")
    assert again.exit_code == 1
    assert again.stderr == (
        "failed: seed 1: ValueError: matrices do not fit (--retry-failed tries again)\n"
    )
    assert made_up.seeds == [0, 1, 2]
    made_up.failing = {}
    last = seqlab_("sweep", "study.toml", "--store", "store", "--retry-failed")
    assert (last.exit_code, last.stderr) == (0, "")
    assert last.stdout == "a study: 1 runs measured, 2 found, 0 failed in store\n"
    assert made_up.seeds == [0, 1, 2, 1]
    assert not list(Path("store").glob("*.failed.json"))


@pytest.mark.parametrize("error", [EOFError(), InputError("params: w.npz has changed")])
def test_no_failure_stops_a_sweep(error, made_up, here, said):
    made_up.failing = {0: error}
    assert seqlab.sweep(study(grid=SEEDS), "store", report=said.append) == Outcome(2, 0, 1)
    assert said[0].startswith("failed: seed 0: ")


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), DeviceError("no room"), LostWorkers("no room")]
)
def test_what_the_machine_lacks_for_a_run_is_not_recorded_as_its_failure(error, made_up, here):
    made_up.failing = {0: error}
    write(here / "study.toml", grid=SEEDS)
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.exit_code == 1
    assert result.stdout == "a study: 2 runs measured, 0 found, 1 failed in store\n"
    what = f"{type(error).__name__}: no room"
    assert result.stderr == f"failed: seed 0: {what} (to try it again, sweep again)\n"
    assert not list(Path("store").glob("*.failed.json"))
    made_up.failing = {}
    assert seqlab.sweep("study.toml", "store") == Outcome(1, 2, 0)
    assert made_up.seeds == [0, 1, 2, 0]


def test_a_damaged_file_is_set_aside_and_measured_again(made_up, here):
    write(here / "study.toml", grid=SEEDS)
    seqlab_("sweep", "study.toml", "--store", "store")
    before = data("store")
    path = here / "store" / sorted(before)[1]
    path.write_bytes(path.read_bytes()[:-1])
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.exit_code == 0
    assert result.stdout == "a study: 1 runs measured, 2 found, 0 failed in store\n"
    assert re.fullmatch(r"store/[^\n]*damaged[^\n]*set aside as [^\n]*\n", result.stderr)
    assert data("store") == before
    assert path.with_name(f"{path.name}.damaged-1").exists()


def test_a_file_of_another_format_is_measured_again_in_its_place(made_up, here):
    write(here / "study.toml", grid=SEEDS)
    seqlab_("sweep", "study.toml", "--store", "store")
    before = data("store")
    name = sorted(before)[1]
    make_older(Path("store", name))
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.exit_code == 0
    assert result.stdout == "a study: 1 runs measured, 2 found, 0 failed in store\n"
    assert result.stderr == (
        f"store/{name}: has format 1 and this seqlab reads 2; measure it again (seqlab run --from "
        "FILE, or seqlab sweep); measured again now\n"
    )
    assert data("store") == before
    assert {path.name for path in Path("store").glob("*.nc*")} == set(before)


def test_what_means_nothing_is_said_once(made_up, here):
    write(here / "study.toml", grid={"arch": ["rnn", "gru"], "activation": ["tanh", "relu"]})
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.stderr == (
        "activation means nothing for gru, and is left out there\n"
        "1 of 4 runs equal another, measured once for both\n"
    )


def test_progress_says_runs_done_and_the_current_one(here, monkeypatch):
    monkeypatch.setattr("seqlab.measure.progress.PAUSE", 0.0)
    told = []
    found = study({"steps": 200}, grid=SEEDS)
    seqlab.sweep(found, "store", progress=lambda fraction, what: told.append((fraction, what)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] == 1
    assert told[-1] == (1.0, "3 of 3 runs")
    assert any(re.fullmatch(r"1 of 3 runs; seed 1: (forward|backward)", what) for _, what in told)


def test_a_dry_run_says_what_it_takes_and_does_nothing(made_up, here):
    write(here / "study.toml", grid={"seed": [*range(60)]})
    result = seqlab_("sweep", "study.toml", "--store", "store", "--dry-run")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "a study: 60 runs, 0 of them in store"
    assert re.match(r"time    about \d+ s on this machine's \d+ threads", lines[1])
    assert re.match(r"memory  [\d.]+ KiB, for seed 0", lines[2])
    assert re.match(r"disk    [\d.]+ MiB", lines[3])
    assert lines[4:6] == [
        "first runs:",
        "  arch rnn, steps 20, hidden 3, inputs 2, networks 4, seed 0, activation tanh,",
    ]
    assert [path.name for path in here.iterdir()] == ["study.toml"]
    assert made_up.seeds == []
    seqlab_("sweep", "study.toml", "--store", "store")
    result = seqlab_("sweep", "study.toml", "--store", "store", "--dry-run")
    assert result.stdout == "a study: 60 runs, 60 of them in store\n"


@pytest.mark.tiny
def test_the_model_of_time_grows_with_everything():
    base = {"steps": 1000, "hidden": 64, "networks": 16}
    (plain,) = study(base).runs
    for change in (
        *({"steps": 2000}, {"hidden": 128}, {"networks": 32}, {"arch": "lstm"}, {"spectrum": 2}),
        *({"clip": ["none", "step-norm:1", "step-value:1"]}, {"lengths": "10:1000:50"}),
    ):
        (larger,) = study(base | change).runs
        assert seconds(larger, 2) > seconds(plain, 2) > seconds(plain, 4)


def test_times_and_sizes_are_written_for_people():
    assert [*map(lasting, (0, 40.4, 89, 90, 5000, 5400, 80_000, 700_000))] == [
        *("0 s", "40 s", "89 s", "2 min", "83 min", "1.5 h", "22.2 h", "8 days")
    ]
    assert [*map(size, (0, 4436, 5e6, 3e9))] == ["0.0 KiB", "4.3 KiB", "4.8 MiB", "2.8 GiB"]


# What is refused.

REFUSED = [
    ((), "Missing argument 'STUDY.toml'."),
    (("none.toml",), "cannot read none.toml: No such file or directory"),
    (("study.toml", "--store", "study.toml"), "store: cannot write study.toml/"),
    (("study.toml", "--store", "/proc/none"), "store: cannot write /proc/none/"),
    (("study.toml", "--backend", "tpu"), "backend: 'tpu' is unknown"),
    (("study.toml", "--backend", "cuda"), "backend: cuda is not available"),
    (("study.toml", "--scheduler", "somewhere"), "scheduler: 'somewhere' is not allowed; tcp://"),
    (("study.toml", "--scheduler", "tcp://h"), "scheduler: 'tcp://h' is not allowed; tcp://"),
    (("study.toml", "--scheduler", "tcp://h:0"), "scheduler: 'tcp://h:0' is not allowed; tcp://"),
    (("study.toml", "--scheduler", "tcp://h:65536"), "scheduler: 'tcp://h:65536' is not allowed"),
    (("study.toml", "--scheduler", "tcp://::1:9"), "scheduler: 'tcp://::1:9' is not allowed; "),
    (("study.toml", "--scheduler", "tcp://[::1:9"), "scheduler: 'tcp://[::1:9' is not allowed; "),
    (("study.toml", "--scheduler", "tcp://h:1", "--backend", "tpu"), "backend: 'tpu' is unknown"),
    (("bad.toml",), "bad.toml: grid.seed: -1 is not allowed"),
    (("bad.toml", "--dry-run"), "bad.toml: grid.seed: -1 is not allowed"),
    (("huge.toml",), "steps: 2147483647 is not allowed; the run would take about"),
    (("huge.toml", "--dry-run"), "steps: 2147483647 is not allowed"),
    (("wide.toml",), "networks: 10000000 is not allowed; with 2 rules"),
]


@pytest.mark.parametrize(("args", "message"), REFUSED)
def test_refused_before_any_work_in_one_line(args, message, made_up, here, monkeypatch):
    monkeypatch.setattr("seqlab.study.cluster.connect", lambda _: contextlib.nullcontext(object()))
    if "--scheduler" in args and "tpu" not in args:
        monkeypatch.undo()
        monkeypatch.chdir(here)
    write(here / "study.toml", grid=SEEDS)
    write(here / "bad.toml", grid={"seed": [1, -1]})
    write(here / "huge.toml", {"steps": 2**31 - 1})
    write(here / "wide.toml", {"networks": 10**7})
    before = tree(here)
    assert refusal(seqlab_("sweep", *args)).startswith(message)
    assert made_up.seeds == []
    assert tree(here) == before


def test_a_number_of_threads_that_is_none_is_refused(made_up, here, monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    write(here / "study.toml")
    assert refusal(seqlab_("sweep", "study.toml")).startswith("NUMBA_NUM_THREADS: 'many'")
    assert [path.name for path in here.iterdir()] == ["study.toml"]


def test_a_disk_without_room_for_the_whole_study_is_refused(made_up, here, monkeypatch):
    usage = shutil.disk_usage(here)._replace(free=20_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    write(here / "study.toml", grid=SEEDS)
    assert "the disk has less than" in refusal(seqlab_("sweep", "study.toml"))


# Many.


def test_a_run_costs_the_same_however_many_there_are(made_up, here, monkeypatch):
    """Beside its measurement; counted in calls of functions, the same on every machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("seqlab.measure.progress.PAUSE", math.inf)
    calls = []
    for count in (10, 100, 400):  # the first loads what is loaded once
        found = study({"steps": 10}, grid={"seed": [*range(count)]})
        profile = cProfile.Profile()
        outcome = profile.runcall(seqlab.sweep, found, f"store of {count}")
        assert outcome == Outcome(count, 0, 0)
        calls.append(pstats.Stats(profile).total_calls)
    _, hundred, four_hundred = calls
    assert four_hundred < 4.1 * hundred


@pytest.mark.slow
def test_ten_thousand_tiny_runs_hold_no_memory(here, monkeypatch):
    def resident(_, __):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory.append(pages * resource.getpagesize())

    monkeypatch.setattr("seqlab.measure.progress.PAUSE", 0.0)
    memory = []
    fixed = {"steps": 10, "hidden": 2, "inputs": 1, "networks": 1}
    found = study(fixed, grid={"seed": [*range(10_000)]})
    assert seqlab.sweep(found, "store", progress=resident) == Outcome(10_000, 0, 0)
    assert max(memory) - memory[len(memory) // 10] < 20 * 2**20
