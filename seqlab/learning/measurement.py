"""What training measures, in order: the networks as they are drawn, then length after length.

At each length all networks under all rules train as one ensemble: with the same draws, the same
sequences in the same order, and the same number of updates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab import rules
from seqlab.cells import Parameters
from seqlab.errors import InputError
from seqlab.learning import cost
from seqlab.learning.checkpoint import Checkpoint
from seqlab.learning.course import Learned
from seqlab.learning.progress import Report
from seqlab.learning.rates import best_rates
from seqlab.learning.reach import log_norm, of_lengths
from seqlab.learning.subject import Found, Subject
from seqlab.learning.trainer import Trainer
from seqlab.measure.assemble import Block, assemble, kept_lags
from seqlab.measure.keeping import kept
from seqlab.numbers.learning import learnable_length, median_updates, wilson_interval
from seqlab.numbers.quantities import in_files
from seqlab.numbers.quantity import THRESHOLDS
from seqlab.numbers.statistics import first_below, median
from seqlab.numbers.variables import NEVER, Measurement
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec import kinds
from seqlab.spec.kinds import Progress, Stages
from seqlab.spec.learn_table import times_of

_WITH_ENDS = ("", "_low", "_high")


def measured(
    subject: Subject, backend: str, progress: Progress | None, stages: Stages | None
) -> Measurement:
    """Measure all that a subject's spec asks for; of `stages` each course has one, and goes on from
    it.

    Raises InputError for what the subject refuses, and for a rule in units of the first gradient
    where that has no finite norm.
    """
    spec = subject.spec
    report = Report(progress, subject)
    report.begin("starting")
    subject.prepare()
    variables = assemble(spec, [_as_drawn(subject)], subject.parts)
    by_length = [_Length(subject, length, report, stages).all() for length in spec.lengths]
    rows = in_files(subject.parts)
    found = {
        name: np.stack([one[name] for one in by_length], axis=rows[name].dims.index("length"))
        for name in by_length[0]
    }
    found |= of_solved(spec.lengths, found["solved_at"], spec.updates)
    found["trivial_loss"] = np.array([spec.trained_on.trivial(n) for n in spec.lengths])
    found["loss_update"] = _loss_updates(spec.updates)
    if spec.trace is not None:
        found["update"] = np.arange(0, spec.updates + 1, spec.trace)
    (link,) = kinds.links([spec.arch])
    own = {name: rows[name].variable(found[name], link) for name in rows if name in found}
    report.end()
    return Measurement(backend, variables | own)


def of_solved(lengths: Sequence[int], solved_at: NDArray, updates: int) -> Found:
    """Shares, medians and learnable lengths, of the updates (M, rules, lengths) at which networks
    have solved the task; NEVER for one that had all its updates in vain, or ended: it counts as
    one that would not have solved it."""
    solved, networks = solved_at != NEVER, len(solved_at)
    found = {}
    counts = solved.sum(axis=0)
    found["solved_share"] = counts / networks
    intervals = [wilson_interval(int(k), networks) for k in counts.ravel()]
    medians = [
        median_updates(np.where(won, at, updates), won)
        for at, won in zip(
            solved_at.reshape(networks, -1).T, solved.reshape(networks, -1).T, strict=True
        )
    ]
    for name, place in (("solved_share_low", 0), ("solved_share_high", 1)):
        found[name] = np.array([ends[place] for ends in intervals]).reshape(counts.shape)
    for name, one in zip(_WITH_ENDS, zip(*medians, strict=True), strict=True):
        found[f"updates_to_solve{name}"] = _numbers(one).reshape(counts.shape)
    if len(lengths) > 1:
        fits = [learnable_length(lengths, won)[:3] for won in np.moveaxis(solved, 1, 0)]
    else:
        fits = [(None, None, None)] * solved.shape[1]
    for name, one in zip(_WITH_ENDS, zip(*fits, strict=True), strict=True):
        found[f"learnable_length{name}"] = _numbers(one)
    return found


def _numbers(values: Sequence[float | None]) -> NDArray:
    return np.array([np.nan if value is None else value for value in values])


def _loss_updates(updates: int) -> NDArray[np.int64]:
    """Up to which updates each mean loss of a file is taken: whole numbers that rise to all."""
    count = min(updates, cost.MOST_LOSSES)
    return np.array([updates * (k + 1) // count for k in range(count)])


def _as_drawn(subject: Subject) -> Block:
    """The curves that a run measures of the same networks, on the task's own inputs."""
    spec = subject.spec
    ruled = [_rule_of_curves(text) for text in spec.clip]
    networks = range(spec.networks)
    lengths = [
        subject.reach(length, subject.course(length).all_drawn(networks), networks, ruled)
        for length in spec.lengths
    ]
    each = [kept(spec, of_lengths(curves)) for curves in zip(*lengths, strict=True)]
    block = {name: np.stack([one[name] for one in each], axis=1) for name in each[0]}
    return block | {"predicted": np.full(spec.networks, np.nan)}


def _rule_of_curves(text: str) -> Rule:
    """A rule as far as curves show it: what acts on finished gradients does not."""
    return UNCLIPPED if times_of(text) is not None else rules.parse(text)


class _Length:
    """One length: rates chosen, networks trained, and what has become of them."""

    def __init__(
        self, subject: Subject, length: int, report: Report, stages: Stages | None
    ) -> None:
        self._subject, self._spec, self._length = subject, subject.spec, length
        self._report, self._stages = report, stages
        self._course = subject.course(length)
        self._lags = kept_lags(self._spec)

    def all(self) -> Found:
        spec, report = self._spec, self._report
        self._rules = self._resolved()
        if len(spec.lr) > 1:
            report.begin_length(self._length, "choosing rates, ")
        chosen = best_rates(
            self._course, spec.networks, self._rules, spec.lr, report.tick, self._stage("rates")
        )
        report.begin_length(self._length)
        grid = [
            (rule, rate, m)
            for rule, rate in zip(self._rules, chosen, strict=True)
            for m in range(spec.networks)
        ]
        of_rule, of_rate, numbers = (list(column) for column in zip(*grid, strict=True))
        learned = self._course.train(
            numbers, of_rule, of_rate, report.tick, self._look, self._stage("trained")
        )
        return (
            self._of_learned(learned)
            | self._after(learned)
            | self._tested(learned, numbers)
            | self._by_lag(learned, numbers)
            | {
                "learning_rate": np.array(chosen),
                "clip_threshold": np.array([rule.threshold or np.nan for rule in self._rules]),
            }
        )

    def _stage(self, name: str) -> Checkpoint | None:
        return None if self._stages is None else self._stages(f"{self._length}-{name}")

    def _resolved(self) -> list[Rule]:
        """The rules with their thresholds."""
        times = [times_of(text) for text in self._spec.clip]
        unit = self._first_norm() if any(times) else 1.0
        return [
            rules.parse(text) if factor is None else Rule("norm", factor * unit)
            for text, factor in zip(self._spec.clip, times, strict=True)
        ]

    def _first_norm(self) -> float:
        """The median over networks of the norm of all gradients before the first update."""
        spec = self._spec
        networks, ones = range(spec.networks), [1.0] * spec.networks
        trainer = self._course.trainer(networks, [UNCLIPPED] * spec.networks, ones)
        first = trainer.update(self._course.batches(networks, 0))
        with np.errstate(over="ignore"):  # refused below
            norm = float(median(np.exp(first.log_norm)))
        if not 0 < norm < np.inf:
            raise InputError(
                f"clip: a rule in units of the first gradient's norm is not allowed; at length "
                f"{self._length} that is {norm:g}"
            )
        return norm

    def _look(self, updates: int, trainer: Trainer) -> NDArray | None:
        """The curves where they are traced."""
        if self._spec.trace is None or updates % self._spec.trace:
            return None
        return self._curves(trainer.parameters(), trainer.alive)[..., self._lags_within]

    @property
    def _lags_within(self) -> NDArray:
        return self._lags[self._lags <= self._length]

    def _curves(self, params: Parameters, alive: NDArray) -> NDArray:
        """ln norms (M, rules, T + 1), nan of networks that have ended."""
        spec = self._spec
        found = []
        for place, rule in enumerate(self._rules):
            own = slice(place * spec.networks, (place + 1) * spec.networks)
            some = {name: array[own] for name, array in params.items()}
            (curves,) = self._subject.reach(self._length, some, range(spec.networks), [rule])
            found.append(np.where(alive[own, np.newaxis], log_norm(curves), np.nan))
        return np.stack(found, axis=1)

    def _of_learned(self, learned: Learned) -> Found:
        """What a course says, (M, rules) each, and the mean losses (M, rules, n)."""
        ended = learned.ended != NEVER
        losses = np.full((len(learned.losses), self._spec.updates), np.nan)
        losses[:, : learned.losses.shape[1]] = learned.losses
        ends = _loss_updates(self._spec.updates)
        means = [part.mean(axis=1) for part in np.split(losses, ends[:-1], axis=1)]
        found = {
            "solved_at": learned.solved_at,
            "best_loss": np.where(np.isnan(learned.best) & ended, np.inf, learned.best),
            "final_loss": np.where(ended, np.inf, learned.final),
            "fired_share": learned.fired,
            "diverged_at": learned.ended,
            "loss": np.stack(means, axis=1),
        }
        return {name: self._by_rule(values) for name, values in found.items()}

    def _by_rule(self, values: NDArray) -> NDArray:
        """(M, rules, ...) of networks that are trained rule after rule."""
        apart = values.reshape(len(self._rules), self._spec.networks, *values.shape[1:])
        return apart.swapaxes(0, 1)

    def _tested(self, learned: Learned, networks: Sequence[int]) -> Found:
        """(M, rules) each; a network that has ended has no loss and no right answer."""
        found = self._subject.tested(self._length, learned.params, networks)
        ended = {"test_loss": np.inf, "test_accuracy": 0.0}
        alive = learned.ended == NEVER
        return {n: self._by_rule(np.where(alive, v, ended[n])) for n, v in found.items()}

    def _by_lag(self, learned: Learned, networks: Sequence[int]) -> Found:
        """(M, rules, lags) each, nan of a network that has ended."""
        alive = learned.ended[:, np.newaxis] == NEVER
        seen = self._subject.by_lag(self._length, learned.params, networks)
        each = {n: self._by_rule(np.where(alive, v, np.nan)) for n, v in seen.items()}
        return {n: self._padded(values[..., self._lags_within]) for n, values in each.items()}

    def _after(self, learned: Learned) -> Found:
        """Curves of trained networks, and their horizons (rules, thresholds)."""
        params = learned.params
        finite = [np.isfinite(a.reshape(len(a), -1)).all(axis=1) for a in params.values()]
        alive = (learned.ended == NEVER) & np.all(finite, axis=0)
        curves = self._curves(params, alive)
        limits = np.log(list(THRESHOLDS.values()))
        horizons = np.full((len(self._rules), len(limits)), np.nan)
        for place, there in enumerate(self._by_rule(alive).T):
            if there.any():
                middle = median(curves[there, place])
                horizons[place] = [first_below(middle, limit) for limit in limits]
        found = {"log_norm_trained": self._padded(curves[..., self._lags_within])}
        found["horizon_trained"] = horizons
        if self._spec.trace is not None:
            looks = self._spec.updates // self._spec.trace + 1
            shape = (*curves.shape[:2], looks, len(self._lags))
            found["trace_log_norm"] = table = np.full(shape, np.nan)
            for look, one in enumerate(learned.looks):
                table[:, :, look] = self._padded(one)
        return found

    def _padded(self, curves: NDArray) -> NDArray:
        """At all lags that the file keeps, nan past the length."""
        table = np.full((*curves.shape[:-1], len(self._lags)), np.nan)
        table[..., : curves.shape[-1]] = curves
        return table
