"""The command line as a whole: what it refuses, its help, and commands that measure nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import ENVIRONMENT, GRU, RNN, process, refusal, seqlab_

import seqlab
from seqlab.cells import CELLS
from seqlab.claims.checks import Check
from seqlab.cli import commands
from seqlab.spec.table import TABLE
from seqlab.wording import one_of

# What is refused.

BIASED = one_of(cell.name for cell in CELLS.values() if "forget_bias" in cell.options)

REFUSED = [
    ((), "a command is missing; seqlab --help lists them"),
    (("rnu",), "No such command 'rnu'."),
    (("--frob",), "No such option '--frob'."),
    (("run",), f"arch: is needed; {one_of(CELLS)}"),
    (("run", "--arch", "rnn"), "steps: is needed; a whole number from 1 up"),
    (("run", "--arch"), "Option '--arch' requires an argument."),
    (("run", "stray"), "Got unexpected extra argument (stray)"),
    ((*RNN, "--gian", 2), "No such option '--gian'."),
    ((*RNN, "--steps", "ten"), "Invalid value for '--steps': 'ten' is not a valid integer."),
    ((*RNN, "--steps", "1.5"), "Invalid value for '--steps'"),
    ((*RNN, "--arch", "lstn"), "arch: 'lstn' is not allowed"),
    ((*RNN, "--arch", "rnn"), "arch: 'rnn' is given twice; each cell once"),
    ((*RNN, "--activation", "gelu"), "activation: 'gelu' is not allowed"),
    ((*RNN, "--init", "ones"), "init: 'ones' is not allowed"),
    ((*RNN, "--clip", "nrm:1"), "clip: 'nrm:1' is not a rule"),
    ((*RNN, "--clip", "norm:0"), "clip: 'norm:0' has no positive"),
    ((*RNN, "--clip", "norm:-1"), "clip: 'norm:-1' has no positive"),
    ((*RNN, "--clip", "norm:nan"), "clip: 'norm:nan' has no positive"),
    ((*RNN, "--steps", "0"), "steps: 0 is not allowed; a whole number from 1 up"),
    ((*RNN, "--hidden", "0"), "hidden: 0 is not allowed"),
    ((*RNN, "--networks", "-3"), "networks: -3 is not allowed"),
    ((*RNN, "--lengths", "20:10:3"), "lengths: '20:10:3' is not allowed"),
    ((*RNN, "--lengths", "20,10"), "lengths: '20,10' is not allowed; a:b:n with 1 <= a <= b, or"),
    ((*RNN, "--lengths", "10"), "lengths: 10 is not allowed as the last; it must equal steps, 20"),
    ((*RNN, "--lengths", "5:30:3"), "lengths: 30 is not allowed as the last; it must equal steps"),
    ((*RNN, "--gain", "2"), "gain: 2.0 means nothing for init pytorch"),
    ((*RNN, "--gain", "nan", "--init", "he"), "gain: nan is not allowed"),
    ((*RNN, "--forget-bias", "1"), f"forget_bias: 1.0 means nothing for rnn; it is for {BIASED}"),
    ((*RNN, "--forget-bias", "one"), "forget_bias: 'one' is not allowed; a finite number"),
    ((*GRU, "--activation", "relu"), "activation: 'relu' means nothing for gru; it is for rnn"),
    ((*GRU, "--gain", 2, "--activation", "relu"), "gain: 2.0 means nothing"),  # as they are given
    ((*GRU, "--activation", "relu", "--gain", 2), "activation: 'relu' means nothing for gru"),
    ((*GRU, "--arch", "ssm", "--activation", "relu"),
        "activation: means nothing for gru, for ssm: it serves no run; it is for rnn"),
    ((*RNN, "--steps", "1.5e0"), "Invalid value for '--steps': '1.5e0' is not a valid integer."),
    ((*RNN, "--steps", "1e400"), "Invalid value for '--steps': '1e400' is not a valid integer."),
    ((*RNN, "--lengths", "1.5e0,20"), "lengths: '1.5e0,20' is not allowed"),
    ((*RNN, "--json", "--jsonl"), "jsonl: not allowed beside --json; one of them"),
    ((*RNN, "--no-store", "--store", "s"), "no-store: not allowed beside --store; one of them"),
    ((*RNN, "--quiet", "--progress", "always"), "quiet: not allowed beside --progress always"),
    ((*RNN, "--progress", "often"), "Invalid value for '--progress': 'often' is not one of"),
    (("depth", "--critical", "--quiet"), "quiet: means nothing beside critical"),
    (("depth", "--critical", "--no-store"), "no_store: means nothing beside critical"),
    ((*RNN, "--params", "none.npz"), "params: cannot read none.npz: No such file or directory"),
    ((*RNN, "--input", "none.npy"), "input: cannot read none.npy: No such file or directory"),
    (("run", "--from", "none.nc"), "cannot read none.nc: No such file or directory"),
    (("run", "--from", "none.nc", "--steps", 5), "steps: means nothing beside from"),
    (("run", "--from", "none.nc", "--arch", "rnn"), "arch: means nothing beside from"),
    ((*RNN, "--plot", "figure.gif"), "plot: 'figure.gif' has no known format"),
    ((*RNN, "--plot", "none/figure.pdf"), "plot: none is not a folder; make it first"),
    ((*RNN, "--store", "/proc/none"), "store: cannot write /proc/none/"),
    (("info", "--all"), "No such option '--all'."),
    (("verify", "x"), "Got unexpected extra argument (x)"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "message"), REFUSED)
def test_refused_before_any_work_in_one_line(args, message, made_up, here):
    assert refusal(seqlab_(*args)).startswith(message)
    assert made_up == []
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("args", [(), ("run", "--arch", "lstn"), (*RNN, "--steps", "x"), ("x",)])
def test_refused_by_a_real_process_too(args, here):
    result = process(*args)
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"seqlab: error: [^\n]+\n", result.stderr)
    assert list(here.iterdir()) == []


def test_a_run_that_does_not_fit_in_memory_is_refused(made_up, monkeypatch):
    def need(spec):
        return 8 * spec.networks * spec.steps * spec.hidden

    monkeypatch.setattr("seqlab.measure.cost.memory_bytes", need)
    monkeypatch.setattr("seqlab.study.limits.available_memory", lambda: 2**30)
    assert seqlab_(*RNN).exit_code == 0
    made_up.clear()
    said = refusal(seqlab_(*RNN, "--steps", "200000000"))
    assert said == (
        "steps: 200000000 is not allowed; the run would take about 17.9 GiB of memory and 1.0 GiB "
        "is available: lower steps"
    )
    assert refusal(seqlab_(*RNN, "--hidden", "2000000")).endswith("lower hidden")
    assert refusal(seqlab_(*RNN, "--networks", "20000000")).endswith("lower networks")
    assert made_up == []


def test_a_result_too_large_for_its_file_is_refused(made_up, monkeypatch):
    monkeypatch.setattr("seqlab.measure.cost.memory_bytes", lambda _: 0)
    said = refusal(seqlab_("run", "--arch", "rnn", "--steps", "10000", "--networks", "200000"))
    assert said.startswith("networks: 200000 is not allowed; with 2 rules, 13 lengths")
    assert made_up == []


@pytest.mark.parametrize("store", ["file", "file/deeper"])
def test_a_file_where_the_store_should_be_is_refused(store, made_up, here):
    (here / "file").write_text("mine")
    assert refusal(seqlab_(*RNN, "--store", store)).startswith(f"store: cannot write {store}/")
    assert made_up == []
    assert (here / "file").read_text() == "mine"


WORDS = [
    *("run", "--arch", "rnn", "lstm", "--steps", "20", "0", "--clip", "norm:1", "none"),
    *("--gain", "--init", "he", "--json", "--lengths", "5:20:3", "--from", "--store", "s"),
    *("--seed", "--drive", "zeros", "--params", "--spectrum", "3", "--forget-bias", "nan", "--"),
]
TEXT = st.text(st.characters(exclude_characters="/."), max_size=5)  # no folder but this one


@given(st.lists(st.sampled_from(WORDS) | TEXT, max_size=9), st.booleans())
@settings(max_examples=300)
def test_any_words_are_done_or_refused(made_up, here, words, sound):
    result = seqlab_(*(RNN if sound else ()), *words)
    assert result.exit_code in (0, 2)
    if result.exit_code == 2:
        refusal(result)


# Help, version, info.


def test_help_names_every_option_and_its_default():
    text = " ".join(seqlab_("run", "--help").stdout.split())
    for name in TABLE:
        assert f"--{name.replace('_', '-')} " in text
    for name, value in TABLE.defaults.items():
        said = " and ".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0")
        option = text.split(f"--{name.replace('_', '-')} ", 1)[1]
        said += "; slstm: zeros" if name == "init" else ""  # of its own
        assert option.split("[default: ", 1)[1].startswith(f"{said}]")


def test_help_of_run_comes_from_the_registries():
    """Of the cells that are there, and of one that is not yet."""
    code = (
        "from dataclasses import replace\n"
        "from seqlab.cells import CELLS\n"
        "options = frozenset({'gain', 'forget_bias'})\n"
        "CELLS['toy'] = replace(CELLS['gru'], name='toy', options=options, forget_gate='tiny',\n"
        "    names_of='toys', silent_drive=False, chrono=True)\n"
        "from seqlab.cli import main\n"
        "main(['run', '--help'])"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    said = " ".join(done.stdout.split())
    names = [*CELLS, "toy"]
    silent = ", ".join(cell.name for cell in CELLS.values() if not cell.silent_drive)
    for text in (
        f"{one_of(names)}; repeat it to compare cells.",
        f"{', '.join(name for name in names if name in (*TABLE.takers('gain'), 'toy'))}: scale of",
        "; toy: the tiny gate's bias, or chrono. [default: the cell's own; init keras: Keras's]",
        f"white (noise) or zeros (not for {silent}, toy). [default: white]",
        f"0 removes the input (not for {silent}, toy). [default",
        "ssm: mamba_ssm's, ",
        ", toy: toys's), with a leading axis",
    ):
        assert text in said


def test_version():
    assert seqlab_("--version").stdout == f"seqlab {seqlab.__version__}\n"
    assert process("--version").stdout == f"seqlab {seqlab.__version__}\n"


def loaded_by(*args):
    """The modules that a command has loaded when it ends."""
    code = (
        "import sys, seqlab.cli\n"
        f"try: seqlab.cli.main({list(args)!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*sys.modules)"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_nothing_heavy():
    assert not loaded_by("--help") & {"numpy", "numba", "scipy", "matplotlib", "pandas"}


def test_a_command_is_a_file_and_loads_no_other():
    folder = Path(commands.__file__).parent
    names = sorted(file.stem for file in folder.glob("*.py") if file.stem != "__init__")
    listed = seqlab_("--help").stdout.split("Commands:\n")[1]
    assert [line.split()[0] for line in listed.splitlines()] == names
    loaded = loaded_by("table", "--help")
    assert {name for name in names if f"{commands.__name__}.{name}" in loaded} == {"table"}


def test_plotting_libraries_are_loaded_for_figures_alone(here):
    assert not loaded_by(*RNN) & {"matplotlib", "seaborn", "pandas"}
    assert "matplotlib" in loaded_by(*RNN, "--plot", "figure.png")
    assert (here / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_info_says_what_runs_here():
    result = seqlab_("info")
    assert result.exit_code == 0
    rows = dict(line.split("  ", 1) for line in result.stdout.splitlines())
    assert rows["seqlab"].strip() == seqlab.__version__
    assert set(rows) >= {
        "python",
        "numpy",
        "numba",
        "scipy",
        "llvmlite",
        "threads",
        "cache",
        "memory",
    }
    assert rows["backend cpu"].strip() == "available"


# Checks.


CHECKS = [Check("lstm gradient", 1e-9, 1e-6, 0.1), Check("linear rnn", 1e-3, 1e-8, 0.2)]


@pytest.mark.parametrize(("checks", "code"), [(CHECKS[:1], 0), (CHECKS, 1)])
def test_verify_prints_a_row_a_check_and_fails_with_one(checks, code, monkeypatch):
    def run_checks(report, backend, progress):
        progress(0.5, "a check")
        for check in checks:
            report(check)
        return all(check.passed for check in checks)

    monkeypatch.setattr("seqlab.claims.checks.run_checks", run_checks)
    result = seqlab_("verify")
    assert result.exit_code == code
    rows = result.stdout.splitlines()
    assert [row.split("  ")[0] for row in rows] == ["ok", "FAILED"][: len(checks)]
    assert all(check.name in row for check, row in zip(checks, rows, strict=True))
    assert max(map(len, rows)) <= 80
