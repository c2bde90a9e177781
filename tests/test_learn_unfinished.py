"""Training that is stopped keeps in the store what it has done, and goes on to the same bits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import toml

import seqlab
from seqlab.learning import checkpoint
from seqlab.learning import course as courses
from seqlab.learning.batches import batches_of
from seqlab.study.result import Result

STUDY = {
    "arch": "rnn",
    "hidden": 5,
    "networks": 2,
    "sequences": 25,
    "updates": 9,
    "lengths": [4, 7],
    "trace": 3,
}
SPEC: dict[str, Any] = {**STUDY, "lr": (0.01, 0.02), "clip": ("none", "norm:0.5x")}
# Updates of the whole: rates, then all rules, at each of two lengths.
UPDATES = 4 * 9


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are written after every update."""
    monkeypatch.setattr(checkpoint, "TAKEN_EVERY", 0.0)
    monkeypatch.setattr(checkpoint, "WRITTEN_EVERY", 0.0)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The updates that batches were drawn for."""
    seen: list[int] = []

    def drawing(*given: Any) -> Any:
        seen.append(given[3])
        return batches_of(*given)

    monkeypatch.setattr(courses, "batches_of", drawing)
    return seen


def stop_at(monkeypatch: pytest.MonkeyPatch, seen: list[int], count: int) -> Callable[[], None]:
    """Ctrl-C at the draw of this number, once; gives what takes that back."""
    real = courses.batches_of

    def stopping(*given: Any) -> Any:
        if len(seen) == count:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(courses, "batches_of", stopping)
    return lambda: monkeypatch.setattr(courses, "batches_of", real)


def same(one: Any, other: Any) -> None:
    assert one.variables.keys() == other.variables.keys()
    for name, variable in one.variables.items():
        theirs, numbers = other.variables[name].data, variable.data.dtype.kind in "if"
        assert np.array_equal(variable.data, theirs, equal_nan=numbers), name


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in folder.iterdir() if path.name[0] != ".")


@pytest.mark.parametrize(
    ("count", "begun", "kept"),
    [
        (2, 1, ["4-rates"]),
        (14, 1, ["4-rates", "4-trained"]),
        (22, 2, ["4-rates", "4-trained", "7-rates"]),
        (32, 2, ["4-rates", "4-trained", "7-rates", "7-trained"]),
    ],
)
def test_a_run_goes_on_where_it_was_stopped(
    count: int,
    begun: int,
    kept: list[str],
    here: Path,
    at_once: None,
    drawn: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of two lengths draws a batch for the first gradient's norm, every time it is begun."""
    whole = seqlab.learn(**SPEC)
    assert len(drawn) == 2 + UPDATES
    drawn.clear()
    go_on = stop_at(monkeypatch, drawn, count)
    with (
        pytest.raises(KeyboardInterrupt),
        pytest.warns(UserWarning, match=r"^what was done is kept in store; the same again goes on"),
    ):
        seqlab.learn(**SPEC, store="store")
    assert names(here / "store") == [f"{name}.unfinished" for name in kept]
    drawn.clear()
    go_on()
    same(seqlab.learn(**SPEC, store="store"), whole)
    assert len(drawn) == 2 + UPDATES - (count - begun)
    assert names(here / "store") == ["nc"]


def test_a_study_goes_on_within_a_run(
    here: Path, at_once: None, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = here / "study.toml"
    about = {"name": "a study", "kind": "learn"}
    study.write_text(toml({"study": about, "fixed": STUDY, "grid": {"seed": [0, 1]}}))
    seqlab.sweep(study, "whole")
    drawn.clear()
    go_on = stop_at(monkeypatch, drawn, 23)
    with pytest.raises(KeyboardInterrupt):
        seqlab.sweep(study, "store")
    drawn.clear()
    go_on()
    assert str(seqlab.sweep(study, "store")) == "1 runs measured, 1 found, 0 failed"
    assert len(drawn) == 36 - 23
    assert names(here / "store") == ["nc", "nc"]
    for file in (here / "store").glob("*.nc"):
        same(Result.read(file), Result.read(here / "whole" / file.name))


def test_other_training_is_not_gone_on_from(
    here: Path, at_once: None, drawn: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file under the right name that another run wrote, or another backend's."""
    go_on = stop_at(monkeypatch, drawn, 5)
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="kept"):
        seqlab.learn(**SPEC, store="store")
    go_on()
    with pytest.warns(UserWarning, match=r"it is of other training; training begins anew$"):
        found = seqlab.learn(**SPEC, store="store", backend="cpu")
    same(found, seqlab.learn(**SPEC))
