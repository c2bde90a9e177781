"""What a run of a deep stack measures: what a run of a cell does, and its layers besides."""

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.kernels import backends
from seqlab.kernels.contract import StackKernels
from seqlab.measure import lyapunov
from seqlab.measure.assemble import Block, assemble, kept_lags
from seqlab.measure.curves import Curves, sweep_curves
from seqlab.measure.keeping import kept
from seqlab.measure.progress import Report, Work
from seqlab.measure.randomness import Purpose, stream
from seqlab.measure.stack_cost import blocks_of, weights
from seqlab.measure.stack_in_law import measure_in_law
from seqlab.measure.stack_layers import Activations, Gradients
from seqlab.measure.stack_networks import Networks
from seqlab.measure.stack_theory import predicted_rate
from seqlab.numbers.variables import Measurement
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.kinds import Progress
from seqlab.spec.stack import StackSpec


def measure(
    spec: StackSpec, backend: str = "auto", progress: Progress | None = None
) -> Measurement:
    """Measure all that a spec asks for.

    Raises InputError for a backend that has no stacks and for files of arrays that have changed.
    """
    chosen = backends.resolve_stack(backend)
    if spec.in_law:
        return measure_in_law(spec, progress)
    networks = Networks(spec)
    clamps = [rule.threshold for rule in map(rules.parse, spec.clip) if rule.kind == "value"]
    kernels = backends.stack_kernels(chosen, networks.stack, entries=bool(clamps))
    blocks = blocks_of(spec, chosen)
    report = Report(progress, spec.networks)
    sharers = backends.at_once(chosen, blocks)
    report.begin("starting")

    def one(block: range) -> Block:
        with np.errstate(over="ignore", invalid="ignore"):  # overflow and NaN are results
            return _Measured(networks, block, chosen, kernels, clamps, report).all(sharers)

    measured = backends.over_blocks(chosen, blocks, one)
    variables = assemble(spec, measured)
    report.end()
    return Measurement(chosen, variables)


class _Measured:
    """One block's numbers, by name, (M, ...) each."""

    def __init__(
        self,
        networks: Networks,
        block: range,
        backend: str,
        kernels: StackKernels,
        clamps: list[float],
        report: Report,
    ) -> None:
        self._networks, self._spec, self._stack = networks, networks.spec, networks.stack
        self._block, self._backend, self._kernels = block, backend, kernels
        self._clamps, self._report = clamps, report

    def all(self, sharers: int) -> Block:
        """Draw, run, go back for each rule."""
        spec = self._spec
        self._report.begin("drawing")
        self._tape, readout = self._networks.block(
            self._block, self._backend, self._kernels, sharers
        )
        report = self._report.block(len(self._block), self._tape, _work(spec), weights(spec))
        self._back = report.back()
        activations = Activations(self._stack, self._kernels)
        report.begin("forward")
        self._tape.run(activations.observe, report.forward)
        report.begin("backward")
        free, gradients = self._sweep(readout, UNCLIPPED, self._clamps)
        unclipped, before = kept(spec, free), gradients.whole()
        del free  # before a clipped sweep has as many points
        ruled = []
        for text in spec.clip:
            rule = rules.parse(text)
            found = {"log_param_grad_norm_before": before}
            if rule.in_chain:
                curves, own = self._sweep(readout, rule, ())
                found |= kept(spec, curves) | self._by_layer(own)
                found["log_param_grad_norm_after"] = own.whole()
                found["clipped_fraction"] = curves.fired[:, -1] / spec.steps
            else:
                found |= unclipped | self._by_layer(gradients)
                after, changed = _after(rule, before, gradients)
                found["log_param_grad_norm_after"] = after
                found["clipped_fraction"] = changed.astype(float)
            ruled.append(found)
        measured = {name: np.stack([one[name] for one in ruled], axis=1) for name in ruled[0]}
        measured |= activations.by_lag(kept_lags(spec))
        measured["predicted"] = np.full(len(self._block), predicted_rate(spec))
        if spec.spectrum is not None:
            measured["lyapunov"] = self._spectrum(spec.spectrum)
        return measured

    def _sweep(
        self, readout: NDArray, rule: Rule, clamps: "list[float] | tuple[()]"
    ) -> tuple[Curves, Gradients]:
        gradients = Gradients(self._stack, len(self._block), bool(self._clamps), clamps)
        curves = sweep_curves(
            self._tape,
            self._spec.lengths,
            readout,
            rule,
            gradients=True,
            tick=self._back,
            on_gradient=gradients.observe,
        )
        return curves, gradients

    def _by_layer(self, gradients: Gradients) -> dict[str, NDArray]:
        """ln norms of dL/dW and dL/db at the lags that are kept; no layer feeds the last one."""
        lags, found = kept_lags(self._spec), {}
        for name, logs in gradients.norms()._asdict().items():
            table = np.full((len(logs), len(lags)), np.nan)
            table[:, :-1] = logs[:, lags[:-1]]
            found[f"log_{name}_grad_norm"] = table
        return found

    def _spectrum(self, count: int) -> NDArray:
        """Exponents of the whole batch's Jacobian, nat a layer."""
        self._report.begin("spectrum")
        stack, columns = self._stack, self._kernels.columns(self._networks.dtype)
        first = np.zeros((len(self._block), stack.width, columns, count))
        for i, m in enumerate(self._block):
            drawn = stream(self._spec.seed, m, Purpose.FRAME)
            size = stack.width * stack.rows
            frame = np.linalg.qr(drawn.standard_normal((size, count)))[0]
            first[i, :, : stack.rows] = frame.reshape(stack.width, stack.rows, count)
        vectors = first.reshape(len(first), -1, count)
        return lyapunov.spectrum(self._tape, vectors, self._back)


def _work(spec: StackSpec) -> Work:
    ways = 1 + sum(rules.parse(text).in_chain for text in spec.clip)
    return Work(spec.lengths, [False] * ways, spec.spectrum or 0)


def _after(rule: Rule, before: NDArray, gradients: Gradients) -> tuple[NDArray, NDArray]:
    """ln norm of all parameters' gradients after a rule that acts on them, and whether it did."""
    if rule.kind == "norm":
        limit = np.log(rule.threshold)
        return np.minimum(before, limit), before > limit
    if rule.kind == "value":
        return gradients.clamped(rule.threshold)
    return before, np.zeros(len(before), bool)
