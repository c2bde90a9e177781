"""The command line: what it prints where, its exit codes, and what it leaves behind."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import PATIENCE, hear_ctrl_c
from synthetic import measurement

import seqlab
from seqlab.cells import CELLS
from seqlab.claims.checks import Check
from seqlab.cli import main
from seqlab.cli.progress import ProgressLine
from seqlab.report.text import fitted
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE
from seqlab.study.result import Result

PYTHON = (sys.executable, "-m", "seqlab")
# A process elsewhere runs the very package that is tested here.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(seqlab.__file__).parents[1])}
TINY = ("--steps", "20", "--hidden", "3", "--inputs", "2", "--networks", "4")
RNN, GRU = (("run", "--arch", arch, *TINY) for arch in ("rnn", "gru"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def made_up(here, monkeypatch):
    """Runs that measure nothing; gives the list of what was measured."""
    measured = []

    def measure(spec, backend="auto", progress=None):
        measured.append((spec, backend))
        progress(0.5, "halfway")
        return measurement(spec)

    monkeypatch.setattr("seqlab.measure.measure", measure, raising=False)
    monkeypatch.setattr("seqlab.measure.cost.memory_bytes", lambda _: 0, raising=False)
    return measured


def seqlab_(*args):
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(arg) for arg in args])


def process(*args, stdout=subprocess.PIPE):
    """Run a command as users do."""
    words = [*PYTHON, *map(str, args)]
    return subprocess.run(
        words, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
    )


def refusal(result):
    """The one line of a refused command."""
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"seqlab: error: [^\n]+\n", result.stderr)
    return result.stderr.removeprefix("seqlab: error: ").strip()


# What is refused.

REFUSED = [
    ((), "Missing command."),
    (("rnu",), "No such command 'rnu'."),
    (("--frob",), "No such option '--frob'."),
    (("run",), "arch: is needed; rnn, lstm, gru or ssm"),
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
    ((*RNN, "--lengths", "5:30:3"), "lengths: 30 is not allowed as the last; it must equal steps"),
    ((*RNN, "--gain", "2"), "gain: 2.0 means nothing for init pytorch"),
    ((*RNN, "--gain", "nan", "--init", "he"), "gain: nan is not allowed"),
    ((*RNN, "--forget-bias", "1"), "forget_bias: 1.0 means nothing for rnn; it is for lstm or gru"),
    ((*RNN, "--forget-bias", "one"), "forget_bias: 'one' is not allowed; a finite number"),
    ((*GRU, "--activation", "relu"), "activation: 'relu' means nothing for gru; it is for rnn"),
    ((*RNN, "--arch", "gru", "--activation", "relu"), "activation: 'relu' means nothing for gru"),
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


def test_a_result_too_large_for_its_file_is_refused(made_up):
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
    args = ("run", "--arch", "rnn", "--arch", "ssm", *TINY)
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
    seqlab_("run", "--arch", "lstm", *TINY, "--forget-bias", "chrono")
    seqlab_("run", "--arch", "gru", *TINY, "--forget-bias", "1.5")
    seqlab_("run", "--arch", "ssm", *TINY, "--state", "3")
    assert [spec.forget_bias for spec, _ in made_up[1:3]] == ["chrono", 1.5]
    assert made_up[3][0].state == 3


def test_ones_own_arrays(made_up, here):
    shapes = CELLS["rnn"].shapes(RunSpec.create(arch="rnn", steps=9, hidden=4, inputs=3).sizes)
    np.savez("w.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    np.save("x.npy", np.ones((9, 2, 3)))
    assert seqlab_("run", "--arch", "rnn", "--params", "w.npz", "--input", "x.npy").exit_code == 0
    spec = made_up[0][0]
    assert (spec.steps, spec.hidden, spec.inputs, spec.networks) == (9, 4, 3, 1)
    assert (spec.params.path, spec.input.path) == (str(here / "w.npz"), str(here / "x.npy"))


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


def test_control_characters_do_not_reach_the_terminal(made_up):
    assert "\x1b" not in refusal(seqlab_(*RNN, "--params", "\x1b[31m\0"))


def test_a_name_that_is_no_text_is_told():
    assert refusal(seqlab_("table", os.fsdecode(b"gr\xf6e"))).startswith(r"store: gr\udcf6e is no")


def test_a_figure_is_asked_for_with_all_results(made_up, here, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "seqlab.figures.plot_results", lambda *args: drawn.append(args), raising=False
    )
    result = seqlab_("run", "--arch", "rnn", "--arch", "gru", *TINY, "--plot", "figure.svg")
    assert result.exit_code == 0
    ((results, path),) = drawn
    assert [result.spec.arch for result in results] == ["rnn", "gru"]
    assert str(path) == "figure.svg"


# Help, version, info.


def test_help_names_every_option_and_its_default():
    text = " ".join(seqlab_("run", "--help").stdout.split())
    for name in TABLE:
        assert f"--{name.replace('_', '-')} " in text
    for name, value in TABLE.defaults.items():
        said = " and ".join(value) if isinstance(value, tuple) else str(value).removesuffix(".0")
        option = text.split(f"--{name.replace('_', '-')} ", 1)[1]
        assert option.split("[default: ", 1)[1].startswith(f"{said}]")


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
    def run_checks(report, backend):
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


# Terminals and pipes.


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def timers(monkeypatch):
    """The timers that were made, which go off when they are told to."""

    class Timer:
        def __init__(self, delay, function):
            self.go_off, self.begun, self.cancelled = function, False, False
            made.append(self)

        def start(self):
            self.begun = True

        def cancel(self):
            self.cancelled = True

    made = []
    monkeypatch.setattr("seqlab.cli.progress.threading.Timer", Timer)
    return made


def test_progress_shows_after_a_while_and_goes_at_the_end(timers):
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line(0.25, "compiling kernels (first run)")
        assert terminal.getvalue() == ""
        assert timers[0].begun
        timers[0].go_off()
        assert " 25%  compiling kernels (first run)" in terminal.getvalue()
        line(0.5, "backward")
    assert " 50%  backward" in terminal.getvalue()
    assert "\n" not in terminal.getvalue()
    assert terminal.getvalue().split("\r")[-2].strip() == ""


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_progress_is_silent_elsewhere_and_for_short_work(stream, timers):
    with ProgressLine(stream) as line:
        line(0.5, "backward")
    assert stream.getvalue() == ""
    assert timers[0].begun == stream.isatty()
    assert timers[0].cancelled


def test_a_closed_pipe_makes_no_noise():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        assert process("run", "--help", stdout=closed).stderr == ""


def test_a_full_disk_under_the_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = process("--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "seqlab: error: [Errno 28] No space left on device\n"


def redirected(how, *args, **environment):
    """Run a command as a shell does, with `how` after it."""
    words = ["sh", "-c", f'exec "$@" {how}', "sh", *PYTHON, *map(str, args)]
    return subprocess.run(words, capture_output=True, env=ENVIRONMENT | environment, check=False)


@pytest.mark.parametrize("how", ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_stream_that_leads_nowhere_stops_nothing(how, here):
    done = redirected(how, *RNN, "--store", "store", "--plot", "figure.png")
    assert (done.returncode, done.stderr) == (0, b"")
    (path,) = Path("store").iterdir()
    told = "" if ">&-" in how.split() else Result.read(path).summary() + "\n"
    assert done.stdout.decode() == told
    assert (here / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_a_refusal_that_nobody_hears_is_one(here):
    assert redirected("2>&-", "run", "--arch", "lstn").returncode == 2


def test_no_file_takes_the_number_of_a_closed_stream(here):
    """Whatever libraries write to stderr would be written into it."""
    code = (
        "import os, sys\n"
        "from seqlab.cli import streams\n"
        "streams.prepare()\n"
        "sys.exit(os.open('result', os.O_CREAT | os.O_WRONLY))"
    )
    words = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(words, env=ENVIRONMENT, check=False).returncode > 2


@pytest.mark.parametrize(
    ("encoding", "store", "told"),
    [
        ("ascii", "größe", rb"gr\xf6\xdfe"),
        ("latin-1", "größe", "größe".encode("latin-1")),
        ("latin-1", "日本", rb"\u65e5\u672c"),
        ("cp1252", "日本", rb"\u65e5\u672c"),
        ("utf-8", "größe", "größe".encode()),
        ("utf-8", os.fsdecode(b"gr\xf6e"), b"gr\xf6e"),
        ("utf-16", os.fsdecode(b"gr\xf6e"), r"gr\udcf6e".encode("utf-16-le")),
    ],
)
def test_a_name_that_stdout_has_no_letters_for_is_spelled(encoding, store, told, here):
    done = redirected("", *RNN, "--store", store, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    name = min(Path(store).iterdir()).name
    start, end = (
        text.encode("utf-16-le" if encoding == "utf-16" else "ascii")
        for text in ("stored: ", f"/{name}\n")
    )
    assert done.stdout.endswith(start + told + end)


@pytest.mark.parametrize("letters", ["C", "C.UTF-8"])
def test_every_command_takes_names_in_a_locale_without_letters(letters, here):
    plain = {"LC_ALL": letters, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    study = "[study]\nname = 'größe'\n[fixed]\narch = 'rnn'\nsteps = 20\nhidden = 3\n"
    Path("weiß.toml").write_text(study, encoding="utf-8")
    for words in (
        ("sweep", "weiß.toml", "--store", "größe", "--dry-run"),
        ("sweep", "weiß.toml", "--store", "größe"),
        ("table", "größe"),
        ("export", "größe", "-o", "maß.csv"),
        ("plot", "größe", "-o", "größe.png"),
        (*RNN, "--store", "größe", "--json"),
    ):
        done = redirected("", *words, **plain)
        assert (done.returncode, done.stderr) == (0, b""), words
    assert {path.name for path in here.iterdir()} == {
        *("weiß.toml", "größe", "maß.csv", "größe.csv", "größe.png"),
    }


def test_a_reader_who_went_away_has_had_enough(here):
    """The figure is drawn, and nothing failed."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = process(*RNN, "--plot", "figure.png", stdout=closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert (here / "figure.png").exists()


def test_a_figure_is_drawn_though_the_table_finds_no_room(here):
    with open("/dev/full", "w") as full:
        done = process(*RNN, "--plot", "figure.png", stdout=full)
    assert done.returncode == 1
    assert done.stderr == "seqlab: error: [Errno 28] No space left on device\n"
    assert (here / "figure.png").exists()


class Broken(Terminal):
    def write(self, text):
        raise BrokenPipeError


def test_progress_and_notes_that_cannot_be_written_stop_nothing(timers):
    with ProgressLine(Broken()) as line:
        line(0.5, "backward")
        timers[0].go_off()
        line.note("a damaged file")
        line(0.9, "backward")


class Poor(io.TextIOWrapper):
    """A terminal of few letters."""

    def isatty(self):
        return True


def test_progress_stays_on_one_line_whatever_its_letters_take(timers, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    shown = io.BytesIO()
    with ProgressLine(Poor(shown, "ascii", "backslashreplace")) as line:
        line(0.5, "größe 日本 größe")
        timers[0].go_off()
        line(0.6, "größe 日本 größe")
        lines = shown.getvalue().split(b"\r")
    assert {len(text) for text in lines} == {0, 19}
    assert b" 60%  gr\\xf6\\xdfe \\" in lines


def test_letters_take_one_column_or_two_or_none():
    assert fitted("größe", 7) == "größe  "
    assert fitted("größe", 3) == "grö"
    assert fitted("日本", 3) == "日 "
    assert fitted("日本", 4) == "日本"
    assert fitted("e\u0301a", 2) == "e\u0301a"


def test_without_posix_locks_every_command_works(here):
    """Where Python has no fcntl: Windows."""
    code = (
        "import sys\n"
        "sys.modules['fcntl'] = None\n"
        "from seqlab.cli import main\n"
        "for words in {commands}:\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert not end.code, words\n"
    )
    study = "[study]\nname = 'x'\n[fixed]\narch = 'rnn'\nsteps = 20\nhidden = 3\n"
    Path("study.toml").write_text(study)
    commands = [
        ["sweep", "study.toml", "--store", "store"],
        ["table", "store"],
        ["export", "store", "-o", "table.csv"],
        ["plot", "store", "-o", "figure.png"],
    ]
    words = [sys.executable, "-c", code.format(commands=commands)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("x: 1 runs measured, 0 found, 0 failed in store\n")


# Real measurements.


@pytest.mark.parametrize("arch", CELLS)
def test_a_real_run_gives_its_numbers_and_gives_them_again(arch, here):
    first = seqlab_("run", "--arch", arch, *TINY, "--json")
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
