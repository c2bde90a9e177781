"""The checklist of vanishing and exploding gradients that tutorials give, each line with a number,
the rule of thumb that it is held to, and what is known of where that rule misleads.

It takes numbers by layer, whoever measured them; what is None or empty has no line.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import LN10, LOG10_SMALLEST
from seqlab.numbers.statistics import median

Verdict = Literal["ok", "look", "bad"]

DROP = 3.0  # decades between first and last layer, either way
SUBNORMAL = -126 * math.log10(2)  # log10 of the float32 under which bits are lost
EXCESS = 0.1  # of dead units over those that are always on, a share of all
DEADLY = 0.5  # the same, where a layer can hardly learn
ZEROS = 0.9  # share of activations
COLLINEAR = 0.95  # cosine
ALWAYS_ON = 0.9  # share of units
SATURATED = 0.5  # share of activations
SIZES = 1.0  # decades between first and last activations, either way
RATIO = -3.0  # log10 of updates over weights, within RATIO_AWAY decades
RATIO_AWAY = 1.0
SPREAD = 1.0  # decades of that ratio between first and last layer
ROUNDED = -24 * math.log10(2)  # log10 of the share of a float32 that adding to it loses
FLAT = 0.99  # of the loss of a guess
BATCH = 5  # inputs under a batch norm
GROWTH = 0.05  # nat a layer under a batch norm


@dataclass(frozen=True)
class Seen:
    """What a checklist looks at. Arrays by layer are (networks, layers), or (layers,) of one
    network, from the first layer to the last.

    `log_gradient` is ln of the norm of dL/dW. `log_mean_square` (ln) and `cosine` (the mean of two
    inputs') are of the activations, from the inputs on. Shares of a layer's activations: `zero`, of
    slopes that are exactly zero, `saturated`, of slopes under 5% of the steepest; of its units:
    `dead`, whose slope is zero for every input of the batch, and `always_on`, whose is for none.
    By optimiser: `ratio`, the norm of an update over that of the weights, and `loss` (networks,
    updates); `guess` (networks,) is the least loss of an answer that does not look at the inputs.
    Under a batch norm `batch` inputs are seen together and the gradient's norm grows by `growth`
    (networks,), nat a layer.
    """

    log_gradient: NDArray | None = None
    log_mean_square: NDArray | None = None
    cosine: NDArray | None = None
    zero: NDArray | None = None
    dead: NDArray | None = None
    always_on: NDArray | None = None
    saturated: NDArray | None = None
    ratio: Mapping[str, NDArray] = field(default_factory=dict)
    loss: Mapping[str, NDArray] = field(default_factory=dict)
    guess: NDArray | None = None
    batch: int | None = None
    growth: NDArray | None = None


class Line(NamedTuple):
    """One line: a rule's name, the optimiser that it is asked of where it is of one; the number, as
    people read it in `shown`, and the threshold, in `allowed`; the verdict; `note` says what the
    number means here, where there is something to say, and `limit` where the rule misleads."""

    name: str
    of: str
    number: float
    shown: str
    threshold: float
    allowed: str
    verdict: Verdict
    note: str
    limit: str


def check(seen: Seen) -> list[Line]:
    """All lines that these numbers have."""
    of_all = (_drop, _smallest, _dead, _zero, _cosine, _always_on, _saturated, _sizes)
    found = [line for rule in of_all for line in rule(seen)]
    for optimiser in seen.ratio:
        found += _updates(seen, optimiser)
    for optimiser in seen.loss:
        found += _loss(seen, optimiser)
    return [*found, *_batch(seen), *_growth(seen)]


def _drop(seen: Seen) -> Iterator[Line]:
    if seen.log_gradient is None:
        return
    logs = np.atleast_2d(seen.log_gradient)
    drop = _middle(_difference(logs[:, 0], logs[:, -1])) / LN10
    note = "it vanishes towards the inputs" if drop < -DROP else ""
    note = "it explodes towards the inputs" if drop > DROP else note
    yield Line(
        "gradient, first over last layer",
        "",
        drop,
        _decades(drop),
        DROP,
        f"within {DROP:g}",
        "ok" if abs(drop) <= DROP else "bad",
        "not known: both are zero or not finite" if math.isnan(drop) else note,
        "Of SGD: Adam divides by a gradient's own size until that reaches its eps, 1e-8 (Kingma & "
        "Ba 2015). Layers of unlike sizes shift the number.",
    )


def _smallest(seen: Seen) -> Iterator[Line]:
    if seen.log_gradient is None:
        return
    logs = np.atleast_2d(seen.log_gradient) / LN10
    least, limit = float(median(logs).min()), LOG10_SMALLEST["float32"]
    zeros = int(np.isneginf(logs).any(axis=1).sum())
    notes = [f"exactly zero in {zeros} of {len(logs)} networks"] if zeros else []
    if limit <= least < SUBNORMAL:
        notes.append("under the normal numbers of float32, where bits are lost")
    yield Line(
        "smallest gradient of a layer",
        "",
        least,
        _power(least),
        limit,
        "2^-149, float32",
        "bad" if not least >= limit else "look" if zeros or least < SUBNORMAL else "ok",
        "; ".join(notes),
        "Of the number format and the loss's scale: what can be written may still be too small to "
        "move a weight, or Adam past its eps.",
    )


def _dead(seen: Seen) -> Iterator[Line]:
    if seen.dead is None or seen.always_on is None:
        return
    dead, on = _mean(seen.dead), _mean(seen.always_on)
    excess = dead - on
    note = ""
    if excess > EXCESS:
        note = f"only {on:.0%} are always on: units have died"
    elif dead > EXCESS:
        note = f"{on:.0%} are always on: no deaths, the inputs are few or nearly collinear"
    yield Line(
        "dead units",
        "",
        dead,
        f"{dead:.0%}",
        on + EXCESS,
        f"always on + {EXCESS:.0%}",
        "ok" if excess <= EXCESS else "look" if excess <= DEADLY else "bad",
        note,
        "Off for a whole batch is not dead: few inputs, or collinear ones, make many such units, "
        "and by symmetry as many that are always on. Only the excess counts; after training, units "
        "that have learnt to stay on may hide deaths.",
    )


def _share(name: str, values: NDArray, threshold: float, limit: str, note: str) -> Line:
    """Of a share that should be under a threshold; the note where it is not."""
    share = _mean(values)
    ok = share <= threshold
    verdict: Verdict = "ok" if ok else "look"
    allowed, note = f"under {threshold:.0%}", "" if ok else note
    return Line(name, "", share, f"{share:.0%}", threshold, allowed, verdict, note, limit)


def _zero(seen: Seen) -> Iterator[Line]:
    if seen.zero is not None:
        yield _share(
            "zero activations",
            seen.zero,
            ZEROS,
            "The usual threshold, half, misleads: any symmetric draw gives relu half in every "
            "layer. It says nothing of dead units.",
            "few units say anything of an input",
        )


def _cosine(seen: Seen) -> Iterator[Line]:
    if seen.cosine is None:
        return
    cosine = np.atleast_2d(seen.cosine)[:, 1:]
    known = ~np.isnan(cosine).any(axis=1)
    if not known.any():
        return  # of one input, or an input of every network has become zero
    largest = float(cosine[known].mean(axis=0).max())
    notes = ["the inputs are nearly collinear"] if largest > COLLINEAR else []
    if not known.all():
        count = int((~known).sum())
        notes.append(f"in {count} of {len(known)} networks an input has become zero: left out")
    yield Line(
        "cosine of two inputs",
        "",
        largest,
        f"{largest:.4f}",
        COLLINEAR,
        f"under {COLLINEAR:g}",
        "ok" if largest <= COLLINEAR else "look",
        "; ".join(notes),
        "Not centred: activations that are never negative are alike by their mean, relu's of "
        "orthogonal inputs by 1/pi (Cho & Saul 2009), sigmoid's by more.",
    )


def _always_on(seen: Seen) -> Iterator[Line]:
    if seen.always_on is not None:
        yield _share(
            "units always on",
            seen.always_on,
            ALWAYS_ON,
            "Of one batch: collinear inputs leave half of all units always on.",
            "the stack is nearly linear on this batch",
        )


def _saturated(seen: Seen) -> Iterator[Line]:
    if seen.saturated is not None:
        yield _share(
            "saturated activations",
            seen.saturated,
            SATURATED,
            "Slopes alone say nothing: large weights saturate units and enlarge what the others "
            "pass, and the product counts (Poole et al. 2016). Sigmoid's slope is 1/4 at most.",
            "most slopes are under 5% of the steepest",
        )


def _sizes(seen: Seen) -> Iterator[Line]:
    if seen.log_mean_square is None:
        return
    logs = np.atleast_2d(seen.log_mean_square) / 2
    ratio = _middle(_difference(logs[:, -1], logs[:, 0])) / LN10
    yield Line(
        "activations, last over first",
        "",
        ratio,
        _decades(ratio),
        SIZES,
        f"within {SIZES:g}",
        "ok" if abs(ratio) <= SIZES else "look",
        "",
        "Forward and backward are two laws: a bounded activation, or a norm, keeps its size while "
        "the gradient vanishes or explodes (Schoenholz et al. 2017).",
    )


def _updates(seen: Seen, optimiser: str) -> Iterator[Line]:
    with np.errstate(divide="ignore"):
        logs = np.log10(np.atleast_2d(seen.ratio[optimiser]))
    by_layer = median(logs)
    typical, first = float(median(by_layer)), float(by_layer[0])
    note = "the first layer does not move" if first == -math.inf else ""
    if -math.inf < first < ROUNDED:
        note = f"the first layer's {_power(first)} of its weights is lost when float32 adds it"
    yield Line(
        "updates over weights",
        optimiser,
        typical,
        _power(typical),
        RATIO,
        f"10^{RATIO - RATIO_AWAY:g} to 10^{RATIO + RATIO_AWAY:g}",
        "ok" if abs(typical - RATIO) <= RATIO_AWAY else "look",
        "",
        "Of course notes (CS231n): proportional to the rate, and of little meaning before a norm, "
        "where a layer does not feel its weights' size.",
    )
    spread = _middle(_difference(logs[:, 0], logs[:, -1]))
    verdict: Verdict = "ok" if abs(spread) <= SPREAD else "look" if abs(spread) <= DROP else "bad"
    yield Line(
        "updates, first over last layer",
        optimiser,
        spread,
        _decades(spread),
        SPREAD,
        f"within {SPREAD:g}",
        verdict,
        note,
        "Adam takes equal steps whatever the gradients' sizes until they reach its eps, 1e-8: it "
        "hides vanishing, and the steps need not mean much.",
    )


def _loss(seen: Seen, optimiser: str) -> Iterator[Line]:
    loss = np.atleast_2d(seen.loss[optimiser])
    start = loss[:, 0] if seen.guess is None else np.where(seen.guess > 0, seen.guess, loss[:, 0])
    share = _middle(_quotient(loss[:, -1], start))
    worse = "no better than answers that ignore the inputs" if share > FLAT else ""
    yield Line(
        "last loss over a guess's",
        optimiser,
        share,
        f"{share:.3g}",
        FLAT,
        f"under {FLAT:g}",
        "ok" if share <= FLAT else "look" if math.isfinite(share) else "bad",
        worse if math.isfinite(share) else "not finite: training has diverged",
        "A head alone brings any stack to a guess. A plateau at first does not say that nothing is "
        "learnt later (Saxe et al. 2014).",
    )


def _batch(seen: Seen) -> Iterator[Line]:
    if seen.batch is None:
        return
    note = ""
    if seen.batch < BATCH:
        note = "heavy tails: units whose inputs lie close together carry the gradient"
    if seen.batch <= 2:
        note = "every gradient below a norm of 2 inputs is zero"
    yield Line(
        "inputs under the batch norm",
        "",
        float(seen.batch),
        str(seen.batch),
        float(BATCH),
        f"{BATCH} or more",
        "ok" if seen.batch >= BATCH else "look" if seen.batch > 2 else "bad",
        note,
        "No batch is enough: the growth falls with its size, but not to none.",
    )


def _growth(seen: Seen) -> Iterator[Line]:
    if seen.batch is None or seen.growth is None:
        return
    rate = float(np.mean(seen.growth))
    if not math.isfinite(rate):
        return  # a gradient of zero, which has its line
    yield Line(
        "growth under the batch norm",
        "",
        rate,
        f"{rate:+.3f} nat/layer",
        GROWTH,
        f"under {GROWTH:g}",
        "ok" if rate <= GROWTH else "look",
        f"3 decades in {DROP * LN10 / rate:.0f} layers" if rate > GROWTH else "",
        "Batch norm itself makes gradients explode, under relu by sqrt(pi/(pi - 1)) a layer in a "
        "large batch, whatever the weights' size; skips around it help (Yang et al. 2019).",
    )


def _mean(shares: NDArray) -> float:
    """Over networks and layers."""
    return float(np.mean(shares))


def _middle(values: NDArray) -> float:
    return float(median(values))


def _difference(a: NDArray, b: NDArray) -> NDArray:
    """a - b; between equal infinities there is none (nan)."""
    with np.errstate(invalid="ignore"):
        return a - b


def _quotient(a: NDArray, b: NDArray) -> NDArray:
    with np.errstate(all="ignore"):
        return a / b


def _decades(value: float) -> str:
    return f"{value:+.2f} decades" if math.isfinite(value) else str(value)


def _power(log10: float) -> str:
    if log10 == -math.inf:
        return "0"
    return f"10^{log10:.1f}" if math.isfinite(log10) else str(log10)
