"""A folder of results: one file a run, `<hash>.nc`, and nothing else is needed to read it.

Beside results lie, by the run's hash, `<hash>.failed.json` for a run that failed,
`<hash>.STAGE.unfinished` for what a long one has done so far, and `<hash>.nc.damaged-N` for a file
that was no sound result and was set aside; `.lock` is for sweeps
(see `seqlab.study.locks`), and `.<hash>...part` is a file that is being written.

What a study of a million runs would cost, reckoned from 10,000 runs of 10 steps on two cores.
Beyond the measurements: 1 ms a run, so 17 min, and two flushes of the disk, 4 ms on a good one,
so over an hour; through Dask 60 runs a second, so 5 h. On disk 8 KB a run, 8 GB, in one folder of
a million names, which ext4 and XFS bear and many network file systems do not. To sweep again or
to `load`, 0.4 to 0.8 ms a file, so 7 to 13 min; the list of specs 0.7 GB. What would have to
change: folders by the hash's first two digits; a list of name, size and time of the files that
were checked before, so that only new ones are read; a hundred small runs to a task, a flush and a
file; specs made as they are needed.
"""

import itertools
import json
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seqlab.errors import InputError
from seqlab.spec.kinds import Spec
from seqlab.study import files, unfinished
from seqlab.study.files import WriteError
from seqlab.study.locks import Claims
from seqlab.study.netcdf import DamagedResult
from seqlab.study.result import OtherFormat, Result

Report = Callable[[str], None]

_FAILED = ".failed.json"
_HASH = "[0-9a-f]" * 16


class Store:
    """The results in a folder, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def hashes(self) -> set[str]:
        """The runs that have a file, sound or not."""
        return {path.stem for path in self.folder.glob("*.nc")}

    def results(self, report: Report) -> Iterator[Result]:
        """Every sound result, by name; what is no sound result is reported and left out.

        Raises InputError where there is no such folder.
        """
        if not self.folder.is_dir():
            raise InputError(f"store: {self.folder} is not a folder of results")
        for path in sorted(self.folder.glob("*.nc")):
            try:
                yield _read(path)
            except InputError as damage:
                report(f"{damage}; left out")

    def has(self, spec: Spec, report: Report) -> bool:
        """Whether a sound result is there; a file that is none is reported and set aside, one of
        another format is reported.

        To be called by who has claimed the run. Raises WriteError where it cannot be set aside.
        """
        path = self._path(spec, ".nc")
        if not path.exists():
            return False
        try:
            _read(path)
        except OtherFormat as old:
            report(f"{old}; measured again now")
            return False
        except InputError as damage:
            report(f"{damage}; set aside as {_set_aside(path).name}")
            return False
        return True

    def find(self, spec: Spec, report: Report) -> Result | None:
        """A run's sound result, None where there is none; a file that is none is reported."""
        path = self._path(spec, ".nc")
        try:
            return _read(path) if path.exists() else None
        except InputError as damage:
            report(f"{damage}; measured again now")
            return None

    def keep(self, result: Result) -> None:
        """Write a result; that it failed once is forgotten, and what was done before it was whole.

        Raises WriteError.
        """
        result.write(self.folder)
        unfinished.remove(self.folder, result.spec.hash)
        self._path(result.spec, _FAILED).unlink(missing_ok=True)

    def keep_failure(self, spec: Spec, error: Exception) -> None:
        """Record why a run failed. Raises WriteError."""
        record = {
            "spec": spec.to_dict(),
            "error": describe(error),
            "traceback": "".join(traceback.format_exception(error)),
            "when": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        files.write_whole(self._path(spec, _FAILED), text.encode())

    def failure(self, spec: Spec) -> str | None:
        """Why a run failed; None where no failure is recorded."""
        try:
            record: Any = json.loads(self._path(spec, _FAILED).read_bytes())
            return str(record["error"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return "its record cannot be read"

    def remove_drafts(self, claims: Claims) -> None:
        """Remove what sweeps that were killed had begun to write."""
        for draft in self.folder.glob(f".{_HASH}.*.part"):
            run = draft.name[1:17]
            if claims.take(run):
                draft.unlink(missing_ok=True)
                claims.drop(run)

    def _path(self, spec: Spec, suffix: str) -> Path:
        return self.folder / f"{spec.hash}{suffix}"


def describe(error: Exception) -> str:
    """An error in one line; with its kind, unless it was written for the user."""
    text = " ".join(str(error).split())
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def _read(path: Path) -> Result:
    """A sound result under its own name. Raises InputError."""
    result = Result.read(path)
    if result.file_name != path.name:
        raise DamagedResult(f"{path}: its name is not {result.file_name}, its spec's")
    return result


def _set_aside(path: Path) -> Path:
    """Rename a file to the first free `.damaged-N`; gives its new path."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.name}.damaged-{number}")
        if not aside.exists():
            break
    try:
        return path.rename(aside)
    except OSError as error:
        raise WriteError(f"cannot set aside {path}: {error.strerror}") from error
