"""Clip rules: how they are spelled and where they act."""

import math
from dataclasses import dataclass

from seqlab.errors import InputError

IN_CHAIN = ("step-norm", "step-value", "truncate")
AFTER = ("norm", "value")
SPELLINGS = "none, norm:c, value:c, step-norm:c, step-value:c, truncate:k"


@dataclass(frozen=True)
class Rule:
    """One clip rule.

    `step-norm`, `step-value` and `truncate` act inside the chain, on the adjoint handed from one
    step to the step before it; `norm` and `value` act once on the finished parameter gradients
    (Pascanu, Mikolov & Bengio 2013, Algorithm 1).
    """

    kind: str
    threshold: float = 0.0

    @property
    def in_chain(self) -> bool:
        return self.kind in IN_CHAIN

    def __str__(self) -> str:
        if self.kind == "none":
            return "none"
        shortest = repr(self.threshold).removesuffix(".0")
        return f"{self.kind}:{shortest}"


def parse(text: str) -> Rule:
    """Read a rule such as `step-norm:1`.

    Raises InputError for an unknown name, a missing or stray threshold, and a threshold that is
    not a positive finite number (for `truncate`, not a whole number of steps from 1 up).
    """
    kind, colon, tail = str(text).strip().partition(":")
    if kind == "none" and not colon:
        return Rule("none")
    if kind not in IN_CHAIN + AFTER or not colon:
        raise InputError(f"clip: {text!r} is not a rule; allowed: {SPELLINGS}")
    try:
        threshold = float(tail)
    except ValueError:
        threshold = math.nan
    if not (threshold > 0 and math.isfinite(threshold)):
        raise InputError(f"clip: {text!r} has no positive, finite threshold; allowed: {SPELLINGS}")
    if kind == "truncate" and not (threshold.is_integer() and threshold <= 2**53):
        raise InputError(f"clip: {text!r} must name a whole number of steps, such as truncate:100")
    return Rule(kind, threshold)
