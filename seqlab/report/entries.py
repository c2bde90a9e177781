"""The numbers that people read of a result: one entry a rule, as `--json` prints them."""

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.statistics import bootstrap_t, median, quantile
from seqlab.report.measured import Measured

LN10 = math.log(10)
HORIZONS = ("1e-1", "1e-3", "1e-6")


@dataclass(frozen=True)
class Entry:
    """One rule's numbers; the fields are those of one entry of `curves` in `--json`.

    Rates in nats per step, attenuations and gradient norms in decades, lags in steps; None where
    a number does not exist. Means and medians are over networks.
    """

    clip: str
    decay_rate: float
    decay_rate_ci95: tuple[float, float] | None
    log10_attenuation: float
    log10_attenuation_iqr: tuple[float, float]
    lengths: tuple[int, ...]
    log10_attenuation_by_length: tuple[float, ...]
    fit: str | None
    horizon: dict[str, int | None]
    float32_zero_lag: int | None
    float64_zero_lag: int | None
    zeros: int
    underflows: int
    overflows: int
    clipped_fraction: float
    log10_param_grad_norm: dict[str, float]
    lyapunov: tuple[float, ...] | None
    lyapunov_dead: int | None
    theory: float | None


def document(result: Measured) -> dict[str, Any]:
    """The document that `--json` prints, in strict JSON's own types."""
    return {
        "spec": result.spec.to_dict(),
        "backend": result.backend,
        "result": None if result.path is None else str(result.path),
        "curves": [
            {field.name: _json(getattr(entry, field.name)) for field in fields(entry)}
            for entry in entries(result)
        ],
    }


@dataclass(frozen=True)
class Ends:
    """What is left of each length's own loss at its last lag: over networks, (rule, length).

    Median and quartiles in decades; the networks in which it is exactly zero, under the number
    format's range (one step's factor was, so that no value is known), or not finite.
    """

    log10_attenuation: NDArray
    log10_attenuation_q25: NDArray
    log10_attenuation_q75: NDArray
    zeros: NDArray
    underflows: NDArray
    overflows: NDArray


def ends(result: Measured) -> Ends:
    """The ends of a result's curves."""
    lag, length, norm = (result.variables[n].data for n in ("lag", "length", "log_norm"))
    left = norm[:, :, np.arange(length.size), np.searchsorted(lag, length)] / LN10
    lost = result.variables["underflow"].data > 0
    return Ends(
        median(left),
        quantile(left, 0.25),
        quantile(left, 0.75),
        (np.isneginf(left) & ~lost).sum(axis=0),
        (np.isneginf(left) & lost).sum(axis=0),
        (np.isnan(left) | np.isposinf(left)).sum(axis=0),
    )


def entries(result: Measured, at: Ends | None = None) -> list[Entry]:
    """One entry for each rule of a result, in its order; `at` are its ends where they are known."""
    data = {name: variable.data for name, variable in result.variables.items()}
    at = at or ends(result)
    sides = ("before", "after")
    norms = [median(data[f"log_param_grad_norm_{side}"]) / LN10 for side in sides]
    lyapunov = tuple(map(_mean, data["lyapunov"].T)) if "lyapunov" in data else None
    theory = None if np.isnan(data["theory"]) else float(data["theory"])
    return [
        Entry(
            clip=clip,
            decay_rate=_mean(data["decay_rate"][:, rule]),
            decay_rate_ci95=_interval(tuple(data["decay_rate"][:, rule].tolist())),
            log10_attenuation=float(at.log10_attenuation[rule, -1]),
            log10_attenuation_iqr=(
                float(at.log10_attenuation_q25[rule, -1]),
                float(at.log10_attenuation_q75[rule, -1]),
            ),
            lengths=tuple(data["length"].tolist()),
            log10_attenuation_by_length=tuple(at.log10_attenuation[rule].tolist()),
            fit=_fit(data["fit_exponential_rms"][rule], data["fit_power_rms"][rule]),
            horizon=dict(zip(HORIZONS, map(_lag, data["horizon"][rule]), strict=True)),
            float32_zero_lag=_lag(data["float32_zero_lag"][rule]),
            float64_zero_lag=_lag(data["float64_zero_lag"][rule]),
            zeros=int(at.zeros[rule, -1]),
            underflows=int(at.underflows[rule, -1]),
            overflows=int(at.overflows[rule, -1]),
            clipped_fraction=_mean(data["clipped_fraction"][:, rule]),
            log10_param_grad_norm={
                side: float(norm[rule]) for side, norm in zip(sides, norms, strict=True)
            },
            lyapunov=lyapunov,
            lyapunov_dead=None if lyapunov is None else lyapunov.count(-math.inf),
            theory=theory,
        )
        for rule, clip in enumerate(data["rule"].tolist())
    ]


@lru_cache(maxsize=4)  # rules that change nothing have equal rates
def _interval(rates: tuple[float, ...]) -> tuple[float, float] | None:
    return bootstrap_t(rates)


def _mean(values: NDArray) -> float:
    """The mean; between -inf and inf there is none (nan)."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values))


def _fit(exponential_rms: float, power_rms: float) -> str | None:
    if math.isnan(exponential_rms) or math.isnan(power_rms):
        return None
    return "exponential" if exponential_rms <= power_rms else "power"


def _lag(value: int) -> int | None:
    return None if value < 0 else int(value)


def _json(value: Any) -> Any:
    """A value in strict JSON's types: non-finite numbers are "-inf", "inf" and "nan"."""
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
