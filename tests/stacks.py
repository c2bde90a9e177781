"""Deep stacks that are measured by a double: what a kind of run is asked for, made up."""

import math
from dataclasses import replace
from typing import Any

import pytest
from synthetic import measurement

from seqlab.errors import InputError
from seqlab.spec import kinds
from seqlab.spec.stack import StackSpec

measured: list[StackSpec] = []


def measure(spec: StackSpec, backend: str, progress: Any) -> Any:
    measured.append(spec)
    return measurement(spec, rate=-0.25)


# The cost, which a kind names as a module: this one.


def require_backend(spec: StackSpec, backend: str, elsewhere: bool) -> None:
    if backend not in ("auto", "cpu"):
        raise InputError(f"backend: {backend} has no {spec.arch}; it is on cpu")


def memory_bytes(spec: StackSpec) -> int:
    return 8 * spec.networks * spec.steps * spec.hidden


def seconds(spec: StackSpec, threads: int) -> float:
    return 1.0


def curve_shape(spec: StackSpec) -> tuple[int, int, int, int]:
    return spec.networks, len(spec.clip), len(spec.lengths), spec.steps + 1


def file_bytes(spec: StackSpec) -> int:
    return 8 * math.prod(curve_shape(spec))


def made_up(monkeypatch: pytest.MonkeyPatch) -> list[StackSpec]:
    """Let this module measure stacks; gives what was measured."""
    first, stack, *others = kinds.KINDS
    row = replace(stack, measurement=f"{__name__}:measure", cost=__name__)
    monkeypatch.setattr(kinds, "KINDS", [first, row, *others])
    measured.clear()
    return measured
