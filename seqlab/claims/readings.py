"""The numbers that claims are settled by, read off results: a sample a network, and an estimate."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.errors import InputError
from seqlab.numbers.estimate import (
    Estimate,
    exactly,
    of_mean,
    of_median,
    of_share,
    of_variance,
)
from seqlab.numbers.quantity import LN10, THRESHOLDS
from seqlab.numbers.statistics import first_below
from seqlab.numbers.variables import NEVER
from seqlab.report.measured import Measured
from seqlab.report.points import Data, arrays_of
from seqlab.wording import did_you_mean, one_of

# The data of a run and what stands behind the reading's "@" -> one number a network.
Sample = Callable[[Data, str], NDArray]


@dataclass(frozen=True)
class Reading:
    """A number of a run, of its first clip rule: `sample` of each network, `estimate` of all.
    `unit` is what people read behind it; `theory` makes it of a rate (nats a step) and the steps,
    where a rate says all."""

    name: str
    unit: str
    sample: Sample
    at: str = ""
    estimate: Callable[[NDArray], Estimate] = of_median
    theory: Callable[[float, int], float] | None = None

    def of(self, result: Measured, minus: Measured | None = None) -> Estimate:
        """It of a run, or of the difference of two whose networks are drawn by the same seeds."""
        found = self.sample(arrays_of(result), self.at)
        if minus is not None:
            found = found - self.sample(arrays_of(minus), self.at)
        return self.estimate(found)

    def predicted(self, result: Measured, minus: Measured | None = None) -> float | None:
        """What theory says of it, None where it says nothing, as of a rule inside the chain."""
        if self.theory is None or rules.parse(result.spec.clip[0]).in_chain:
            return None
        rates = [(one, float(arrays_of(one)["theory"])) for one in (result, minus) if one]
        first, *second = (self.theory(rate, one.spec.steps) for one, rate in rates)
        found = first - sum(second)
        return found if math.isfinite(found) else None


def _curve(data: Data) -> NDArray:
    """Decades (networks, lags) of the longest length."""
    return np.asarray(data["log_norm"][:, 0, -1] / LN10)


def _place(data: Data, lag: int) -> int:
    """Where a lag is among those kept. Raises InputError."""
    [places] = np.nonzero(data["lag"] == lag)
    if not places.size:
        raise InputError(f"reading: lag {lag} is not kept; a length ends with every lag that is")
    return int(places[0])


def _decades(data: Data, _: str) -> NDArray:
    return _curve(data)[:, -1]


def _per_link(data: Data, at: str) -> NDArray:
    return _decades(data, at) / data["lag"][-1]


def _factor(data: Data, at: str) -> NDArray:
    return np.asarray(10.0 ** _per_link(data, at))


def _rate(data: Data, _: str) -> NDArray:
    return np.asarray(data["decay_rate"][:, 0])


def _log_square(data: Data, _: str) -> NDArray:
    """ln of the squared norm of the gradient that is left."""
    return 2 * np.asarray(data["log_norm"][:, 0, -1, -1])


def _horizon(data: Data, at: str) -> NDArray:
    """First kept lag of each network under a threshold, inf for never."""
    under = math.log10(THRESHOLDS[at])
    places = [first_below(curve, under) for curve in _curve(data)]
    return np.array([data["lag"][place] if place >= 0 else math.inf for place in places])


def _rules_apart(data: Data, _: str) -> NDArray:
    """The largest difference of each network's curves between the rules of a run."""
    curves = data["log_norm"][:, :, -1]
    same = curves == curves[:, :1]
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(same, 0, np.abs(curves - curves[:, :1])).max(axis=(1, 2)))


def _by_layer(name: str, scale: float = 1.0) -> Sample:
    """A quantity of a stack's layers, at layer `at`, counted from the input."""

    def read(data: Data, at: str) -> NDArray:
        place = _place(data, int(data["lag"][-1]) - int(at))
        return np.asarray(data[name][:, place] * scale)

    return read


def _half_dead(data: Data, _: str) -> NDArray:
    """The share of layers, the inputs left out, of whose activations more than a half are zero."""
    return np.asarray((data["zero_units"][:, :-1] > 0.5).mean(axis=1))


def _layers_under(data: Data, at: str) -> NDArray:
    """The share of layers whose weights have less than `at` of the largest layer's gradient."""
    norms = data["log_weight_grad_norm"][:, 0, :-1]
    return np.asarray((norms < norms.max(axis=1, keepdims=True) + math.log(float(at))).mean(axis=1))


def _solved(data: Data, _: str) -> NDArray:
    return np.asarray(data["solved_at"][:, 0, -1] != NEVER)


def _accuracy(data: Data, _: str) -> NDArray:
    return np.asarray(data["test_accuracy"][:, 0, -1])


def _test_loss(data: Data, _: str) -> NDArray:
    return np.asarray(data["test_loss"][:, 0, -1])


def _log_updates(data: Data, _: str) -> NDArray:
    """log10 of the updates to solve the task, inf for never."""
    solved_at = data["solved_at"][:, 0, -1].astype(float)
    return np.log10(np.where(solved_at == NEVER, math.inf, solved_at))


def _first_part(data: Data, at: str) -> NDArray:
    """How much of the way from the first to the least loss the first updates make, a share `at`."""
    loss = data["loss"][:, 0, -1]
    early = np.nonzero(data["loss_update"] <= float(at) * data["loss_update"][-1])[0][-1]
    return np.asarray((loss[:, 0] - loss[:, early]) / (loss[:, 0] - np.nanmin(loss, axis=1)))


def _decades_trained(data: Data, _: str) -> NDArray:
    return np.asarray(data["log_norm_trained"][:, 0, -1, -1] / LN10)


def _moved_apart(data: Data, _: str) -> NDArray:
    """How far the first layer's weights moved, as a share of their norm, over the last layer's."""
    moved = data["log_moved"][:, 0, -1]
    return np.asarray((moved[:, -2] - moved[:, 0]) / LN10)


def _no_sample(data: Data, _: str) -> NDArray:
    raise TypeError("a slope is of no run")


def _largest(sample: NDArray) -> Estimate:
    return exactly(float(sample.max()))


_READINGS = {
    one.name: one
    for one in (
        Reading("decades", "decades", _decades, theory=lambda rate, steps: rate * steps / LN10),
        Reading(
            "decades_per_link", "decades a step", _per_link, theory=lambda rate, _: rate / LN10
        ),
        Reading("variance", "nat^2", _log_square, estimate=of_variance),
        Reading("factor", "times a step", _factor, theory=lambda rate, _: math.exp(rate)),
        Reading("rate", "nat a step", _rate, estimate=of_mean, theory=lambda rate, _: rate),
        Reading("horizon", "steps", _horizon),
        Reading("largest", "decades at most", _decades, estimate=_largest),
        Reading("rules_apart", "nat apart", _rules_apart, estimate=_largest),
        Reading("dead_units", "of the units", _by_layer("dead_units"), estimate=of_mean),
        Reading("mean_square", "decades", _by_layer("log_mean_square", 1 / LN10)),
        Reading("half_dead", "of the layers", _half_dead, estimate=of_mean),
        Reading("layers_under", "of the layers", _layers_under),
        Reading("solved_share", "of the networks", _solved, estimate=of_share),
        Reading("accuracy", "of the answers", _accuracy),
        Reading("test_loss", "nat", _test_loss),
        Reading("log_updates", "decades of updates", _log_updates),
        Reading("first_part", "of the way", _first_part),
        Reading("decades_trained", "decades", _decades_trained),
        Reading("moved_apart", "decades", _moved_apart),
        Reading("slope", "times what is said", _no_sample),
    )
}
_NEED_A_PLACE = ("horizon", "layers_under", "dead_units", "mean_square", "first_part")


def reading(text: str) -> Reading:
    """A reading by its name, NAME or NAME@PLACE: a layer from the input, the threshold of a
    horizon, a share of the largest, or of all updates. Raises InputError."""
    name, _, at = text.partition("@")
    if name not in _READINGS:
        close = did_you_mean(name, _READINGS)
        raise InputError(f"reading: {name!r} is not allowed; {', '.join(_READINGS)}{close}")
    if bool(at) != (name in _NEED_A_PLACE):
        raise InputError(f"reading: {text!r} is not allowed; @ is for {one_of(_NEED_A_PLACE)}")
    if name == "horizon" and at not in THRESHOLDS:
        raise InputError(f"reading: {text!r} is not allowed; horizon@ {', '.join(THRESHOLDS)}")
    return replace(_READINGS[name], at=at)
