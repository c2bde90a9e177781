"""The curves of a claim, each under what sets its case apart."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from seqlab.claims.claim import Claim
from seqlab.figures import Request, plot
from seqlab.numbers.variables import Variable
from seqlab.report.measured import Measured
from seqlab.spec.kinds import Spec

PLAIN = ("arch", "activation", "init", "clip", "optimizer")  # options whose value says what it is
UNTOLD = ("networks", "momentum")  # what sets no curve apart, nor do rates that are tried


class _Named:
    """A spec with a name, its own in all else."""

    def __init__(self, spec: Spec, name: str) -> None:
        self._spec, self.name = spec, name

    def __getattr__(self, field: str) -> Any:
        return getattr(self._spec, field)


class _Under:
    """A result under a name."""

    def __init__(self, result: Measured, name: str) -> None:
        self.spec: Any = _Named(result.spec, name)
        self.backend: str = result.backend
        self.variables: Mapping[str, Variable] = result.variables
        self.duration: float = result.duration
        self.path: Path | None = result.path


def draw(claim: Claim, results: Mapping[str, Measured], path: str | PathLike[str]) -> None:
    """Write the curves of a claim as PDF, SVG or PNG; `results` by the hash of their spec.

    Raises InputError for another suffix.
    """
    named = [_Under(results[name], text) for name, text in names(claim).items()]
    plot(named, path, Request("curves", y="name"))


def names(claim: Claim) -> dict[str, str]:
    """What the curve of each spec is called, by its hash: the options that not all have alike."""
    pairs = [pair for case in claim.cases for pair in zip(case.specs, case.runs, strict=True)]
    given = [(name, value) for _, options in pairs for name, value in options.items()]
    left = {
        name
        for name, value in given
        if name in UNTOLD
        or _are_tried(name, value)
        or all(options.get(name) == value for _, options in pairs)
    }
    return {
        spec.hash: ", ".join(_describe(n, v) for n, v in options.items() if n not in left)
        or "default"
        for spec, options in pairs
    }


def _are_tried(name: str, value: Any) -> bool:
    return name == "lr" and isinstance(value, list)


def _describe(name: str, value: Any) -> str:
    return value if name in PLAIN else f"{name.replace('_', ' ')} {value}"
