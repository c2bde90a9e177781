"""The first updates of recurrent networks that are trained, looked at as tutorials advise: the
gradient of each parameter and of each step, how far weights move, and units that have no slope."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Parameters
from seqlab.engine.sums import Sums
from seqlab.kernels.layout import Span
from seqlab.learning.networks import Networks, Pass
from seqlab.learning.of_cells import CellCourse
from seqlab.learning.slopes import units_of
from seqlab.learning.stacks import UPDATES
from seqlab.numbers.training_checklist import Look, Trained, Units
from seqlab.rules import Rule
from seqlab.tasks.losses import LOSSES
from seqlab.tasks.task import Batch
from seqlab.wording import refuse


def diagnose(
    course: CellCourse,
    networks: Sequence[int],
    rule: Rule,
    rate: float,
    updates: int = UPDATES,
    tick: Callable[[int, NDArray], None] = lambda update, loss: None,
) -> Trained:
    """Train the networks of a course by one rule at one rate, for so many updates at most, and look
    on; `tick(update, loss)` is told of each. The updates are those of `Course.train`, bit for bit.

    Gradients are as the way back leaves them, under a rule inside the chain as that leaves them.
    Changes are what was added to the weights in their dtype, which loses what is too small for it.
    The two looks at steps and units, before the first update and before the last, each go back
    once more, step by step. Raises InputError for less than one update.
    """
    if updates < 1:
        raise refuse("updates", updates, "a number from 1 up")
    trainer = course.trainer(networks, [rule] * len(networks), [rate] * len(networks))
    gradients: list[Mapping[str, NDArray]] = []
    ratios: list[Mapping[str, NDArray]] = []
    fired, looks = [], []
    for update in range(updates):
        batch = course.batches(networks, update)
        before, alive = trainer.parameters(), trainer.alive
        if update in (0, updates - 1):
            nets = course.networks(before)
            batch = batch._replace(x=batch.x.astype(course.dtype))
            looks.append(_look(nets, batch, course.task.loss, rule, alive))
        found: dict[str, NDArray] = {}
        seen = trainer.update(batch, partial(_watch, found, alive))
        ratio = _log_ratios(before, trainer.parameters())
        gradients.append(_of_alive(found, trainer.alive))
        ratios.append(_of_alive(ratio, trainer.alive))
        fired.append(seen.fired)
        tick(update, seen.loss)
        if not trainer.alive.any():
            break
    return Trained(
        log_gradient=_over_updates(gradients),
        log_ratio=_over_updates(ratios),
        rule=str(rule),
        fired=None if rule.kind == "none" else np.stack(fired, axis=1),
        ended=~trainer.alive,
        recurrent=CELLS[course.arch].recurrent,
        looks=tuple(looks),
    )


def _of_alive(found: Mapping[str, NDArray], alive: NDArray) -> dict[str, NDArray]:
    """Numbers (M,) by parameter, nan for networks that do not go on."""
    return {name: np.where(alive, array, np.nan) for name, array in found.items()}


def _over_updates(found: Sequence[Mapping[str, NDArray]]) -> dict[str, NDArray]:
    return {name: np.stack([one[name] for one in found], axis=1) for name in found[0]}


def _watch(found: dict[str, NDArray], alive: NDArray, gradients: Sums) -> None:
    """Add ln of the norm of each parameter's gradient, (M,), to what is found."""
    for name in gradients.values:
        found[name] = np.full(len(alive), np.nan)
        found[name][alive] = _log_norm(gradients, name)


def _log_norm(sums: Sums, name: str) -> NDArray:
    return Sums({name: sums.values[name]}, sums.exponent).log_norm()


@np.errstate(all="ignore")  # overflow and NaN are results
def _log_ratios(before: Parameters, after: Parameters) -> dict[str, NDArray]:
    """ln of the norm of each matrix's change over that of itself before, (M,); nan of one that was
    zero."""
    found = {}
    for name, old in before.items():
        if old.ndim > 2:
            moved, size = _norms(after[name].astype(np.float64) - old), _norms(old)
            found[name] = np.where(size > 0, np.log(moved) - np.log(size), np.nan)
    return found


def _norms(values: NDArray) -> NDArray:
    """(M,)."""
    return np.sqrt(np.square(values.reshape(len(values), -1), dtype=np.float64).sum(axis=1))


@np.errstate(all="ignore")
def _look(nets: Networks, batch: Batch, loss: str, rule: Rule, alive: NDArray) -> Look:
    """At the steps and units of networks that are about to be updated, nan of those that are not
    `alive`."""

    def one(block: range, run: Pass) -> tuple[NDArray, dict[str, Units]]:
        part = slice(block.start, block.stop)
        hidden = run.forward(np.arange(run.tape.steps))
        _, errors = LOSSES[loss](run.outputs(hidden[:, batch.at]), batch.targets[part])
        errors[:, :-1] = 0  # what is left has a lag at every step
        shares = _log_shares(run, errors, batch.at, rule, nets.cell.recurrent)
        params = nets.subset(part).params
        return shares, units_of(nets.cell, nets.activation, params, batch.x[part], hidden)

    shares, units = zip(*nets.over_blocks(batch.x, one), strict=True)
    log_share = np.concatenate(shares)
    log_share[~alive] = np.nan
    return Look(
        log_share,
        {gate: _beside([of_block[gate] for of_block in units], alive) for gate in units[0]},
    )


def _log_shares(run: Pass, errors: NDArray, at: NDArray, rule: Rule, name: str) -> NDArray:
    """ln of the norm of each step's share of a parameter's gradient (m, steps), from step 1 on,
    which is the first with a state that is not zero, to the last that counts.

    A kernel call for each step, so that its share stands alone, summed over sequences.
    """
    sweep, joins = run.sweep(errors, at, rule)
    tape = run.tape
    shapes = tape.shapes
    found = np.full((tape.networks, tape.steps), -np.inf)
    for index, span in sweep.spans():
        saved = tape.segment(index)
        for place in reversed(range(span.lo, span.hi)):
            step = span.start + place
            sweep.sums = Sums.zeros(shapes, tape.networks)
            sweep.back(saved, Span(span.start, place, place + 1), joins(step, step + 1))
            found[:, step] = _log_norm(sweep.sums, name)
    return found[:, 1 : at[-1] + 1]


def _beside(parts: Sequence[Units], alive: NDArray) -> Units:
    """Several blocks' units as one, nan of networks that are not alive."""

    def joined(column: Sequence[NDArray]) -> NDArray:
        return np.where(alive, np.concatenate(column), np.nan)

    saturated = [part.saturated for part in parts if part.saturated is not None]
    return Units(
        joined([part.dead for part in parts]),
        joined([part.always_on for part in parts]),
        joined(saturated) if saturated else None,
    )
