"""Recurrent cells in training, through time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seqlab.cells import CELLS, Draw, Parameters, Sizes
from seqlab.engine.rehearsal import compile_kernels
from seqlab.learning import cost
from seqlab.learning.course import Course, common
from seqlab.learning.held_out import held_out
from seqlab.learning.measurement import measured
from seqlab.learning.networks import BIAS, WEIGHT, Networks
from seqlab.learning.reach import reach
from seqlab.learning.subject import Found
from seqlab.measure.curves import Curves
from seqlab.measure.draw import check_drawn
from seqlab.measure.randomness import Purpose, stream
from seqlab.numbers.variables import Measurement
from seqlab.rules import Rule
from seqlab.spec.kinds import Progress, Stages
from seqlab.spec.learn import LearnSpec


def measure(
    spec: LearnSpec,
    backend: str = "auto",
    progress: Progress | None = None,
    stages: Stages | None = None,
) -> Measurement:
    """Measure all that a spec asks for, as `measured` does.

    Raises InputError for a backend that does not train and for draws that the dtype cannot hold.
    """
    chosen = cost.resolve(spec, backend)
    return measured(Cells(spec, chosen), chosen, progress, stages)


@dataclass(frozen=True)
class CellCourse(Course):
    """Of recurrent networks of one cell, through time."""

    arch: str
    sizes: Sizes
    how: Draw
    activation: str | None

    @property
    def steps(self) -> int:
        return self.length

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

    def networks(self, params: Parameters) -> Networks:
        return Networks.of(self.arch, params, self.activation)


def course_of(spec: LearnSpec, length: int) -> CellCourse:
    """One length of a spec."""
    return CellCourse(
        **common(spec, length),
        arch=spec.arch,
        sizes=spec.sizes,
        how=spec.how,
        activation=spec.activation,
    )


class Cells:
    """The networks of a spec; see `seqlab.learning.subject.Subject`."""

    def __init__(self, spec: LearnSpec, backend: str = "cpu") -> None:
        self.spec, self.parts, self._backend = spec, CELLS[spec.arch].parts, backend

    def prepare(self) -> None:
        spec = self.spec
        with np.errstate(over="ignore"):  # refused
            check_drawn(spec, self.course(spec.steps).all_drawn(range(spec.networks)))
        compile_kernels(self._backend, spec.arch, spec.dtype, gradients=True)

    def course(self, length: int) -> CellCourse:
        return course_of(self.spec, length)

    def seconds(self, length: int, networks: int) -> float:
        return cost.seconds_of_course(self.spec, length, networks)

    def reach(
        self, length: int, params: Parameters, networks: Sequence[int], rules: Sequence[Rule]
    ) -> list[Curves]:
        return reach(self.spec, length, params, networks, rules)

    def tested(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        if self.spec.test_length is None:
            return {}
        loss, right = held_out(self.spec, length, params, networks)
        return {"test_loss": loss} | ({} if right is None else {"test_accuracy": right})

    def by_lag(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        return {}
