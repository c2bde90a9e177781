"""Training that is stopped, and the file that it goes on from."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from seqlab import rules
from seqlab.learning.checkpoint import Checkpoint
from seqlab.learning.course import Course, Learned, Tick
from seqlab.learning.trainer import Trainer
from seqlab.study.files import write_whole

Array = npt.NDArray[Any]
State = dict[str, Array]

PATH = Path("course.npz")
# The second network ends at once, in either dtype; rules on gradients, and in the chain.
NETWORKS, RATES = [0, 0, 1, 2], [0.01, 1e200, 0.02, 1e-4]
RULES = [rules.parse(name) for name in ("none", "none", "norm:0.01", "step-norm:0.01")]


def ignored(update: int, loss: Array, solved: Array) -> None:
    """A tick."""


def told(seen: list[int], update: int, loss: Array, solved: Array) -> None:
    """A tick that remembers which updates there were."""
    seen.append(update)


def every_seventh(updates: int, trainer: Trainer) -> Array | None:
    """A look that is kept now and then."""
    return trainer.parameters()["weight_hh"][:, 0] if updates % 7 == 0 else None


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much whenever somebody looks at it: once an update."""
    return count(step=seconds).__next__


def kept(said: list[str] | None = None, seconds: float = 1.0, key: str = "k") -> Checkpoint:
    heard = [] if said is None else said
    return Checkpoint(PATH, key, write_whole, heard.append, ticking(seconds))


def train(one: Course, checkpoint: Checkpoint | None = None, tick: Tick = ignored) -> Learned:
    return one.train(NETWORKS, RULES, RATES, tick, every_seventh, checkpoint)


def stopped_at(update: int, one: Course, checkpoint: Checkpoint, seen: list[int]) -> None:
    """Ctrl-C, heard at an update."""

    def tick(now: int, loss: Array, solved: Array) -> None:
        seen.append(now)
        if now == update:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(one, checkpoint, tick)


def state_kept() -> State:
    state = kept().load()
    assert state is not None
    return state


def bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (str(x.dtype), x.shape, x.tobytes()) for name, x in state.items()}


def undisturbed(one: Course) -> tuple[Learned, State]:
    found = train(one, kept())
    state = state_kept()
    PATH.unlink()
    return found, state
