"""What a task is: sequences, the steps that count, and what an answer to them is worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from numpy.typing import NDArray

from seqlab.errors import InputError
from seqlab.tasks.losses import LOSSES
from seqlab.wording import refuse

# The loss under which a task is solved, as a share of the trivial one. An answer that misses a half
# of what it must know (one of the two numbers of adding, one of the two symbols of temporal-order)
# keeps half of the trivial loss; copy keeps exactly a tenth with one symbol in ten unknown; a
# teacher is followed in nine tenths of its variance; a normal error of this size turns the sign of
# latch's bit in fewer than one sequence in a thousand. And a cross-entropy L bounds the share of
# wrong classes by L/ln 2, for a wrong one has at most half of the probability.
SOLVED = 0.1
# Sequences whose mean loss says whether a task is solved. Every batch is new, so that its loss,
# before the update, is that of sequences never seen; of so many it has a tenth of one's spread.
JUDGED_BY = 100
# Sequences that a trained network is tested on: a share of right answers at one step is within 0.03
# of the truth, 95 times in 100.
TESTED_BY = 1000


class Batch(NamedTuple):
    """Sequences of one network, or with one more leading axis of M networks.

    x (T', B, I) float64. `targets` at the n steps that count: (n, B, K) float64 for a squared loss,
    (n, B) whole numbers from 0 up, the classes, for a cross-entropy. `at` (n,), those steps,
    counted from 0.
    """

    x: NDArray
    targets: NDArray
    at: NDArray


class Argument(NamedTuple):
    """What may come after a task's name and a colon: a number in [least, below)."""

    name: str
    least: float
    below: float


@dataclass(frozen=True)
class Task:
    """One row: a task for a cell with I `inputs` and a readout with K `outputs`.

    `loss` is a name in LOSSES. `shortest` is the least length that leaves something to remember.
    A sequence of length T has T + `more` steps, and an answer is asked for at the last of them, or
    at `every` one. `trivial(T)` is the least expected loss of an answer that may look at the clock
    and not at the inputs. `batch(rng, T, B)` draws sequences.

    What a network's sequences share from the first update to the last, where there is something, is
    `shared(rng, T, value)`, and `batch` takes it as one more argument. A task with an `argument`
    has its `value`, in the registry's row the default.
    """

    name: str
    inputs: int
    outputs: int
    loss: str
    shortest: int
    trivial: Callable[[int], float]
    batch: Callable[..., Batch]
    more: int = 0
    every: bool = False
    shared: Callable[..., NDArray] | None = None
    argument: Argument | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss: {self.loss!r} of {self.name} is in no row of LOSSES")

    def __str__(self) -> str:
        """As it is spelled: `latch`, `teacher:0.9`."""
        if self.value is None:
            return self.name
        return f"{self.name}:{repr(self.value).removesuffix('.0')}"

    @property
    def classifies(self) -> bool:
        return self.loss == "cross-entropy"

    def steps(self, length: int) -> int:
        """Of a sequence: T'."""
        return length + self.more

    def answers(self, length: int) -> int:
        """Of a sequence: n."""
        return self.steps(length) if self.every else 1

    def solved(self, length: int, share: float = SOLVED) -> float:
        """The loss under which the task counts as solved: a share of the trivial one."""
        return share * self.trivial(length)

    def check_lengths(self, lengths: Sequence[int]) -> None:
        """Raises InputError for a length at which there is nothing to learn."""
        for length in lengths:
            if length < self.shortest:
                raise refuse("lengths", length, f"{self} needs {self.shortest} or more")

    def check_test_length(self, length: int) -> None:
        """Raises InputError for a length on which networks trained on others cannot be tested."""
        if self.shared is not None:
            raise refuse("test_length", length, f"{self} is another one at every length")
        if length < self.shortest:
            raise refuse("test_length", length, f"{self} needs {self.shortest} or more")
