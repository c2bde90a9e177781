"""Sweeps on a Dask cluster."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from studies import (
    ENVIRONMENT,
    PATIENCE,
    SEEDS,
    data,
    refusal,
    seqlab_,
    start,
    study,
    write,
)

import seqlab
from seqlab.study import cluster as dask_cluster
from seqlab.study.cluster import LostWorkers, _outcome
from seqlab.study.sweep import Outcome


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
    how = "pip install 'seqlab[dask]', in a clone '.[dask]'"
    assert said == f"scheduler: Dask is not here; {how}"
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
