"""The checklist of networks that `seqlab learn` trained (see `seqlab.numbers.training_checklist`):
its first updates are made again, and looked at."""

from collections.abc import Mapping
from dataclasses import replace

from numpy.typing import NDArray

from seqlab import rules
from seqlab.learning.diagnostics import diagnose
from seqlab.learning.of_cells import course_of
from seqlab.learning.stacks import UPDATES
from seqlab.measure.progress import Pace
from seqlab.numbers.rules_of_thumb import Line
from seqlab.numbers.training_checklist import check_training
from seqlab.numbers.variables import Variable
from seqlab.rules import Rule
from seqlab.spec.kinds import Progress
from seqlab.spec.learn import LearnSpec
from seqlab.spec.learn_table import times_of
from seqlab.wording import one_of, refuse


def training_checklist(
    spec: LearnSpec,
    variables: Mapping[str, Variable],
    rule: str | None = None,
    progress: Progress | None = None,
) -> list[Line]:
    """The checklist of all networks of a spec at the longest length, by one of its clip rules, at
    the rate and threshold that were measured with; by the first rule if it is left out.

    Raises InputError for a rule that the spec does not have.
    """
    if rule is not None and rule not in spec.clip:
        raise refuse("rule", rule, one_of(spec.clip))
    place = 0 if rule is None else spec.clip.index(rule)
    rate, threshold = (
        float(variables[name].data[place, -1]) for name in ("learning_rate", "clip_threshold")
    )
    relative = times_of(spec.clip[place]) is not None
    acting = Rule("norm", threshold) if relative else rules.parse(spec.clip[place])
    updates, pace = updates_of(spec), Pace(progress)

    def tick(update: int, loss: NDArray) -> None:
        pace((update + 1) / updates, f"checklist, update {update + 1} of {updates}")

    course, networks = course_of(spec, spec.steps), range(spec.networks)
    found = diagnose(course, networks, acting, rate, updates, tick)
    return check_training(replace(found, rule=spec.clip[place]))


def updates_of(spec: LearnSpec) -> int:
    """How many updates the checklist of a spec looks at."""
    return min(UPDATES, spec.updates)
