"""How far a measurement says it is: by the work that was done, counted by what the engine is asked
to do, on a clock that goes by that count. No real time is taken."""

import math
from itertools import pairwise
from typing import Any

import pytest

from seqlab.engine import tape as tapes
from seqlab.engine.backward import Sweep
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.measure import by_lag, cost, in_law, stack_cost
from seqlab.measure.progress import Pace, parts
from seqlab.spec import kinds
from seqlab.spec.kinds import Spec

NEAR = 0.015  # of the whole, that a fraction may be off the work that was done: a call of a kernel


class Clock:
    """Work that was done, in steps forward of one network."""

    def __init__(self) -> None:
        self.now = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that moves with each call of a kernel, and is read for what is told meanwhile."""
    found = Clock()
    monkeypatch.setattr("seqlab.measure.progress.time.monotonic", lambda: found.now)
    monkeypatch.setattr("seqlab.measure.progress.PAUSE", 0.0)
    forward, back, compared = Tape._forward, Sweep.back, by_lag._compared

    def go_forward(self: Tape, start: int, state: Any) -> Any:
        found.now += self.networks * min(self.segment_steps, self.steps - start)
        return forward(self, start, state)

    def go_back(self: Sweep, trail: Any, span: Any, gradient: Any) -> Any:
        steps, rows = span.hi - span.lo, (self.lengths >= span.start + span.hi).sum()
        weights = weighed[0]
        each = weights.step + weights.row * rows + weights.alone * self._by_step
        found.now += self.tape.networks * steps * each
        return back(self, trail, span, gradient)

    def compare(share: Any, *others: Any) -> Any:
        whole = 7  # all parameters together, and each of a cell's six: about one comparison
        found.now += share.log_norm().size * weighed[0].share / whole
        return compared(share, *others)

    monkeypatch.setattr(Tape, "_forward", go_forward)
    monkeypatch.setattr(Sweep, "back", go_back)
    monkeypatch.setattr(by_lag, "_compared", compare)
    return found


weighed = [cost.WEIGHTS]  # of the kind of run that is measured


def told(spec: Spec, clock: Clock) -> list[tuple[float, float]]:
    """When what fractions were told, when as a share of the whole."""
    stack = kinds.of_spec(spec).link == "layer"
    weighed[0] = stack_cost.weights(spec) if stack else cost.WEIGHTS  # type: ignore[arg-type]
    seen: list[tuple[float, float]] = []
    clock.now = 0.0
    kinds.measure(spec, "cpu", lambda fraction, what: seen.append((clock.now, fraction)))
    return [(now / clock.now, fraction) for now, fraction in seen]


SMALL = {"hidden": 3, "inputs": 2, "networks": 3}
SHAPES = {
    "many lengths": {"arch": "rnn", "steps": 200},
    "one length": {"arch": "lstm", "steps": 200, "lengths": [200]},
    "short lengths": {"arch": "gru", "steps": 400, "lengths": [5, 10, 15, 20, 400]},
    "clip rules": {"arch": "rnn", "steps": 100, "clip": ["none", "step-norm:1", "truncate:9"]},
    "spectrum": {"arch": "rnn", "steps": 100, "spectrum": 3, "lengths": [100]},
    "truncation": {"arch": "lstm", "steps": 60, "truncation": 0.9, "clip": "none"},
    "layers": {"arch": "rnn", "steps": 60, "layers": 2},
    "stacks": {"arch": "mlp", "steps": 40, "batch": 2},
    "a stack's spectrum": {"arch": "resnet", "steps": 40, "batch": 2, "spectrum": 2},
}


@pytest.mark.tiny
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("blocks", "kept"), [(1, True), (3, False)])
def test_fractions_go_by_the_work_that_is_done(
    shape: str, blocks: int, kept: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One block of networks or several, trajectories that are kept or computed again."""
    fields = SMALL | SHAPES[shape]
    if fields["arch"] in ("mlp", "resnet"):
        del fields["inputs"]
    spec = kinds.create(**fields)
    monkeypatch.setattr(tapes, "MIN_SEGMENT", 2)
    monkeypatch.setattr(tapes, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(backends, "ahead", lambda *arguments: None)
    if not kept:
        monkeypatch.setattr(tapes, "TRAJECTORY_BYTES", 0)
        monkeypatch.setattr("seqlab.measure.stack_networks.KEPT_BYTES", 0)
    cut = [range(m, m + 1) for m in range(3)] if blocks > 1 else [range(3)]
    for module in ("protocol", "stacks"):
        monkeypatch.setattr(f"seqlab.measure.{module}.blocks_of", lambda *arguments: cut)
    monkeypatch.setattr(backends, "over_blocks", lambda _, each, work: list(map(work, each)))
    seen = told(spec, clock)
    fractions = [fraction for _, fraction in seen]
    assert fractions[0] == 0
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert fractions.count(1.0) == 1
    assert max(abs(when - fraction) for when, fraction in seen) < NEAR
    assert max(b - a for a, b in pairwise(fractions)) < 0.5  # it is told on the way


@pytest.mark.tiny
@pytest.mark.parametrize("room", [0, 1 << 30])
def test_layers_in_law_are_all_counted(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the pieces of the way there are kept or sampled again."""
    monkeypatch.setattr(in_law, "KEPT_BYTES", room)
    monkeypatch.setattr(in_law, "_PIECE", 8 * 5)
    ticks: list[int] = []
    law = in_law.Law("mlp", "relu", 8, 2.0, 0.0, False, False, "none", "pre", True, 1.0)
    lengths = [7, 33]
    in_law.sample(law, range(3), 0, lengths, [0], lambda steps, rows: ticks.append(steps))
    assert sum(ticks) == in_law.layers_of(law, 3, lengths)
    assert sum(ticks) == 3 * (33 + 40 + (0 if room else 33))


@pytest.mark.tiny
def test_it_is_told_four_times_a_second_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [50.0]
    monkeypatch.setattr("seqlab.measure.progress.time.monotonic", lambda: now[0])
    seen: list[tuple[float, float]] = []
    pace = Pace(lambda fraction, what: seen.append((now[0], fraction)))
    for k in range(10_001):
        now[0] = 50 + k * 2.1 / 10_000
        pace(k / 10_000, "backward")
        pace(k / 20_000, "of another thread, which is behind")
    times = [when for when, _ in seen]
    assert seen[0] == (50.0, 0.0)
    assert seen[-1] == (now[0], 1.0)
    assert len(seen) == 2 + math.floor(2.1 / 0.25)
    assert min(b - a for a, b in pairwise(times[:-1])) >= 0.25
    assert all(fraction == pytest.approx((when - 50) / 2.1) for when, fraction in seen)
    Pace(None)(0.5, "nobody")


@pytest.mark.tiny
def test_parts_make_a_whole_by_their_weights() -> None:
    seen: list[float] = []
    first, second = parts(lambda fraction, what: seen.append(fraction), [1.0, 3.0])
    assert first is not None
    assert second is not None
    for part in (first, second):
        for fraction in (0.0, 0.5, 1.0):
            part(fraction, "")
    assert seen == [0.0, 0.125, 0.25, 0.25, 0.625, 1.0]
    assert parts(None, [1.0]) == [None]
