"""The statistics of learning curves by their textbooks' formulas, slowly: one network, one update
and one resample at a time. Imports nothing from seqlab."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import norm, t


def wilson(successes: int, trials: int, level: float) -> tuple[float, float]:
    """The probabilities p of which the share is z standard errors, sqrt(p(1-p)/n), away."""
    share, z = successes / trials, norm.ppf((1 + level) / 2)

    def away(p: float) -> float:
        return (share - p) ** 2 - z**2 * p * (1 - p) / trials

    low = 0.0 if successes == 0 else brentq(away, 1e-300, min(share, 1 - 1e-9), xtol=1e-15)
    high = 1.0 if successes == trials else brentq(away, max(share, 1e-9), 1, xtol=1e-15)
    return float(low), float(high)


class Step(NamedTuple):
    """What the Kaplan-Meier estimate is from an update on: S, and the sum in Greenwood's
    formula, None when nobody is left."""

    update: int
    survival: Fraction
    greenwood: Fraction | None


def kaplan_meier(updates: Sequence[int], solved: Sequence[bool]) -> list[Step]:
    survival, greenwood, found = Fraction(1), Fraction(0), []
    for now in sorted({u for u, s in zip(updates, solved, strict=True) if s}):
        at_risk = sum(u >= now for u in updates)
        deaths = sum(s and u == now for u, s in zip(updates, solved, strict=True))
        survival *= Fraction(at_risk - deaths, at_risk)
        if at_risk > deaths:
            greenwood += Fraction(deaths, at_risk * (at_risk - deaths))
        found.append(Step(now, survival, greenwood if at_risk > deaths else None))
    return found


def median(
    updates: Sequence[int], solved: Sequence[bool], level: float
) -> tuple[float | None, float | None, float | None]:
    """Of Brookmeyer & Crowley, with ln(-ln S): an update is in the interval from the first at which
    S is not too far above a half, until the first at which it is too far under it."""
    steps, z = kaplan_meier(updates, solved), norm.ppf((1 + level) / 2)
    found: list[float | None] = [None, None, None]

    def first(place: int, update: int) -> None:
        if found[place] is None:
            found[place] = float(update)

    for now, survival, greenwood in steps:
        if survival <= Fraction(1, 2):
            first(0, now)
        if greenwood is None:  # all have solved it: S is no more than a half for sure
            first(1, now)
            continue
        log = abs(math.log(survival))
        distance = math.log(log) - math.log(math.log(2))
        error = math.sqrt(greenwood) / log
        if distance >= -z * error - 1e-12:
            first(1, now)
        if distance >= z * error - 1e-12:
            first(2, now)
    return found[0], found[1], found[2]


def log_odds_of(length: float, slope: float, lengths: Sequence[float]) -> list[float]:
    return [slope * (math.log(length) - math.log(one)) for one in lengths]


def surprise(length: float, slope: float, lengths: Sequence[float], solved: np.ndarray) -> float:
    """Minus the log likelihood, network by network."""
    total = 0.0
    for network in solved:
        for odds, won in zip(log_odds_of(length, slope, lengths), network, strict=True):
            total += np.logaddexp(0, -odds if won else odds)
    return total


def fit(lengths: Sequence[float], solved: np.ndarray) -> tuple[float, float]:
    """Length and slope of the greatest likelihood, with the slope no steeper than from 95% to 5%
    between the closest two lengths: one slope after the other with its best length, and the
    steepest unless another is better by more than rounding."""
    gap = min(math.log(b / a) for a, b in itertools.pairwise(lengths))
    steepest = 2 * math.log(0.95 / 0.05) / gap

    def best(slope: float) -> tuple[float, float]:
        """Surprise and ln of the length."""
        reach = 10 / slope
        ends = math.log(lengths[0]) - reach, math.log(lengths[-1]) + reach
        found = minimize_scalar(
            lambda log: surprise(math.exp(log), slope, lengths, solved),
            bounds=ends,
            method="bounded",
            options={"xatol": 1e-10},
        )
        return float(found.fun), float(found.x)

    inner = minimize_scalar(
        lambda slope: best(slope)[0],
        bounds=(0.05, steepest),
        method="bounded",
        options={"xatol": 1e-9},
    )
    slope = steepest if best(steepest)[0] <= inner.fun + 1e-9 else float(inner.x)
    return math.exp(best(slope)[1]), slope


def firth(lengths: Sequence[float], solved: np.ndarray) -> float:
    """The length of the greatest likelihood times the root of the information's determinant (Firth
    1993)."""
    x = np.log(np.asarray(lengths, dtype=float))
    middle = x.mean()

    def penalised(at: np.ndarray) -> float:
        length, slope = math.exp(at[0] + middle), at[1]
        p = np.array([1 / (1 + math.exp(-o)) for o in log_odds_of(length, slope, lengths)])
        weights = len(solved) * p * (1 - p)
        design = np.stack([np.ones_like(x), x - middle])
        sign, log_determinant = np.linalg.slogdet((design * weights) @ design.T)
        assert sign > 0
        return surprise(length, slope, lengths, solved) - log_determinant / 2

    found = minimize(penalised, [0.0, 2.0], method="Nelder-Mead", options={"xatol": 1e-6})
    return math.exp(found.x[0] + middle)


class Ends(NamedTuple):
    """What one set of networks says the length is between."""

    low: float
    high: float


def ends(lengths: Sequence[float], solved: np.ndarray) -> Ends:
    won = [int(n) for n in solved.sum(axis=0)]
    everybody = len(solved)
    if set(won) <= {0, everybody} and won == sorted(won, reverse=True):
        edges = [-math.inf, *lengths, math.inf]
        cut = won.count(everybody)
        return Ends(edges[cut], edges[cut + 1])
    length, _ = fit(lengths, solved)
    if length < lengths[0]:
        return Ends(-math.inf, lengths[0])
    if length > lengths[-1]:
        return Ends(lengths[-1], math.inf)
    return Ends(length, length)


def bootstrap(lengths: Sequence[float], solved: np.ndarray) -> Counter[Ends]:
    """How often each pair of ends comes out of all n^n resamples of n networks."""
    known: dict[tuple[int, ...], Ends] = {}
    found: Counter[Ends] = Counter()
    for drawn in itertools.product(range(len(solved)), repeat=len(solved)):
        sample = solved[list(drawn)]
        key = tuple(sample.sum(axis=0))
        if key not in known:
            known[key] = ends(lengths, sample)
        found[known[key]] += 1
    return found


def expanded_tail(level: float, size: int) -> float:
    """Hesterberg 2015: the normal law's tail beyond the t quantile over sqrt((n - 1)/n)."""
    return float(norm.cdf(t.ppf((1 - level) / 2, size - 1) / math.sqrt((size - 1) / size)))
