"""A measurement made up in the shape of a real one, for tests of what is done with it."""

from types import SimpleNamespace

import numpy as np

from seqlab.cells import CELLS
from seqlab.numbers.variables import Measurement, Variable
from seqlab.spec.run import RunSpec

THRESHOLDS = (1e-1, 1e-3, 1e-6)
ZERO = {"float32": -149 * np.log(2), "float64": -1074 * np.log(2)}


def first_below(curves, threshold):
    """First lag of each curve (rule, lag) under a threshold, -1 for never."""
    below = curves < threshold
    return np.where(below.any(axis=-1), below.argmax(axis=-1), -1)


def measurement(spec, rate=-0.45, spread=0.01, **replaced):
    """Exponential decay at `rate` nat/step; `replaced` overwrites data by variable name."""
    networks, rules, steps = spec.networks, len(spec.clip), spec.steps
    lengths = np.array(spec.lengths)
    lags = np.unique([0, 1, *spec.lengths, *np.geomspace(1, steps, 40).round()]).astype(np.int64)
    lags = lags[lags <= steps]
    rates = rate + spread * np.linspace(-1, 1, networks)[:, None] * np.ones(rules)
    norms = rates[:, :, None, None] * np.where(lags <= lengths[:, None], lags, np.nan)
    every_lag = rate * np.arange(steps + 1) * np.ones((rules, 1))
    per_rule, per_network = ("rule",), ("network", "rule")
    curve = ("network", "rule", "length", "lag")
    horizon = np.stack([first_below(every_lag, np.log(t)) for t in THRESHOLDS], axis=-1)
    variables = {
        "lag": (("lag",), lags, "step", "steps between the loss and the state"),
        "length": (("length",), lengths, "step", "sequence length"),
        "rule": (per_rule, np.array(spec.clip), "1", "clip rule"),
        "threshold": (("threshold",), np.array(THRESHOLDS), "1", "threshold of a horizon"),
        "log_norm": (curve, norms, "nat", "ln of the state gradient's norm"),
        "log_norm_input": (curve, norms - 1, "nat", "ln of the input gradient's norm"),
        "decay_rate": (per_network, rates, "nat/step", "decay rate"),
        "horizon": (("rule", "threshold"), horizon, "step", "first lag under a threshold"),
        "fit_exponential_rms": (per_rule, np.full(rules, 0.1), "nat", "misfit of an exponential"),
        "fit_power_rms": (per_rule, np.full(rules, 0.2), "nat", "misfit of a power law"),
        "fit_rate": (per_rule, np.full(rules, rate), "nat/step", "rate of the exponential"),
        "fit_exponent": (per_rule, np.full(rules, -1.0), "1", "exponent of the power law"),
        "clipped_fraction": (per_network, np.zeros_like(rates), "1", "share clipped"),
        "underflow": (
            ("network", "rule", "length"),
            np.zeros((networks, rules, len(lengths))),
            "1",
            "under the range",
        ),
        "theory": ((), np.array(rate + 0.002), "nat/step", "predicted rate"),
    }
    for name, threshold in ZERO.items():
        lag = first_below(every_lag, threshold)
        variables[f"{name}_zero_lag"] = (per_rule, lag, "step", f"first lag under {name}")
    for when in ("before", "after"):
        grads = np.full_like(rates, -0.7)
        variables[f"log_param_grad_norm_{when}"] = (per_network, grads, "nat", f"{when} clipping")
    for part in CELLS[spec.arch].parts if len(CELLS[spec.arch].parts) > 1 else ():
        variables[f"log_norm_{part}"] = (curve, norms - 2, "nat", f"ln of the {part} part's norm")
    if spec.spectrum is not None:
        exponents = rates[:, :1] - 0.1 * np.arange(spec.spectrum)
        dims = ("network", "exponent")
        variables["lyapunov"] = (dims, exponents, "nat/step", "Lyapunov exponent")
    made = {name: Variable(*parts) for name, parts in variables.items()}
    for name, data in replaced.items():
        old = made[name]
        made[name] = Variable(old.dims, np.asarray(data), old.units, old.long_name)
    return Measurement("cpu", made)


def result(arch="lstm", rate=-0.45, edit=None, steps=1000, networks=5, **fields):
    """What a figure reads of a run; `edit(log_norm, lag)` may spoil its curves.

    The curves are (network, rule, length, lag), in nats.
    """
    spec = RunSpec.create(arch=arch, steps=steps, networks=networks, **fields)
    made = measurement(spec, rate).variables
    if edit is not None:
        edit(made["log_norm"].data, made["lag"].data)
    return SimpleNamespace(spec=spec, variables=made)
