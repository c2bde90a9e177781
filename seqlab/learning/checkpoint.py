"""Training that goes on where it was stopped, from a file that holds its whole state."""

import io
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import seqlab
from seqlab.spec.formats import UNREADABLE, npz

COUNT = "arrays"  # of the state: zip checks each, and would not miss one
# Of a file: raised when the name or the meaning of anything in a state changes.
FORMAT = 1
# Seconds. A kill costs the work since what was last written had been taken: these two, and those of
# an update and of the writing. Ctrl-C costs the work since the last taking.
WRITTEN_EVERY, TAKEN_EVERY = 20.0, 1.0

Arrays = dict[str, NDArray]


class Resumable(Protocol):
    """Work in pieces. `state()` is a copy of all that the rest of it depends on, `restore(state)`
    goes on from there in work as it is at its start; `pieces()` does what is left, and stops after
    each piece, where alone a state may be taken."""

    def state(self) -> Arrays: ...

    def restore(self, state: Arrays) -> None: ...

    def pieces(self) -> Iterable[object]: ...


class Checkpoint:
    """A file of the state of one piece of work, in NumPy's .npz, written whole or not at all.

    `key` says in any words what the work is, and is another for other work; `write(path, bytes)`
    replaces a file in one step and flushes it to the disk; `report` is told in one line why a file
    is not gone on from; `clock` gives seconds.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        write: Callable[[Path, bytes], None],
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._write, self._report, self._clock = path, write, report, clock
        self._identity = {
            "format": np.array(FORMAT),
            "seqlab": np.array(seqlab.__version__),
            "key": np.array(key),
        }

    def carry(self, work: Resumable) -> None:
        """Do the work from where it was left to its end; the state at the end is kept too, so that
        it is not done again if what comes after is stopped.

        An interrupt (Ctrl-C) falls anywhere, also between the parameters and the moments of an
        update: what is written then is the state that was last taken, and KeyboardInterrupt goes
        on. Raises what `write` does.
        """
        state = self.load()
        if state is not None:
            work.restore(state)
        taken = written = self._clock()
        newest = None
        try:
            for _ in work.pieces():
                now = self._clock()
                if now - taken >= TAKEN_EVERY:
                    newest, taken = work.state(), now
                if newest is not None and now - written >= WRITTEN_EVERY:
                    self.save(newest)
                    written = now
            self.save(work.state())
        except KeyboardInterrupt:
            if newest is not None:
                self.save(newest)
            raise

    def load(self) -> Arrays | None:
        """The state in the file; None where there is no file, or none of this work, this seqlab
        and this format, or one that is damaged: that is reported."""
        try:
            with open(self._path, "rb") as file:
                found = {name: stored.read() for name, stored in npz.archive(file).items()}
            why = self._why_not(found)
        except FileNotFoundError:
            return None
        except OSError as error:
            why = f"it cannot be read ({error.strerror})"
        except UNREADABLE:
            why = "it is no sound checkpoint"
        if why:
            self._report(f"{self._path}: {why}; training begins anew")
            return None
        return found

    def _why_not(self, found: Arrays) -> str:
        """Take out of a file's arrays what is no part of the state; gives why it is not gone on
        from, or nothing."""
        form, version, key = (found.pop(name).item() for name in self._identity)
        count = found.pop(COUNT).item()
        if form != FORMAT:
            return f"it has format {form} and this seqlab reads {FORMAT}"
        if version != seqlab.__version__:
            return f"it is of seqlab {version} and this is {seqlab.__version__}"
        if key != self._identity["key"].item():
            return "it is of other training"
        return "" if len(found) == count else "it has lost some of its arrays"

    def save(self, state: Mapping[str, NDArray]) -> None:
        """Replace the file. Raises what `write` does."""
        data = io.BytesIO()
        arrays: dict[str, Any] = {**self._identity, COUNT: np.array(len(state)), **state}
        np.savez(data, **arrays)
        self._write(self._path, data.getvalue())

    def remove(self) -> None:
        """Remove the file, if there is one: what came of the work is kept elsewhere."""
        self._path.unlink(missing_ok=True)


def under(name: str, state: Mapping[str, NDArray]) -> Arrays:
    """The state of a part, as it stands in that of the whole: `name/...`."""
    return {f"{name}/{inner}": array for inner, array in state.items()}


def within(name: str, state: Mapping[str, NDArray]) -> Arrays:
    """The state that was put `under` a name."""
    begin = f"{name}/"
    return {key.removeprefix(begin): x for key, x in state.items() if key.startswith(begin)}
