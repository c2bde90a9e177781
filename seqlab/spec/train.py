"""The spec of the training of deep stacks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

from seqlab import rules
from seqlab.errors import InputError
from seqlab.layers.stack import Stack
from seqlab.spec.learn import check_eps, check_trace, check_updates
from seqlab.spec.learn_table import RATES, times_of
from seqlab.spec.stack import StackSpec, default_biases
from seqlab.spec.stack_table import STACK_TABLE
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.spec.train_table import TRAIN_TABLE
from seqlab.tasks import CLASSES, Task, of_classes
from seqlab.wording import refuse


@dataclass(frozen=True)
class TrainSpec(TabledSpec):
    """Stacks of several depths trained to sort inputs into classes: every field is an option of
    `seqlab train`; see TabledSpec.

    `steps` is the largest depth, of `lengths`. `clip` has `norm:Cx` as it was given; its threshold
    is a result. `batch` is a number of inputs, `sequences` that of a Transformer's. `frozen` is
    True or None.
    """

    table = TRAIN_TABLE
    kind = "train"

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
    def samples(self) -> int:
        """Inputs, or sequences, of an update."""
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
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        yield from ()

    @classmethod
    def _defaults(cls, known: Mapping[str, Any]) -> dict[str, Any]:
        defaults = super()._defaults(known)
        rate = RATES[known.get("optimizer", defaults["optimizer"])]
        own = {"lr": (rate,), "lengths": (known["steps"],)}
        return defaults | default_biases(cls.table, known) | own

    @classmethod
    def _resolve(cls, known: dict[str, Any]) -> Self:
        if "lengths" not in known and "steps" not in known:
            raise InputError("lengths: is needed; such as 2:50:6, or 2,5,10")
        longest = {"steps": known["lengths"][-1]} if "lengths" in known else {}
        return super()._resolve(longest | known)

    def _check_together(self) -> None:
        super()._check_together()
        if self.hidden < CLASSES:
            raise refuse("hidden", self.hidden, f"{CLASSES} or more, as many as there are classes")
        self.of_depth(self.steps)
        check_updates(self.updates, self.samples, "inputs" if self.batch else "sequences")
        check_trace(self.trace, self.updates)
        check_eps(self.eps, self.dtype)
        inside = [
            text for text in self.clip if times_of(text) is None and rules.parse(text).in_chain
        ]
        if self.frozen and inside:
            raise refuse("clip", inside[0], "nothing goes back through layers that are frozen")
