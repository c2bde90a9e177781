"""A course of training: networks of one length, until they have learned it or had their updates."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Parameters
from seqlab.learning.batches import batches_of
from seqlab.learning.checkpoint import Arrays, Checkpoint, under, within
from seqlab.learning.optimisers import OPTIMISERS
from seqlab.learning.trainer import Trainable, Trainer
from seqlab.measure.randomness import Purpose
from seqlab.numbers.variables import NEVER
from seqlab.rules import Rule
from seqlab.spec.training import TrainingSpec
from seqlab.tasks import JUDGED_BY, Batch, Task


def common(spec: TrainingSpec, length: int) -> dict[str, Any]:
    """The fields that the courses of all specs have, for one of their lengths."""
    return {
        "task": spec.trained_on,
        "length": length,
        "sequences": spec.samples,
        "updates": spec.updates,
        "optimiser": spec.optimizer,
        "options": spec.optimizer_options,
        "cosine": spec.schedule == "cosine",
        "solved": spec.trained_on.solved(length, spec.solved),
        "seed": spec.seed,
        "dtype": spec.dtype,
    }


class Learned(NamedTuple):
    """What becomes of M networks. `solved_at` (M,) is the first update after which the mean loss of
    the last JUDGED_BY sequences or more was under the threshold, -1 for never; `best` and `final`
    (M,) the least and the last of these means, nan before there is one; `fired` (M,) the mean over
    updates of the share at which the rule acted; `ended` (M,) the update at which a network had no
    finite loss or gradient, -1 for never; `losses` (M, updates), nan from there on; `params`
    (M, ...) in the end; `looks` what was kept of looks at the trainer."""

    solved_at: NDArray[np.int64]
    best: NDArray
    final: NDArray
    fired: NDArray
    ended: NDArray[np.int64]
    losses: NDArray
    params: Parameters
    looks: list[NDArray]


Tick = Callable[[int, NDArray, NDArray], None]
Look = Callable[[int, Trainer], NDArray | None]


def no_tick(update: int, loss: NDArray, solved: NDArray) -> None:
    """A tick for those who do not watch."""


def no_look(updates: int, trainer: Trainer) -> None:
    """A look that keeps nothing."""


@dataclass(frozen=True)
class Course(ABC):
    """One length of a task for networks that are trained alike.

    `updates` at most, each of `sequences`; `rate` anneals over them where `cosine` is true. What
    is trained is a subclass's to say.
    """

    task: Task
    length: int
    sequences: int
    updates: int
    optimiser: str
    options: tuple[tuple[str, float], ...]
    cosine: bool
    solved: float
    seed: int
    dtype: str

    @property
    @abstractmethod
    def steps(self) -> int:
        """Of the sequences that batches are drawn with: the task's length."""

    @abstractmethod
    def drawn(self, network: int) -> Parameters:
        """One network's parameters, readout and all."""

    @abstractmethod
    def networks(self, params: Parameters) -> Trainable:
        """Networks with parameters (M, ...), in their memory."""

    def all_drawn(self, networks: Sequence[int]) -> Parameters:
        """The parameters (M, ...) of networks as they are drawn, in the course's dtype."""
        drawn = {m: self.drawn(m) for m in set(networks)}
        return {
            name: np.stack([drawn[m][name] for m in networks]).astype(self.dtype)
            for name in drawn[networks[0]]
        }

    def trainer(
        self, networks: Sequence[int], rules: Sequence[Rule], rates: Sequence[float]
    ) -> Trainer:
        """Network `networks[i]` as it is drawn, under `rules[i]`, at `rates[i]`."""
        params = self.all_drawn(networks)
        over = self.updates if self.cosine else None
        optimiser = OPTIMISERS[self.optimiser](params, np.array(rates), over, **dict(self.options))
        return Trainer(self.networks(params), self.task.loss, rules, optimiser)

    def batches(
        self, networks: Sequence[int], update: int, purpose: Purpose = Purpose.TASK
    ) -> Batch:
        """One for each network for an update, counted from 0; held out as many others."""
        return batches_of(
            self.task, self.seed, networks, update, self.steps, self.sequences, purpose
        )

    def train(
        self,
        networks: Sequence[int],
        rules: Sequence[Rule],
        rates: Sequence[float],
        tick: Tick = no_tick,
        look: Look = no_look,
        checkpoint: Checkpoint | None = None,
    ) -> Learned:
        """Train until all have solved the task or ended, or have had their updates.

        `tick(update, loss, solved)` is told of every update, the losses (M,) before it and which
        networks (M,) have solved the task with it; what `look(updates, trainer)` makes of the
        trainer before the first update and after every one is kept. A network that has solved the
        task goes on with the others. With a checkpoint, whose key is to name all that the course
        and its networks, rules and rates are, training goes on from its file, to the same bits; the
        file stays until it is removed.
        """
        training = _Training(self, networks, self.trainer(networks, rules, rates), tick, look)
        if checkpoint is None:
            for _ in training.pieces():
                pass
        else:
            checkpoint.carry(training)
        return training.learned()


class _Training:
    """A course while it goes on, an update a piece."""

    def __init__(
        self, course: Course, networks: Sequence[int], trainer: Trainer, tick: Tick, look: Look
    ) -> None:
        self._course, self._networks, self._trainer = course, networks, trainer
        self._tick, self._look = tick, look
        self._judge = _Judge(course, len(networks))
        self._looks: list[NDArray] = []

    def pieces(self) -> Iterator[None]:
        course, judge = self._course, self._judge
        if judge.updates == 0:
            self._keep_look()
        while judge.updates < course.updates and not judge.decided:
            # Drawn by its number: nothing of what was drawn before need be kept.
            update = judge.updates
            seen = self._trainer.update(course.batches(self._networks, update))
            judge.observe(seen.loss, seen.fired, self._trainer.alive)
            self._tick(update, seen.loss, judge.solved)
            self._keep_look()
            yield

    def _keep_look(self) -> None:
        seen = self._look(self._judge.updates, self._trainer)
        if seen is not None:
            self._looks.append(seen)

    def learned(self) -> Learned:
        judged = self._judge.learned()
        return judged._replace(params=self._trainer.parameters(), looks=self._looks)

    def state(self) -> Arrays:
        looks = {f"{number}": array for number, array in enumerate(self._looks)}
        return (
            under("trainer", self._trainer.state())
            | under("judge", self._judge.state())
            | under("looks", looks)
        )

    def restore(self, state: Arrays) -> None:
        self._trainer.restore(within("trainer", state))
        self._judge.restore(within("judge", state))
        looks = within("looks", state)
        self._looks = [looks[f"{number}"] for number in range(len(looks))]


class _Judge:
    """What is kept of a course while it goes on; `updates` are those that it has seen."""

    def __init__(self, course: Course, count: int) -> None:
        self.updates = 0
        self._threshold = course.solved
        self._window = -(-JUDGED_BY // course.sequences)
        self._losses = np.full((count, course.updates), np.nan)
        self._fired = np.zeros(count)
        self._seen = np.zeros(count, np.int64)
        self._solved_at, self._ended = np.full((2, count), NEVER)
        self._best, self._final = np.full((2, count), np.nan)

    @property
    def solved(self) -> NDArray[np.bool_]:
        return self._solved_at != NEVER

    @property
    def decided(self) -> bool:
        return bool((self.solved | (self._ended != NEVER)).all())

    def observe(self, loss: NDArray, fired: NDArray, alive: NDArray) -> None:
        self._losses[:, self.updates] = loss
        there = np.isfinite(fired)
        self._fired[there] += fired[there]
        self._seen += there
        self._ended[(self._ended == NEVER) & ~alive] = self.updates
        self.updates += 1
        if self.updates < self._window:
            return
        mean = self._losses[:, self.updates - self._window : self.updates].mean(axis=1)
        self._final = np.where(alive, mean, self._final)
        self._best = np.fmin(self._best, mean)
        first = alive & (self._solved_at == NEVER) & (mean < self._threshold)
        self._solved_at[first] = self.updates

    def learned(self) -> Learned:
        with np.errstate(invalid="ignore"):
            fired = self._fired / self._seen
        losses = self._losses[:, : self.updates]
        return Learned(self._solved_at, self._best, self._final, fired, self._ended, losses, {}, [])

    def state(self) -> Arrays:
        """A copy of what it has seen and decided."""
        own = {
            "losses": self._losses[:, : self.updates],
            "fired": self._fired,
            "seen": self._seen,
            "solved_at": self._solved_at,
            "ended": self._ended,
            "best": self._best,
            "final": self._final,
        }
        return {name: array.copy() for name, array in own.items()}

    def restore(self, state: Arrays) -> None:
        """Go on from a `state` of the same course."""
        self.updates = state["losses"].shape[1]
        self._losses[:, : self.updates] = state["losses"]
        self._fired, self._seen = state["fired"], state["seen"]
        self._solved_at, self._ended = state["solved_at"], state["ended"]
        self._best, self._final = state["best"], state["final"]
