"""What the specs of all kinds of runs share: fields from a table of options, validated, hashed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from seqlab.errors import InputError
from seqlab.spec import arrays
from seqlab.spec.arrays import ArrayFile
from seqlab.spec.fields import DEFAULT_LENGTHS, spaced
from seqlab.spec.formats import Archive
from seqlab.spec.option import Table
from seqlab.wording import did_you_mean, one_of, short_repr

Check = Callable[[Any], None]
Held = tuple[str, Archive, dict[str, int]]  # a field's file, and the fields that its arrays fix


class TabledSpec:
    """One run: every field is an option, a row of its kind's table, resolved.

    A field that means nothing here is None, so equal measurements have equal specs. Make one with
    `create` or `from_dict`, which validate. Kinds are frozen dataclasses that say which table is
    theirs, what their files hold and what does not go together; and by `kind`, a word of their
    dictionaries, that they are not the first kind with their architectures.
    """

    table: ClassVar[Table]
    kind: ClassVar[str | None] = None

    arch: str
    steps: int
    lengths: tuple[int, ...]

    @classmethod
    def create(cls, check: Check | None = None, /, **given: Any) -> Self:
        """Validate options and fill in the rest; None stands for an option left out.

        Reads the files of one's own arrays, whose shapes give the sizes. Before any of their
        numbers are read, `check` is called with the spec as their headers have it, to raise if it
        cannot be measured. Raises InputError.
        """
        known = cls._parse(given)
        with ExitStack() as files:
            held = cls._open_arrays(known, files)
            records = {name: ArrayFile.of(known[name]) for name in held}
            if records and check is not None:
                check(cls._resolve(known | records))
            for name, stored in held.items():
                content = arrays.read(name, known[name], stored)
                arrays.check_finite(name, known[name], content)
                known[name] = replace(records[name], sha256=arrays.digest(content))
        return cls._resolve(known)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The spec that `to_dict` wrote, validated; files of arrays are not read.

        Raises InputError.
        """
        own = (item for item in fields.items() if item != ("kind", cls.kind))
        return cls._resolve(cls._parse(dict(own)))

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON has it; first the kind, where architectures do not tell it."""
        plain: dict[str, Any] = {} if self.kind is None else {"kind": self.kind}
        plain |= {name: getattr(self, name) for name in self.table}
        for name, value in plain.items():
            if isinstance(value, tuple):
                plain[name] = list(value)
            elif isinstance(value, ArrayFile):
                plain[name] = {"path": value.path, "sha256": value.sha256}
        return plain

    @cached_property
    def hash(self) -> str:
        """16 hex digits of what is measured: the content of arrays counts, not where it lies."""
        apart = {row.name for row in fields(self) if not row.compare}  # type: ignore[arg-type]
        measured = {name: v for name, v in self.to_dict().items() if v is not None}
        measured = {name: v for name, v in measured.items() if name not in apart}
        for name in measured.keys() & self.table.keys():
            if measured[name] == self.table[name].neutral:
                del measured[name]
            elif self.table[name].is_file:
                measured[name] = measured[name]["sha256"]
        text = json.dumps(measured, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # What a kind says of itself.

    @classmethod
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        """Open the files of one's own arrays that `known` names, in turn. Raises InputError."""
        raise NotImplementedError

    @classmethod
    def _defaults(cls, known: Mapping[str, Any]) -> dict[str, Any]:
        """The values of what was left out and means something."""
        defaults = {
            name: value
            for name, value in cls.table.defaults_of(known["arch"]).items()
            if not cls.table.idle(name, known)
        }
        steps = known["steps"]
        shortest, count = DEFAULT_LENGTHS
        return defaults | {"lengths": spaced(min(shortest, steps), steps, count)}

    def _check_together(self) -> None:
        """Refuse what does not go together. Raises InputError."""
        if self.lengths[-1] != self.steps:
            raise InputError(
                f"lengths: {self.lengths[-1]} is not allowed as the last; it must equal steps, "
                f"{self.steps}"
            )

    # What follows for all.

    @classmethod
    def _parse(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Each given field in its canonical form, on its own and beside the architecture."""
        table = cls.table
        for name in given:
            if name not in table:
                raise InputError(f"{name}: no such field{did_you_mean(name, table)}")
        parsed = {n: table[n].parse(n, value) for n, value in given.items() if value is not None}
        known = {name: value for name, value in parsed.items() if value is not None}
        if "arch" not in known:
            raise InputError(f"arch: is needed; {one_of(table.archs)}")
        for name, value in known.items():
            if why := table.idle(name, known):
                raise InputError(f"{name}: {short_repr(value)} means nothing {why}")
        return known

    @classmethod
    def _open_arrays(cls, known: dict[str, Any], opened: ExitStack) -> dict[str, Archive]:
        """Open the files of one's own arrays, and take from them the fields that they fix.

        All that their headers say is checked; nothing else of them is read.
        """
        dtype = known.get("dtype", cls.table["dtype"].default)
        origins: dict[str, str] = {}
        held: dict[str, Archive] = {}
        for name, stored, sizes in cls._files(known, opened):
            arrays.check_dtypes(name, known[name], stored, dtype)
            origin = f"{name} {known[name]}"
            for key, size in sizes.items():
                if known.setdefault(key, size) != size:
                    said = f"the {known[key]} of {origins[key]}" if key in origins else known[key]
                    raise InputError(f"{key}: {said} does not match the {size} of {origin}")
                origins.setdefault(key, origin)
            held[name] = stored
        return held

    @classmethod
    def _resolve(cls, known: dict[str, Any]) -> Self:
        """Fill in what was left out, and refuse what does not go together."""
        if "steps" not in known:
            raise InputError("steps: is needed; a whole number from 1 up")
        everything = dict.fromkeys(cls.table) | cls._defaults(known) | known
        make: Callable[..., Self] = cls  # a dataclass, which takes the table's rows
        spec = make(**everything)
        spec._check_together()
        return spec
