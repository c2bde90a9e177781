"""The spec of a network of somebody's own, whose curves were measured where it lives.

A module or a function cannot be made again from a spec, so such a run is kept, shown and compared
like every other, and never measured again: what tells two apart is a digest of their curves.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Self

from seqlab.numbers.quantity import SMALLEST
from seqlab.spec.fields import choice, whole
from seqlab.spec.option import Architecture, Option, Table
from seqlab.spec.table import TABLE
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.wording import refuse

# How the adjoint was carried back: by the lab's own kernels, by the framework's differentiation, or
# not at all, where only what reaches the inputs is known.
ENGINES = ("kernels", "autograd", "input")
DTYPES = ("float64", "float32", "bfloat16")
_HEX_DIGITS = frozenset("0123456789abcdef")


def _name(field: str, value: Any) -> str:
    if not (isinstance(value, str) and value.strip()):
        raise refuse(field, value, "some text")
    return value.strip()


def _digest(field: str, value: Any) -> str:
    if not (isinstance(value, str) and len(value) == 64 and _HEX_DIGITS.issuperset(value)):
        raise refuse(field, value, "64 hex digits")
    return value


def _table(arch: str) -> Table:
    archs: dict[str, Architecture] = {arch: SimpleNamespace(name=arch, options=frozenset())}
    return Table(
        archs,
        (
            replace(TABLE["arch"], parse=choice(archs), help="Where the chain goes."),
            Option(
                "name",
                _name,
                "What the network is called.",
                label="network",
                axis_rank=1,
                heading_rank=0,
            ),
            TABLE["steps"],
            replace(TABLE["networks"], default=1),
            replace(TABLE["clip"], default=("none",)),
            TABLE["lengths"],
            Option(
                "every",
                whole(2),
                "Links between two lags that were measured, where that is not one.",
                read=int,
                in_curves=False,
            ),
            Option(
                "engine",
                choice(ENGINES),
                "What carried the adjoint back.",
                label="engine",
                axis_rank=4,
                heading_rank=1,
            ),
            replace(TABLE["dtype"], parse=choice(DTYPES)),
            Option(
                "updates",
                whole(0),
                "Updates of training before it was probed.",
                read=int,
                label="training updates",
                axis_rank=1,
                in_curves=False,
            ),
            Option("content", _digest, "SHA-256 of the curves.", in_table=False),
        ),
    )


PROBED_TABLE, PROBED_LAYERS_TABLE = map(_table, ("probed", "probed-layers"))


@dataclass(frozen=True)
class ProbedSpec(TabledSpec):
    """One probe of a network through time; see TabledSpec."""

    table = PROBED_TABLE

    arch: str
    name: str
    steps: int
    networks: int
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    every: int | None
    engine: str
    dtype: str
    updates: int | None
    content: str

    @classmethod
    def of(cls, **fields: Any) -> Self:
        """The spec of some fields; the architecture is the table's only one."""
        (arch,) = cls.table.archs
        return cls.create(arch=arch, **fields)

    @classmethod
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        yield from ()

    def _check_together(self) -> None:
        super()._check_together()
        for name in ("name", "engine", "content"):
            if getattr(self, name) is None:
                raise refuse(name, None, "it is needed")


@dataclass(frozen=True)
class ProbedLayersSpec(ProbedSpec):
    """One probe of a network through its layers."""

    table = PROBED_LAYERS_TABLE


BY_LINK = {"step": ProbedSpec, "layer": ProbedLayersSpec}


def gradients(engines: Iterable[object]) -> str:
    """What curves are the norms of, `dL/d state`, or `dL/dx` of what `engines` has `input` for."""
    found = ("dL/dx" if engine == "input" else "dL/d state" for engine in engines)
    return " or ".join(dict.fromkeys(found))


def remarks(spec: ProbedSpec) -> list[str]:
    """What is to be said of a probe below its table."""
    if spec.engine != "input":
        return []
    smallest = SMALLEST.get(spec.dtype)
    below = "" if smallest is None else f", 2^{smallest}"
    said = f"where it is zero, the gradient is below the smallest number of {spec.dtype}{below}"
    return [f"engine input: the curve is of dL/dx, relative to the last input's; {said}"]
