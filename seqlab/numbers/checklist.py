"""The checklist of vanishing and exploding gradients that tutorials give, each line with a number,
the rule of thumb that it is held to, and what is known of where that rule misleads.

It takes numbers by layer, whoever measured them; what is None or empty has no line.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.quantity import LN10
from seqlab.numbers.rules_of_thumb import (
    DROP,
    Line,
    Verdict,
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
from seqlab.numbers.statistics import median

ZEROS = 0.9  # share of activations
COLLINEAR = 0.95  # cosine
ALWAYS_ON = 0.9  # share of units
SIZES = 1.0  # decades between first and last activations, either way
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
    if seen.log_gradient is not None:
        yield drop_line(
            "gradient, first over last layer",
            "",
            np.atleast_2d(seen.log_gradient),
            "the inputs",
            "Of SGD: Adam divides by a gradient's own size until that reaches its eps, 1e-8 "
            "(Kingma & Ba 2015). Layers of unlike sizes shift the number.",
        )


def _smallest(seen: Seen) -> Iterator[Line]:
    if seen.log_gradient is not None:
        yield smallest_line("smallest gradient of a layer", np.atleast_2d(seen.log_gradient))


def _dead(seen: Seen) -> Iterator[Line]:
    if seen.dead is not None and seen.always_on is not None:
        yield dead_line("", seen.dead, seen.always_on)


def _zero(seen: Seen) -> Iterator[Line]:
    if seen.zero is not None:
        yield share_line(
            "zero activations",
            "",
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
        yield share_line(
            "units always on",
            "",
            seen.always_on,
            ALWAYS_ON,
            "Of one batch: collinear inputs leave half of all units always on.",
            "the stack is nearly linear on this batch",
        )


def _saturated(seen: Seen) -> Iterator[Line]:
    if seen.saturated is not None:
        yield saturated_line("", seen.saturated)


def _sizes(seen: Seen) -> Iterator[Line]:
    if seen.log_mean_square is None:
        return
    logs = np.atleast_2d(seen.log_mean_square) / 2
    ratio = middle(difference(logs[:, -1], logs[:, 0])) / LN10
    yield Line(
        "activations, last over first",
        "",
        ratio,
        decades(ratio),
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
    first = float(by_layer[0])
    note = "the first layer does not move" if first == -math.inf else ""
    if -math.inf < first < ROUNDED:
        note = f"the first layer's {power(first)} of its weights is lost when float32 adds it"
    yield ratio_line(optimiser, float(median(by_layer)))
    spread = middle(difference(logs[:, 0], logs[:, -1]))
    verdict: Verdict = "ok" if abs(spread) <= SPREAD else "look" if abs(spread) <= DROP else "bad"
    yield Line(
        "updates, first over last layer",
        optimiser,
        spread,
        decades(spread),
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
    share = middle(_quotient(loss[:, -1], start))
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


def _quotient(a: NDArray, b: NDArray) -> NDArray:
    with np.errstate(all="ignore"):
        return a / b
