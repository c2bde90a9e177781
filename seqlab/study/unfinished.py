"""What a run that takes long has done so far, in files beside the result that it will have."""

import json
from collections.abc import Callable
from pathlib import Path

from seqlab.learning.checkpoint import Checkpoint
from seqlab.spec.kinds import Spec
from seqlab.study import files
from seqlab.study.result import versions

SUFFIX = ".unfinished"


class Unfinished:
    """The files of one run, `<hash>.<stage>.unfinished` in a folder.

    They are gone on from by the same spec, backend and versions, on which bits depend; why another
    file is not, `report` is told in one line.
    """

    def __init__(
        self, folder: Path, spec: Spec, backend: str, report: Callable[[str], None]
    ) -> None:
        self._folder, self._hash, self._report = folder, spec.hash, report
        self._key = json.dumps([spec.to_dict(), backend, versions()])

    def stage(self, name: str) -> Checkpoint:
        """Where a stage of the run keeps its state."""
        path = self._folder / f"{self._hash}.{name}{SUFFIX}"
        return Checkpoint(path, f"{name} of {self._key}", files.write_whole, self._report)

    def files(self) -> list[Path]:
        """Those that are there."""
        return found(self._folder, self._hash)

    def remove(self) -> None:
        """Remove them: the result is there."""
        remove(self._folder, self._hash)


def found(folder: Path, run: str) -> list[Path]:
    """The files of a run, by its hash."""
    return sorted(folder.glob(f"{run}.*{SUFFIX}"))


def remove(folder: Path, run: str) -> None:
    """Remove the files of a run: its result is there."""
    for path in found(folder, run):
        path.unlink(missing_ok=True)
