"""A network probed under several clip rules."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from seqlab import rules
from seqlab.measure.progress import parts
from seqlab.probes.probe import probe
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.fields import clip_rules
from seqlab.spec.kinds import Progress
from seqlab.study.attenuation import Attenuation, together
from seqlab.study.result import Result


def probed(
    *, clip: str | Sequence[str] = "none", progress: Progress | None = None, **arguments: Any
) -> Result:
    """The result of `seqlab.probe` under a rule, or under each of several.

    Rules that leave curves alone share one way back. Raises InputError as `seqlab.probe` does, and
    where no lag but 0 is measured.
    """
    given = [rules.parse(text) for text in clip_rules("clip", clip)]
    ways = list(dict.fromkeys(map(_way, given)))
    found: dict[Rule, Attenuation] = {}
    for way, part in zip(ways, parts(progress, [1.0] * len(ways)), strict=True):
        found[way] = probe(**arguments, clip=str(way), progress=part)
    result = together([replace(found[_way(rule)], clip=str(rule)) for rule in given])
    return replace(result, duration=sum(one.duration for one in found.values()))


def _way(rule: Rule) -> Rule:
    """The rule that acts on the way back as this one does."""
    return rule if rule.in_chain else UNCLIPPED
