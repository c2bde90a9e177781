"""A measurement made up in the shape of a real one, for tests of what is done with it."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np

from seqlab.cells import CELLS
from seqlab.numbers.quantities import in_files
from seqlab.numbers.variables import Measurement
from seqlab.spec import kinds
from seqlab.study.attenuation import Attenuation
from seqlab.study.result import Result

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ZERO = {"float32": -149 * np.log(2), "float64": -1074 * np.log(2)}


def first_below(curves, threshold):
    """First lag of each curve (rule, lag) under a threshold, -1 for never."""
    below = curves < threshold
    return np.where(below.any(axis=-1), below.argmax(axis=-1), -1)


def measurement(spec, rate=-0.45, spread=0.01, own_parts=None, **replaced):
    """Exponential decay at `rate` nat/step; `replaced` overwrites data by variable name.

    `own_parts` are of somebody's own state: by their names, nats over the state's curve.
    """
    networks, rules, steps = spec.networks, len(spec.clip), spec.steps
    lengths = np.array(spec.lengths)
    lags = np.unique([0, 1, *spec.lengths, *np.geomspace(1, steps, 40).round()]).astype(np.int64)
    lags = lags[lags <= steps]
    rates = rate + spread * np.linspace(-1, 1, networks)[:, None] * np.ones(rules)
    norms = rates[:, :, None, None] * np.where(lags <= lengths[:, None], lags, np.nan)
    every_lag = rate * np.arange(steps + 1) * np.ones((rules, 1))
    thresholds = np.array([1e-1, 1e-3, 1e-6])
    parts = CELLS[spec.arch].parts if spec.arch in CELLS and own_parts is None else ()
    data = {
        "lag": lags,
        "length": lengths,
        "rule": np.array(spec.clip),
        "threshold": thresholds,
        "log_norm": norms,
        "log_norm_input": norms - 1,
        "decay_rate": rates,
        "horizon": np.stack([first_below(every_lag, np.log(t)) for t in thresholds], axis=-1),
        "fit_exponential_rms": np.full(rules, 0.1),
        "fit_power_rms": np.full(rules, 0.2),
        "fit_rate": np.full(rules, rate),
        "fit_exponent": np.full(rules, -1.0),
        "clipped_fraction": np.zeros_like(rates),
        "underflow": np.zeros((networks, rules, len(lengths))),
        "theory": np.array(rate + 0.002),
        "log_param_grad_norm_before": np.full_like(rates, -0.7),
        "log_param_grad_norm_after": np.full_like(rates, -0.7),
        "gradient_cosine": np.full_like(rates, 0.75),
    }
    data |= {f"{name}_zero_lag": first_below(every_lag, under) for name, under in ZERO.items()}
    data |= {f"log_norm_{part}": norms - 2 for part in parts if len(parts) > 1}
    if getattr(spec, "spectrum", None) is not None:
        data["lyapunov"] = rates[:, :1] - 0.1 * np.arange(spec.spectrum)
    if own_parts is not None:
        data["part"] = np.array(list(own_parts))
        data["log_norm_part"] = np.stack([norms + over for over in own_parts.values()], axis=2)
    data |= replaced
    rows, (link,) = in_files(parts), kinds.links([spec.arch])
    found = {name: rows[name].variable(value, link) for name, value in data.items()}
    return Measurement("cpu", found)


def result(arch="lstm", rate=-0.45, edit=None, steps=1000, networks=5, own_parts=None, **fields):
    """What a figure reads of a run; `edit(log_norm, lag)` may spoil its curves.

    The curves are (network, rule, length, lag), in nats; with `own_parts` those of the parts are
    edited, (network, rule, part, length, lag).
    """
    spec = kinds.create(arch=arch, steps=steps, networks=networks, **fields)
    made = measurement(spec, rate, own_parts=own_parts).variables
    if edit is not None:
        edit(made["log_norm" if own_parts is None else "log_norm_part"].data, made["lag"].data)
    return SimpleNamespace(spec=spec, variables=made)


def made_result(
    arch="lstm", steps=1000, replaced=None, rate=-0.45, spread=0.01, duration=0.25, **fields
):
    """A result of such a measurement; `replaced` overwrites data by variable name."""
    spec = kinds.create(arch=arch, steps=steps, **fields)
    measured = measurement(spec, rate, spread, **(replaced or {}))
    return Result.from_measurement(spec, measured, NOW, duration)


def probed(rate=-0.45, lengths=(10, 100), networks=1, parts=None, every=1, **fields):
    """A probe of somebody's network: exp(rate * lag) e^3, network m's rate 1 + m/100 of that.

    `parts` are nats over the state's curve, by their names. With engine `input` lags end one
    before a length.
    """
    before = fields.get("engine") == "input"
    lags = np.arange(0, max(lengths) + 1 - before, every)
    rates = rate * (1 + np.arange(networks) / 100)
    past = lags > np.array(lengths)[:, None] - before
    norms = np.where(past, np.nan, 3.0 + rates[:, None, None] * lags)
    plain = {
        "lengths": np.array(lengths),
        "lags": lags,
        "log_norm": norms,
        "log_norm_input": norms if before else None,
        "parts": {name: norms + over for name, over in (parts or {"state": 0.0}).items()},
        "underflow": np.zeros((networks, len(lengths)), bool),
        "fired": np.zeros((networks, len(lengths))),
        "clip": "none",
        "backend": "cpu",
        "name": "Mine",
        "engine": "autograd",
        "dtype": "float64",
        "created": NOW,
        "duration": 0.25,
        "every": every,
    }
    return Attenuation(**(plain | fields))
