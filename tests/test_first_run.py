"""The first run: which kernels it compiles, once each, in two processes; what the second process
may do to the first; and that a later run loads nothing that it does not use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from studies import ENVIRONMENT, PATIENCE

from seqlab.kernels import _beside, _cache
from seqlab.kernels._beside import beside
from seqlab.kernels._jit import DISABLED, compiled

pytestmark = pytest.mark.skipif(DISABLED, reason="without the JIT nothing is compiled")

RUN = """
import contextlib, gc, io, json, sys
from seqlab.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    arch, dtype, store = sys.argv[1:]
    main(["run", "--arch", arch, "--steps", "20", "--dtype", dtype, "--store", store])
from numba.core.dispatcher import Dispatcher
from seqlab.kernels._cache import KernelCache
found = {"kernels": {}, "versions": {}, "modules": list(sys.modules)}
for one in gc.get_objects():
    if isinstance(one, Dispatcher) and one.overloads:
        name = one.py_func.__qualname__.partition(".")[0]
        if isinstance(one._cache, KernelCache):
            loaded = sum(one.stats.cache_hits.values()), sum(one.stats.cache_misses.values())
            found["kernels"][name] = loaded
        elif one.py_func.__module__.startswith("seqlab"):
            found["versions"][one.py_func.__qualname__] = len(one.overloads)
print(json.dumps(found))
"""


def run(folder: Path, arch: str, dtype: str, threads: int = 2) -> dict[str, Any]:
    """What a run in a process of its own has loaded and compiled."""
    own = {"NUMBA_CACHE_DIR": str(folder / "cache"), "NUMBA_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", RUN, arch, dtype, str(folder)]
    done = subprocess.run(command, env=ENVIRONMENT | own, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# Kernels by name: how often the process found code in the cache, and how often it compiled.
ALONE = {"forward": [0, 1], "backward": [0, 1], "_accumulate": [0, 1]}
TWO = ALONE | {"backward": [1, 0]}
LATER = {name: [1, 0] for name in ALONE}

NOT_NEEDED = {
    *("pandas", "matplotlib", "seaborn", "xarray", "distributed"),
    *("numba.np.arraymath", "numba.np.arrayobj", "numba.cpython.unicode"),  # the compiler's own
}
SCIPY = {"scipy.linalg", "scipy.optimize", "scipy.special"}  # the rnn's theory's


@pytest.mark.parametrize(
    ("arch", "dtype"),
    [
        ("gru", "float32"),
        *(
            pytest.param(arch, dtype, marks=pytest.mark.slow)
            for arch in ("rnn", "lstm", "ssm")
            for dtype in ("float64", "float32")
        ),
    ],
)
def test_the_first_run_compiles_in_two_processes_and_the_next_loads_no_compiler(
    arch: str, dtype: str, tmp_path: Path
) -> None:
    first = run(tmp_path, arch, dtype)
    assert first["kernels"] == TWO
    later = run(tmp_path, arch, dtype)
    assert later["kernels"] == LATER
    assert later["versions"] == {}
    loaded = (NOT_NEEDED if arch == "rnn" else NOT_NEEDED | SCIPY) & set(later["modules"])
    assert loaded == set()
    assert NOT_NEEDED & set(first["modules"])  # or the names above are out of date


@pytest.mark.slow
def test_one_thread_compiles_alone_and_each_function_once(tmp_path: Path) -> None:
    found = run(tmp_path, "lstm", "float64", threads=1)
    assert found["kernels"] == ALONE
    versions = found["versions"]
    assert {name for name, count in versions.items() if count > 1} <= {"fill"}
    assert versions["fill"] == 2  # of integers and of numbers
    assert len(versions) <= 60


# What a second process may do.


def twice(x):
    """A kernel."""
    return x + x


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache for kernels that are made from now on."""
    monkeypatch.setattr(_cache, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(_cache, "_why_not", None)
    return tmp_path / "cache"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """The processes that are started."""
    found: list[subprocess.Popen] = []
    start = _beside._start

    def note(*words: str) -> subprocess.Popen:
        found.append(start(*words))
        return found[-1]

    monkeypatch.setattr(_beside, "_start", note)
    return found


def call_beside(module: str = "os", function: str = "getpid") -> None:
    kernel = compiled(twice)
    with beside(module, function):
        assert kernel(21) == 42
        assert kernel(0.25) == 0.5
    assert kernel(0.25) == 0.5


def test_there_is_one_process_and_only_where_code_is_missing(
    cache: Path, started: list[subprocess.Popen]
) -> None:
    call_beside()
    call_beside()
    assert [process.returncode for process in started] == [0]
    compiled(thrice)(1)  # nobody is beside
    assert len(started) == 1


def thrice(x):
    """Another."""
    return x + x + x


@pytest.mark.parametrize("where", [None, "/dev/null/cache"])
def test_there_is_none_where_code_cannot_be_kept(
    where: str | None, cache: Path, started: list[subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cache, "CACHE_DIR", where and Path(where))
    call_beside()
    assert started == []


@pytest.mark.parametrize("program", ["uwsgi", "", None])
def test_there_is_none_where_python_is_within_another_program(
    program: str | None,
    cache: Path,
    started: list[subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    call_beside()
    assert started == []


def test_a_process_that_cannot_be_started_is_done_without(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    call_beside()


@pytest.mark.parametrize(("module", "function"), [("nowhere", "f"), ("os", "abort")])
def test_a_process_that_fails_is_done_without(
    module: str,
    function: str,
    cache: Path,
    started: list[subprocess.Popen],
    capfd: pytest.CaptureFixture,
) -> None:
    call_beside(module, function)
    (process,) = started
    assert process.returncode
    assert capfd.readouterr() == ("", "")


def test_a_process_that_hangs_is_given_up(
    cache: Path, started: list[subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_beside, "PATIENCE", 0)
    call_beside("signal", "pause")
    assert [process.returncode is not None for process in started] == [True]


def test_an_error_ends_the_other_process(
    cache: Path, started: list[subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_cache.KernelCache, "save_overload", interrupt)
    with pytest.raises(KeyboardInterrupt), beside("signal", "pause"):
        compiled(twice)(21)
    assert [process.returncode is not None for process in started] == [True]


def test_a_process_ends_with_the_one_that_started_it() -> None:
    """Then the other end of its standard input closes."""
    process = _beside._start("signal", "pause")
    try:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 1
    finally:
        process.kill()
        process.communicate()


def test_the_other_process_has_these_paths_and_this_cache(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "note"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_this_test.py").write_text(
        "from pathlib import Path\n"
        "def tell(name):\n"
        "    from seqlab.kernels import _cache\n"
        "    Path(name).write_text(f'{_cache.PACKAGE} {_cache.CACHE_DIR.parent}')\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "mine")
    process = _beside._start("of_this_test", "tell", os.fspath(note))
    assert process.wait(PATIENCE) == 0
    process.communicate()
    assert note.read_text() == f"{_cache.PACKAGE} {cache.parent}"
