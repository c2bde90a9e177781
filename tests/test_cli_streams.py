"""Terminals, pipes, full disks and poor alphabets under the command line."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from studies import ENVIRONMENT, PYTHON, RNN, process

from seqlab.cli.progress import ProgressLine
from seqlab.report.text import fitted
from seqlab.study.result import Result


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def timers(monkeypatch):
    """The timers that were made, which go off when they are told to."""

    class Timer:
        def __init__(self, delay, function):
            self.go_off, self.begun, self.cancelled = function, False, False
            self.delay = delay
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
def test_short_work_says_nothing(stream, timers):
    with ProgressLine(stream) as line:
        line(0.5, "backward")
    assert stream.getvalue() == ""
    assert timers[0].begun == stream.isatty()
    assert timers[0].cancelled


@pytest.fixture
def clock(monkeypatch):
    """The time that the line of progress reads, in a list, to be set."""
    now = [1000.0]
    monkeypatch.setattr("seqlab.cli.progress.time.monotonic", lambda: now[0])
    return now


def work(line, clock, seconds, count=100):
    """Even work: `count` calls in so many seconds."""
    for k in range(1, count + 1):
        clock[0] += seconds / count
        line(k / count, "backward")


def test_where_no_terminal_is_a_line_a_minute_says_how_far_it_is(clock):
    stream = io.StringIO()
    with ProgressLine(stream) as line:
        work(line, clock, 150)
    first, second = stream.getvalue().splitlines()
    assert first == "40%  backward, 90 s left" or first == "40%  backward, 2 min left"
    assert second == "80%  backward, 30 s left"


def test_the_time_left_is_told_when_there_is_something_to_judge_it_by(clock, timers):
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        timers[0].go_off()
        work(line, clock, 40)
    lines = [text.strip() for text in terminal.getvalue().split("\r") if text.strip()]
    assert lines[:8] == [f"{k}%  backward" for k in range(1, 9)]
    assert lines[9] == "10%  backward, 36 s left"
    assert lines[-1] == "100%  backward"


def test_a_kernel_that_is_compiled_meanwhile_does_not_spoil_the_time_left(clock, timers):
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        timers[0].go_off()
        line(0.01, "forward")
        clock[0] += 300
        work(line, clock, 100)
        assert "50%  backward, 50 s left" in terminal.getvalue()


@pytest.mark.parametrize(
    ("mode", "stream", "delays"),
    [("always", io.StringIO(), [0.0]), ("never", Terminal(), []), ("auto", Terminal(), [2.0])],
)
def test_progress_is_shown_when_it_is_asked_for(mode, stream, delays, clock, timers):
    with ProgressLine(stream, mode=mode) as line:
        for timer in timers:
            if timer.begun:
                timer.go_off()
        work(line, clock, 150)
        shown = stream.getvalue()
    assert ("50%  backward" in shown) == (mode != "never")
    assert "\n" not in shown
    assert [timer.delay for timer in timers if timer.begun] == delays


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


@pytest.mark.parametrize(
    "how",
    [
        pytest.param("2>&-", marks=pytest.mark.slow),
        pytest.param(">&-", marks=pytest.mark.slow),
        "<&- >&- 2>&-",
        "2>/dev/full",
    ],
)
def test_a_stream_that_leads_nowhere_stops_nothing(how, here):
    done = redirected(how, *RNN, "--store", "store", "--plot", "figure.png")
    heard = b"" if "2>" in how else b"drawn: figure.png, its data: figure.csv\n"
    assert (done.returncode, done.stderr) == (0, heard)
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


@pytest.mark.parametrize("letters", ["C", pytest.param("C.UTF-8", marks=pytest.mark.slow)])
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
        told = done.stderr.startswith(b"drawn: ") == (words[0] == "plot")
        assert (done.returncode, told) == (0, True), words
    assert {path.name for path in here.iterdir()} == {
        *("weiß.toml", "größe", "maß.csv", "größe.csv", "größe.png"),
    }


def test_a_reader_who_went_away_has_had_enough(here):
    """The figure is drawn, and nothing failed."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = process(*RNN, "--plot", "figure.png", stdout=closed)
    assert (done.returncode, done.stderr) == (0, "drawn: figure.png, its data: figure.csv\n")
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
    assert (done.returncode, done.stderr) == (0, "drawn: figure.png, its data: figure.csv\n")
    assert done.stdout.startswith("x: 1 runs measured, 0 found, 0 failed in store\n")
