"""A number, the rule of thumb that it is held to, and a verdict: what a line of a checklist is, and
the rules that are asked of networks through depth and through time alike.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import LN10, LOG10_SMALLEST
from seqlab.numbers.statistics import median

Verdict = Literal["ok", "look", "bad"]

DROP = 3.0  # decades between first and last layer or step, either way
SUBNORMAL = -126 * math.log10(2)  # log10 of the float32 under which bits are lost
EXCESS = 0.1  # of dead units over those that are always on, a share of all
DEADLY = 0.5  # the same, where a layer can hardly learn
SATURATED = 0.5  # share of activations
RATIO = -3.0  # log10 of updates over weights, within RATIO_AWAY decades
RATIO_AWAY = 1.0


class Line(NamedTuple):
    """One line: a rule's name, the optimiser, parameter or gate that it is asked of where it is of
    one; the number, as people read it in `shown`, and the threshold, in `allowed`; the verdict;
    `note` says what the number means here, where there is something to say, and `limit` where the
    rule misleads."""

    name: str
    of: str
    number: float
    shown: str
    threshold: float
    allowed: str
    verdict: Verdict
    note: str
    limit: str


def drop_line(name: str, of: str, logs: NDArray, towards: str, limit: str) -> Line:
    """Of ln norms (networks, places): how far the first place's lies from the last's."""
    drop = middle(difference(logs[:, 0], logs[:, -1])) / LN10
    note = f"it vanishes towards {towards}" if drop < -DROP else ""
    note = f"it explodes towards {towards}" if drop > DROP else note
    return Line(
        name,
        of,
        drop,
        decades(drop),
        DROP,
        f"within {DROP:g}",
        "ok" if abs(drop) <= DROP else "bad",
        "not known: both are zero or not finite" if math.isnan(drop) else note,
        limit,
    )


def smallest_line(name: str, logs: NDArray) -> Line:
    """The smallest of ln norms (networks, places), of which float32 holds those from 2^-149 up."""
    logs = logs / LN10
    least, limit = float(median(logs).min()), LOG10_SMALLEST["float32"]
    zeros = int(np.isneginf(logs).any(axis=1).sum())
    notes = [f"exactly zero in {zeros} of {len(logs)} networks"] if zeros else []
    if limit <= least < SUBNORMAL:
        notes.append("under the normal numbers of float32, where bits are lost")
    return Line(
        name,
        "",
        least,
        power(least),
        limit,
        "2^-149, float32",
        "bad" if not least >= limit else "look" if zeros or least < SUBNORMAL else "ok",
        "; ".join(notes),
        "Of the number format and the loss's scale: what can be written may still be too small to "
        "move a weight, or Adam past its eps.",
    )


def dead_line(of: str, dead: NDArray, always_on: NDArray) -> Line:
    """Of shares of units whose slope is always zero, and of those whose never is."""
    off, on = float(np.mean(dead)), float(np.mean(always_on))
    excess = off - on
    note = ""
    if excess > EXCESS:
        note = f"only {on:.0%} are always on: units have died"
    elif off > EXCESS:
        note = f"{on:.0%} are always on: no deaths, the inputs are few or nearly collinear"
    return Line(
        "dead units",
        of,
        off,
        f"{off:.0%}",
        on + EXCESS,
        f"always on + {EXCESS:.0%}",
        "ok" if excess <= EXCESS else "look" if excess <= DEADLY else "bad",
        note,
        "Off for a whole batch is not dead: few inputs, or collinear ones, make many such units, "
        "and by symmetry as many that are always on. Only the excess counts; after training, units "
        "that have learnt to stay on may hide deaths.",
    )


def share_line(
    name: str, of: str, values: NDArray, threshold: float, limit: str, note: str
) -> Line:
    """Of a share that should be under a threshold; the note where it is not."""
    share = float(np.mean(values))
    ok = share <= threshold
    verdict: Verdict = "ok" if ok else "look"
    allowed, note = f"under {threshold:.0%}", "" if ok else note
    return Line(name, of, share, f"{share:.0%}", threshold, allowed, verdict, note, limit)


def saturated_line(of: str, shares: NDArray, more: str = "") -> Line:
    """Of shares of slopes under 5% of the steepest; `more` is where else the rule misleads."""
    return share_line(
        "saturated activations",
        of,
        shares,
        SATURATED,
        "Slopes alone say nothing: large weights saturate units and enlarge what the others pass, "
        "and the product counts (Poole et al. 2016). Sigmoid's slope is 1/4 at most." + more,
        "most slopes are under 5% of the steepest",
    )


def ratio_line(of: str, log10: float) -> Line:
    """Of the typical log10 of the norm of a change over that of what it changes."""
    return Line(
        "updates over weights",
        of,
        log10,
        power(log10),
        RATIO,
        f"10^{RATIO - RATIO_AWAY:g} to 10^{RATIO + RATIO_AWAY:g}",
        "ok" if abs(log10 - RATIO) <= RATIO_AWAY else "look",
        "",
        "Of course notes (CS231n): proportional to the rate, and of little meaning before a norm, "
        "where a layer does not feel its weights' size.",
    )


def middle(values: NDArray) -> float:
    return float(median(values))


def difference(a: NDArray, b: NDArray) -> NDArray:
    """a - b; between equal infinities there is none (nan)."""
    with np.errstate(invalid="ignore"):
        return a - b


def decades(value: float) -> str:
    return f"{value:+.2f} decades" if math.isfinite(value) else str(value)


def power(log10: float) -> str:
    if log10 == -math.inf:
        return "0"
    return f"10^{log10:.1f}" if math.isfinite(log10) else str(log10)
