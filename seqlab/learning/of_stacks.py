"""Deep stacks in training, through depth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from seqlab.cells import Parameters
from seqlab.layers.stack import Stack
from seqlab.learning import stack_cost
from seqlab.learning.course import Course, common
from seqlab.learning.measurement import measured
from seqlab.learning.stack_networks import (
    HEAD,
    LAYERS,
    Pass,
    StackNetworks,
    draw_head,
    norms_of,
    weights_of,
)
from seqlab.learning.subject import Found
from seqlab.measure.curves import Curves, sweep_curves
from seqlab.measure.randomness import Purpose, stream
from seqlab.measure.stack_networks import Networks
from seqlab.numbers.variables import Measurement
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.kinds import Progress, Stages
from seqlab.spec.stack import StackSpec
from seqlab.spec.train import TrainSpec
from seqlab.tasks import TESTED_BY
from seqlab.tasks.losses import LOSSES, accuracy


def measure(
    spec: TrainSpec,
    backend: str = "auto",
    progress: Progress | None = None,
    stages: Stages | None = None,
) -> Measurement:
    """Measure all that a spec asks for, as `measured` does.

    Raises InputError for a backend that has no stacks and for draws that the dtype cannot hold.
    """
    chosen = stack_cost.resolve(backend)
    return measured(Stacks(spec), chosen, progress, stages)


@dataclass(frozen=True)
class StackCourse(Course):
    """Of deep stacks of one depth, which is the `length`: those that runs of `drawn_as` have, each
    `stack` with all that an update sees; of `frozen` ones the heads alone are trained."""

    drawn_as: StackSpec
    stack: Stack
    frozen: bool

    @property
    def steps(self) -> int:
        """Tokens of a sequence, or one step of several inputs."""
        return self.drawn_as.tokens or 1

    def drawn(self, network: int) -> Parameters:
        """One network's numbers; the head is normal with variance 1/features."""
        stack, drawn = self.stack, Networks(replace(self.drawn_as, seed=self.seed))
        numbers = np.zeros((stack.depth, stack.most_numbers))
        for layer in range(stack.depth):
            own = drawn.layer(network, layer)
            numbers[layer, : len(own)] = own
        rng = stream(self.seed, network, Purpose.READOUT)
        return {LAYERS: numbers, HEAD: draw_head(rng, stack.units)}

    def networks(self, params: Parameters) -> StackNetworks:
        return StackNetworks(self.stack, params, self.frozen)


class Stacks:
    """The networks of a spec; see `seqlab.learning.subject.Subject`."""

    parts: tuple[str, ...] = ()

    def __init__(self, spec: TrainSpec) -> None:
        self.spec = spec

    def prepare(self) -> None:
        self.course(self.spec.steps).all_drawn(range(self.spec.networks))

    def course(self, length: int) -> StackCourse:
        spec = self.spec
        return StackCourse(
            **common(spec, length),
            drawn_as=spec.of_depth(length),
            stack=spec.stack_of(length),
            frozen=bool(spec.frozen),
        )

    def seconds(self, length: int, networks: int) -> float:
        return stack_cost.seconds_of_course(self.spec, length, networks)

    def reach(
        self, length: int, params: Parameters, networks: Sequence[int], rules: Sequence[Rule]
    ) -> list[Curves]:
        """Of a batch that is held out, or its first sequence; the loss is the sum of r . h_L over
        rows, where h_L is the last state, and r network `networks[e]`'s random readout, of norm one
        over the newest features, as `seqlab depth` has it."""
        course = self.course(length)
        x = course.batches(networks, 0, Purpose.HELD_OUT).x.astype(self.spec.dtype)
        x = x if self.spec.sequences is None else x[:, :, :1]
        drawn = Networks(course.drawn_as)
        trained = StackNetworks(drawn.stack, params)
        readout = np.stack([drawn.readouts(m, trained.columns) for m in networks])
        readout = readout[:, np.newaxis]
        with np.errstate(all="ignore"):  # overflow and NaN are results
            run = Pass(trained, x)
            run.forward()
            free = sweep_curves(run.tape, [length], readout, UNCLIPPED)
            return [
                sweep_curves(run.tape, [length], readout, rule) if rule.in_chain else free
                for rule in rules
            ]

    def tested(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        """Of batches that are held out, as large as those of training."""
        course = self.course(length)
        trained, costs, right = course.networks(params), [], []
        for part in range(-(-TESTED_BY // course.sequences)):
            batch = course.batches(networks, 1 + part, Purpose.HELD_OUT)  # 0 is that of the curves
            y = trained.outputs(batch.x.astype(course.dtype))
            costs.append(LOSSES[course.task.loss](y, batch.targets)[0])
            right.append(accuracy(y, batch.targets))
        return {"test_loss": np.mean(costs, axis=0), "test_accuracy": np.mean(right, axis=0)}

    def by_lag(self, length: int, params: Parameters, networks: Sequence[int]) -> Found:
        """How far training has moved the weights of each layer, by the lag of its input's
        gradient; the first state, at the last lag, has no layer before it."""
        course = self.course(length)
        first, weights = course.all_drawn(networks)[LAYERS], weights_of(course.stack)
        with np.errstate(all="ignore"):  # overflow and NaN are results
            moved = norms_of(params[LAYERS].astype(np.float64) - first, weights)
            log = np.log(moved) - np.log(norms_of(first, weights))
        end = np.full((len(log), 1), np.nan)
        return {"log_moved": np.concatenate([log[:, ::-1], end], axis=1)}
