"""What is measured: frozen, validated specs and their stable hash."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from seqlab.cells import CELLS, Sizes
from seqlab.errors import InputError
from seqlab.spec import arrays
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.fields import spaced
from seqlab.spec.formats import Archive
from seqlab.spec.table import DEFAULT_LENGTHS, TABLE
from seqlab.wording import did_you_mean, one_of, refuse, short_repr

Check = Callable[["RunSpec"], None]


@dataclass(frozen=True)
class RunSpec:
    """One run: every field is an option of `seqlab run`, a row of its table, resolved.

    A field that means nothing here is None, so equal measurements have equal specs. Make one with
    `create` or `from_dict`, which validate.
    """

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

    @classmethod
    def create(cls, check: Check | None = None, /, **given: Any) -> "RunSpec":
        """Validate options and fill in the rest; None stands for an option left out.

        Reads the files of `params` and `input`, whose shapes give the sizes. Before any of their
        numbers are read, `check` is called with the spec as their headers have it, to raise if it
        cannot be measured. Raises InputError.
        """
        known = _parse(given)
        with ExitStack() as files:
            held = _open_arrays(known, files)
            records = {name: ArrayFile(os.path.abspath(known[name]), "") for name in held}
            if records and check is not None:
                check(_resolve(known | records))
            for name, stored in held.items():
                content = arrays.read(name, known[name], stored)
                arrays.check_finite(name, known[name], content)
                known[name] = replace(records[name], sha256=arrays.digest(content))
        return _resolve(known)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "RunSpec":
        """The spec that `to_dict` wrote, validated; files of arrays are not read.

        Raises InputError.
        """
        return _resolve(_parse(dict(fields)))

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON has it."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in plain.items():
            if isinstance(value, tuple):
                plain[name] = list(value)
            elif isinstance(value, ArrayFile):
                plain[name] = {"path": value.path, "sha256": value.sha256}
        return plain

    @property
    def sizes(self) -> Sizes:
        """H, I and N, as the cell asks for them."""
        sizes = Sizes(self.hidden, self.inputs)
        return sizes if self.state is None else sizes._replace(state=self.state)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of what is measured: the content of arrays counts, not where it lies."""
        measured = {name: value for name, value in self.to_dict().items() if value is not None}
        measured.pop("module", None)
        for name in measured:
            if TABLE[name].is_file:
                measured[name] = measured[name]["sha256"]
        text = json.dumps(measured, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _parse(given: Mapping[str, Any]) -> dict[str, Any]:
    """Each given field in its canonical form, on its own and beside the cell."""
    for name in given:
        if name not in TABLE:
            raise InputError(f"{name}: no such field{did_you_mean(name, TABLE)}")
    known = {n: TABLE[n].parse(n, value) for n, value in given.items() if value is not None}
    if "arch" not in known:
        raise InputError(f"arch: is needed; {one_of(CELLS)}")
    for name, value in known.items():
        if why := TABLE.idle(name, known):
            raise InputError(f"{name}: {short_repr(value)} means nothing {why}")
    return known


def _open_arrays(known: dict[str, Any], files: ExitStack) -> dict[str, Archive]:
    """Open the files of one's own arrays, and take from them the fields that they fix.

    All that their headers say is checked; nothing else of them is read.
    """
    cell = CELLS[known["arch"]]
    dtype = known.get("dtype", TABLE["dtype"].default)
    origins: dict[str, str] = {}
    held: dict[str, Archive] = {}

    def take(name: str, stored: Archive, sizes: dict[str, int]) -> None:
        arrays.check_dtypes(name, known[name], stored, dtype)
        origin = f"{name} {known[name]}"
        for key, size in sizes.items():
            if known.setdefault(key, size) != size:
                said = f"the {known[key]} of {origins[key]}" if key in origins else known[key]
                raise InputError(f"{key}: {said} does not match the {size} of {origin}")
            origins.setdefault(key, origin)
        held[name] = stored

    if isinstance(path := known.get("params"), str):
        stored = files.enter_context(arrays.opened_params(cell, path, known.get("module")))
        take("params", stored, arrays.sizes_of_params(cell, path, stored))
    if isinstance(path := known.get("input"), str):
        stored = files.enter_context(arrays.opened_input(path))
        take("input", stored, arrays.sizes_of_input(path, stored["input"]))
    return held


def _resolve(known: dict[str, Any]) -> RunSpec:
    """Fill in what was left out, and refuse what does not go together."""
    if "steps" not in known:
        raise InputError("steps: is needed; a whole number from 1 up")
    defaults = {
        name: value for name, value in TABLE.defaults.items() if not TABLE.idle(name, known)
    }
    steps = known["steps"]
    shortest, count = DEFAULT_LENGTHS
    defaults["lengths"] = spaced(min(shortest, steps), steps, count)
    everything: dict[str, Any] = dict.fromkeys(TABLE) | defaults | known
    spec = RunSpec(**everything)
    _check_together(spec)
    return spec


def _check_together(spec: RunSpec) -> None:
    cell = CELLS[spec.arch]
    if spec.lengths[-1] != spec.steps:
        raise InputError(
            f"lengths: {spec.lengths[-1]} is not allowed as the last; it must equal steps, "
            f"{spec.steps}"
        )
    if not cell.silent_drive:
        for name, silent in (("drive", "zeros"), ("input_scale", 0.0)):
            if getattr(spec, name) == silent:
                raise refuse(name, silent, f"{cell.name} computes nothing without input")
    if spec.forget_bias == "chrono":
        if not cell.chrono:
            raise refuse("forget_bias", "chrono", f"{cell.name} takes a finite number")
        if spec.steps < 3:
            raise refuse("forget_bias", "chrono", f"it needs steps from 3 up, not {spec.steps}")
    largest = math.prod(cell.state_shape(spec.sizes))
    if spec.spectrum is not None and spec.spectrum > largest:
        raise refuse("spectrum", spec.spectrum, f"1 to {largest}, the size of the state")
