"""The spec of a recurrent run."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from seqlab.cells import CELLS, Cell, Sizes, in_layers
from seqlab.spec import arrays
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.formats import InMemory
from seqlab.spec.table import TABLE
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.wording import one_of, refuse


def check_init(init: str | None, arch: str) -> None:
    """Refuse a draw that a cell does not know. Raises InputError."""
    if init is not None and init not in CELLS[arch].inits:
        raise refuse("init", init, f"{arch} takes {one_of(CELLS[arch].inits)}")


def check_forget_bias(forget_bias: float | str | None, arch: str, steps: int) -> None:
    """Refuse a rule of forget biases that a cell, or a number of steps, has no use for.

    Raises InputError.
    """
    if forget_bias != "chrono":
        return
    if not CELLS[arch].chrono:
        raise refuse("forget_bias", "chrono", f"{arch} takes a finite number")
    if steps < 3:
        raise refuse("forget_bias", "chrono", f"it needs steps from 3 up, not {steps}")


def is_layered(spec: object) -> bool:
    """Whether it is a run of several layers of a cell."""
    return isinstance(spec, RunSpec) and spec.layers > 1


def check_ring(r_min: float | None, r_max: float | None) -> None:
    """Refuse a ring of eigenvalues without a width. Raises InputError."""
    if r_min is not None and r_max is not None and not r_min < r_max:
        raise refuse("r_min", r_min, f"0 <= r_min < r_max <= 1 is needed, and r_max is {r_max:g}")


@dataclass(frozen=True)
class RunSpec(TabledSpec):
    """One run of a recurrent cell: every field is an option of `seqlab run`; see TabledSpec."""

    table = TABLE

    arch: str
    steps: int
    hidden: int
    inputs: int
    state: int | None
    networks: int
    seed: int
    activation: str | None
    init: str | None
    gain: float | None
    input_scale: float | None
    drive: str | None
    forget_bias: float | str | None
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    spectrum: int | None
    dtype: str
    params: ArrayFile | None
    module: str | None = field(compare=False)  # where in params: what counts is what was there
    input: ArrayFile | None
    truncation: float | None
    layers: int
    r_min: float | None
    r_max: float | None
    max_phase: float | None
    decay: str | None

    @property
    def cell(self) -> Cell:
        """The row of the network: its cell, in as many layers."""
        return in_layers(CELLS[self.arch], self.layers)

    @property
    def sizes(self) -> Sizes:
        """H, I and N, as the cell asks for them."""
        sizes = Sizes(self.hidden, self.inputs)
        return sizes if self.state is None else sizes._replace(state=self.state)

    @classmethod
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        cell = CELLS[known["arch"]]
        if isinstance(path := known.get("params"), str | InMemory):
            stored = opened.enter_context(arrays.opened_params(cell, path, known.get("module")))
            yield "params", stored, arrays.sizes_of_params(cell, path, stored)
        if isinstance(path := known.get("input"), str | InMemory):
            stored = opened.enter_context(arrays.opened_input(path))
            yield "input", stored, arrays.sizes_of_input(path, stored["input"])

    def _check_together(self) -> None:
        super()._check_together()
        cell = self.cell
        if not cell.silent_drive:
            for name, silent in (("drive", "zeros"), ("input_scale", 0.0)):
                if getattr(self, name) == silent:
                    raise refuse(name, silent, f"{cell.name} computes nothing without input")
        check_init(self.init, self.arch)
        check_forget_bias(self.forget_bias, self.arch, self.steps)
        check_ring(self.r_min, self.r_max)
        largest = math.prod(cell.adjoint_shape(self.sizes))
        if self.spectrum is not None and self.spectrum > largest:
            raise refuse("spectrum", self.spectrum, f"1 to {largest}, the size of the state")
