"""The checklist that tutorials give for the first updates of training, asked of recurrent networks:
each line with a number, the rule of thumb that it is held to, and where that rule misleads.

It takes numbers by parameter and update, by step and by gate, whoever measured them; what is empty
or known of no network has no line.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import LN10
from seqlab.numbers.rules_of_thumb import (
    DEADLY,
    DROP,
    EXCESS,
    Line,
    dead_line,
    decades,
    difference,
    drop_line,
    middle,
    power,
    ratio_line,
    saturated_line,
    share_line,
    smallest_line,
)
from seqlab.numbers.statistics import first_below, median

FIRED = 0.5  # share of updates at which a rule acts


class Units(NamedTuple):
    """Shares (M,) of one gate's units, over the steps of all sequences of a batch: `dead`, whose
    slope is always zero, and `always_on`, whose never is. `saturated` (M,), of (unit, step,
    sequence), has slopes under 5% of the steepest; None for an activation that does not saturate.
    """

    dead: NDArray
    always_on: NDArray
    saturated: NDArray | None


class Look(NamedTuple):
    """What is seen of M networks at one update, before it.

    `log_share` (M, steps): ln of the norm of each step's share of the gradient of the recurrent
    parameter, of the last step's loss alone, from the first step with a state before it to the
    last: lag 0 is the last entry. `units` by gate.
    """

    log_share: NDArray
    units: Mapping[str, Units]


@dataclass(frozen=True)
class Trained:
    """What a checklist looks at, of M networks in training; nan from where a network has ended.

    By parameter, (M, updates): `log_gradient`, ln of the norm of its gradient before a rule that
    acts on it; `log_ratio`, ln of the norm of its change over its own, of matrices alone, for a
    bias may begin at zero; nan while a matrix is. `fired` (M, updates) is the share at which `rule`
    acted at an update, None without a rule. `ended` (M,) says which networks had no finite loss or
    gradient.
    `recurrent` names the parameter that all `looks` are at, the first update's and the last's.
    """

    log_gradient: Mapping[str, NDArray] = field(default_factory=dict)
    log_ratio: Mapping[str, NDArray] = field(default_factory=dict)
    rule: str = "none"
    fired: NDArray | None = None
    ended: NDArray | None = None
    recurrent: str = ""
    looks: tuple[Look, ...] = ()


def check_training(seen: Trained) -> list[Line]:
    """All lines that these numbers have."""
    rules = (_steps, _gradients, _ratios, _fired, _units, _ended)
    return [line for rule in rules for line in rule(seen)]


def _steps(seen: Trained) -> Iterator[Line]:
    curves = [_known(look.log_share) for look in seen.looks]
    if not curves or curves[-1].shape[1] < 2 or not len(curves[-1]):
        return
    line = drop_line(
        "gradient, first over last step",
        seen.recurrent,
        curves[-1],
        "the first steps",
        "The tutorials' three decades between layers, asked of the shares of a sum over steps "
        "(Pascanu, Mikolov & Bengio 2013, eq. 4): what is lost is the long lags' say beside the "
        "short ones', and no optimiser brings it back. A task that needs no long memory misses "
        "nothing.",
    )
    notes = [line.note] if line.note else []
    curve = median(curves[-1])[::-1]
    lag = first_below(difference(curve, curve[:1]), -DROP * LN10)
    if lag > 0:
        notes.append(f"{DROP:g} decades are lost at lag {lag}")
    if len(curves) > 1 and len(curves[0]):
        start = middle(difference(curves[0][:, 0], curves[0][:, -1])) / LN10
        notes.append(f"{decades(start)} at the first update")
    yield line._replace(note="; ".join(notes))


def _gradients(seen: Trained) -> Iterator[Line]:
    by_network = {name: _over_updates(logs) for name, logs in seen.log_gradient.items()}
    typical = {name: middle(_finite(logs)) / LN10 for name, logs in by_network.items()}
    largest = max((log for log in typical.values() if not np.isnan(log)), default=np.nan)
    for name, log in typical.items():
        yield Line(
            "gradient norm",
            name,
            log,
            power(log),
            largest - DROP,
            f"over {power(largest - DROP)}",
            "ok" if log >= largest - DROP else "bad",
            "none reaches it" if log == -np.inf else "",
            "The same three decades, from the parameter whose gradient is largest: parameters of "
            "unlike sizes have unlike norms. Of SGD: Adam divides by a gradient's own size until "
            "that reaches its eps, 1e-8 (Kingma & Ba 2015).",
        )
    together = _known(np.stack(list(by_network.values()), axis=1)) if by_network else np.empty(0)
    if len(together):
        yield smallest_line("smallest gradient of a parameter", together)


def _ratios(seen: Trained) -> Iterator[Line]:
    for name, logs in seen.log_ratio.items():
        line = ratio_line(name, middle(_finite(_over_updates(logs))) / LN10)
        yield line._replace(note="it does not move" if line.number == -np.inf else "")


def _fired(seen: Trained) -> Iterator[Line]:
    if seen.fired is None:
        return
    shares = np.array([(own > 0).mean() for own in map(_not_nan, seen.fired) if len(own)])
    if not len(shares):
        return
    line = share_line(
        "updates at which a rule acts",
        seen.rule,
        shares,
        FIRED,
        "With the threshold at the gradient's mean norm it is about half; from half to ten times "
        "that serve (Pascanu, Mikolov & Bengio 2013, section 3.2). Adam does not feel a factor "
        "that is always the same.",
        "steps of one length, whose rate is the threshold's",
    )
    never = line.number == 0
    yield line._replace(note="it never acts: training is as without it") if never else line


def _units(seen: Trained) -> Iterator[Line]:
    gates = seen.looks[-1].units if seen.looks else {}
    for gate, (dead, always_on, saturated) in gates.items():
        if saturated is None:
            off, on = _known(np.stack([dead, always_on], axis=1)).T
            if len(off):
                yield dead_line(gate, off, on)
        elif len(stuck := _not_nan(dead)):
            line = share_line(
                "units without a slope",
                gate,
                stuck,
                EXCESS,
                "Zero in the number format, at every step of every sequence of a batch: such a "
                "unit is a constant and does not learn from it.",
                "they are constants",
            )
            yield line._replace(verdict="bad") if line.number > DEADLY else line
    for gate, (_, _, saturated) in gates.items():
        if saturated is not None and len(shares := _not_nan(saturated)):
            yield saturated_line(
                gate, shares, " A forget gate that stands open is how a cell remembers."
            )


def _ended(seen: Trained) -> Iterator[Line]:
    if seen.ended is None:
        return
    share = float(seen.ended.mean())
    yield Line(
        "networks that have ended",
        "",
        share,
        f"{share:.0%}",
        0.0,
        "none",
        "ok" if share == 0 else "bad",
        "a loss or a gradient was not finite" if share else "",
        "A gradient may explode and stay finite, or be cut to size by a rule, and training fail "
        "all the same.",
    )


def _over_updates(logs: NDArray) -> NDArray:
    """Each network's median (M,) of the updates (M, updates) that it has made, nan of none."""
    known = map(_not_nan, logs)
    return np.array([median(own) if len(own) else np.nan for own in known])


def _not_nan(values: NDArray) -> NDArray:
    return values[~np.isnan(values)]


def _finite(values: NDArray) -> NDArray:
    """What is known (n,), or one nan where nothing is."""
    known = _not_nan(values)
    return known if len(known) else np.array([np.nan])


def _known(rows: NDArray) -> NDArray:
    """The rows, one a network, without nan."""
    return rows[~np.isnan(rows).any(axis=1)]
