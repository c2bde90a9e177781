"""From the numbers of every network to the variables of a result."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.fit import Fit, fit_decay, fit_lags
from seqlab.numbers.statistics import first_below, median
from seqlab.numbers.variables import Variable
from seqlab.spec.run import RunSpec

MOST_LAGS = 256
THRESHOLDS = (1e-1, 1e-3, 1e-6)
# The smallest subnormals: below, a plain number is zero.
LN_SMALLEST = {"float32": -149 * np.log(2.0), "float64": -1074 * np.log(2.0)}

PARTS = {
    "log_norm": "adjoint of the state",
    "log_norm_hidden": "hidden part of the adjoint",
    "log_norm_cell": "cell part of the adjoint",
    "log_norm_input": "gradient of the input",
}


@dataclass
class Block:
    """The numbers of some networks: one entry a network on the first axis.

    Logs are natural. `longest` (M, rules, lags) is the state's whole curve of the longest length;
    `kept` has every part's curves (M, rules, lengths, kept lags), relative to the state's norm at
    lag 0. `lost` (M, rules, lengths) says where a zero came from a factor beyond the dtype's range.
    """

    longest: NDArray
    kept: dict[str, NDArray]
    fired: NDArray
    lost: NDArray
    before: NDArray
    after: NDArray
    predicted: NDArray
    exponents: NDArray | None


def kept_lags(spec: RunSpec) -> NDArray[np.int64]:
    """The lags a file keeps: 0, 1, every length, and at most 256 evenly spaced in log."""
    spread = np.rint(np.geomspace(1, spec.steps, MOST_LAGS)).astype(np.int64)
    return np.unique(np.concatenate([[0, 1], spec.lengths, spread]))


def assemble(spec: RunSpec, blocks: list[Block]) -> dict[str, Variable]:
    """All variables of a result, networks in order."""

    def join(name: str) -> NDArray:
        return np.concatenate([getattr(block, name) for block in blocks])

    variables = _coordinates(spec)
    for name in blocks[0].kept:
        data = np.concatenate([block.kept[name] for block in blocks])
        variables[name] = Variable(
            ("network", "rule", "length", "lag"),
            data,
            "nat",
            f"ln norm of the {PARTS[name]}, relative to the state's at lag 0",
        )
    longest = join("longest")
    variables["decay_rate"] = Variable(
        ("network", "rule"),
        longest[:, :, -1] / spec.steps,
        "nat/step",
        "(ln norm at lag T - at lag 0)/T for the longest length",
    )
    variables |= _of_median(spec, median(longest, axis=0))
    variables["clipped_fraction"] = Variable(
        ("network", "rule"), join("fired"), "1", "share of steps at which the rule acted"
    )
    variables["underflow"] = Variable(
        ("network", "rule", "length"),
        join("lost").astype(np.float64),
        "1",
        "1 where the gradient is zero because one step's factor left the number format's range",
    )
    for side in ("before", "after"):
        variables[f"log_param_grad_norm_{side}"] = Variable(
            ("network", "rule"),
            join(side),
            "nat",
            f"ln norm of all parameter gradients {side} the rule, longest length",
        )
    if spec.spectrum is not None:
        variables["lyapunov"] = Variable(
            ("network", "exponent"), join("exponents"), "nat/step", "Lyapunov exponents, unclipped"
        )
    variables["theory"] = Variable(
        (), np.asarray(join("predicted").mean()), "nat/step", "decay rate that theory predicts"
    )
    return variables


def _coordinates(spec: RunSpec) -> dict[str, Variable]:
    return {
        "lag": Variable(("lag",), kept_lags(spec), "step", "steps between loss and state"),
        "length": Variable(
            ("length",), np.asarray(spec.lengths, np.int64), "step", "steps from start to loss"
        ),
        "rule": Variable(("rule",), np.asarray(spec.clip), "1", "clip rule"),
        "threshold": Variable(
            ("threshold",), np.asarray(THRESHOLDS), "1", "attenuation that a horizon is asked for"
        ),
    }


def _of_median(spec: RunSpec, curves: NDArray) -> dict[str, Variable]:
    """Horizons, zero lags and fits of the median curve (rules, lags), before thinning."""
    with np.errstate(divide="ignore"):
        horizons = [[first_below(c, limit) for limit in np.log(THRESHOLDS)] for c in curves]
    variables = {
        "horizon": Variable(
            ("rule", "threshold"),
            np.asarray(horizons, np.int64),
            "step",
            "first lag at which the median is below the threshold, -1 if it never is",
        )
    }
    for dtype, limit in LN_SMALLEST.items():
        variables[f"{dtype}_zero_lag"] = Variable(
            ("rule",),
            np.asarray([first_below(c, limit) for c in curves], np.int64),
            "step",
            f"first lag at which the median is zero in {dtype}, -1 if it never is",
        )
    lags = fit_lags(spec.steps)
    fits = [fit_decay(lags, curve[lags]) for curve in curves]
    for field, units, long_name in (
        ("exponential_rms", "nat", "rms residual of the exponential"),
        ("power_rms", "nat", "rms residual of the power law"),
        ("rate", "nat/step", "rate of the exponential"),
        ("exponent", "1", "exponent of the power law"),
    ):
        variables[f"fit_{field}"] = Variable(("rule",), _each(fits, field), units, long_name)
    return variables


def _each(fits: list[Fit | None], field: str) -> NDArray:
    return np.asarray([np.nan if fit is None else getattr(fit, field) for fit in fits])
