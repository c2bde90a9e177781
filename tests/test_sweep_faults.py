"""What goes wrong in a sweep: disks, signals, other sweeps, locks."""

import errno
import os
import random
import re
import resource
import signal
import time
from pathlib import Path

import pytest
from studies import (
    ENDLESS,
    PATIENCE,
    SEEDS,
    data,
    hear_ctrl_c,
    made,
    seqlab_,
    start,
    study,
    write,
)

import seqlab
from seqlab.spec.study import StudySpec
from seqlab.study import byte_locks, files
from seqlab.study.locks import Claims
from seqlab.study.store import Store
from seqlab.study.sweep import Outcome


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
    monkeypatch.setattr(byte_locks, "_posix", None)
    monkeypatch.setattr(byte_locks, "_windows", Windows())
    return byte_locks._windows


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
    monkeypatch.setattr(byte_locks, "_WINDOWS_BYTES", 1)
    assert seqlab.sweep(study(grid=SEEDS), "store") == Outcome(3, 0, 0)
    assert sorted(made_up.seeds) == [0, 1, 2]


def test_where_there_are_no_locks_every_claim_is_granted(here, monkeypatch):
    monkeypatch.setattr(byte_locks, "_posix", None)
    monkeypatch.setattr(byte_locks, "_windows", None)
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
