"""Clip rules for tests, out of the registry: one that is added there is in all of these lists, or
is asked for a threshold."""

from collections.abc import Iterable, Mapping

from seqlab import rules

CLIPPING = rules.AFTER + rules.IN_CHAIN  # all but `none`

# Fires in most steps of every run of drawn.py, in some and not all of `truncate`'s.
_BITING = {"norm": 0.5, "value": 0.05, "step-norm": 0.3, "step-value": 0.05, "truncate": 3}


def spelled(thresholds: Mapping[str, float], of: Iterable[str] = CLIPPING) -> tuple[str, ...]:
    """Rules with a threshold each, which none of those asked for may lack."""
    lacking = sorted(set(of) - thresholds.keys())
    assert not lacking, f"rules without a threshold in this test: {lacking}"
    return tuple(f"{name}:{threshold}" for name, threshold in thresholds.items() if name in of)


def biting(of: Iterable[str] = CLIPPING) -> tuple[str, ...]:
    """Rules that act."""
    return spelled(_BITING, of)


def alike(number: float, steps: int | None, of: Iterable[str] = CLIPPING) -> tuple[str, ...]:
    """Rules with the same number, or so many whole steps; None leaves those with steps out."""
    given = {"c": number, "k": steps}
    named = {name: given[rules.KINDS[name].threshold] for name in of}
    return tuple(f"{name}:{value}" for name, value in named.items() if value is not None)
