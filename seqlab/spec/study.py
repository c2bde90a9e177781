"""A study: many runs from one TOML file, validated whole before any of them starts.

`[study]` has the name, and the `kind` of runs where architectures do not tell it (`learn` or
`train`); `[fixed]` the fields that all runs share; `[grid]` lists that are crossed, the last one
fastest; `[zip]` lists of one length that advance together, faster than the grid. Fields are those
of a run's spec. An entry of `clip` is a rule, or a list of rules of one run; paths are relative to
the file.
"""

import itertools
import math
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqlab.errors import InputError
from seqlab.spec import kinds
from seqlab.spec.dropped import Dropped
from seqlab.spec.kinds import Kind, Spec
from seqlab.spec.option import Option
from seqlab.wording import describe_settings, did_you_mean, one_of, refuse

MOST_RUNS = 1_000_000
TABLES = ("study", "fixed", "grid", "zip")

Fields = dict[str, Any]


@dataclass(frozen=True)
class StudySpec:
    """A study's runs in their order, each once.

    `varied` names the fields of `[grid]` and `[zip]`. `notes` has a sentence for whatever the file
    says that means nothing for some of its runs.
    """

    name: str
    varied: tuple[str, ...]
    runs: tuple[Spec, ...]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "StudySpec":
        """The study in a TOML file, with a byte order mark or without.

        Files of arrays are read for their shapes.

        Raises InputError, which names the file and its line or key.
        """
        try:
            tables = tomllib.loads(Path(path).read_bytes().decode("utf-8-sig"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        except RecursionError:
            raise InputError(f"{path}: its lists are nested too deeply") from None
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InputError(f"{path}: not UTF-8 (at line {line})") from None
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
        try:
            return cls.create(tables, Path(path).parent)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def create(cls, tables: Mapping[str, Any], folder: str | os.PathLike[str] = ".") -> "StudySpec":
        """The study of a file's tables; paths in it are relative to `folder`. Raises InputError."""
        _check_tables(tables)
        axes = list(_axes(tables, Path(folder)))
        count = math.prod(map(len, axes))
        if count > MOST_RUNS:
            raise InputError(f"grid: {count} runs are not allowed; at most {MOST_RUNS}")
        varied = (*tables.get("grid", ()), *tables.get("zip", ()))
        dropped = Dropped()
        named = tables["study"].get("kind")
        combined = [_combine(parts, named, varied, dropped) for parts in itertools.product(*axes)]
        runs = tuple(dict.fromkeys(combined))
        notes = list(dropped.sentences(len(combined)))
        if len(runs) < count:
            notes.append(
                f"{count - len(runs)} of {count} runs equal another, measured once for both"
            )
        return cls(tables["study"]["name"], varied, runs, tuple(notes))

    def label(self, spec: Spec) -> str:
        """What tells a run from the study's others."""
        values = {name: getattr(spec, name, None) for name in self.varied or ("arch", "steps")}
        return describe_settings(values)


def _check_tables(tables: Mapping[str, Any]) -> None:
    for table, content in tables.items():
        if table not in TABLES:
            raise InputError(
                f"{table}: no such table{did_you_mean(table, TABLES)}; {one_of(TABLES)}"
            )
        if not isinstance(content, Mapping):
            raise refuse(table, content, f"a table, [{table}]")
    study = tables.get("study", {})
    for key in study:
        if key not in ("name", "kind"):
            raise InputError(f"study.{key}: no such key; name or kind")
    if "name" not in study:
        raise InputError("study.name: is needed; a text of one line, such as 'gain-and-clipping'")
    name = study["name"]
    if not (isinstance(name, str) and name.isprintable() and name.strip()):
        raise refuse("study.name", name, "a text of one line")
    homes: dict[str, str] = {}
    for table in TABLES[1:]:
        for field in tables.get(table, ()):
            if field in homes:
                raise InputError(f"{table}.{field}: is in [{homes[field]}] too; each field once")
            homes[field] = table
    if "arch" not in homes:
        raise InputError(f"arch: is needed, in {one_of(f'[{table}]' for table in TABLES[1:])}")


def _axes(tables: Mapping[str, Any], folder: Path) -> Iterator[list[Fields]]:
    """What each axis of the product sets at each of its places."""
    parse = _Parser(_kinds_in(tables), folder)
    fixed = tables.get("fixed", {})
    yield [{name: parse.one("fixed", name, value) for name, value in fixed.items()}]
    for name, values in tables.get("grid", {}).items():
        yield [{name: value} for value in parse.all("grid", name, values)]
    columns = {
        name: parse.all("zip", name, values) for name, values in tables.get("zip", {}).items()
    }
    if columns:
        yield [dict(zip(columns, row, strict=True)) for row in _rows(columns)]


def _rows(columns: Mapping[str, list[Any]]) -> Iterator[tuple[Any, ...]]:
    (first, values), *others = columns.items()
    for name, column in others:
        if len(column) != len(values):
            raise InputError(
                f"zip.{name}: {len(column)} values do not go with the {len(values)} of {first}"
            )
    return zip(*columns.values(), strict=True)


def _kinds_in(tables: Mapping[str, Any]) -> list[Kind]:
    """The kind that a study names, or those of its architectures; of an unknown one the first."""
    if (name := tables["study"].get("kind")) is not None:
        return [_of_study(None, name)]
    given = [tables.get("fixed", {}).get("arch")]
    for table in ("grid", "zip"):
        values = tables.get(table, {}).get("arch")
        given += values if isinstance(values, (list, tuple)) else []
    named = [kinds.of(arch) for arch in given if arch is not None]
    return [kind for kind in kinds.KINDS if kind in named]


@dataclass(frozen=True)
class _Parser:
    """Values as the kinds of a study's runs take them."""

    kinds: Sequence[Kind]
    folder: Path

    def all(self, table: str, name: str, values: Any) -> list[Any]:
        """A list of values, each for a run."""
        self._check_name(table, name)
        if not (isinstance(values, Sequence) and not isinstance(values, str) and values):
            raise refuse(f"{table}.{name}", values, "a list of one value or more, each for a run")
        return [self.one(table, name, value) for value in values]

    def one(self, table: str, name: str, value: Any) -> Any:
        """One value; what only other kinds have is as they take it."""
        self._check_name(table, name)
        rows = [kind.table[name] for kind in self.kinds if name in kind.table]
        rows = rows or [kinds.options()[name]]
        if not rows[0].is_file:
            return _first_taker(rows, f"{table}.{name}", value)
        if not isinstance(value, str):
            raise refuse(f"{table}.{name}", value, "the path of a file")
        return str(self.folder / value)

    def _check_name(self, table: str, name: str) -> None:
        """What another kind has may mean nothing for some of a study's runs; what a kind with a
        name has, or lacks, is said at once."""
        named = [kind for kind in self.kinds if kind.name is not None]
        known = kinds.options(named or kinds.by_arch())
        if name not in known:
            raise InputError(f"{table}.{name}: no such field{did_you_mean(name, known)}")


def _first_taker(rows: Sequence[Option], name: str, value: Any) -> Any:
    """The value as the first kind of run takes it whose option allows it."""
    refusals = []
    for row in rows:
        try:
            return row.parse(name, value)
        except InputError as error:
            refusals.append(error)
    raise refusals[0]


def _of_study(arch: object, name: object) -> Kind:
    """As `kinds.of`, in the words of a study."""
    try:
        return kinds.of(arch, name)
    except InputError as error:
        raise InputError(f"study.{error}") from None


def _combine(
    parts: Sequence[Fields], named: str | None, varied: Sequence[str], dropped: Dropped
) -> Spec:
    """The run of one place on every axis, without what means nothing for it."""
    given = {name: value for part in parts for name, value in part.items()}
    kept = dropped.kept(given, kinds.of(given["arch"], named).table)
    try:
        return kinds.create(kind=named, **kept)
    except InputError as error:
        where = describe_settings({name: kept.get(name) for name in varied})
        raise InputError(f"with {where}: {error}" if where else str(error)) from None
