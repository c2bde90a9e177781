"""A pytest fixture that holds decay curves: `decay_regression`.

It is there wherever seqlab is installed, and loads nothing until a test asks for it. A curve is
compared with a `.decay.csv` next to the test, in a folder named like the test's file;
`pytest --decay-update` writes it, and nothing else does.
"""

import hashlib
import os
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from seqlab.study.attenuation import Attenuation
    from seqlab.study.result import Result

LONGEST_NAME = 120  # letters; file systems bear 255 bytes, and a suffix is added
SUFFIX = ".decay.csv"
# Whose baseline each file is that was asked for in this session.
OWNERS = pytest.StashKey[dict[Path, tuple[str, str | None]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("seqlab")
    group.addoption(
        "--decay-update",
        action="store_true",
        help="write the decay curves that tests check as their new baselines",
    )


@pytest.fixture
def decay_regression(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "DecayRegression":
    """Compare decay curves with their baselines; see `DecayRegression.check`."""
    return DecayRegression(request, tmp_path_factory)


class DecayRegression:
    """What the fixture gives a test."""

    def __init__(
        self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        self._test: str = request.node.nodeid.split("::", 1)[1]
        self._file = request.path
        self._here = request.config.invocation_params.dir
        self._update: bool = request.config.getoption("--decay-update")
        self._owners = request.config.stash.setdefault(OWNERS, {})
        self._temporary = tmp_path_factory
        self._checked: set[Path] = set()

    def check(
        self,
        curve: "Result | Attenuation | Mapping[str, Any]",
        name: str | None = None,
        rate_atol: float = 1e-3,
        log10_atol: float = 0.05,
    ) -> None:
        """Fail the test unless a decay curve is what it was.

        `curve` is a result of `seqlab.run` or a curve of `seqlab.probe` or `seqlab.attenuation`, of
        which each clip rule's is compared, or
        `{"lag": ..., "log_norm": ...}` with arrays of any framework: steps (lags,), ascending,
        and natural logs of a norm, (lags,) or (networks, lags), -inf for a zero. `name` tells
        several curves of a test apart.

        Compared are logs, in decades, which may differ by `log10_atol` at any lag, and the rate
        in nats per step, which must lie in the baseline's 95% interval over networks widened by
        `rate_atol` (under 4 networks, within `rate_atol`). A zero is like a zero alone.
        Raises InputError for what is no decay curve, and for one with nan.
        """
        __tracebackhide__ = True
        from seqlab.guard import baseline

        found = baseline.curves_of(curve)
        path = self._path(name)
        test = f"{self._relative(self._file)}::{self._test}"
        command = f"pytest {shlex.quote(test)} --decay-update"
        if self._update:
            baseline.write(path, found)
            return
        if not path.exists():
            pytest.fail(f"no baseline {self._relative(path)}; make it with\n  {command}")
        kept = baseline.read(path)
        problems = baseline.compare(found, kept, rate_atol, log10_atol)
        if problems:
            picture = self._temporary.mktemp("decay") / f"{path.stem}.png"
            said = baseline.draw(found, kept, log10_atol, picture)
            lines = [f"decay differs from {self._relative(path)}", *problems, said]
            pytest.fail("\n  ".join([*lines, f"if that is right: {command}"]))

    def _path(self, name: str | None) -> Path:
        """The baseline's file; the test fails where another of its curves has it."""
        __tracebackhide__ = True
        folder, owner = self._file.with_suffix(""), (self._test, name)
        there = {path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}")}
        others = {
            path.name.removesuffix(SUFFIX)
            for path, other in self._owners.items()
            if path.parent == folder and other != owner
        }
        path = folder / f"{_file_name(self._test, name, there, others)}{SUFFIX}"
        if path in self._checked:
            pytest.fail(f"a second curve would be {self._relative(path)}: give each its own name=")
        self._checked.add(path)
        self._owners[path] = owner
        return path

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path, self._here)


def _file_name(
    test: str, name: str | None = None, there: Collection[str] = (), others: Collection[str] = ()
) -> str:
    """A name for the file of a test's curve, such that each has one of its own on every system.

    `test` is a pytest id without its file. It is the test's name as long as that is safe; what is
    lost, or told apart by capitals alone, is made up for by a hash. `there` are the names of files
    that are kept, `others` those of other curves: a case `a.b`, and the curve `b` of a case `a`.
    """
    path, bracket, rest = test.partition("[")
    case = rest[:-1]  # of a parametrised test
    ending = "" if name is None else f".{name}"
    plain = path.replace("::", ".") + (f"-{case}" if bracket else "") + ending
    safe = re.sub(r"[^A-Za-z0-9_.+=,-]", "_", plain)[:LONGEST_NAME]
    whole = test.replace("::", ".") + ending
    told = "::" not in case and not {"[", "]"} & set(ending)  # by `whole`, from every other
    key = whole if told else f"{test}\0{ending}"
    marked = f"{safe}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    if safe != plain or not told or marked in there or plain in others:
        return marked
    small = case + ending
    is_free = small == small.lower() and plain.lower() not in map(str.lower, there)
    return plain if is_free or plain in there else marked
