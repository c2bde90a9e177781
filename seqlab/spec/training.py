"""What the specs of training share: lengths that each have networks of their own, an optimiser, and
how many updates it makes."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Self

import numpy as np

from seqlab.errors import InputError
from seqlab.spec.learn_table import RATES
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.tasks import JUDGED_BY, Task
from seqlab.wording import refuse


class TrainingSpec(TabledSpec):
    """Training at several lengths, of which `steps` is the longest. `clip` has `norm:Cx` as it was
    given; its threshold is a result.

    A subclass says what it is `trained_on` and how many `samples` an update has, and has an example
    of lengths.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]  # subclasses are dataclasses
    example: ClassVar[str]

    hidden: int
    networks: int
    seed: int
    optimizer: str
    lr: tuple[float, ...]
    momentum: float | None
    eps: float | None
    schedule: str
    updates: int
    sequences: int | None
    solved: float
    trace: int | None
    clip: tuple[str, ...]
    dtype: str

    @property
    def trained_on(self) -> Task:
        """The task."""
        raise NotImplementedError

    @property
    def samples(self) -> int:
        """Sequences, or inputs, of an update."""
        raise NotImplementedError

    @property
    def called(self) -> str:
        """What the samples are."""
        return "sequences"

    @property
    def optimizer_options(self) -> tuple[tuple[str, float], ...]:
        """What the optimiser takes besides its rate, by name."""
        given = {"momentum": self.momentum, "eps": self.eps}
        return tuple((name, value) for name, value in given.items() if value is not None)

    @classmethod
    def _files(cls, known: Mapping[str, Any], opened: ExitStack) -> Iterator[Held]:
        yield from ()

    @classmethod
    def _defaults(cls, known: Mapping[str, Any]) -> dict[str, Any]:
        defaults = super()._defaults(known)
        rate = RATES[known.get("optimizer", defaults["optimizer"])]
        return defaults | {"lr": (rate,), "lengths": (known["steps"],)}

    @classmethod
    def _resolve(cls, known: dict[str, Any]) -> Self:
        if "lengths" not in known and "steps" not in known:
            raise InputError(f"lengths: is needed; such as {cls.example}")
        longest = {"steps": known["lengths"][-1]} if "lengths" in known else {}
        return super()._resolve(longest | known)

    def _check_together(self) -> None:
        super()._check_together()
        fewest = -(-JUDGED_BY // self.samples)
        if self.updates < fewest:
            raise refuse(
                "updates",
                self.updates,
                f"a loss is judged by {JUDGED_BY} {self.called}: {fewest} updates of "
                f"{self.samples} or more are needed",
            )
        if self.trace is not None and self.trace > self.updates:
            raise refuse("trace", self.trace, f"1 to {self.updates}, the updates")
        least = float(np.finfo(self.dtype).smallest_normal)  # Adam divides by what is smaller
        if self.eps is not None and self.eps < least:
            raise refuse("eps", self.eps, f"{least:.1e} or more in {self.dtype}")
