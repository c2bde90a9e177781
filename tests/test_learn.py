"""What training measures: held to a naive course, and what depends on nothing else."""

import math
from typing import Any

import naive_adjoint
import naive_learn_statistics as naive_statistics
import numpy as np
import pytest
from courses import (
    NEAR,
    SMALL,
    Array,
    Params,
    batch_at,
    data,
    gradients,
    naive_course,
    norm,
    same,
    small,
)

import seqlab
from seqlab.errors import InputError
from seqlab.learning import rates
from seqlab.learning.batches import batch_of
from seqlab.learning.course import Learned
from seqlab.learning.measurement import _Length, of_solved
from seqlab.learning.of_cells import Cells, course_of, measure
from seqlab.learning.progress import Report
from seqlab.learning.rates import best, seed_of_choice
from seqlab.measure.randomness import Purpose, unit_readout
from seqlab.rules import UNCLIPPED
from seqlab.spec.learn import LearnSpec

# Of natural logs against the naive reference: as of a run, and with parameters as near as above,
# of which a curve of a few steps makes some tens as much.
LOGS = {"log_norm": 1e-10, "log_norm_trained": 1e-7}
LOG = LOGS["log_norm"]


def naive_curve(spec: LearnSpec, params: Params, m: int, length: int, clip: str) -> Params:
    """Relative to lag 0, of a loss that is scaled to have a state's norm of 1 there."""
    batch = batch_of(spec.trained_on, spec.seed, m, 0, length, 1, Purpose.HELD_OUT)
    own = {name: array for name, array in params.items() if not name.startswith("readout_")}
    readout = unit_readout(spec.seed, m, spec.hidden)
    in_chain = clip.startswith(("step-", "truncate"))
    activation, clip = spec.activation or "tanh", clip if in_chain else "none"

    def curve(scale: float, rule: str) -> Params:
        return naive_adjoint.adjoint_curve(
            spec.arch, own, batch.x, readout * scale, activation, rule
        )

    start = curve(1.0, "none")["log_norm"][0]
    found = curve(math.exp(-start), clip)
    return {name: values[: length + 1] - found["log_norm"][0] for name, values in found.items()}


@pytest.mark.parametrize(
    ("arch", "task", "optimizer"),
    [
        ("rnn", "latch", "adam"),
        ("lstm", "adding", "sgd"),
        ("gru", "parity", "adam"),
        ("ssm", "latch", "sgd"),
    ],
)
def test_training_is_that_of_each_network_alone(arch: str, task: str, optimizer: str) -> None:
    """Losses, curves before and after, the first gradient's norm, horizons."""
    clips = [*SMALL["clip"], "truncate:2"]
    spec = small(arch=arch, task=task, optimizer=optimizer, lr=0.01, clip=clips)
    found = data(spec)
    for place, length in enumerate(spec.lengths):
        drawn = [course_of(spec, length).drawn(m) for m in range(2)]
        first = [
            norm(gradients(spec, drawn[m], batch_at(spec, m, 0, length), "none")[1])
            for m in range(2)
        ]
        threshold = 0.5 * sum(first) / 2  # the median of two
        assert np.isnan(found["clip_threshold"][0, place])
        assert found["clip_threshold"][1:, place] == pytest.approx([threshold, 0.2, 2], rel=NEAR)
        for rule, clip in enumerate(["none", f"norm:{threshold!r}", *clips[2:]]):
            curves = []
            for m in range(2):
                at = m, rule, place
                lone = naive_course(spec, m, length, clip)
                assert found["loss"][at] == pytest.approx(lone["losses"], rel=NEAR)
                means = np.convolve(lone["losses"], np.ones(4) / 4, "valid")  # 4 x 25 sequences
                assert found["best_loss"][at] == pytest.approx(means.min(), rel=NEAR)
                assert found["final_loss"][at] == pytest.approx(means[-1], rel=NEAR)
                if rule < 2:  # else it is a share of steps
                    assert found["fired_share"][at] == np.mean(lone["fired"])
                for name, params in (("log_norm", drawn[m]), ("log_norm_trained", lone["params"])):
                    want = naive_curve(spec, params, m, length, clip)
                    have = found[name][at][: length + 1]  # all of so few lags are kept
                    assert have == pytest.approx(want["log_norm"], abs=LOGS[name])
                    assert np.isnan(found[name][at][length + 1 :]).all()
                    if name == "log_norm":
                        inputs = found["log_norm_input"][at][: length + 1]
                        assert inputs == pytest.approx(want["log_norm_input"], abs=LOG, nan_ok=True)
                curves.append(want["log_norm"])
            middle = np.mean(curves, axis=0)  # the median of two
            for k, limit in enumerate((0.1, 1e-3, 1e-6)):
                under = np.flatnonzero(middle < math.log(limit))
                wanted = under[0] if under.size else -1
                assert found["horizon_trained"][rule, place, k] == wanted
    assert found["trivial_loss"] == pytest.approx([spec.trained_on.trivial(n) for n in (4, 7)])
    assert (found["learning_rate"] == 0.01).all()


@pytest.mark.tiny
def test_curves_of_a_task_with_longer_sequences_end_at_the_length() -> None:
    """copy's have 20 steps more; before them there is a state, and an input's gradient."""
    spec = small(task="copy", updates=4, lengths=[3, 6], clip="none")
    found = data(spec)
    assert found["lag"][-1] == 6
    want = naive_curve(spec, course_of(spec, 6).drawn(1), 1, 6, "none")
    assert found["log_norm"][1, 0, 1] == pytest.approx(want["log_norm"], abs=LOG)
    assert np.isfinite(want["log_norm_input"]).all()
    assert found["log_norm_input"][1, 0, 1] == pytest.approx(want["log_norm_input"], abs=LOG)
    assert found["decay_rate"][1, 0] == pytest.approx(want["log_norm"][-1] / 6, rel=NEAR)
    assert found["trivial_loss"] == pytest.approx([10 * math.log(8) / n for n in (23, 26)])


@pytest.mark.tiny
def test_a_course_is_as_the_options_say() -> None:
    sgd = {"optimizer": "sgd", "momentum": 0.9, "schedule": "cosine", "solved": 0.3}
    one = course_of(small(task="copy", **sgd), 7)
    assert (one.optimiser, one.options, one.cosine) == ("sgd", (("momentum", 0.9),), True)
    assert one.solved == pytest.approx(0.3 * 10 * math.log(8) / 27)
    assert (one.length, one.updates, one.sequences, one.seed) == (7, 12, 25, 3)
    other = course_of(small(), 4)
    assert (other.optimiser, other.options, other.cosine, other.solved) == ("adam", (), False, 0.1)


@pytest.mark.tiny
def test_those_that_diverge_are_no_part_of_the_horizon_after_training() -> None:
    """Network 0 holds its gradient, and is said to have diverged; network 1 forgets."""
    spec = small(activation="identity", clip="none", updates=4, lengths=[7])
    cells = Cells(spec)
    one = _Length(cells, 7, Report(None, cells), None)
    params = course_of(spec, 7).drawn(0)
    params["weight_hh"] = np.eye(4)
    both = {name: np.stack([array, array]) for name, array in params.items()}
    both["weight_hh"][1] *= 0.02
    one._rules = [UNCLIPPED]

    def after(ended: list[int]) -> dict[str, Array]:
        return one._after(learned([-1, -1], [0.1, 0.1], ended)._replace(params=both))

    found = after([2, -1])
    assert np.isnan(found["log_norm_trained"][0]).all()
    assert found["horizon_trained"].tolist() == [[1, 2, 4]]  # ln 0.02 a step: 0.02, 4e-4, 8e-6
    assert np.isnan(after([2, 2])["horizon_trained"]).all()
    both["weight_hh"][1] = np.inf  # by its last update
    assert np.isnan(after([2, -1])["horizon_trained"]).all()


# What follows from who has solved it.


@pytest.mark.tiny
def test_shares_medians_and_learnable_lengths() -> None:
    """Three rules: all but one network at the second length; nobody; everybody."""
    solved_at = np.full((5, 3, 2), -1)
    solved_at[:, 0, 0] = [10, 20, 30, 40, 50]
    solved_at[:2, 0, 1] = [60, 70]
    solved_at[:, 2] = 7
    found = of_solved([10, 20], solved_at, 100)
    assert found["solved_share"].tolist() == [[1, 0.4], [0, 0], [1, 1]]
    low, high = naive_statistics.wilson(2, 5, 0.95)
    assert found["solved_share_low"][0, 1] == pytest.approx(low)
    assert found["solved_share_high"][0, 1] == pytest.approx(high)
    assert found["updates_to_solve"][0, 0] == 30
    assert np.isnan(found["updates_to_solve"][[0, 1], [1, 0]]).all()  # three of five never do
    assert found["updates_to_solve"][2].tolist() == [7, 7]
    length = found["learnable_length"]
    assert 10 < length[0] < 20
    assert np.isnan(length[1:]).all()
    assert (found["learnable_length_high"][1], found["learnable_length_low"][2]) == (10, 20)


@pytest.mark.tiny
def test_of_one_length_nothing_is_fitted() -> None:
    found = of_solved([10], np.full((4, 1, 1), 3), 9)
    assert np.isnan(found["learnable_length"]).all()


@pytest.mark.tiny
def test_one_that_diverges_is_not_lost_to_the_median() -> None:
    """As one that had all its updates in vain: of four, two have solved it by update 8."""
    solved_at = np.array([5, 8, -1, -1]).reshape(4, 1, 1)
    assert of_solved([10], solved_at, 100)["updates_to_solve"][0, 0] == 8
    solved_at = np.array([5, -1, -1, -1]).reshape(4, 1, 1)
    assert np.isnan(of_solved([10], solved_at, 100)["updates_to_solve"][0, 0])


def test_divergence_ends_a_network_and_is_told() -> None:
    """A rate that throws every network out of float32, but for the rule that holds it back."""
    fields = {"optimizer": "sgd", "lr": 1e25, "clip": ["none", "norm:1e-26"], "dtype": "float32"}
    result = seqlab.learn(**SMALL | fields, trace=4)
    found = {name: one.data for name, one in result.variables.items()}
    assert (found["diverged_at"][:, 0] >= 0).all()
    assert (found["diverged_at"][:, 1] == -1).all()
    assert np.isinf(found["final_loss"][:, 0]).all()
    assert np.isfinite(found["final_loss"][:, 1]).all()
    assert np.isnan(found["log_norm_trained"][:, 0]).all()
    assert np.isnan(found["horizon_trained"][0]).all()
    assert np.isfinite(found["horizon_trained"][1]).all()
    assert np.isnan(found["trace_log_norm"][:, 0, :, -1]).all()
    first, second = result.to_json()["curves"]
    assert (first["networks_diverged"], second["networks_diverged"]) == (2, 0)
    assert first["horizon_trained_1e-3"] is None
    text = result.summary()
    assert "rnn, none, length 7: 2 of 2 networks had no finite loss" in " ".join(text.split())


# Rates.


def learned(solved_at: list[int], final: list[float], ended: list[int] | None = None) -> Learned:
    count = len(solved_at)
    never = np.full(count, -1)
    return Learned(
        np.array(solved_at),
        np.zeros(count),
        np.array(final),
        np.zeros(count),
        never if ended is None else np.array(ended),
        np.zeros((count, 3)),
        {},
        [],
    )


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("solved_at", "final", "ended", "which"),
    [
        ([5, -1, 30, 40, -1, -1], [0.0, 0.0, 9.0, 9.0, 0.0, 0.0], None, 1),  # most solved
        ([30, 40, 30, 39, 31, 40], [0.0, 0.0, 9.0, 9.0, 0.0, 0.0], None, 1),  # fewest updates
        ([-1] * 6, [0.5, 0.5, 0.2, 0.6, 0.9, 0.3], None, 1),  # least loss
        ([-1] * 6, [0.5, 0.5, 0.1, 0.1, 0.6, 0.6], [-1, -1, 3, -1, -1, -1], 0),  # one diverged
        ([-1] * 6, [math.nan, 0.1, 0.5, 0.5, 0.6, 0.6], None, 1),
        ([-1] * 6, [0.5] * 6, None, 0),  # the first
    ],
)
def test_the_best_rate(solved_at: Any, final: Any, ended: Any, which: int) -> None:
    """Of three rates with two networks each."""
    assert best(learned(solved_at, final, ended), (1, 3, 2)) == [which]


@pytest.mark.tiny
def test_each_rule_has_a_best_rate_of_its_own() -> None:
    one = learned([9, 9, 7, 7, 7, 7, 9, 9], [0.0] * 8)
    assert best(one, (2, 2, 2)) == [1, 0]


def test_rates_are_chosen_on_other_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those reported then train as if there had been no choice."""
    seeds = []
    course = rates.replace

    def spied(one: Any, **changes: Any) -> Any:
        seeds.append(changes["seed"])
        return course(one, **changes)

    monkeypatch.setattr(rates, "replace", spied)
    several, lone = small(lr=[1e-6, 0.02], clip="none"), small(lr=0.02, clip="none")
    one, other = data(several), data(lone)
    assert seeds == [seed_of_choice(3)] * 2
    assert seed_of_choice(3) not in (3, seed_of_choice(4))
    assert (one["learning_rate"] == 0.02).all()  # whose losses fall
    assert one.keys() == other.keys()
    for name, values in other.items():
        np.testing.assert_array_equal(one[name], values, err_msg=name)


def test_a_rule_without_a_first_gradient_is_refused() -> None:
    """States at the bound of float64 and a readout of them: the loss overflows."""
    with pytest.raises(InputError, match=r"^clip: a rule in units of the first gradient's norm is"):
        measure(small(arch="rnn", activation="identity", init="he", gain=1e200, clip="norm:1x"))


# What depends on nothing else.


def test_threads_and_repetition_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small(arch="lstm", networks=5, dtype="float32", trace=5, lr=[0.01, 0.1], hidden=9)
    seen = []
    for threads in ("1", "2", "3", "2"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        seen.append(data(spec))
    for other in seen[1:]:
        same(other, seen[0])


def test_a_network_is_the_same_however_many_there_are() -> None:
    """And whatever other rules, in as many updates; but for thresholds that all of them set."""
    rules = ["none", "norm:0.5", "step-norm:0.2"]
    whole = measure(small(networks=3, clip=rules)).variables
    fewer = measure(small(networks=2, clip=rules[1:])).variables
    compared = 0
    for name, one in fewer.items():
        if one.dims[:2] == ("network", "rule"):
            np.testing.assert_array_equal(whole[name].data[:2, 1:], one.data, err_msg=name)
            compared += 1
    assert compared >= 10


def test_all_rules_see_the_same_draws_and_sequences() -> None:
    """A rule that never acts changes no bit."""
    found = data(small(clip=["none", "norm:1e9", "step-norm:1e9"]))
    for name in ("loss", "solved_at", "final_loss"):
        for rule in (1, 2):
            np.testing.assert_array_equal(found[name][:, rule], found[name][:, 0])
    assert (found["fired_share"] == 0).all()
    always = data(small(clip=["none", "norm:1e-3"]))
    assert (always["fired_share"][:, 1] == 1).all()
    assert (always["loss"][:, 1, :, 1:] != always["loss"][:, 0, :, 1:]).all()
    np.testing.assert_array_equal(always["loss"][:, 1, :, 0], always["loss"][:, 0, :, 0])


def test_a_trace_leads_from_the_first_curve_to_the_last() -> None:
    found = data(small(trace=6))
    assert found["update"].tolist() == [0, 6, 12]
    assert found["trace_log_norm"].shape == (2, 3, 2, 3, 8)
    np.testing.assert_array_equal(found["trace_log_norm"][:, :, :, 0], found["log_norm"])
    np.testing.assert_array_equal(found["trace_log_norm"][:, :, :, 2], found["log_norm_trained"])
    assert (found["trace_log_norm"][:, :, 1, 1, 7] != found["log_norm"][:, :, 1, 7]).all()
    apart = data(small(trace=5))
    assert apart["update"].tolist() == [0, 5, 10]


def test_a_length_ends_where_all_have_solved_it() -> None:
    """What comes after is nan, and the last loss that of the last update made."""
    spec = small(
        init="orthogonal", hidden=16, lr=0.02, updates=600, clip="none", solved=0.5, trace=1
    )
    found = data(spec)
    assert (found["solved_at"] > 0).all()
    for place in range(2):
        made = found["solved_at"][:, 0, place].max()
        assert made < 600
        there = np.isfinite(found["trace_log_norm"][0, 0, place, :, 0])
        assert there.tolist() == [k <= made for k in range(601)]
    assert found["loss_update"][-1] == 600
    assert len(found["loss_update"]) == 256
    assert (found["solved_share"] == 1).all()
    assert np.isnan(found["loss"][..., -1]).all()
    assert np.isfinite(found["loss"][..., 0]).all()
