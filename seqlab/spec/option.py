"""What a table of options is made of: a row an option, and what every reader of the table derives.

A kind of run has a table (`seqlab.spec.table` is that of recurrent cells). Its spec, study files,
the command line, result tables and the axes of figures take names, order and words from it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from seqlab.errors import InputError
from seqlab.spec.fields import Parser
from seqlab.wording import describe_value, did_you_mean, one_of

LAST = 99  # the rank of what has none: in the table's order, behind all that has one


@dataclass(frozen=True)
class Option:
    """One field of a spec.

    `parse` takes the field's name and a value and gives the canonical form, or raises InputError.
    `help` is what `--help` says beside the cells that it is for and the default; `default_text`
    says the default where no value does, `default_of` gives an architecture's where not all have
    the same. `read` makes a value of a word of the command line, `many` takes several such words.
    `idle` says why the field means nothing beside the others known, None where it does.
    `in_table`: a column of a store's table, and a setting in the heading of a result's; with
    `in_curves` of a result's curves too. `label` names the axis of a figure, None where it can be
    none. The ranks order axes and headings, the smallest first.
    `spelled` is what the command of its kind calls it, where that is another word than the name.
    `is_file`: the path of a file of arrays. `modest` is a size that is never to blame for what a
    run takes, None where the field is no size. `searched` has the ends between which a value is
    looked for by who asks how far gradients reach, of a number that draws networks. `neutral` is
    the value of an option that came later which changes nothing: what is measured keeps the hash
    that it had before.
    """

    name: str
    parse: Parser
    help: str
    default: Any = None
    default_text: str | None = None
    default_of: Callable[[str], Any] | None = None
    metavar: str | None = None
    read: Callable[[str], Any] = str
    many: bool = False
    idle: Callable[[Mapping[str, Any]], str | None] = lambda known: None
    label: str | None = None
    axis_rank: int = LAST
    heading_rank: int = LAST
    in_table: bool = True
    in_curves: bool = True
    spelled: str | None = None
    is_file: bool = False
    modest: int | None = None
    searched: tuple[float, float] | None = None
    neutral: Any = None


class Architecture(Protocol):
    """What a table asks of an architecture; `options` mean nothing for those that lack them."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> frozenset[str]: ...


class Table(Mapping[str, Option]):
    """The options of one kind of run by name, in the order of a spec's fields, and the
    architectures that they are for."""

    def __init__(self, archs: Mapping[str, Architecture], rows: Iterable[Option]) -> None:
        self.archs = archs
        self._rows = {row.name: row for row in rows}

    def __getitem__(self, name: str) -> Option:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def defaults(self) -> dict[str, Any]:
        """The values of what is left out and means something."""
        return {name: row.default for name, row in self.items() if row.default is not None}

    def defaults_of(self, arch: str) -> dict[str, Any]:
        """The same where an architecture has some of its own."""
        own = {name: row.default_of(arch) for name, row in self.items() if row.default_of}
        return self.defaults | own

    def takers(self, name: str) -> list[str]:
        """The architectures that alone have this option; none where it is for all."""
        return [arch.name for arch in self.archs.values() if name in arch.options]

    def idle(self, name: str, known: Mapping[str, Any]) -> str | None:
        """Why a field means nothing beside the others known (arch at least); None where it does."""
        if name not in self:
            return f"for {known['arch']}"
        takers = self.takers(name)
        if takers and known["arch"] not in takers:
            return f"for {known['arch']}; it is for {one_of(takers)}"
        return self[name].idle(known)

    @property
    def words(self) -> dict[str, str]:
        """What the kind's own command calls its fields, by the fields' names."""
        return {name: row.spelled or name for name, row in self.items()}

    def fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What was given by the words of the kind's own command, by the fields' names.

        Raises InputError for other words.
        """
        names = {word: name for name, word in self.words.items()}
        for word in given:
            if word not in names:
                raise InputError(f"{word}: no such option{did_you_mean(word, names)}")
        return {names[word]: value for word, value in given.items()}

    @contextmanager
    def in_own_words(self) -> Iterator[None]:
        """Let refusals within name fields as the kind's own command calls them: at the beginning
        of the line, and where it says what is allowed."""
        try:
            yield
        except InputError as error:
            raise type(error)(self._reworded(str(error))) from None

    def _reworded(self, message: str) -> str:
        name, colon, rest = message.partition(": ")
        told, semicolon, allowed = rest.rpartition("; ")
        for field, word in self.words.items():
            allowed = re.sub(rf"\b{field}\b", word, allowed) if semicolon else allowed
        return f"{self.words.get(name, name)}{colon}{told}{semicolon}{allowed}"

    def text(self, name: str) -> str:
        """The option's line of `--help`."""
        row, default = self[name], self[name].default_text
        if default is None and row.default is not None:
            values = row.default if isinstance(row.default, tuple) else (row.default,)
            default = " and ".join(map(describe_value, values))
        return f"{row.help} [default: {default}]" if default is not None else row.help


def labels(options: Mapping[str, Option]) -> dict[str, str]:
    """What may be an axis of a figure, with its label; what tells more comes first."""
    ranked = sorted(options.values(), key=lambda row: row.axis_rank)
    return {row.name: row.label for row in ranked if row.label is not None}


def settings(options: Mapping[str, Option]) -> tuple[str, ...]:
    """What the heading of a result's table says beside the architecture, in its order."""
    ranked = sorted(options.values(), key=lambda row: row.heading_rank)
    return tuple(row.name for row in ranked if row.in_table and row.name != "arch")


def noteworthy(options: Mapping[str, Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that say nothing: neutral values, as they are or as text."""
    return {
        name: value
        for name, value in values.items()
        if name not in options or str(value) != str(options[name].neutral)
    }
