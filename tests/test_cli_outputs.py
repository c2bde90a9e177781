"""Where results go: documents, figures, stores, what is told besides; and what shells complete."""

import json
from pathlib import Path

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from studies import RNN, TINY_WORDS, seqlab_

import seqlab
from seqlab import rules
from seqlab.cells import CELLS
from seqlab.cli import main
from seqlab.report import drawable
from seqlab.spec.run import RunSpec
from seqlab.tasks import TASKS

TWO = ("run", "--arch", "rnn", "--arch", "lstm", *TINY_WORDS)


@pytest.mark.parametrize("words", [RNN, TWO])
def test_json_lines_are_the_documents_of_json(words, made_up):
    found = json.loads(seqlab_(*words, "--json").stdout)
    lines = seqlab_(*words, "--jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == (found if isinstance(found, list) else [found])


def test_the_edge_of_chaos_is_a_line_of_json():
    found = json.loads(seqlab_("depth", "--critical", "--json").stdout)
    (line,) = seqlab_("depth", "--critical", "--jsonl").stdout.splitlines()
    assert json.loads(line) == found


def test_without_a_store_nothing_is_written(made_up, here):
    done = seqlab_(*RNN, "--no-store")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "stored:" not in done.stdout
    assert json.loads(seqlab_(*RNN, "--no-store", "--json").stdout)["result"] is None
    assert list(here.iterdir()) == []


def test_reach_without_a_store_keeps_nothing_and_explains_itself_once(here):
    words = (
        "--steps",
        10,
        "--hidden",
        8,
        "--networks",
        2,
        "--keep",
        0.1,
        "--vary",
        "gain",
        "--init",
        "normal",
    )
    two = ("reach", "--arch", "rnn", "--arch", "gru", *words, "--no-store")
    done = seqlab_(*two)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.count("values tried") == 2
    assert done.stdout.count("\ninterval  ") == 1
    assert done.stdout.splitlines()[-1].startswith("horizon ")
    assert "\ninterval  " not in seqlab_(*two, "--quiet").stdout
    assert list(here.iterdir()) == []


def test_quiet_leaves_numbers_and_warnings(made_up, here):
    loud, quiet = (seqlab_(*TWO, "--forget-bias", 1, *more) for more in ((), ("--quiet",)))
    assert quiet.stderr == ""
    assert loud.stderr == "forget_bias means nothing for rnn, and is left out there\n"
    for text in ("decay rate  ", "stored:"):
        assert f"\n{text}" in loud.stdout
        assert text not in quiet.stdout
    numbers = quiet.stdout.rstrip().partition("\n\n")[2]  # below what says how long it took
    assert loud.stdout.partition("\n\n")[2].startswith(f"{numbers}\n\n")
    drawn = seqlab_(*RNN, "--plot", "a.png", "--quiet")
    assert (drawn.exit_code, drawn.stderr) == (0, "")
    assert Path("a.png").exists()


def test_what_means_nothing_for_some_cells_is_left_out_there(made_up, here):
    assert seqlab_(*TWO, "--forget-bias", 1, "--activation", "relu").exit_code == 0
    assert [(s.arch, s.forget_bias, s.activation) for s, _ in made_up] == [
        ("rnn", None, "relu"),
        ("lstm", 1.0, None),
    ]


@pytest.mark.parametrize(
    "words", [("--steps", "1e4", "--lengths", "1e1:1e4:3"), ("--steps", "1.0E+4")]
)
def test_whole_numbers_may_have_an_exponent(words, made_up, here):
    assert seqlab_("run", "--arch", "rnn", *words, "--seed", "2e30").exit_code == 0
    ((spec, _),) = made_up
    assert (type(spec.steps), spec.steps, spec.lengths[0]) == (int, 10_000, 10)
    assert spec.seed == 2 * 10**30
    assert RunSpec.create(arch="rnn", steps=10_000, lengths="10,1e4").lengths == (10, 10_000)


def test_a_table_as_json_has_the_rows_of_the_export(made_up, here):
    seqlab_(*TWO, "--store", "store")
    rows = json.loads(seqlab_("table", "store", "--json").stdout)
    frame = seqlab.load("store")
    assert list(rows[0]) == list(frame.columns)
    assert [row["arch"] for row in rows] == frame["arch"].tolist()
    assert [row["log10_attenuation"] for row in rows] == frame["log10_attenuation"].tolist()
    assert {row["forget_bias"] for row in rows} == {None}


def test_info_as_json_says_what_its_lines_say():
    found = json.loads(seqlab_("info", "--json").stdout)
    lines = dict(line.split("  ", 1) for line in seqlab_("info").stdout.splitlines())
    assert found["versions"]["seqlab"] == seqlab.__version__ == lines["seqlab"].strip()
    assert found["backends"]["cpu"] == lines["backend cpu"].strip()
    assert lines["threads"].strip().startswith(f"{found['threads']} ")
    assert found["kernels"]["vectors"] == lines["vectors"].strip()
    assert found["cache"]["folder"] in lines["cache"]


# Completion.


def offered(line, shell=BashComplete):
    """What a shell offers for the last word of a line."""
    *words, begun = line.split(" ")[1:]
    complete = shell(main, {}, "seqlab", "_SEQLAB_COMPLETE")
    return [item.value for item in complete.get_completions(words, begun)]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_shells_complete_the_values_of_options(shell):
    assert offered("seqlab run --arch ", shell) == list(CELLS)
    assert offered("seqlab run --arch l", shell) == [name for name in CELLS if name[0] == "l"]


BENCHED = ("rnn", "lstm", "gru")
OFFERED = {
    "run --clip step": [name for name in rules.BEGINNINGS if name.startswith("step")],
    "run --forget-bias ": ["chrono"],
    "run --dtype float3": ["float32"],
    "run --backend c": ["cpu", "cuda"],
    "run --progress a": ["auto", "always"],
    "depth --norm ": ["none", "batch", "layer", "group:"],
    "depth --activation sil": ["silu"],
    "depth --alpha ": ["sqrt"],
    "learn --task ": list(TASKS),
    "learn --optimizer a": ["adam"],
    "reach --vary g": ["gain"],
    "probe --wrt ": ["state", "input", "layers"],
    "plot results --kind h": ["heatmap", "histogram"],
    "plot results --value log10_moved": ["log10_moved"],
    "plot results --x la": [name for name in drawable.AXES if name.startswith("la")],
    "plot results --facet forget": ["forget_bias"],
    "plot results --where tas": ["task="],
    "plot results --width s": ["single", "slide"],
    "claims D05 P0": [f"P0{n}" for n in range(1, 10)],
    "bench --only gradients-": ["gradients-10k", *(f"gradients-10k/{c}-64" for c in BENCHED)],
    "bench --peers torch,j": ["torch,jax"],
}


@pytest.mark.parametrize("line", OFFERED)
def test_what_is_offered_comes_from_the_registries(line):
    assert offered(f"seqlab {line}") == OFFERED[line]


@pytest.mark.parametrize(("line", "kind"), [("run --params ", "file"), ("table ", "dir")])
def test_paths_are_left_to_the_shell(line, kind):
    complete = BashComplete(main, {}, "seqlab", "_SEQLAB_COMPLETE")
    *words, begun = line.split(" ")
    (item,) = complete.get_completions(words, begun)
    assert item.type == kind
