"""Fields that mean nothing for some of several runs: left out there, and said once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from seqlab.errors import InputError
from seqlab.spec.option import Table


class Dropped:
    """The fields that mean nothing for some runs: why, and for how many."""

    def __init__(self) -> None:
        self._why: dict[str, dict[str, str]] = {}
        self._count: dict[str, int] = {}

    def kept(self, given: Mapping[str, Any], table: Table) -> dict[str, Any]:
        """What means something for one run, whose `arch` is given with the rest."""
        found = {}
        for name, value in given.items():
            if why := table.idle(name, given):
                where, _, instead = why.partition("; ")
                self._why.setdefault(name, {})[where] = instead
                self._count[name] = self._count.get(name, 0) + 1
            else:
                found[name] = value
        return found

    def sentences(self, runs: int) -> Iterator[str]:
        """One for each field. Raises InputError for a field that is dropped from all runs."""
        for name, why in self._why.items():
            reasons = ", ".join(why)
            if self._count[name] == runs:
                instead = "".join(f"; {text}" for text in dict.fromkeys(why.values()) if text)
                raise InputError(f"{name}: means nothing {reasons}: it serves no run{instead}")
            yield f"{name} means nothing {reasons}, and is left out there"


def for_each(
    archs: Sequence[str], given: Mapping[str, Any], table_of: Callable[[str], Table]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The fields of a run of each architecture, and what is to be said of those left out.

    Of one alone none is left out; of one that its table does not have none either, for its kind to
    refuse. Raises InputError for a field that serves none of several.
    """
    dropped, found = Dropped(), list[dict[str, Any]]()
    for arch in archs:
        fields, table = {"arch": arch, **given}, table_of(arch)
        found.append(dropped.kept(fields, table) if arch in table.archs else fields)
    if len(archs) == 1:
        return [{"arch": archs[0], **given}], []
    return found, list(dropped.sentences(len(archs)))
