"""The spec of training."""

from dataclasses import dataclass
from functools import cached_property

from seqlab.cells import Draw, Sizes
from seqlab.spec.learn_table import LEARN_TABLE
from seqlab.spec.run import check_forget_bias, check_init, check_ring
from seqlab.spec.training import TrainingSpec
from seqlab.tasks import Task, find_task


@dataclass(frozen=True)
class LearnSpec(TrainingSpec):
    """One cell trained on one task at several lengths: every field is an option of `seqlab learn`;
    see TrainingSpec."""

    table = LEARN_TABLE
    kind = "learn"
    example = "10:160:5, or 10,20,40"

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
    def samples(self) -> int:
        return self.sequences

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

    def _check_together(self) -> None:
        super()._check_together()
        self.trained_on.check_lengths(self.lengths)
        if self.test_length is not None:
            self.trained_on.check_test_length(self.test_length)
        check_init(self.init, self.arch)
        check_forget_bias(self.forget_bias, self.arch, self.steps)
        check_ring(self.r_min, self.r_max)
