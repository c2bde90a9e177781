"""The first updates of recurrent networks, looked at: numbers against the naive ones, lines on
either side of their thresholds, and planted faults, which must be found."""

import math
from dataclasses import dataclass, replace
from typing import Any

import courses
import naive
import naive_diagnostics
import naive_training
import numpy as np
import numpy.typing as npt
import pytest
from courses import ACTS, DEAD, ENDED, LAG, NORM, RATIO, SATURATED, SMALLEST, STUCK
from drawn import KINDS as EVERY_KIND

from seqlab import rules
from seqlab.cells import CELLS, Draw, Parameters, Sizes
from seqlab.errors import InputError
from seqlab.learning.batches import batches_of
from seqlab.learning.diagnostics import diagnose
from seqlab.learning.of_cells import CellCourse
from seqlab.numbers.rules_of_thumb import Line
from seqlab.numbers.training_checklist import check_training
from seqlab.report.checklist import document, text, training_note
from seqlab.spec.learn import LearnSpec

Array = npt.NDArray[Any]
LN10 = math.log(10)
NONE = rules.parse("none")
# Some hundred sums and products, each rounded by 1.1e-16, of numbers of one size; the shares of
# early steps have taken as many factors as there are steps.
NEAR = 1e-10
KINDS = [(arch, phi if arch == "rnn" else None) for arch, phi in EVERY_KIND]
STEPS = 13


@dataclass(frozen=True)
class Planted(CellCourse):
    """A course whose networks, or `only` one, have parameters `times` as large and some of them
    set: (name, rows, value)."""

    plants: tuple[tuple[str, slice, float], ...] = ()
    times: float = 1.0
    only: int | None = None

    def drawn(self, network: int) -> Parameters:
        found = super().drawn(network)
        if self.only in (None, network):
            found = {name: self.times * value for name, value in found.items()}
            for name, rows, value in self.plants:
                found[name][rows] = value
        return found


def course(arch: str = "rnn", task: str = "latch", **changes: Any) -> Planted:
    plain: dict[str, Any] = {
        "sizes": Sizes(6, 1, 3),
        "how": Draw(),
        "activation": "tanh" if arch == "rnn" else None,
        "length": STEPS,
        "sequences": 5,
        "updates": 500,
        "optimiser": "sgd",
        "seed": 4,
        "dtype": "float64",
    }
    return courses.course(task, kind=Planted, arch=arch, **plain | changes)


def lines(
    of: CellCourse, clip: str = "none", rate: float = 0.01, updates: int = 3
) -> dict[Any, Line]:
    found = check_training(diagnose(of, [0, 1, 2], rules.parse(clip), rate, updates))
    return {(line.of, line.name): line for line in found}


# The numbers.


def naive_loss(y: Array, targets: Array) -> tuple[float, Array]:
    """The mean over steps and sequences of the squared error, and its gradient."""
    errors = y - targets
    count = y.shape[0] * y.shape[1]
    return float(np.square(errors).sum() / count), 2 * errors / count


@pytest.mark.parametrize("clip", ["none", "norm:0.1", "step-norm:0.02", "truncate:5"])
@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("task", ["latch", "teacher"])
def test_numbers_are_the_naive_ones(
    arch: str, activation: str | None, clip: str, task: str
) -> None:
    """Gradients, changes, shares by step and slopes of three updates by plain gradient descent."""
    of, rate, networks = course(arch, task, activation=activation), 0.05, [0, 2]
    seen = diagnose(of, networks, rules.parse(clip), rate, 3)
    phi, name = activation or "tanh", naive.CELLS[arch].recurrent
    assert seen.recurrent == name
    for i, m in enumerate(networks):
        params = of.drawn(m)
        for update in range(3):
            batch = batches_of(of.task, of.seed, [m], update, STEPS, of.sequences)
            x, targets, at = batch.x[0], batch.targets[0], list(batch.at)
            look = {0: 0, 2: 1}.get(update)
            if look is not None:
                run = seen.looks[look]
                hidden = naive.forward(
                    arch,
                    {k: v for k, v in params.items() if not k.startswith("readout_")},
                    x,
                    activation=phi,
                )["output"]
                y = hidden[-1] @ params["readout_weight"].T + params["readout_bias"]
                error = 2 * (y - targets[-1]) / (len(at) * of.sequences)
                want = naive_diagnostics.shares(arch, params, x, error, phi, clip, name)
                if name not in ("linear_z_weight", "k_proj_weight"):  # which write too
                    assert want[0] == 0  # there is no state before the first step
                with np.errstate(divide="ignore"):
                    logs = np.log(want[1:])
                assert run.log_share[i] == pytest.approx(logs, abs=NEAR)
                gates = naive_diagnostics.slopes(arch, params, x, phi)
                expected = {} if phi == "identity" else gates
                assert run.units.keys() == expected.keys()
                for gate, slope in expected.items():
                    dead, on, flat = naive_diagnostics.units(slope)
                    have = run.units[gate]
                    assert (have.dead[i], have.always_on[i]) == pytest.approx((dead, on))
                    if have.saturated is None:
                        assert phi == "relu"
                    else:
                        assert have.saturated[i] == pytest.approx(flat)
            after_pass = "none" if clip.startswith("norm") else clip
            loss = lambda y, targets=targets: naive_loss(y, targets)  # noqa: E731
            _, grads = naive_training.gradients(arch, params, x, at, loss, phi, after_pass)
            _, used = naive_training.gradients(arch, params, x, at, loss, phi, clip)
            for key, value in grads.items():
                log = math.log(naive_diagnostics.norm(value))
                assert seen.log_gradient[key][i, update] == pytest.approx(log, abs=NEAR), key
            changes = {key: rate * naive_diagnostics.norm(value) for key, value in used.items()}
            assert seen.log_ratio.keys() == {k for k, v in params.items() if v.ndim == 2}
            for key, logs in seen.log_ratio.items():
                if not params[key].any():  # as drawn
                    assert np.isnan(logs[i, update])
                    continue
                log = math.log(changes[key] / naive_diagnostics.norm(params[key]))
                # A change by difference has lost the digits of the weights before it.
                lost = 1e-15 * naive_diagnostics.norm(params[key]) / changes[key]
                assert logs[i, update] == pytest.approx(log, abs=NEAR + lost), key
            params = {key: value - rate * used[key] for key, value in params.items()}


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("arch", "activation"), [k for k in KINDS if k[1] != "identity" and CELLS[k[0]].gates]
)
def test_saturated_units_are_the_naive_ones(arch: str, activation: str | None) -> None:
    """With weights six times as large, every gate has slopes on both sides of 5%."""
    how = Draw() if CELLS[arch].forget_gate is None else Draw(forget_bias=0.3)
    of = course(arch, activation=activation, times=6.0, how=how)
    (look,) = diagnose(of, [1], NONE, 1e-3, 1).looks
    x = batches_of(of.task, of.seed, [1], 0, STEPS, of.sequences).x[0]
    want = naive_diagnostics.slopes(arch, of.drawn(1), x, activation or "tanh")
    assert look.units.keys() == want.keys()
    for gate, slope in want.items():
        dead, on, flat = naive_diagnostics.units(slope)
        have = look.units[gate]
        assert (have.dead[0], have.always_on[0]) == (dead, on)
        assert 0 < flat < 1
        if have.saturated is not None:
            assert have.saturated[0] == pytest.approx(flat, rel=1e-12), gate


def test_shares_far_beyond_the_range_of_floats_are_numbers() -> None:
    """h' = 0.01 h + w x, one unit and one sequence: the share of step t is 0.01^(T - 1 - t) h_{t-1}
    times that of the last step over h_{T-2}, and 0.01^398 is 1e-796."""
    of = course(
        sizes=Sizes(1, 1),
        sequences=1,
        length=400,
        activation="identity",
        plants=(("weight_hh", slice(None), 0.01),),
    )
    share = diagnose(of, [0], NONE, 1e-9, 1).looks[0].log_share[0]
    own, x = of.drawn(0), batches_of(of.task, of.seed, [0], 0, 400, 1).x[0, :, 0, 0]
    h, states = 0.0, []
    for value in x:
        h = 0.01 * h + own["weight_ih"].item() * value + own["bias_ih"][0] + own["bias_hh"][0]
        states.append(abs(h))
    lag = np.arange(398, -1, -1)
    want = lag * math.log(0.01) + np.log(states[:399]) - math.log(states[398])
    assert share - share[-1] == pytest.approx(want, abs=1e-9)
    assert share[0] - share[-1] < -780 * LN10


def test_the_updates_are_those_of_a_course_bit_for_bit() -> None:
    of = course("gru", dtype="float32", updates=6, solved=1e-9, optimiser="adam", cosine=True)
    rule, losses = rules.parse("norm:0.5"), []
    seen = diagnose(of, [0, 3], rule, 0.01, 6, lambda update, loss: losses.append(loss))
    trained = of.train([0, 3], [rule] * 2, [0.01] * 2)
    assert np.array_equal(np.stack(losses, axis=1), trained.losses)
    assert seen.fired is not None
    assert np.array_equal(seen.fired.mean(axis=1), trained.fired)


def test_a_network_is_the_same_whatever_the_others() -> None:
    both, one = (diagnose(course("lstm"), m, NONE, 0.1, 3) for m in ([0, 1], [1]))
    for name, logs in both.log_gradient.items():
        assert np.array_equal(logs[1:], one.log_gradient[name])
    assert np.array_equal(both.looks[1].log_share[1:], one.looks[1].log_share)


@pytest.mark.tiny
def test_no_update_is_refused() -> None:
    with pytest.raises(InputError, match=r"^updates: 0 is not allowed; a number from 1 up"):
        diagnose(course(), [0], NONE, 0.1, 0)


# Planted faults, and none.


def test_a_sound_network_has_nothing_but_ok() -> None:
    """A forget gate at sigmoid(3) = 0.95 loses half a nat in a dozen steps."""
    found = lines(course("lstm", how=Draw(forget_bias=3.0)), clip="norm:100")
    assert {line.verdict for line in found.values()} == {"ok"}
    assert len(found) == 1 + 6 + 1 + 3 + 1 + 5 + 5 + 1


def test_a_gradient_that_vanishes_is_found_and_so_is_where() -> None:
    """Half of it left at every step: 3 decades in 10 steps of the adjoint alone."""
    plants = (("weight_hh", slice(None), 0.0), ("bias_ih", slice(None), 0.1))
    of = course(sizes=Sizes(1, 1), length=40, activation="identity", plants=plants)
    gone = replace(of, plants=(("weight_hh", slice(None), 0.5),))
    line = lines(gone)["weight_hh", LAG]
    assert line.verdict == "bad"
    assert line.number == pytest.approx(38 * math.log10(0.5), abs=1)  # of states of one size
    assert "vanishes towards the first steps; 3 decades are lost at lag" in line.note
    assert 8 <= int(line.note.split("lag ")[1].split(";")[0]) <= 12
    at_once = lines(of, updates=1)["weight_hh", LAG]
    assert at_once.number == -math.inf  # no step but the last has a share


def test_dead_units_are_found() -> None:
    """Half of the units by a bias that nothing lifts: with those that are on or off by chance."""
    plants = (("bias_ih", slice(0, 32), -50.0),)
    sound = course(sizes=Sizes(64, 1), activation="relu")
    assert lines(sound)["hidden", DEAD].verdict == "ok"
    line = lines(replace(sound, plants=plants))["hidden", DEAD]
    assert line.verdict in ("look", "bad")
    assert line.number >= 0.5
    assert line.note.endswith("units have died")


def test_a_gate_that_is_a_constant_is_found() -> None:
    """Its bias of 120: a slope of e^-120 is no float32. One of 5 is saturated and has slopes."""
    of = course("lstm", dtype="float32")
    stuck = lines(replace(of, plants=(("bias_ih", slice(6, 12), 120.0),)))
    assert stuck["forget gate", STUCK].verdict == "bad"
    assert stuck["forget gate", STUCK].number == 1
    assert stuck["forget gate", SATURATED].number == 1
    assert stuck["input gate", STUCK].number == stuck["output gate", SATURATED].number == 0
    opened = lines(replace(of, plants=(("bias_ih", slice(6, 12), 6.0),)))
    assert opened["forget gate", STUCK].number == 0
    assert opened["forget gate", SATURATED].verdict == "look"
    few = lines(replace(of, plants=(("bias_ih", slice(6, 8), 120.0),)))["forget gate", STUCK]
    assert (few.verdict, few.shown) == ("look", "33%")
    double = replace(of, dtype="float64", plants=(("bias_ih", slice(6, 12), 120.0),))
    assert lines(double)["forget gate", STUCK].number == 0


def test_a_parameter_without_a_gradient_is_found() -> None:
    of = course(plants=(("readout_weight", slice(None), 0.0),))
    found = lines(of, updates=1)
    assert found["weight_hh", NORM].verdict == "bad"
    assert found["weight_hh", NORM].note == "none reaches it"
    assert found["readout_bias", NORM].verdict == "ok"
    assert found["", SMALLEST].verdict == "bad"
    assert found["weight_hh", RATIO].note == "it does not move"
    assert ("weight_hh", LAG) in found
    assert found["weight_hh", LAG].verdict == "bad"


@pytest.mark.parametrize(
    ("rate", "number", "verdict"), [(1e-3, -2.4, "ok"), (1e-1, -0.5, "look"), (1e-6, -5.4, "look")]
)
def test_rates_that_move_weights_too_far_or_hardly_are_found(
    rate: float, number: float, verdict: str
) -> None:
    """Adam's first step is its rate for every entry: of weights in +-1/sqrt 6 it is
    rate sqrt(3 x 6)."""
    line = lines(course(optimiser="adam"), rate=rate, updates=1)["weight_hh", RATIO]
    assert line.number == pytest.approx(math.log10(rate * math.sqrt(18)), abs=0.1)
    assert line.number == pytest.approx(number, abs=0.2)
    assert line.verdict == verdict


def test_a_rule_that_always_acts_is_found_and_one_that_never_does_is_told() -> None:
    always = lines(course(), "norm:1e-4")["norm:0.0001", ACTS]
    assert (always.number, always.verdict) == (1, "look")
    never = lines(course(), "norm:1e4")["norm:10000", ACTS]
    assert (never.number, never.verdict) == (0, "ok")
    assert never.note.startswith("it never acts")
    assert not [name for _, name in lines(course()) if name == ACTS]


def test_networks_that_diverge_are_counted_and_the_others_looked_at() -> None:
    of = course(activation="identity")
    found = lines(of, rate=1e30, updates=20)
    assert found["", ENDED].verdict == "bad"
    assert found["", ENDED].number == 1
    seen = diagnose(of, [0, 1], NONE, 1e30, 20)
    assert len(seen.looks) == 1  # none was left for the last
    assert np.isfinite(seen.log_gradient["weight_hh"][:, 0]).all()
    assert lines(of)["", ENDED].verdict == "ok"


def test_a_network_that_diverges_leaves_the_numbers_of_the_others() -> None:
    """The second one's errors times its readout are no float32, which ends it before its first
    update; its units would have their slopes at the last look too."""
    plants = (("readout_weight", slice(None), 1e30),)
    of = course(dtype="float32", plants=plants, only=1)
    seen = diagnose(of, [0, 1], NONE, 0.01, 3)
    assert seen.ended is not None
    assert seen.ended.tolist() == [False, True]
    assert np.isnan(seen.log_ratio["weight_hh"][1]).all()
    assert np.isnan(seen.looks[1].log_share[1]).all()
    assert np.isnan(seen.looks[1].units["hidden"].always_on).tolist() == [False, True]
    alone, found = (
        {(line.of, line.name): line.number for line in check_training(one)}
        for one in (diagnose(of, [0], NONE, 0.01, 3), seen)
    )
    assert alone == found | {("", ENDED): 0.0}
    assert found["", ENDED] == 0.5


def test_shortest_sequences_have_what_they_can() -> None:
    """Two steps have one share of the recurrent weights, and no first over last."""
    found = lines(course(length=2))
    assert ("weight_hh", LAG) not in found
    assert found["weight_hh", NORM].verdict == "ok"


# What is shown.


@pytest.mark.parametrize("arch", ["lstm", "ssm"])
def test_the_table_is_at_most_80_columns_wide_and_says_how_it_was_measured(arch: str) -> None:
    of = course(arch, "teacher")
    found = check_training(diagnose(of, [0, 1], rules.parse("step-norm:0.01"), 0.01, 2))
    fields = {"networks": 2, "sequences": 50, "updates": 2, "optimizer": "sgd"}
    spec = LearnSpec.create(arch=arch, task="teacher", lengths=[13], **fields)
    shown = text({arch: found}, told := training_note(spec))
    assert max(map(len, shown.splitlines())) <= 80
    assert told.startswith(
        "2 updates of 2 networks by sgd on teacher:0.9, 50 sequences of length 13"
    )
    assert " ".join(told.split()) in " ".join(shown.split())
    assert ("without meaning" in shown) == (arch == "ssm")
    assert all(isinstance(one["number"], float | str) for one in document(found))
