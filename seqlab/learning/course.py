"""A course of training: networks of one length, until they have learned it or had their updates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Draw, Parameters, Sizes
from seqlab.learning.batches import batches_of
from seqlab.learning.networks import BIAS, WEIGHT, Networks
from seqlab.learning.optimisers import OPTIMISERS
from seqlab.learning.trainer import Trainer
from seqlab.measure.randomness import Purpose, stream
from seqlab.numbers.variables import NEVER
from seqlab.rules import Rule
from seqlab.tasks import JUDGED_BY, Task


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
        tick: Callable[[int, NDArray, NDArray], None] = lambda update, loss, solved: None,
        look: Callable[[int, Trainer], None] = lambda updates, trainer: None,
    ) -> Learned:
        """Train until all have solved the task or ended, or have had their updates.

        `tick(update, loss, solved)` is told of every update, the losses (M,) before it and which
        networks (M,) have solved the task with it; `look(updates, trainer)` sees the trainer before
        the first update and after every one. A network that has solved the task goes on with the
        others.
        """
        trainer, judge = self.trainer(networks, rules, rates), _Judge(self, len(networks))
        look(0, trainer)
        for update in range(self.updates):
            batch = batches_of(self.task, self.seed, networks, update, self.length, self.sequences)
            seen = trainer.update(batch)
            judge.see(update, seen.loss, seen.fired, trainer.alive)
            tick(update, seen.loss, judge.solved)
            look(update + 1, trainer)
            if judge.decided:
                break
        return judge.learned()


class _Judge:
    """What is kept of a course while it goes on."""

    def __init__(self, course: Course, count: int) -> None:
        self._threshold = course.solved
        self._window = -(-JUDGED_BY // course.sequences)
        self._losses = np.full((count, course.updates), np.nan)
        self._fired = np.zeros(count)
        self._seen = np.zeros(count, np.int64)
        self._solved_at, self._ended = np.full((2, count), NEVER)
        self._best, self._final = np.full((2, count), np.nan)
        self._updates = 0

    @property
    def solved(self) -> NDArray[np.bool_]:
        return self._solved_at != NEVER

    @property
    def decided(self) -> bool:
        return bool((self.solved | (self._ended != NEVER)).all())

    def see(self, update: int, loss: NDArray, fired: NDArray, alive: NDArray) -> None:
        self._updates = update + 1
        self._losses[:, update] = loss
        there = np.isfinite(fired)
        self._fired[there] += fired[there]
        self._seen += there
        self._ended[(self._ended == NEVER) & ~alive] = update
        if self._updates < self._window:
            return
        mean = self._losses[:, self._updates - self._window : self._updates].mean(axis=1)
        self._final = np.where(alive, mean, self._final)
        self._best = np.fmin(self._best, mean)
        first = alive & (self._solved_at == NEVER) & (mean < self._threshold)
        self._solved_at[first] = self._updates

    def learned(self) -> Learned:
        with np.errstate(invalid="ignore"):
            fired = self._fired / self._seen
        losses = self._losses[:, : self._updates]
        return Learned(self._solved_at, self._best, self._final, fired, self._ended, losses)
