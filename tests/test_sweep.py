"""Sweeps: nothing lost, nothing measured twice, whatever happens on the way."""

import contextlib
import cProfile
import errno
import json
import logging
import math
import os
import pstats
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from studies import (
    ENVIRONMENT,
    PATIENCE,
    data,
    hear_ctrl_c,
    made,
    refusal,
    seqlab_,
    start,
    tables,
    toml,
    write,
)
from synthetic import measurement

import seqlab
from seqlab.cells import CELLS
from seqlab.errors import DeviceError, InputError
from seqlab.measure.cost import seconds
from seqlab.report.text import lasting, size
from seqlab.spec.study import StudySpec
from seqlab.spec.table import TABLE
from seqlab.study import byte_locks as locks
from seqlab.study import cluster as dask_cluster
from seqlab.study import files
from seqlab.study.cluster import LostWorkers, _outcome
from seqlab.study.locks import Claims
from seqlab.study.store import Store
from seqlab.study.sweep import Outcome

# A run of hours, on any machine.
ENDLESS = {"arch": "lstm", "hidden": 1024, "steps": 200_000, "networks": 2}
SEEDS = {"seed": [0, 1, 2]}


@pytest.fixture
def made_up(monkeypatch):
    """Runs that measure nothing, and fail where their seed is in `made_up.failing`."""

    def measure(spec, backend="auto", progress=None):
        measure.seeds.append(spec.seed)
        progress(0.5, "halfway")
        if spec.seed in measure.failing:
            raise measure.failing[spec.seed]
        return measurement(spec)

    measure.seeds, measure.failing = [], {}
    monkeypatch.setattr("seqlab.measure.measure", measure)
    return measure


@pytest.fixture
def said():
    """What was reported."""
    return []


def tree(folder):
    """Every file below a folder with its content."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def study(*args, **kwargs):
    return StudySpec.create(tables(*args, **kwargs))


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


def test_what_means_nothing_is_said_once(made_up, here):
    write(here / "study.toml", grid={"arch": ["rnn", "gru"], "activation": ["tanh", "relu"]})
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert result.stderr == (
        "activation means nothing for gru, and is left out there\n"
        "1 of 4 runs equal another, measured once for both\n"
    )


def test_progress_says_runs_done_the_current_one_and_the_time_left(here, monkeypatch):
    monkeypatch.setattr("seqlab.study.watch.PAUSE", 0.0)
    told = []
    found = study({"steps": 200}, grid=SEEDS)
    seqlab.sweep(found, "store", progress=lambda fraction, what: told.append((fraction, what)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] < fractions[-1] == pytest.approx(1)
    assert any(
        re.fullmatch(r"1 of 3 runs, \S+ \S+ left; seed 1: (forward|backward)", what)
        for _, what in told
    )


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


# What goes wrong on the way.


def test_a_store_that_cannot_be_written_any_more_ends_the_sweep(made_up, here, monkeypatch):
    write(here / "study.toml", grid=SEEDS)
    whole = files.write_whole

    def fail(path, content):
        if made_up.seeds[-1] == 1:
            raise files.WriteError(f"cannot write {path}: No space left on device")
        whole(path, content)

    monkeypatch.setattr(files, "write_whole", fail)
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert (result.exit_code, result.stdout) == (1, "")
    first, second = result.stderr.splitlines()
    assert first == "1 of 3 runs are in store; to go on, sweep again"
    assert re.fullmatch(r"seqlab: error: cannot write store/\w+\.nc: No space left .*", second)
    monkeypatch.setattr(files, "write_whole", whole)
    assert seqlab_("sweep", "study.toml", "--store", "store").exit_code == 0
    assert len(data("store")) == 3


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EAGAIN, "threads: can't start new thread"),
        TimeoutError("no answer"),
    ],
)
def test_what_the_system_refuses_ends_the_sweep_and_is_not_recorded(error, made_up, here):
    made_up.failing = {1: error}
    write(here / "study.toml", grid=SEEDS)
    result = seqlab_("sweep", "study.toml", "--store", "store")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "1 of 3 runs are in store; to go on, sweep again",
        f"seqlab: error: {error}",
    ]
    assert not list(Path("store").glob("*.failed.json"))
    made_up.failing = {}
    assert seqlab.sweep("study.toml", "store") == Outcome(2, 1, 0)
    assert made_up.seeds == [0, 1, 1, 2]


def test_a_file_that_the_system_cuts_off_is_an_error_and_leaves_the_others(here):
    """No file may be larger than 90 kB, as on a disk that is full; the second result is."""
    write(here / "study.toml", {"networks": 8}, grid={"steps": [20, 2000]})
    running = start(
        *("sweep", "study.toml", "--store", "store"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000)),
    )
    stdout, stderr = running.communicate(timeout=PATIENCE)
    assert (running.returncode, stdout) == (1, "")
    assert re.search(r"\nseqlab: error: cannot write store/\w+\.nc: File too large\n$", stderr)
    assert len(data("store")) == 1
    assert not list(Path("store").glob(".*.part"))


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_stopped_in_a_long_run_keeps_what_is_finished(sig, here):
    write(here / "study.toml", ENDLESS, grid={"steps": [20, ENDLESS["steps"]]})
    running = start("sweep", "study.toml", "--store", "store", preexec_fn=hear_ctrl_c)
    _, long = StudySpec.read("study.toml").runs
    with Claims(Path("store")) as claims:
        while claims.take(long.hash):  # until the sweep is on it
            claims.drop(long.hash)
            assert running.poll() is None
            time.sleep(0.02)
    running.send_signal(sig)
    stdout, stderr = running.communicate(timeout=PATIENCE)  # far less than the run would take
    assert stdout == ""
    if sig == signal.SIGINT:
        assert running.returncode == 130
        assert stderr.splitlines() == [
            "1 of 2 runs are in store; to go on, sweep again",
            "seqlab: error: interrupted",
        ]
    assert len(data("store")) == 1
    assert {path.suffix for path in Path("store").iterdir() if path.name != ".lock"} == {".nc"}


def until_it_is_done(kills, rng, words):
    """Kill a sweep at random moments, each after at least one more result; then let it finish."""
    for _ in range(kills):
        running = start(*words)
        before = set(Path("store").glob("*.nc"))
        while running.poll() is None and not set(Path("store").glob("*.nc")) - before:
            time.sleep(0.002)
        time.sleep(rng.random() * 0.1)
        running.kill()
        running.communicate()
    last = start(*words)
    stdout, stderr = last.communicate(timeout=PATIENCE)
    assert (last.returncode, stderr) == (0, "")
    return stdout


@pytest.mark.parametrize(("runs", "kills"), [(12, 6), pytest.param(60, 30, marks=pytest.mark.slow)])
def test_killed_at_random_and_begun_again_the_store_is_that_of_an_undisturbed_sweep(
    runs, kills, here
):
    fixed = {"steps": 4000, "hidden": 24, "networks": 4}
    grid = {"arch": ["rnn", "gru"], "seed": [*range(runs // 2)]}
    path = write(here / "study.toml", fixed, grid)
    undisturbed = seqlab.sweep(path, "undisturbed")
    assert undisturbed == Outcome(runs, 0, 0)
    until_it_is_done(kills, random.Random(3), ("sweep", "study.toml", "--store", "store"))
    assert data("store") == data("undisturbed")
    assert {path.suffix for path in Path("store").iterdir() if path.name != ".lock"} == {".nc"}


def test_two_sweeps_on_one_store_measure_each_run_once(here):
    write(here / "study.toml", {"steps": 2000, "hidden": 16}, grid={"seed": [*range(12)]})
    sweeps = [start("sweep", "study.toml", "--store", "store") for _ in range(2)]
    measured = []
    for running in sweeps:
        stdout, stderr = running.communicate(timeout=PATIENCE)
        assert (running.returncode, stderr) == (0, "")
        found = re.fullmatch(r"a study: (\d+) runs measured, (\d+) found, 0 failed .*\n", stdout)
        assert sum(map(int, found.groups())) == 12
        measured.append(int(found.group(1)))
    assert sum(measured) == 12
    assert len(data("store")) == 12


def test_what_another_sweep_is_on_comes_last_and_is_waited_for(made_up, here, monkeypatch):
    specs = {spec.seed: spec for spec in study(grid=SEEDS).runs}
    held = {specs[0].hash, specs[1].hash}
    monkeypatch.setattr(Claims, "take", lambda _, run: run not in held)

    def wait(_):  # the other sweep finishes one, and gives up the other
        Store(Path("store")).keep(made(seed=0))
        held.clear()

    monkeypatch.setattr("seqlab.study.sweep.time.sleep", wait)
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(2, 1, 0)
    assert made_up.seeds == [2, 1]


class Windows:
    """Locks as Windows has them: from where a file is read, also against one's own process."""

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self):
        self.held = {}

    def locking(self, file, how, count):
        start = os.lseek(file, 0, os.SEEK_CUR)
        assert count == 1
        assert start < 2**31
        if how == self.LK_NBLCK:
            if start in self.held:
                raise PermissionError(errno.EACCES, "Permission denied")
            self.held[start] = file
        elif self.held.get(start) != file:
            raise PermissionError(errno.EACCES, "Permission denied")
        else:
            del self.held[start]


RUNS = [f"{k:02x}{k * 7919:014x}" for k in (0, 1, 127, 255)]


@pytest.fixture
def windows(monkeypatch):
    monkeypatch.setattr(locks, "_posix", None)
    monkeypatch.setattr(locks, "_windows", Windows())
    return locks._windows


def test_claims_on_windows_are_exclusive_and_dropped(windows, here):
    with Claims(here) as one, Claims(here) as other:
        for run in RUNS:
            assert one.take(run)
            assert not other.take(run)
            other.drop(run)  # not its own: nothing happens
            assert not other.take(run)
            one.drop(run)
            assert other.take(run)
    assert len(windows.held) == len(RUNS)


def test_a_sweep_on_windows(windows, made_up, here):
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(3, 0, 0)
    assert windows.held == {}


def test_runs_that_share_a_byte_to_lock_are_measured_one_after_the_other(
    windows, made_up, here, monkeypatch
):
    monkeypatch.setattr(locks, "_WINDOWS_BYTES", 1)
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(3, 0, 0)
    assert sorted(made_up.seeds) == [0, 1, 2]


def test_where_there_are_no_locks_every_claim_is_granted(here, monkeypatch):
    monkeypatch.setattr(locks, "_posix", None)
    monkeypatch.setattr(locks, "_windows", None)
    with Claims(here) as one, Claims(here) as other:
        assert one.take(RUNS[0])
        assert other.take(RUNS[0])
        one.drop(RUNS[0])


def test_a_sweep_whose_notes_nobody_reads_goes_on(here):
    write(here / "study.toml", grid={"arch": ["rnn", "gru"], "activation": ["tanh", "relu"]})
    read, closed = os.pipe()
    os.close(read)
    running = start("sweep", "study.toml", "--store", "store", stderr=closed)
    os.close(closed)
    stdout, _ = running.communicate(timeout=PATIENCE)
    assert (running.returncode, len(data("store"))) == (0, 3)
    assert stdout == "a study: 3 runs measured, 0 found, 0 failed in store\n"


# A cluster.


@pytest.fixture
def cluster():
    """Two worker processes of Dask's, and their client."""
    distributed = pytest.importorskip("distributed", reason="a cluster needs Dask")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_gives_the_same_store_though_a_worker_is_killed(cluster, here, said):
    found = study({"arch": "lstm", "steps": 4000, "hidden": 32}, grid={"seed": [*range(16)]})
    alone = seqlab.sweep(found, "alone")
    assert alone == Outcome(16, 0, 0)
    victim, _ = cluster.run(os.getpid).values()
    killed = []

    def progress(fraction, what):
        if fraction > 0.25 and not killed:
            os.kill(victim, signal.SIGKILL)
            killed.append(what)

    outcome = seqlab.sweep(found, "far", client=cluster, progress=progress, report=said.append)
    assert killed
    assert said == []
    assert outcome == Outcome(16, 0, 0)
    assert data("far") == data("alone")
    assert seqlab.sweep(found, "far", client=cluster) == Outcome(0, 16, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_uses_a_scheduler(cluster, here):
    write(here / "study.toml", grid=SEEDS)
    (here / "store").mkdir()
    running = start(
        *("sweep", "study.toml", "--store", "store"),
        *("--scheduler", cluster.scheduler.address),
    )
    stdout, stderr = running.communicate(timeout=PATIENCE)
    assert (running.returncode, stderr) == (0, "")
    assert stdout == "a study: 3 runs measured, 0 found, 0 failed in store\n"
    seqlab.sweep("study.toml", "alone")
    assert data("store") == data("alone")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_fails_on_a_worker_is_recorded(cluster, here, said):
    import numpy as np

    np.save("x.npy", np.ones((20, 1, 2)))
    found = study({"input": "x.npy"}, grid=SEEDS)
    Path("x.npy").unlink()
    outcome = seqlab.sweep(found, "store", client=cluster, report=said.append)
    assert outcome == Outcome(0, 0, 3)
    assert "x.npy: No such file or directory" in said[0]


@pytest.fixture
def connected(monkeypatch):
    """`connect` to what is no scheduler; Dask's loggers are as before when the test ends."""
    distributed = pytest.importorskip("distributed", reason="a cluster needs Dask")
    monkeypatch.setattr(distributed, "Client", lambda address, timeout: address)
    loggers = [
        logging.getLogger(name) for name in ("distributed", *logging.root.manager.loggerDict)
    ]
    levels = {logger: logger.level for logger in loggers}
    yield dask_cluster.connect
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.mark.parametrize(
    "address",
    [
        *("tcp://host:8786", "tls://node-7.cluster:1", "tcp://10.0.0.1:65535"),
        *("tcp://[::1]:8786", "tcp://[fe80::1%eth0]:8786", "tls://[::ffff:10.0.0.1]:8786"),
    ],
)
def test_addresses_of_schedulers(address, connected):
    assert connected(address) == address


def test_dask_says_nothing_while_a_command_uses_it(connected):
    """Some of its loggers have a level and a handler of their own."""
    own = logging.getLogger("distributed.client")
    assert own.level != logging.NOTSET
    connected("tcp://host:8786")
    for name in ("distributed", "distributed.client", "distributed.new", "tornado.application"):
        assert not logging.getLogger(name).isEnabledFor(logging.CRITICAL)


def test_certificates_that_tls_lacks_are_told(made_up, here):
    pytest.importorskip("distributed", reason="a cluster needs Dask")
    write(here / "study.toml")
    said = refusal(seqlab_("sweep", "study.toml", "--scheduler", "tls://127.0.0.1:9"))
    assert said.startswith("scheduler: no answer from tls://127.0.0.1:9: TLS expects")


@pytest.mark.parametrize("lost", ["nthreads", "submit", "cancel"])
def test_whatever_dask_raises_without_its_scheduler_is_one_error(lost, here, said, monkeypatch):
    client_module = pytest.importorskip("distributed.client", reason="a cluster needs Dask")

    def fail(*_, **__):
        raise client_module.ClosedClientError("Client is closed.")

    monkeypatch.setattr("distributed.as_completed", lambda loop: None)
    parts = {"loop": None, "nthreads": lambda: {"w": 1}, "submit": fail, "cancel": lambda _: None}
    client = SimpleNamespace(**(parts | {lost: fail}))
    with pytest.raises(OSError, match=r"the scheduler is lost: Client is closed\."):
        seqlab.sweep(study(grid=SEEDS), "store", client=client, report=said.append)
    assert said == ["0 of 3 runs are in store; to go on, sweep again"]


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_a_sweep_in_two_lines(here):
    pytest.importorskip("distributed", reason="a cluster needs Dask")
    options = ("--scheduler-file", "address.json", "--no-dashboard")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def dask(kind, *words):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *options, *words]
        return subprocess.Popen(command, env=ENVIRONMENT, **quiet)

    write(here / "study.toml", {"steps": 4000}, grid={"seed": [*range(1000)]})
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", "0")
    worker = dask("worker", "--nthreads", "1")
    try:
        while not (here / "address.json").exists():
            time.sleep(0.02)
        address = json.loads((here / "address.json").read_text())["address"]
        running = start("sweep", "study.toml", "--store", "store", "--scheduler", address)
        while not list(here.glob("store/*.nc")):
            time.sleep(0.02)
        scheduler.kill()
        stdout, stderr = running.communicate(timeout=PATIENCE)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    assert (running.returncode, stdout) == (1, "")
    going_on, lost = stderr.splitlines()
    assert re.fullmatch(r"\d+ of 1000 runs are in store; to go on, sweep again", going_on)
    assert lost.startswith("seqlab: error: the scheduler is lost: ")


def test_a_run_that_lost_its_workers_is_told_from_one_that_failed():
    distributed = pytest.importorskip("distributed", reason="a cluster needs Dask")
    lost = distributed.KilledWorker("a run", SimpleNamespace(address="tcp://h:1"), 3)
    failed = ValueError("matrices do not fit")
    for error, told in ((lost, LostWorkers), (failed, ValueError)):
        future = SimpleNamespace(status="error", exception=lambda error=error: error)
        assert type(_outcome(future)) is told


def test_without_dask_a_scheduler_is_refused(made_up, here, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    write(here / "study.toml")
    said = refusal(seqlab_("sweep", "study.toml", "--scheduler", "tcp://host:8786"))
    assert said == "scheduler: Dask is not here; pip install 'seqlab[dask]'"
    assert [path.name for path in here.iterdir()] == ["study.toml"]


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer_is_refused(here):
    pytest.importorskip("distributed", reason="a cluster needs Dask")
    write(here / "study.toml")
    running = start("sweep", "study.toml", "--scheduler", "tcp://127.0.0.1:9")
    stdout, stderr = running.communicate(timeout=PATIENCE)
    assert (running.returncode, stdout) == (2, "")
    assert re.fullmatch(r"seqlab: error: scheduler: no answer from tcp://127[^\n]*\n", stderr)
    assert [path.name for path in here.iterdir()] == ["study.toml"]


# Whatever a file or a command line says.

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
    "activation": st.sampled_from(["tanh", "relu", "sigmoid", "identity"]),
    "init": st.sampled_from(["pytorch", "normal", "orthogonal", "xavier", "he"]),
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


# Many.


def test_a_run_costs_the_same_however_many_there_are(made_up, here, monkeypatch):
    """Beside its measurement; counted in calls of functions, the same on every machine."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("seqlab.study.watch.PAUSE", math.inf)
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

    monkeypatch.setattr("seqlab.study.watch.PAUSE", 0.0)
    memory = []
    fixed = {"steps": 10, "hidden": 2, "inputs": 1, "networks": 1}
    found = study(fixed, grid={"seed": [*range(10_000)]})
    assert seqlab.sweep(found, "store", progress=resident) == Outcome(10_000, 0, 0)
    assert max(memory) - memory[len(memory) // 10] < 20 * 2**20
