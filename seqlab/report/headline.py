"""The few numbers that stand for a whole curve, where there is room for no more."""

import math
from dataclasses import dataclass

from seqlab.numbers.quantity import HORIZON, THRESHOLDS
from seqlab.numbers.variables import NEVER
from seqlab.report.measured import Measured
from seqlab.report.points import arrays_of


@dataclass(frozen=True)
class Headline:
    """One rule's curve of the longest length, as its table has it.

    `rate` in nats a link, mean over networks; `horizon` and `float32_zero_lag` are lags: inf where
    the curve stays above within the length, nan where it ends in nan, and that is not known.
    """

    rule: str
    rate: float
    horizon: float
    float32_zero_lag: float


def headlines(result: Measured) -> list[Headline]:
    """One for each rule, in the result's order."""
    data = arrays_of(result)
    place = list(THRESHOLDS).index(HORIZON)
    found = []
    for k, rule in enumerate(map(str, data["rule"])):
        rate = float(data["decay_rate"][:, k].mean())
        lags = (int(data["horizon"][k, place]), int(data["float32_zero_lag"][k]))
        # A curve that ends in nan has not been seen to stay above.
        never = math.nan if math.isnan(rate) else math.inf
        horizon, zero = (never if lag == NEVER else float(lag) for lag in lags)
        found.append(Headline(rule, rate, horizon, zero))
    return found
