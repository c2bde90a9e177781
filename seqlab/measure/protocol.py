"""What a run measures, in order: draw, forward, one sweep a rule, and what is read off them.

Networks are taken in blocks so that memory stays bounded; a block's size changes no number.
"""

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.cells import part_names
from seqlab.engine.ensemble import Ensemble
from seqlab.engine.rehearsal import compile_kernels
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.measure import lyapunov
from seqlab.measure.assemble import Block, assemble, kept_lags
from seqlab.measure.by_lag import by_lag
from seqlab.measure.cost import WEIGHTS, blocks_of
from seqlab.measure.curves import sweep_curves
from seqlab.measure.draw import Source
from seqlab.measure.keeping import kept
from seqlab.measure.prediction import Observer
from seqlab.measure.progress import BlockReport, Report, Work
from seqlab.numbers.variables import Measurement
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.kinds import Progress
from seqlab.spec.run import RunSpec


def measure(spec: RunSpec, backend: str = "auto", progress: Progress | None = None) -> Measurement:
    """Measure all that a spec asks for.

    Raises InputError for a backend that is not there and for files of arrays that have changed.
    """
    chosen = backends.resolve(backend, arch=spec.arch)
    source = Source(spec)
    blocks = blocks_of(spec, chosen)
    report, work = Report(progress, spec.networks), _work(spec)
    sharers = backends.at_once(chosen, blocks)
    report.begin("starting")
    compile_kernels(chosen, spec.arch, spec.dtype, gradients=True)

    def one(networks: range) -> Block:
        report.begin("drawing")
        ensemble = source.ensemble(networks)
        tape = ensemble.tape(chosen, sharers)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow and NaN are results
            part = report.block(len(networks), tape, work, WEIGHTS)
            return _measure_block(source, networks, ensemble, tape, part)

    measured = backends.over_blocks(chosen, blocks, one)
    variables = assemble(
        spec,
        measured,
        spec.cell.parts,
        named=part_names(spec.cell.parts, spec.layers) if spec.layers > 1 else (),
        parameters=() if spec.truncation is None else list(spec.cell.shapes(spec.sizes)),
        truncation=spec.truncation,
    )
    report.end()
    return Measurement(chosen, variables)


def _alone(spec: RunSpec, rule: Rule) -> bool:
    """Whether a rule sees the states of several layers together."""
    return spec.layers > 1 and rule.in_chain


def _work(spec: RunSpec) -> Work:
    clipped = [rule for rule in map(rules.parse, spec.clip) if rule.in_chain]
    ways = [_alone(spec, rule) for rule in (UNCLIPPED, *clipped)]
    shares = 0 if spec.truncation is None else len(kept_lags(spec)) - 1  # the last has none
    return Work(spec.lengths, ways, spec.spectrum or 0, shares)


def _measure_block(
    source: Source, networks: range, ensemble: Ensemble, tape: Tape, report: BlockReport
) -> Block:
    spec = source.spec
    observer = Observer(ensemble, drawn=spec.params is None)
    report.begin("forward")
    tape.run(observer.observe, report.forward)
    sequences, lengths = tape.sequences, len(spec.lengths)
    unit = source.readout(networks)[:, None, None]
    readout = np.broadcast_to(unit, (len(networks), sequences, lengths, spec.hidden))
    report.begin("backward")
    free = sweep_curves(tape, spec.lengths, readout, UNCLIPPED, True, report.back())
    # The adjoint is linear in the readout: the state's norm at lag 0 becomes 1 by dividing.
    start = np.stack([curve[:, 0] for curve in free.state], axis=1)
    sums = ensemble.of_given(free.sums).scaled(-start[:, -1])
    unclipped = kept(spec, free)
    made_of = {}
    if spec.truncation is not None:
        report.begin("gradient by lag")
        longest = readout[:, :, -1:]
        made_of = by_lag(ensemble, tape, longest, free.sums, kept_lags(spec), report.shares)
    del free  # before a clipped sweep has as many points
    scaled = readout * np.exp(-start)[:, None, :, None]
    before = sums.log_norm()
    ruled = [
        {"log_param_grad_norm_before": before}
        | _under_rule(ensemble, tape, spec, text, unclipped, sums, scaled, report)
        for text in spec.clip
    ]
    measured = {name: np.stack([one[name] for one in ruled], axis=1) for name in ruled[0]}
    measured |= made_of
    measured["predicted"] = observer.rates(unit[:, 0, 0])
    if spec.spectrum is not None:
        report.begin("spectrum")
        size = int(np.prod(ensemble.cell.adjoint_shape(ensemble.sizes)))
        first = lyapunov.frames(spec.seed, networks, size, spec.spectrum)
        measured["lyapunov"] = lyapunov.spectrum(tape, first, report.back())
    return measured


def _under_rule(
    ensemble: Ensemble,
    tape: Tape,
    spec: RunSpec,
    text: str,
    unclipped: dict[str, NDArray],
    sums: Sums,
    readout: NDArray,
    report: BlockReport,
) -> dict[str, NDArray]:
    """One rule's numbers, by name, (M, ...) each: from a sweep of its own if it acts inside the
    chain, else what is kept of the unclipped one, whose gradients are `sums`."""
    rule = rules.parse(text)
    if rule.in_chain:
        curves = sweep_curves(
            tape, spec.lengths, readout, rule, True, report.back(_alone(spec, rule))
        )
        fired = curves.fired[:, -1] / (spec.steps * tape.sequences)
        found, after = kept(spec, curves), ensemble.of_given(curves.sums)
    else:
        found = unclipped
        after, changed = sums.clipped(rule)
        fired = changed.astype(float)
    return {
        **found,
        "clipped_fraction": fired,
        "log_param_grad_norm_after": after.log_norm(),
        "gradient_cosine": after.cosine(sums),
    }
