"""A file that training cannot go on from is refused, and what was sound before is kept."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpointed import PATH, bits, kept, stopped_at, ticking, told, train
from courses import course, equal

import seqlab
from seqlab.learning.checkpoint import Checkpoint


def changed(**identity: Any) -> None:
    with np.load(PATH) as archive:
        arrays: dict[str, Any] = dict(archive)
    np.savez(PATH, **(arrays | {name: np.array(value) for name, value in identity.items()}))


def cut() -> None:
    PATH.write_bytes(PATH.read_bytes()[:-30])


def no_archive() -> None:
    PATH.write_bytes(b"PK")


def of_objects() -> None:
    np.savez(PATH, **{"judge/best": np.array([None], dtype=object)})


def fewer() -> None:
    with np.load(PATH) as archive:
        arrays: dict[str, Any] = {name: x for name, x in archive.items() if name != "judge/best"}
    np.savez(PATH, **arrays)


def another_archive() -> None:
    np.savez(PATH, weights=np.ones(3))


def a_folder() -> None:
    PATH.unlink()
    PATH.mkdir()


OTHERS: dict[str, tuple[Callable[[], object], str]] = {
    "format": (lambda: changed(format=7), "it has format 7 and this seqlab reads 1"),
    "version": (
        lambda: changed(seqlab="0.0.9"),
        f"it is of seqlab 0.0.9 and this is {seqlab.__version__}",
    ),
    "key": (lambda: changed(key="another"), "it is of other training"),
    "cut": (cut, "it is no sound checkpoint"),
    "empty": (no_archive, "it is no sound checkpoint"),
    "archive": (another_archive, "it is no sound checkpoint"),
    "fewer": (fewer, "it has lost some of its arrays"),
    "objects": (of_objects, "it is no sound checkpoint"),
    "folder": (a_folder, "it cannot be read (Is a directory)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_something_else_is_refused_and_training_begins_anew(
    name: str, here: Path, said: list[str]
) -> None:
    one = course(updates=6, solved=1e-9)
    stopped_at(4, one, kept(), [])
    change, why = OTHERS[name]
    change()
    if name == "folder":
        assert kept(said).load() is None
    else:
        seen: list[int] = []
        found = train(one, kept(said), partial(told, seen))
        assert seen == [0, 1, 2, 3, 4, 5]
        assert equal(found, train(one))
        assert kept(said).load() is not None  # replaced
    assert said == [f"course.npz: {why}; training begins anew"]


def test_no_byte_can_be_changed(here: Path) -> None:
    """What is loaded from a file of which a byte, or a bit, is another one is what was written, or
    nothing."""
    state = {"a": np.arange(3.0), "b/c": np.array(5)}
    said: list[str] = []
    kept().save(state)
    sound = PATH.read_bytes()
    for place in range(len(sound)):
        for mask in (1 << place % 8, 0xFF):
            damaged = bytearray(sound)
            damaged[place] ^= mask
            PATH.write_bytes(damaged)
            found = kept(said).load()
            assert found is None or bits(found) == bits(state), (place, mask)
    assert len(said) > len(sound)
    assert all(re.fullmatch(r"course.npz: it [^\n]+; training begins anew", one) for one in said)


def test_no_file_is_no_news(here: Path, said: list[str]) -> None:
    assert kept(said).load() is None
    assert said == []


def test_a_file_that_cannot_be_written_ends_training_and_leaves_the_older_one(here: Path) -> None:
    one = course(updates=6, solved=1e-9)
    stopped_at(3, one, kept(), [])
    before = PATH.read_bytes()

    def fail(path: Path, data: bytes) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        train(one, Checkpoint(PATH, "k", fail, print, ticking(20)))
    assert PATH.read_bytes() == before
