"""Clip rules: one row each, how it is spelled and where it acts."""

import math
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from seqlab.errors import InputError
from seqlab.wording import did_you_mean


class Acts(Enum):
    """Where a rule acts."""

    NOWHERE = "nowhere"
    IN_CHAIN = "on the adjoint that each step hands to the step before it"
    AFTER = "once, on the finished parameter gradients"


class Kind(NamedTuple):
    """One row: a rule's name, where it acts, and its threshold as spelled: `c` is a positive finite
    number, `k` a whole number of steps from 1 up, and without one there is no threshold."""

    name: str
    acts: Acts
    threshold: str = ""

    @property
    def spelling(self) -> str:
        return f"{self.name}:{self.threshold}" if self.threshold else self.name


# A row alone measures nothing: where the rule acts, the engine refuses one without an action, a
# number of kernels/layout.py for IN_CHAIN, a function of engine/sums.py for AFTER.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("none", Acts.NOWHERE),
        Kind("norm", Acts.AFTER, "c"),
        Kind("value", Acts.AFTER, "c"),
        Kind("step-norm", Acts.IN_CHAIN, "c"),
        Kind("step-value", Acts.IN_CHAIN, "c"),
        Kind("truncate", Acts.IN_CHAIN, "k"),
    )
}
IN_CHAIN = tuple(kind.name for kind in KINDS.values() if kind.acts is Acts.IN_CHAIN)
AFTER = tuple(kind.name for kind in KINDS.values() if kind.acts is Acts.AFTER)
BEGINNINGS = tuple(f"{kind.name}{':' * bool(kind.threshold)}" for kind in KINDS.values())
SPELLINGS = ", ".join(kind.spelling for kind in KINDS.values())


@dataclass(frozen=True)
class Rule:
    """One clip rule with its threshold (Pascanu, Mikolov & Bengio 2013, Algorithm 1, is `norm`).

    Raises InputError for a kind that is in no row.
    """

    kind: str
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise _unknown(self.kind)

    @property
    def acts(self) -> Acts:
        return KINDS[self.kind].acts

    @property
    def in_chain(self) -> bool:
        return self.acts is Acts.IN_CHAIN

    @property
    def whole_steps(self) -> bool:
        """Whether the threshold is a whole number of steps."""
        return KINDS[self.kind].threshold == "k"

    def __str__(self) -> str:
        if not KINDS[self.kind].threshold:
            return self.kind
        shortest = repr(self.threshold).removesuffix(".0")
        return f"{self.kind}:{shortest}"


UNCLIPPED = Rule("none")


def parse(text: str) -> Rule:
    """Read a rule such as `step-norm:1`.

    Raises InputError for an unknown name, a missing or stray threshold, and a threshold that is
    not a positive finite number (for whole steps, not a whole number from 1 up).
    """
    name, colon, tail = str(text).strip().partition(":")
    kind = KINDS.get(name)
    if kind is None or bool(colon) != bool(kind.threshold):
        raise _unknown(text)
    if not kind.threshold:
        return Rule(name)
    try:
        threshold = float(tail)
    except ValueError:
        threshold = math.nan
    if not (threshold > 0 and math.isfinite(threshold)):
        raise InputError(f"clip: {text!r} has no positive, finite threshold; allowed: {SPELLINGS}")
    rule = Rule(name, threshold)
    if rule.whole_steps and not (threshold.is_integer() and threshold <= 2**53):
        raise InputError(f"clip: {text!r} must name a whole number of steps, such as {name}:100")
    return rule


def _unknown(text: str) -> InputError:
    name = str(text).strip().partition(":")[0]
    close = did_you_mean(name, KINDS) if name not in KINDS else ""
    return InputError(f"clip: {text!r} is not a rule; allowed: {SPELLINGS}{close}")
