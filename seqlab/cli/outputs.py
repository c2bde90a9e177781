"""Where the results of commands that measure go: what was asked for, and how it is told."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from seqlab.cli import options, streams
from seqlab.errors import InputError, Note

if TYPE_CHECKING:
    from seqlab.cli.progress import ProgressLine


@dataclass(frozen=True)
class Outputs:
    """What the options of `options.of_outputs` say: the folder of results, None for none; a figure;
    whether documents are printed, and each in a line; how much is told besides."""

    store: str | None
    plot: str | None
    as_json: bool
    by_line: bool
    quiet: bool
    progress: str

    @classmethod
    def taken(cls, given: dict[str, Any]) -> Self:
        """What a command was given of them, taken out of the rest. Raises InputError."""
        store, plot, no_store = given.pop("store"), given.pop("plot"), given.pop("no_store")
        as_json, by_line = given.pop("as_json"), given.pop("by_line")
        quiet, progress = given.pop("quiet"), given.pop("progress")
        options.at_most_one(json=as_json, jsonl=by_line)
        if no_store and options.was_given("store"):
            raise InputError("no-store: not allowed beside --store; one of them")
        if quiet and progress == "always":
            raise InputError("quiet: not allowed beside --progress always; one of them")
        if quiet:
            warnings.simplefilter("ignore", Note)  # until the command ends
        folder = None if no_store else store
        return cls(folder, plot, as_json or by_line, by_line, quiet, "never" if quiet else progress)

    def check(self) -> None:
        """Refuse a figure that could not be written. Raises InputError."""
        if self.plot is not None:
            options.check_figure("plot", self.plot)

    def line(self) -> "ProgressLine":
        """What shows how far the command is."""
        from seqlab.cli.progress import ProgressLine

        return ProgressLine(mode=self.progress)

    def tell(self, text: str) -> None:
        """Say what is no warning."""
        if not self.quiet:
            streams.write_error(text)

    def documents(self, found: Sequence[Any]) -> str:
        """Documents as strict JSON: an object for one, a list for several; or each in a line."""
        if self.by_line:
            return "\n".join(json.dumps(one, allow_nan=False) for one in found)
        return json.dumps(found if len(found) > 1 else found[0], indent=2, allow_nan=False)

    def drawn(self) -> None:
        """Say what was drawn."""
        if self.plot is not None:
            self.tell(figure_note(self.plot))


def figure_note(name: str) -> str:
    """What is said of a figure that was written."""
    path = Path(name)
    return f"drawn: {path}, its data: {path.with_suffix('.csv')}"
