"""Results do not depend on the cache: on whether a kernel was just compiled or read from it, on
damage to its files, nor on whether there can be one."""

import errno
import gc
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import ENVIRONMENT

from seqlab.cells import CELLS
from seqlab.kernels import _cache
from seqlab.kernels._jit import DISABLED, compiled, inlined

PROGRAM = """
import hashlib, sys
import numpy as np
from seqlab import selective_scan, selective_scan_backward
from seqlab.measure import measure
from seqlab.spec.run import RunSpec

sha = hashlib.sha256()
dtype = sys.argv[2]
if sys.argv[1] == "scan":
    rng = np.random.default_rng(0)
    shapes = [(2, 5, 40), (2, 5, 40), (5, 3), (2, 3, 40), (2, 3, 40)]
    u, delta, A, B, C = (rng.normal(size=shape).astype(dtype) for shape in shapes)
    y = selective_scan(u, delta, -abs(A), B, C, delta_softplus=True)
    g = selective_scan_backward(y, u, delta, -abs(A), B, C, delta_softplus=True)
    arrays = [y, g.u, g.delta, g.A, g.B, g.C]
else:
    clip = ["none", "step-norm:0.9", "step-value:0.1", "norm:1"]
    spec = RunSpec.create(
        arch=sys.argv[1], steps=50, hidden=21, inputs=5, networks=3, clip=clip, dtype=dtype
    )
    variables = measure(spec).variables
    arrays = [variables[name].data for name in sorted(variables) if name != "rule"]
for array in arrays:
    sha.update(np.ascontiguousarray(array).tobytes())
print(sha.hexdigest())
"""


def bits(arch: str, dtype: str, cache: Path) -> str:
    environment = {**ENVIRONMENT, "NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", PROGRAM, arch, dtype]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("arch", [*CELLS, "scan"])
def test_a_kernel_from_the_cache_has_the_bits_of_a_fresh_one(
    arch: str, dtype: str, tmp_path: Path
) -> None:
    """Two processes, the first of which compiles and the second of which does not."""
    compiled = bits(arch, dtype, tmp_path)
    assert list(tmp_path.rglob("*.nbc")), "the first process cached nothing"
    assert bits(arch, dtype, tmp_path) == compiled


@pytest.mark.tiny
@pytest.mark.parametrize(
    "name", ["kernels/cpu/linalg.py", "cells/lstm.py", "layers/activation.py", "kernels/new.py"]
)
def test_an_edit_in_any_source_of_kernels_makes_another_key(name: str, tmp_path: Path) -> None:
    """Also one that leaves the file's size and times as they were."""
    copy = shutil.copytree(_cache.PACKAGE, tmp_path / "seqlab")
    before = _cache._source_hash(copy)
    assert before == _cache._source_hash(_cache.PACKAGE)
    path = copy / name
    path.touch()
    assert (before == _cache._source_hash(copy)) == (name != "kernels/new.py")
    times = path.stat()
    path.write_bytes(path.read_bytes().replace(b" + ", b" - "))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert before != _cache._source_hash(copy)


@pytest.mark.parametrize("collects", [True, False])
def test_garbage_is_collected_after_compilation_if_it_was_before(
    collects: bool, cache: Path
) -> None:
    try:
        (gc.enable if collects else gc.disable)()
        assert in_new_process() == (2, 0)
        assert gc.isenabled() == collects
    finally:
        gc.enable()


# Damaged files.


def twice(x):
    """A kernel."""
    return x + x


def thrice(x):
    """Another."""
    return x + x + x


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache for kernels that are made from now on."""
    if DISABLED:
        pytest.skip("without the JIT nothing is compiled")
    monkeypatch.setattr(_cache, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(_cache, "_why_not", None)
    return tmp_path / "cache"


def in_new_process(function: Callable[[Any], Any] = twice) -> tuple[int, int]:
    """Call a kernel as a process does that has not called it yet; how often it compiled, and how
    often it found code."""
    kernel = compiled(function)
    times = {"twice": 2, "thrice": 3}[function.__name__]
    assert kernel(21) == times * 21
    assert kernel(0.25) == times * 0.25
    return sum(kernel.stats.cache_misses.values()), sum(kernel.stats.cache_hits.values())


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[:-4096] + bytes(min(4096, len(content))),
    "a flipped bit": flipped,
    "something else": lambda content: b"I am no pickle, nor is there a checksum in me" * 10,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize(("kind", "lost"), [("nbi", 2), ("1.nbc", 1), ("nb[ci]", 2)])
def test_a_damaged_file_is_compiled_again_and_replaced(
    kind: str, lost: int, damage: Callable[[bytes], bytes], cache: Path
) -> None:
    assert in_new_process() == (2, 0)
    assert in_new_process() == (0, 2)
    for path in list(cache.rglob(f"*.{kind}")):
        path.write_bytes(damage(path.read_bytes()))
    assert in_new_process() == (lost, 2 - lost)
    assert in_new_process() == (0, 2)


def test_files_that_are_gone_or_in_disorder_are_made_again(cache: Path) -> None:
    """Data under another's name are what two processes leave that begin at the same time, or what
    is there still when an index is begun anew and its data could not be written."""
    assert in_new_process() == (2, 0)
    one, two = sorted(cache.rglob("*.nbc"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert in_new_process() == (2, 0)
    one.unlink()
    assert in_new_process() == (1, 1)
    assert in_new_process() == (0, 2)


@pytest.mark.parametrize("between", [False, True])
def test_kernels_made_of_different_functions_are_told_apart(cache: Path, between: bool) -> None:
    """As those of different cells are, which one loop makes, at first or at second hand; each is
    found again."""

    def made_of(function: Callable[[Any], Any], between: bool) -> Any:
        part = inlined(function)

        @inlined
        def step(x):
            return part(x)

        called = step if between else part

        @compiled
        def kernel(x):
            return called(x)

        return kernel

    for hits in (0, 1):
        for function, times in ((twice, 2), (thrice, 3)):
            kernel = made_of(function, between)
            assert kernel(21) == times * 21
            assert sum(kernel.stats.cache_hits.values()) == hits


def test_what_cannot_be_unpickled_is_compiled_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound files of an installation whose classes are elsewhere."""

    def missing(*_: Any) -> None:
        raise AttributeError("no such class")

    def too_much(*_: Any) -> None:
        raise MemoryError

    in_new_process()
    with monkeypatch.context() as patch:
        patch.setattr("numba.core.caching.pickle.loads", missing)
        assert in_new_process() == (2, 0)
        patch.setattr("numba.core.caching.pickle.loads", too_much)
        with pytest.raises(MemoryError):
            in_new_process()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "half"])
def test_a_run_does_not_know_of_damage(damage: str, tmp_path: Path) -> None:
    whole = bits("rnn", "float64", tmp_path)
    for path in list(tmp_path.rglob("*.nb[ci]")):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert bits("rnn", "float64", tmp_path) == whole
    assert all(_cache._sound(str(path)) for path in tmp_path.rglob("*.nb[ci]"))


# No cache.

NOTE = "seqlab: note: compiled code is not kept, each start compiles again: "


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("where", ["_open_for_write", "_save_data"])
def test_what_cannot_be_kept_is_said_once(
    where: str,
    code: int,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(_cache._Files, where, fail)
        assert in_new_process(twice) == in_new_process(thrice) == (2, 0)
    assert in_new_process(twice) == (2, 0)
    assert caplog.messages == [f"{NOTE}cannot write {cache}: {os.strerror(code)}"]
    monkeypatch.setattr(_cache, "_why_not", None)  # the next start, with room
    assert in_new_process(twice) == (2, 0)
    assert in_new_process(twice) == (0, 2)


def test_a_cache_that_can_only_be_read_is_read(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    in_new_process()

    def refuse(_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_cache._Place, "ensure_cache_path", refuse)
    assert in_new_process() == (0, 2)
    assert caplog.messages == []
    assert in_new_process(thrice) == (2, 0)
    assert caplog.messages == [f"{NOTE}cannot write {cache}: Permission denied"]


def test_nothing_is_left_where_there_is_no_place_for_a_cache(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_cache, "CACHE_DIR", None)
    monkeypatch.chdir(tmp_path)
    assert in_new_process() == in_new_process() == (2, 0)
    assert caplog.messages == [f"{NOTE}{_cache.NO_HOME}"]
    assert list(tmp_path.iterdir()) == []
    assert not _cache.compiled_before()


# A user whom the system does not know, without a home.
NOBODY = """
import pwd
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
from seqlab.cli import main
main()
"""
PLACES = ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")


def command(
    *words: str, limit: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command of a user who has nothing but these variables, and a size that no file exceeds."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", NOBODY, *words],
        env={name: v for name, v in ENVIRONMENT.items() if name not in PLACES} | environment,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )


@pytest.mark.parametrize(
    ("environment", "limit", "said"),
    [
        ({}, None, _cache.NO_HOME),
        pytest.param(
            {"NUMBA_CACHE_DIR": "/dev/null/kernels"},
            None,
            "cannot write /dev/null/kernels/HASH: Not a directory",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"XDG_CACHE_HOME": "full"},
            100_000,  # the result is smaller, most kernels are not
            "cannot write FOLDER/full/seqlab/HASH: File too large",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["no home", "no folder", "no room"],
)
def test_a_run_without_a_cache_gives_what_it_always_gives(
    environment: dict[str, str],
    limit: int | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _cache.CACHE_DIR is not None
    said = said.replace("HASH", _cache.CACHE_DIR.name).replace("FOLDER", str(tmp_path))
    run = ("run", "--arch", "rnn", "--steps", "20", "--networks", "2", "--json")
    done = command(*run, limit=limit, **environment)
    assert (done.returncode, done.stderr) == (0, f"{NOTE}{said}\n")
    usual = command(*run, NUMBA_CACHE_DIR=str(_cache.CACHE_DIR.parent))
    assert (usual.returncode, usual.stderr) == (0, "")
    assert json.loads(done.stdout)["curves"] == json.loads(usual.stdout)["curves"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, f"none: {_cache.NO_HOME}"),
        (
            {"NUMBA_CACHE_DIR": "/dev/null/kernels"},
            "/dev/null/kernels/HASH (0 files, 0.0 MiB); cannot write /dev/null/kernels/HASH/kernel",
        ),
        ({"HOME": "/home/of/me"}, "/home/of/me/.cache/seqlab/HASH (0 files, 0.0 MiB)"),
    ],
    ids=["no home", "no folder", "a home"],
)
def test_info_says_where_compiled_code_is_kept_or_why_it_is_not(
    environment: dict[str, str], said: str
) -> None:
    done = command("info", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("cache"))
    assert _cache.CACHE_DIR is not None
    found = row.removeprefix("cache").strip()
    assert found.startswith(said.replace("HASH", _cache.CACHE_DIR.name))
    assert not Path("/home/of").exists()
