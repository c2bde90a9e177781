"""What a checklist (see `seqlab.numbers.checklist`) looks at, of a deep stack that was measured."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.errors import InputError
from seqlab.host import GIB, available_memory
from seqlab.learning.stacks import OPTIMISERS, TRAINED, UPDATES, Training, train, training_bytes
from seqlab.numbers.activations import find_activation
from seqlab.numbers.checklist import Seen, check
from seqlab.numbers.rules_of_thumb import Line
from seqlab.numbers.variables import Variable
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress, Spec
from seqlab.spec.learn import LearnSpec
from seqlab.spec.stack import StackSpec
from seqlab.spec.train import TrainSpec


def checklist(
    spec: Spec, variables: Mapping[str, Variable], progress: Progress | None = None
) -> list[Line]:
    """The checklist of a measured stack, whose first networks are trained for it.

    Raises InputError as `require_checkable` does.
    """
    stack = require_checkable(spec)
    return check(seen(stack, variables, train(stack, progress=progress)))


def seconds(spec: Spec) -> float:
    """About how long one checklist of a spec takes on one thread."""
    one = replace(spec, lengths=(spec.steps,), clip=spec.clip[:1])
    if isinstance(one, LearnSpec):
        one = replace(one, updates=min(UPDATES, one.updates), lr=one.lr[:1], test_length=None)
        return kinds.cost(one).seconds(one, threads=1)
    one = replace(one, networks=min(TRAINED, one.networks))
    return UPDATES * len(OPTIMISERS) * kinds.cost(one).seconds(one, threads=1)


def require_checkable(spec: Spec) -> StackSpec:
    """The spec of a stack; what has no layers whose weights could be trained is refused, or too
    many. Raises InputError."""
    if isinstance(spec, TrainSpec):
        raise InputError("check: looks at the first updates of a run of seqlab depth, not at these")
    if not isinstance(spec, StackSpec):
        raise InputError(f"check: {spec.arch} has no layers of its own; a deep stack is needed")
    if spec.in_law:
        raise InputError(
            "check: means nothing beside in_law, which draws no weights that could be trained"
        )
    needed, available = training_bytes(spec), available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"check: training would take about {needed / GIB:.1f} GiB of memory and "
            f"{available / GIB:.1f} GiB is available: lower depth or width"
        )
    return spec


def seen(
    spec: StackSpec, variables: Mapping[str, Variable], trained: Mapping[str, Training]
) -> Seen:
    """The numbers by layer of a stack's result and of its training."""
    free = [i for i, text in enumerate(spec.clip) if not rules.parse(text).in_chain]
    rule = free[0] if free else 0

    def by_layer(name: str, first: int = 1) -> NDArray:
        """From layer `first` on, of the inputs on where that is 0."""
        data = variables[name].data
        data = data[:, rule] if "rule" in variables[name].dims else data
        return data[:, ::-1][:, first:]

    phi = find_activation(spec.activation)
    dies = phi.slope(np.array(-1.0)) == 0
    batched = spec.norm == "batch"
    return Seen(
        log_gradient=by_layer("log_weight_grad_norm"),
        log_mean_square=by_layer("log_mean_square", 0),
        cosine=by_layer("cosine", 0),
        zero=by_layer("zero_units") if dies else None,
        dead=by_layer("dead_units") if dies else None,
        always_on=by_layer("always_on_units") if dies else None,
        saturated=None if phi.homogeneous else by_layer("saturated_units"),
        ratio={name: one.ratio for name, one in trained.items()},
        loss={name: one.loss for name, one in trained.items()},
        guess=next((one.guess for one in trained.values()), None),
        batch=spec.batch if batched else None,
        growth=variables["decay_rate"].data[:, rule] if batched else None,
    )
