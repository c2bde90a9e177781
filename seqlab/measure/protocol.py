"""What a run measures, in order: draw, forward, one sweep a rule, and what is read off them.

Networks are taken in blocks so that memory stays bounded; a block's size changes no number.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.cells import CELLS
from seqlab.engine.ensemble import Ensemble
from seqlab.engine.rehearsal import compile_kernels
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.kernels._cache import compiled_before
from seqlab.measure import lyapunov
from seqlab.measure.assemble import Block, assemble, kept_lags
from seqlab.measure.cost import blocks_of
from seqlab.measure.curves import Curves, sweep_curves
from seqlab.measure.draw import Source
from seqlab.measure.prediction import Observer
from seqlab.numbers.variables import Measurement
from seqlab.rules import UNCLIPPED
from seqlab.spec.kinds import Progress
from seqlab.spec.run import RunSpec


def measure(spec: RunSpec, backend: str = "auto", progress: Progress | None = None) -> Measurement:
    """Measure all that a spec asks for.

    Raises InputError for a backend that is not there and for files of arrays that have changed.
    """
    chosen = backends.resolve(backend, arch=spec.arch)
    source = Source(spec)
    blocks = blocks_of(spec, chosen)
    report = _Report(progress, _work(spec) * len(blocks))
    sharers = backends.at_once(chosen, blocks)
    report.begin("starting")
    compile_kernels(chosen, spec.arch, spec.dtype, gradients=True)

    def one(networks: range) -> Block:
        report.begin("drawing")
        ensemble = source.ensemble(networks)
        tape = ensemble.tape(chosen, sharers)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow and NaN are results
            return _measure_block(source, networks, ensemble, tape, report)

    measured = backends.over_blocks(chosen, blocks, one)
    return Measurement(chosen, assemble(spec, measured, CELLS[spec.arch].parts))


def _work(spec: RunSpec) -> int:
    """Steps that a block takes, each row of a bundle counted as one."""
    sweeps = 1 + sum(rules.parse(rule).in_chain for rule in spec.clip)
    return spec.steps * (1 + sweeps * len(spec.lengths) // 2 + (spec.spectrum or 0))


class _Report:
    """Turns ticks into a fraction for the caller's progress, and says what is being done."""

    def __init__(self, progress: Progress | None, work: int) -> None:
        self._progress, self._work, self._done, self._what = progress, work, 0, ""
        self._lock = threading.Lock()
        # Kernels are compiled where they are first called, forward and backward.
        self._note = "" if compiled_before() else " (first run: compiling kernels)"

    def begin(self, what: str) -> None:
        self._what = what + self._note
        self.tick(0)

    def tick(self, steps: int) -> None:
        with self._lock:  # blocks tick from threads of their own
            self._done += steps
            if self._progress is not None:
                self._progress(min(1.0, self._done / self._work), self._what)


def _measure_block(
    source: Source, networks: range, ensemble: Ensemble, tape: Tape, report: _Report
) -> Block:
    spec = source.spec
    observer = Observer(ensemble, drawn=spec.params is None)
    report.begin("forward")
    tape.run(observer.see, report.tick)
    sequences, lengths = tape.sequences, len(spec.lengths)
    unit = source.readout(networks)[:, None, None]
    readout = np.broadcast_to(unit, (len(networks), sequences, lengths, spec.hidden))
    report.begin("backward")
    free = sweep_curves(tape, spec.lengths, readout, UNCLIPPED, True, report.tick)
    # The adjoint is linear in the readout: the state's norm at lag 0 becomes 1 by dividing.
    start = np.stack([curve[:, 0] for curve in free.state], axis=1)
    sums = ensemble.of_given(free.sums).scaled(-start[:, -1])
    unclipped = _kept(spec, free)
    del free  # before a clipped sweep has as many points
    scaled = readout * np.exp(-start)[:, None, :, None]
    before = sums.log_norm()
    ruled = [
        {"log_param_grad_norm_before": before}
        | _under_rule(ensemble, tape, spec, text, unclipped, sums, scaled, report)
        for text in spec.clip
    ]
    measured = {name: np.stack([one[name] for one in ruled], axis=1) for name in ruled[0]}
    measured["predicted"] = observer.rates(unit[:, 0, 0])
    if spec.spectrum is not None:
        report.begin("spectrum")
        size = int(np.prod(ensemble.cell.state_shape(ensemble.sizes)))
        first = lyapunov.frames(spec.seed, networks, size, spec.spectrum)
        measured["lyapunov"] = lyapunov.spectrum(tape, first, report.tick)
    return measured


def _kept(spec: RunSpec, curves: Curves) -> dict[str, NDArray]:
    """What is kept of one sweep's curves, by name, (M, ...) each."""
    lags, start = kept_lags(spec), [curve[:, :1] for curve in curves.state]
    kept = {name: _thinned(curve, start, lags) for name, curve in curves.named.items()}
    kept["longest"] = curves.state[-1] - start[-1]
    kept["underflow"] = curves.lost.astype(np.float64)
    return kept


def _under_rule(
    ensemble: Ensemble,
    tape: Tape,
    spec: RunSpec,
    text: str,
    unclipped: dict[str, NDArray],
    sums: Sums,
    readout: NDArray,
    report: _Report,
) -> dict[str, NDArray]:
    """One rule's numbers, by name, (M, ...) each: from a sweep of its own if it acts inside the
    chain, else what is kept of the unclipped one, whose gradients are `sums`."""
    rule = rules.parse(text)
    if rule.in_chain:
        curves = sweep_curves(tape, spec.lengths, readout, rule, True, report.tick)
        fired = curves.fired[:, -1] / (spec.steps * tape.sequences)
        found, after = _kept(spec, curves), ensemble.of_given(curves.sums)
    else:
        found = unclipped
        after, changed = sums.clipped(rule)
        fired = changed.astype(float)
    return {**found, "clipped_fraction": fired, "log_param_grad_norm_after": after.log_norm()}


def _thinned(curves: list[NDArray], start: list[NDArray], lags: NDArray) -> NDArray:
    """Each length's curve at some lags, from its start: (M, lengths, lags), nan past a length."""
    table = np.full((len(curves[0]), len(curves), len(lags)), np.nan)
    for k, (curve, origin) in enumerate(zip(curves, start, strict=True)):
        within = lags < curve.shape[1]
        table[:, k, within] = curve[:, lags[within]] - origin
    return table
