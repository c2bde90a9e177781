"""What a report or a figure asks of a result, whoever keeps it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from seqlab.numbers.variables import Variable
from seqlab.spec.kinds import Spec


class Measured(Protocol):
    """One measured spec. `variables` has the arrays by name, `duration` is in seconds, `path` the
    file, None where there is none."""

    @property
    def spec(self) -> Spec: ...

    @property
    def backend(self) -> str: ...

    @property
    def variables(self) -> Mapping[str, Variable]: ...

    @property
    def duration(self) -> float: ...

    @property
    def path(self) -> Path | None: ...
