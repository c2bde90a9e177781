"""A run of a stack whose weights are never drawn: see `seqlab.measure.in_law`."""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels import backends
from seqlab.layers.draws import Draw, moments
from seqlab.measure.assemble import Block, assemble, kept_lags
from seqlab.measure.in_law import Law, Sampled, layers_of, sample
from seqlab.measure.progress import Report
from seqlab.measure.stack_cost import blocks_of
from seqlab.measure.stack_theory import predicted_rate
from seqlab.numbers.variables import Measurement
from seqlab.spec.kinds import Progress
from seqlab.spec.stack import StackSpec


def law_of(spec: StackSpec) -> Law:
    """What the sampler needs to know of a spec."""
    stack, init = spec.stack, spec.init or "pytorch"
    of = moments(stack.maps(0)[0], Draw(init, spec.gain, spec.bias_scale))
    return Law(
        stack.arch,
        stack.activation,
        stack.width,
        of.sw2,
        math.sqrt(of.sb2),
        init == "pytorch" and spec.bias_scale is None,
        init == "orthogonal",
        stack.norm,
        stack.place,
        stack.outside,
        stack.alpha,
    )


def measure_in_law(spec: StackSpec, progress: Progress | None) -> Measurement:
    """Measure a spec that asks for it, with NumPy."""
    law, lags = law_of(spec), kept_lags(spec)
    report = Report(progress, spec.networks)
    report.begin("sampling")

    def one(networks: range) -> Block:
        with np.errstate(all="ignore"):  # zeros, overflow and NaN are results
            layers = layers_of(law, len(networks), spec.lengths)

            def tick(done: int, rows: int) -> None:
                del rows
                report.add(len(networks) * done / layers)

            found = sample(law, networks, spec.seed, spec.lengths, lags.tolist(), tick)
            return _block(spec, found, lags)

    measured = backends.over_blocks("cpu", blocks_of(spec, "cpu"), one)
    variables = assemble(spec, measured)
    report.end()
    return Measurement("cpu", variables)


def _block(spec: StackSpec, found: Sampled, lags: NDArray) -> Block:
    """The numbers of some networks under the one rule there is, none, by name."""
    networks, lengths = len(found.curves[0]), len(spec.lengths)
    curves = np.full((networks, 1, lengths, len(lags)), np.nan)
    for k, curve in enumerate(found.curves):
        within = lags < curve.shape[1]
        curves[:, 0, k, within] = curve[:, lags[within]]
    gradients = np.full_like(curves, np.nan)
    gradients[:, 0, -1] = np.logaddexp(2 * found.log_norm_weight, 2 * found.log_norm_bias) / 2
    norm = found.log_norm_all[:, None]
    return {
        "log_norm": curves,
        "log_norm_input": gradients,
        "longest": found.curves[-1][:, None],
        "underflow": np.zeros((networks, 1, lengths)),
        "log_param_grad_norm_before": norm,
        "log_param_grad_norm_after": norm,
        "clipped_fraction": np.zeros((networks, 1)),
        "log_weight_grad_norm": found.log_norm_weight[:, None],
        "log_bias_grad_norm": found.log_norm_bias[:, None],
        "log_mean_square": found.log_square,
        "zero_units": found.zero_share,
        "predicted": np.full(networks, predicted_rate(spec)),
    }
