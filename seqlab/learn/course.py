"""A course of training: networks of one length, until they have learned it or had their updates."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Draw, Parameters, Sizes
from seqlab.learn.checkpoint import Arrays, Checkpoint, under, within
from seqlab.learn.networks import BIAS, WEIGHT, Networks
from seqlab.learn.optimisers import OPTIMISERS
from seqlab.learn.task import Task
from seqlab.learn.tasks import batches_of
from seqlab.learn.trainer import Trainer
from seqlab.measure.randomness import Purpose, stream
from seqlab.numbers.variables import NEVER
from seqlab.rules import Rule

# Sequences whose mean loss says whether a task is solved. Every batch is new, so that its loss,
# before the update, is that of sequences never seen; of so many it has a tenth of one's spread.
JUDGED_BY = 100


class Learned(NamedTuple):
    """What becomes of M networks. `solved_at` (M,) is the first update after which the mean loss of
    the last JUDGED_BY sequences or more was under the threshold, -1 for never; `best` and `final`
    (M,) the least and the last of these means, nan before there is one; `fired` (M,) the mean over
    updates of the share at which the rule acted; `ended` (M,) the update at which a network had no
    finite loss or gradient, -1 for never; `losses` (M, updates), nan from there on."""

    solved_at: NDArray[np.int64]
    best: NDArray
    final: NDArray
    fired: NDArray
    ended: NDArray[np.int64]
    losses: NDArray


@dataclass(frozen=True)
class Course:
    """One length of a task for networks of one cell, trained alike.

    `updates` at most, each of `sequences`; `rate` anneals over them where `cosine` is true.
    """

    arch: str
    sizes: Sizes
    how: Draw
    activation: str | None
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

    def drawn(self, network: int) -> Parameters:
        """One network's parameters; the readout is PyTorch's U(+-1/sqrt H)."""
        cell = CELLS[self.arch]
        own = cell.draw(stream(self.seed, network, Purpose.PARAMETERS), self.sizes, self.how)
        bound = 1 / np.sqrt(self.sizes.hidden)
        rng = stream(self.seed, network, Purpose.READOUT)
        shape = (self.task.outputs, self.sizes.hidden)
        return own | {
            WEIGHT: rng.uniform(-bound, bound, shape),
            BIAS: rng.uniform(-bound, bound, shape[:1]),
        }

    def trainer(
        self, networks: Sequence[int], rules: Sequence[Rule], rates: Sequence[float]
    ) -> Trainer:
        """Network `networks[i]` as it is drawn, under `rules[i]`, at `rates[i]`."""
        drawn = {m: self.drawn(m) for m in set(networks)}
        params = {
            name: np.stack([drawn[m][name] for m in networks]).astype(self.dtype)
            for name in drawn[networks[0]]
        }
        over = self.updates if self.cosine else None
        optimiser = OPTIMISERS[self.optimiser](params, np.array(rates), over, **dict(self.options))
        nets = Networks.of(self.arch, params, self.activation)
        return Trainer(nets, self.task.loss, rules, optimiser)

    def train(
        self,
        networks: Sequence[int],
        rules: Sequence[Rule],
        rates: Sequence[float],
        tick: Callable[[int, NDArray], None] = lambda update, loss: None,
        checkpoint: Checkpoint | None = None,
    ) -> Learned:
        """Train until all have solved the task or ended, or have had their updates.

        `tick(update, loss)` is told of every update and the losses (M,) before it. A network that
        has solved the task goes on with the others. With a checkpoint, whose key is to name all
        that the course and its networks, rules and rates are, training goes on from its file, to
        the same bits; the file stays until it is removed.
        """
        training = _Training(self, networks, self.trainer(networks, rules, rates), tick)
        if checkpoint is None:
            for _ in training.pieces():
                pass
        else:
            checkpoint.carry(training)
        return training.judge.learned()


class _Training:
    """A course while it goes on, an update a piece."""

    def __init__(
        self,
        course: Course,
        networks: Sequence[int],
        trainer: Trainer,
        tick: Callable[[int, NDArray], None],
    ) -> None:
        self._course, self._networks, self._trainer, self._tick = course, networks, trainer, tick
        self.judge = _Judge(course, len(networks))

    def pieces(self) -> Iterator[None]:
        course, judge = self._course, self.judge
        while judge.updates < course.updates and not judge.decided:
            # Drawn by its number: nothing of what was drawn before need be kept.
            update = judge.updates
            batch = batches_of(
                course.task, course.seed, self._networks, update, course.length, course.sequences
            )
            seen = self._trainer.update(batch)
            judge.see(seen.loss, seen.fired, self._trainer.alive)
            self._tick(update, seen.loss)
            yield

    def state(self) -> Arrays:
        return under("trainer", self._trainer.state()) | under("judge", self.judge.state())

    def restore(self, state: Arrays) -> None:
        self._trainer.restore(within("trainer", state))
        self.judge.restore(within("judge", state))


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
    def decided(self) -> bool:
        return bool(((self._solved_at != NEVER) | (self._ended != NEVER)).all())

    def see(self, loss: NDArray, fired: NDArray, alive: NDArray) -> None:
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
        return Learned(self._solved_at, self._best, self._final, fired, self._ended, losses)

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
