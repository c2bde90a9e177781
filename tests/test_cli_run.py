"""`seqlab run`: what it prints and keeps, and what it leaves behind where it fails."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from studies import (
    ENVIRONMENT,
    PATIENCE,
    PYTHON,
    RNN,
    TINY_WORDS,
    hear_ctrl_c,
    make_older,
    refusal,
    seqlab_,
)

import seqlab
from seqlab.cells import CELLS
from seqlab.spec.run import RunSpec
from seqlab.study.result import Result

# What is printed and kept.


def test_a_run_prints_a_table_and_keeps_a_file(made_up, here):
    result = seqlab_(*RNN)
    assert (result.exit_code, result.stderr) == (0, "")
    (path,) = Path("seqlab-results").iterdir()
    assert result.stdout == Result.read(path).summary() + "\n"
    assert f"stored: {path}" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert made_up[0][1] == "auto"


def test_json_is_one_document(made_up):
    result = seqlab_(*RNN, "--json", "--backend", "cpu")
    assert made_up[0][1] == "cpu"
    document = json.loads(result.stdout)
    assert document == Result.read(document["result"]).to_json()
    assert document["spec"]["arch"] == "rnn"


def test_several_cells_make_one_table_or_a_list(made_up):
    args = ("run", "--arch", "rnn", "--arch", "ssm", *TINY_WORDS)
    assert seqlab_(*args).stdout.startswith("rnn, ssm: steps 20, hidden 3")
    documents = json.loads(seqlab_(*args, "--json").stdout)
    assert [document["spec"]["arch"] for document in documents] == ["rnn", "ssm"]


def test_every_option_reaches_the_spec(made_up, here):
    options = {
        "steps": 30,
        "hidden": 4,
        "inputs": 3,
        "networks": 5,
        "seed": 7,
        "activation": "relu",
        "init": "he",
        "gain": 0.5,
        "input_scale": 0.25,
        "drive": "zeros",
        "lengths": "3:30:4",
        "spectrum": 2,
        "dtype": "float32",
    }
    words = [
        word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)
    ]
    assert (
        seqlab_("run", "--arch", "rnn", "--clip", "none", "--clip", "norm:1", *words).exit_code == 0
    )
    assert made_up[0][0] == RunSpec.create(arch="rnn", clip=["none", "norm:1"], **options)
    seqlab_("run", "--arch", "lstm", *TINY_WORDS, "--forget-bias", "chrono")
    seqlab_("run", "--arch", "gru", *TINY_WORDS, "--forget-bias", "1.5")
    seqlab_("run", "--arch", "ssm", *TINY_WORDS, "--state", "3")
    assert [spec.forget_bias for spec, _ in made_up[1:3]] == ["chrono", 1.5]
    assert made_up[3][0].state == 3


@pytest.mark.parametrize(
    ("word", "lengths"),
    [("20", (20,)), ("5,20", (5, 20)), ("1,10,20", (1, 10, 20)), ("5:20:3", (5, 10, 20))],
)
def test_lengths_are_a_list_or_a_spacing(word, lengths, made_up):
    assert seqlab_(*RNN, "--lengths", word).exit_code == 0
    assert made_up[0][0].lengths == lengths


def test_ones_own_arrays(made_up, here):
    shapes = CELLS["rnn"].shapes(RunSpec.create(arch="rnn", steps=9, hidden=4, inputs=3).sizes)
    np.savez("w.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    np.save("x.npy", np.ones((9, 2, 3)))
    assert seqlab_("run", "--arch", "rnn", "--params", "w.npz", "--input", "x.npy").exit_code == 0
    spec = made_up[0][0]
    assert (spec.steps, spec.hidden, spec.inputs, spec.networks) == (9, 4, 3, 1)
    assert (spec.params.path, spec.input.path) == (str(here / "w.npz"), str(here / "x.npy"))


def test_a_result_of_another_format_is_repeated_and_replaced(made_up, here):
    seqlab_(*RNN, "--clip", "truncate:3")
    (path,) = Path("seqlab-results").iterdir()
    make_older(path)
    assert seqlab_("run", "--from", path).exit_code == 0
    assert made_up[0][0] == made_up[1][0] == Result.read(path).spec


def test_a_result_is_repeated_and_replaced(made_up, here):
    seqlab_(*RNN, "--clip", "truncate:3")
    (path,) = Path("seqlab-results").iterdir()
    before = path.read_bytes()
    assert seqlab_("run", "--from", path, "--store", "seqlab-results", "--json").exit_code == 0
    assert made_up[0][0] == made_up[1][0]
    assert [p.name for p in Path("seqlab-results").iterdir()] == [path.name]
    path.write_bytes(before[:-1])
    said = refusal(seqlab_("run", "--from", path))
    assert said == f"{path}: damaged: its checksum does not fit its content"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "out of memory"),
        (OSError(28, "No space left on device"), 1, "[Errno 28] No space left on device"),
        (
            EOFError("Ran out of input"),
            1,
            "something that was read ends too soon: Ran out of input",
        ),
    ],
)
def test_what_goes_wrong_on_the_way_is_one_line(error, code, said, made_up, here, monkeypatch):
    def fail(spec, backend="auto", progress=None):
        raise error

    monkeypatch.setattr("seqlab.measure.measure", fail)
    result = seqlab_(*RNN)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"seqlab: error: {said}\n"
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("threads", [False, True])
def test_a_ctrl_c_that_a_library_swallows_is_heard(threads, made_up, here, monkeypatch):
    """As numba and others do who catch all that is raised while they are imported."""

    def swallow(spec, backend="auto", progress=None):
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            pass
        if threads:  # kernels run on them, and tell of progress
            with ThreadPoolExecutor(1) as pool:
                pool.submit(progress, 0.5, "going on").result()
        progress(0.5, "going on")
        raise AssertionError("the work went on")

    monkeypatch.setattr("seqlab.measure.measure", swallow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        result = seqlab_(*RNN)
        after = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (result.exit_code, result.stdout) == (130, "")
    assert result.stderr == "seqlab: error: interrupted\n"
    assert after is signal.default_int_handler
    monkeypatch.undo()
    assert seqlab_(*RNN).exit_code == 0  # it is heard once


def test_control_characters_do_not_reach_the_terminal(made_up):
    assert "\x1b" not in refusal(seqlab_(*RNN, "--params", "\x1b[31m\0"))


def test_a_name_that_is_no_text_is_told():
    assert refusal(seqlab_("table", os.fsdecode(b"gr\xf6e"))).startswith(r"store: gr\udcf6e is no")


def test_a_figure_is_asked_for_with_all_results(made_up, here, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "seqlab.figures.plot_results", lambda *args: drawn.append(args), raising=False
    )
    result = seqlab_("run", "--arch", "rnn", "--arch", "gru", *TINY_WORDS, "--plot", "figure.svg")
    assert result.exit_code == 0
    ((results, path),) = drawn
    assert [result.spec.arch for result in results] == ["rnn", "gru"]
    assert str(path) == "figure.svg"


# Real measurements.


@pytest.mark.parametrize("arch", CELLS)
def test_a_real_run_gives_its_numbers_and_gives_them_again(arch, here):
    first = seqlab_("run", "--arch", arch, *TINY_WORDS, "--json")
    assert first.exit_code == 0, first.stderr
    document = json.loads(first.stdout)
    assert document["backend"] == "cpu"
    again = seqlab_("run", "--from", document["result"], "--store", "again", "--json")
    assert json.loads(again.stdout)["curves"] == document["curves"]
    one, other = (Result.read(json.loads(run.stdout)["result"]) for run in (first, again))
    for name, variable in one.variables.items():
        assert variable.data.tobytes() == other.variables[name].data.tobytes()


def test_python_and_the_command_line_agree(here):
    document = json.loads(seqlab_(*RNN, "--json").stdout)
    result = seqlab.run(arch="rnn", steps=20, hidden=3, inputs=2, networks=4)
    assert result.path is None
    assert result.to_json()["curves"] == document["curves"]


def test_a_missing_backend_is_refused(here):
    assert refusal(seqlab_(*RNN, "--backend", "cuda")).startswith("backend: cuda is not available")
    assert refusal(seqlab_(*RNN, "--backend", "tpu")).startswith("backend: 'tpu' is unknown")
    assert list(here.iterdir()) == []


def test_ctrl_c_in_a_long_run_leaves_nothing(here):
    terminal, end = os.openpty()
    endless = ("--hidden", "1024", "--steps", "200000", "--networks", "2")  # for hours
    running = subprocess.Popen(
        [*PYTHON, "run", "--arch", "lstm", *endless],
        stdout=subprocess.PIPE,
        stderr=end,
        env=ENVIRONMENT,
        preexec_fn=hear_ctrl_c,
    )
    os.close(end)
    shown = b""
    while b"%" not in shown:  # the line of progress
        shown += os.read(terminal, 1000)
    running.send_signal(signal.SIGINT)
    stdout, _ = running.communicate(timeout=PATIENCE)
    shown += os.read(terminal, 1000)
    os.close(terminal)
    assert (running.returncode, stdout) == (130, b"")
    assert shown.endswith(b"\rseqlab: error: interrupted\r\n")
    assert shown.count(b"\n") == 1
    assert list(here.iterdir()) == []
