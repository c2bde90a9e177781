"""The spec of the training of deep stacks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from seqlab import rules
from seqlab.layers.stack import Stack
from seqlab.spec.learn_table import times_of
from seqlab.spec.stack import StackSpec, default_biases
from seqlab.spec.stack_table import STACK_TABLE
from seqlab.spec.train_table import TRAIN_TABLE
from seqlab.spec.training import TrainingSpec
from seqlab.tasks import CLASSES, Task, of_classes
from seqlab.wording import refuse


@dataclass(frozen=True)
class TrainSpec(TrainingSpec):
    """Stacks of several depths trained to sort inputs into classes: every field is an option of
    `seqlab train`; see TrainingSpec.

    `lengths` are depths; `batch` is a number of inputs, `sequences` that of a Transformer's;
    `frozen` is True or None.
    """

    table = TRAIN_TABLE
    kind = "train"
    example = "2:50:6, or 2,5,10"

    arch: str
    steps: int
    hidden: int
    batch: int | None
    tokens: int | None
    heads: int | None
    sequences: int | None
    networks: int
    seed: int
    activation: str
    init: str
    gain: float | None
    bias_scale: float | None
    norm: str | None
    place: str | None
    order: str | None
    alpha: float | str | None
    frozen: bool | None
    optimizer: str
    lr: tuple[float, ...]
    momentum: float | None
    eps: float | None
    schedule: str
    updates: int
    solved: float
    trace: int | None
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    dtype: str

    @cached_property
    def trained_on(self) -> Task:
        """The classes."""
        return of_classes(self.hidden)

    @property
    def called(self) -> str:
        return "inputs" if self.sequences is None else "sequences"

    @property
    def samples(self) -> int:
        return self.batch or self.sequences or 1

    def of_depth(self, depth: int) -> StackSpec:
        """The stacks of one depth as `seqlab depth` has them. Raises InputError as it does."""
        own = {n: getattr(self, n) for n in STACK_TABLE.keys() & self.table.keys()}
        return StackSpec.create(**own | {"steps": depth, "lengths": (depth,), "clip": ("none",)})

    def stack_of(self, depth: int) -> Stack:
        """The same with all that an update sees together: of a Transformer several sequences."""
        one = self.of_depth(depth).stack
        if self.sequences is None:
            return one
        return replace(one, rows=one.rows * self.sequences, tokens=one.rows)

    @classmethod
    def _defaults(cls, known: Mapping[str, Any]) -> dict[str, Any]:
        return super()._defaults(known) | default_biases(cls.table, known)

    def _check_together(self) -> None:
        super()._check_together()
        if self.hidden < CLASSES:
            raise refuse("hidden", self.hidden, f"{CLASSES} or more, as many as there are classes")
        self.of_depth(self.steps)
        inside = [
            text for text in self.clip if times_of(text) is None and rules.parse(text).in_chain
        ]
        if self.frozen and inside:
            raise refuse("clip", inside[0], "nothing goes back through layers that are frozen")
