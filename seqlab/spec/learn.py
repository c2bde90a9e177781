"""The spec of training."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from seqlab.cells import Draw, Sizes
from seqlab.errors import InputError
from seqlab.spec.learn_table import LEARN_TABLE, RATES
from seqlab.spec.run import check_forget_bias, check_init, check_ring
from seqlab.spec.tabled import Held, TabledSpec
from seqlab.tasks import JUDGED_BY, Task, find_task
from seqlab.wording import refuse


@dataclass(frozen=True)
class LearnSpec(TabledSpec):
    """One cell trained on one task at several lengths: every field is an option of `seqlab learn`;
    see TabledSpec.

    `steps` is the longest length. `clip` has `norm:Cx` as it was given; its threshold is a result.
    """

    table = LEARN_TABLE
    kind = "learn"

    arch: str
    task: str
    steps: int
    hidden: int
    state: int | None
    networks: int
    seed: int
    activation: str | None
    init: str | None
    gain: float | None
    input_scale: float | None
    forget_bias: float | str | None
    optimizer: str
    lr: tuple[float, ...]
    momentum: float | None
    eps: float | None
    schedule: str
    updates: int
    sequences: int
    solved: float
    test_length: int | None
    trace: int | None
    clip: tuple[str, ...]
    lengths: tuple[int, ...]
    dtype: str
    r_min: float | None
    r_max: float | None
    max_phase: float | None
    decay: str | None

    @cached_property
    def trained_on(self) -> Task:
        """The task."""
        return find_task(self.task)

    @property
    def inputs(self) -> int:
        """Input features, which the task gives."""
        return self.trained_on.inputs

    @property
    def sizes(self) -> Sizes:
        """H, I and N, as the cell asks for them."""
        sizes = Sizes(self.hidden, self.inputs)
        return sizes if self.state is None else sizes._replace(state=self.state)

    @property
    def how(self) -> Draw:
        """How networks are drawn: the same ones for all lengths."""
        return Draw.of(self)

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
            raise InputError("lengths: is needed; such as 10:160:5, or 10,20,40")
        longest = {"steps": known["lengths"][-1]} if "lengths" in known else {}
        return super()._resolve(longest | known)

    def _check_together(self) -> None:
        super()._check_together()
        self.trained_on.check_lengths(self.lengths)
        if self.test_length is not None:
            self.trained_on.check_test_length(self.test_length)
        check_init(self.init, self.arch)
        check_forget_bias(self.forget_bias, self.arch, self.steps)
        check_ring(self.r_min, self.r_max)
        check_updates(self.updates, self.sequences, "sequences")
        check_trace(self.trace, self.updates)
        check_eps(self.eps, self.dtype)


def check_updates(updates: int, each: int, what: str) -> None:
    """Raises InputError for too few updates to judge a loss by, of `each` of `what`."""
    fewest = -(-JUDGED_BY // each)
    if updates < fewest:
        raise refuse(
            "updates",
            updates,
            f"a loss is judged by {JUDGED_BY} {what}: {fewest} updates of {each} or more are "
            "needed",
        )


def check_trace(trace: int | None, updates: int) -> None:
    """Raises InputError for looks that are further apart than training is long."""
    if trace is not None and trace > updates:
        raise refuse("trace", trace, f"1 to {updates}, the updates")


def check_eps(eps: float | None, dtype: str) -> None:
    """Raises InputError for an eps that is zero in the dtype: Adam would divide by it."""
    least = float(np.finfo(dtype).smallest_normal)
    if eps is not None and eps < least:
        raise refuse("eps", eps, f"{least:.1e} or more in {dtype}")
