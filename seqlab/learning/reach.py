"""How far back the gradient reaches in networks before, in and after training: the curves of a run,
on a sequence of their task that they are never trained on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Parameters
from seqlab.engine.ensemble import Ensemble
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Tape
from seqlab.learning.batches import batches_of
from seqlab.learning.networks import BIAS, WEIGHT
from seqlab.measure.curves import Curves, sweep_curves
from seqlab.measure.randomness import Purpose, unit_readout
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.learn import LearnSpec

BACKEND = "cpu"


def reach(
    spec: LearnSpec,
    length: int,
    params: Parameters,
    networks: Sequence[int],
    rules: Sequence[Rule],
) -> list[Curves]:
    """Under each of the rules the curves of one length, up to the lag of that many steps.

    `params` (E, ...) may have a readout, which says nothing here: the loss is r . y of the last
    step, where r is network `networks[e]`'s random unit vector, scaled as a run scales it.
    """
    task, cell, dtype = spec.trained_on, CELLS[spec.arch], np.dtype(spec.dtype)
    x = batches_of(task, spec.seed, networks, 0, length, 1, Purpose.HELD_OUT).x.astype(dtype)
    state = np.zeros((len(x), 1, *cell.state_shape(spec.sizes)), dtype)
    own = {name: array for name, array in params.items() if name not in (WEIGHT, BIAS)}
    ensemble = Ensemble(cell, spec.sizes, own, x, state, spec.activation, False, {})
    steps = [task.steps(length)]

    def one(block: range, tape: Tape) -> list[Curves]:
        readout = np.stack([unit_readout(spec.seed, networks[e], spec.hidden) for e in block])
        readout = readout[:, np.newaxis, np.newaxis]
        with np.errstate(all="ignore"):  # overflow and NaN are results
            tape.run(lambda saved: None)
            free = sweep_curves(tape, steps, readout, UNCLIPPED)
            scaled = readout * np.exp(-free.state[0][:, :1])[:, :, np.newaxis, np.newaxis]
            return [
                sweep_curves(tape, steps, scaled, rule) if rule.in_chain else free for rule in rules
            ]

    blocks = ensemble.over_tapes(BACKEND, one)
    return [_until(length, _beside(parts)) for parts in zip(*blocks, strict=True)]


def of_lengths(curves: Sequence[Curves]) -> Curves:
    """Curves of one length each as those of all lengths."""
    first = curves[0]
    return replace(
        first,
        state=[one.state[0] for one in curves],
        parts={name: [one.parts[name][0] for one in curves] for name in first.parts},
        inputs=[one.inputs[0] for one in curves],
        fired=np.concatenate([one.fired for one in curves], axis=1),
        lost=np.concatenate([one.lost for one in curves], axis=1),
    )


def log_norm(curves: Curves) -> NDArray:
    """ln norm of the state's adjoint (E, T + 1) of the only length, relative to lag 0."""
    (state,) = curves.state
    with np.errstate(invalid="ignore"):
        return np.asarray(state - state[:, :1])


def _beside(parts: Sequence[Curves]) -> Curves:
    """Those of several blocks of networks."""
    first = parts[0]
    return Curves(
        [np.concatenate([one.state[0] for one in parts])],
        {n: [np.concatenate([one.parts[n][0] for one in parts])] for n in first.parts},
        [np.concatenate([one.inputs[0] for one in parts])],
        np.concatenate([one.fired for one in parts]),
        np.concatenate([one.lost for one in parts]),
        Sums.beside([one.sums for one in parts]),
    )


def _until(length: int, curves: Curves) -> Curves:
    """Up to a lag: sequences of some tasks are longer than the length."""

    def cut(found: list[NDArray]) -> list[NDArray]:
        return [curve[:, : length + 1] for curve in found]

    parts = {name: cut(found) for name, found in curves.parts.items()}
    return replace(curves, state=cut(curves.state), parts=parts, inputs=cut(curves.inputs))
