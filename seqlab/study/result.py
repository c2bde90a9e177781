"""The result of one run: its numbers, where they came from, and the file that holds them."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import seqlab
from seqlab.errors import InputError
from seqlab.numbers.variables import Measurement, Variable
from seqlab.report import entries, tidy
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress, Spec
from seqlab.spec.learn import LearnSpec
from seqlab.spec.train import TrainSpec
from seqlab.study import files, netcdf
from seqlab.study.face import Face
from seqlab.study.netcdf import DamagedResult
from seqlab.wording import refuse

if TYPE_CHECKING:
    import pandas as pd

    from seqlab.numbers.rules_of_thumb import Line

# Of a file: raised when a number's meaning or a variable changes. Files before 0.2 have none: 1.
FORMAT = 2


class OtherFormat(InputError):
    """A sound result file whose format is not the one that this seqlab reads and writes."""


@cache
def versions() -> dict[str, str]:
    """The versions that a number may depend on, without importing their packages."""
    python = ".".join(map(str, sys.version_info[:3]))
    packages = {name: _version(name) for name in ("numpy", "scipy", "numba", "llvmlite")}
    return {"seqlab": seqlab.__version__, "python": python} | packages


def _version(name: str) -> str:
    """Of a package: its own word where it is loaded, which is faster to read."""
    if name in sys.modules:
        return str(sys.modules[name].__version__)
    from importlib.metadata import version

    return version(name)


@dataclass(frozen=True, eq=False, repr=False)
class Result(Face):
    """What one run measured. Its numbers go by clip rule: `result["none"].decay_rate`, see
    `seqlab.report.numbers`.

    `variables` has the arrays by name (see `seqlab.numbers.variables`); `created` is a UTC time,
    `duration` in seconds; `path` is the file, None where the result was not stored.
    """

    spec: Spec
    backend: str
    variables: Mapping[str, Variable]
    created: str
    duration: float
    versions: Mapping[str, str]
    path: Path | None = None

    @classmethod
    def from_measurement(
        cls, spec: Spec, measured: Measurement, created: datetime, duration: float
    ) -> "Result":
        """A result of this very moment's software."""
        return cls(
            spec=spec,
            backend=measured.backend,
            variables=measured.variables,
            created=created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            duration=duration,
            versions=versions(),
        )

    @classmethod
    def read(cls, path: str | PathLike[str]) -> "Result":
        """The result in a file that `write` made.

        Raises DamagedResult where one byte is not as it was written, OtherFormat where another
        version of seqlab wrote it, InputError where there is no such file.
        """
        data = _bytes(path)
        try:
            return replace(cls.decode(data), path=Path(path))
        except (DamagedResult, OtherFormat) as refusal:
            raise type(refusal)(f"{path}: {refusal}") from None

    @classmethod
    def decode(cls, data: bytes) -> "Result":
        """The result in the bytes that `encode` made. Raises DamagedResult and OtherFormat."""
        variables, found = netcdf.decode(data)
        form = found.get("format", 1.0)
        if form != FORMAT:
            raise OtherFormat(
                f"has format {form:g} and this seqlab reads {FORMAT}; measure it again "
                "(seqlab run --from FILE, or seqlab sweep)"
            )
        try:
            return cls(
                spec=kinds.from_dict(json.loads(str(found["spec"]))),
                backend=str(found["backend"]),
                variables=variables,
                created=str(found["created"]),
                duration=float(found["duration"]),
                versions=json.loads(str(found["versions"])),
            )
        except (InputError, KeyError, TypeError, ValueError) as error:
            raise DamagedResult(f"not a result of this seqlab: {error!r}") from error

    def write(self, folder: str | PathLike[str]) -> "Result":
        """Store as `<hash>.nc` in a folder, whole or not at all, replacing an older one.

        Returns the result with its path. Raises files.WriteError.
        """
        path = Path(folder) / self.file_name
        files.write_whole(path, self.encode())
        return replace(self, path=path)

    def encode(self) -> bytes:
        """The bytes of its file."""
        attributes: dict[str, str | float] = {
            "format": float(FORMAT),
            "title": self._title,
            "Conventions": "CF-1.11",
            "spec": json.dumps(self.spec.to_dict(), allow_nan=False),
            "spec_hash": self.spec.hash,
            "backend": self.backend,
            "versions": json.dumps(dict(self.versions)),
            "created": self.created,
            "duration": self.duration,
            "duration_units": "s",
        }
        return netcdf.encode(self.variables, attributes)

    @property
    def _title(self) -> str:
        (link,), spec = kinds.links([self.spec.arch]), self.spec
        if isinstance(spec, LearnSpec):
            return f"seqlab: {spec.arch} trained on {spec.task}, up to {spec.steps} {link}s"
        if isinstance(spec, TrainSpec):
            return f"seqlab: {spec.arch} trained, up to {spec.steps} {link}s"
        through = "time" if link == "step" else f"the {link}s"
        return f"seqlab: gradients through {through} of {spec.arch}, {spec.steps} {link}s"

    @property
    def file_name(self) -> str:
        """The name of its file in any store."""
        return f"{self.spec.hash}.nc"

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints: strict JSON, non-finite numbers as strings."""
        return entries.document(self)

    def checks(self, progress: Progress | None = None, *, rule: str | None = None) -> "list[Line]":
        """The checklist of vanishing and exploding gradients, which prints as a table.

        Of a deep stack, whose first networks are trained a little for it: see
        `seqlab.numbers.checklist`. Of training, whose first updates at the longest length are made
        again, by one clip `rule` of its spec, the first if left out: see
        `seqlab.numbers.training_checklist`.

        Raises InputError for anything else, for what was measured in law, and for a rule that the
        spec does not have.
        """
        from seqlab.report.checklist import Checklist

        if isinstance(self.spec, LearnSpec):
            from seqlab.learning.training_checklist import training_checklist

            return Checklist(training_checklist(self.spec, self.variables, rule, progress))
        from seqlab.learning.checklist import checklist

        if rule is not None:
            raise refuse("rule", rule, "the checklist of a deep stack goes by no clip rule")
        return Checklist(checklist(self.spec, self.variables, progress))

    def to_dataframe(self) -> "pd.DataFrame":
        """Tidy curves: a row for each network, rule, length and lag up to the length.

        Columns as of `seqlab.report.tidy.curve_frame`.
        """
        rows = kinds.of_spec(self.spec).table.values()
        names = [row.name for row in rows if row.in_table and row.in_curves]
        return tidy.curve_frame(self, names)


def read_spec(path: str | PathLike[str]) -> Spec:
    """What the result in a file measured, whichever format it has.

    Raises DamagedResult and InputError as `Result.read` does.
    """
    data = _bytes(path)
    try:
        return kinds.from_dict(json.loads(str(netcdf.decode(data)[1]["spec"])))
    except (InputError, KeyError, TypeError, ValueError) as error:
        raise DamagedResult(f"{path}: {error}") from None


def _bytes(path: str | PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InputError(f"cannot read {path}: {reason}") from None
