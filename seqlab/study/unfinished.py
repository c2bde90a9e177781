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


def remove(folder: Path, run: str) -> None:
    """Forget what a run, by its hash, had done: its result is there."""
    for path in folder.glob(f"{run}.*{SUFFIX}"):
        path.unlink(missing_ok=True)
