"""Properties of every cell on networks, sizes and inputs that hypothesis picks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from drawn import KINDS, Run, answers, draw, relative_errors, same_bits
from hypothesis import given, settings
from hypothesis import strategies as st

import seqlab
from seqlab import rules
from seqlab.engine.sums import Sums

Array = npt.NDArray[Any]

ROUNDING = 1e-11
THRESHOLDS = {"c": st.floats(1e-3, 10), "k": st.integers(1, 8)}
CHAIN_RULES = st.one_of(
    *(
        st.builds(f"{name}:{{}}".format, THRESHOLDS[rules.KINDS[name].threshold])
        for name in rules.IN_CHAIN
    )
)
LINEAR_RULES = st.one_of(st.just("none"), st.builds("truncate:{}".format, st.integers(1, 8)))
PARAMETER_RULES = st.builds("{}:{}".format, st.sampled_from(rules.AFTER), st.floats(1e-3, 10))


@dataclass(frozen=True)
class Pick:
    """A kind of cell at some size."""

    arch: str
    activation: str
    hidden: int
    inputs: int
    state: int
    steps: int
    batch: int
    networks: int
    seed: int

    def run(self) -> Run:
        sizes = {name: getattr(self, name) for name in
                 ("hidden", "inputs", "state", "steps", "batch", "networks", "seed")}  # fmt: skip
        return draw(self.arch, **sizes)

    def answers(self, run: Run, clip: str = "none") -> dict[str, Array]:
        return answers(run, self.activation, clip)

    def curves(self, run: Run, lengths: list[int], readout: Array, clip: str) -> dict[str, Array]:
        att = seqlab.attenuation(
            run.arch, run.params, run.x, lengths, clip, readout, self.activation
        )
        return {"state": att.log_norm, "input": att.log_norm_input}


@st.composite
def picks(draw_from: st.DrawFn, networks: int = 0, steps: int = 1) -> Pick:
    """Any cell; `networks` is the largest M, 0 for one network alone; `steps` the fewest."""

    def size(most: int, least: int = 1) -> int:
        return draw_from(st.integers(least, most))

    arch, activation = draw_from(st.sampled_from(KINDS))
    return Pick(
        arch,
        activation,
        hidden=size(9),
        inputs=size(12),
        state=size(4),
        steps=size(20, steps),
        batch=size(5),
        networks=size(networks) if networks else 0,
        seed=size(1000),
    )


common = settings(
    derandomize=True,
    max_examples=60,
    database=None,
)


@common
@given(pick=picks(steps=2), data=st.data())
def test_nothing_happens_before_its_cause(pick: Pick, data: st.DataObject) -> None:
    """A change of x after t changes no output up to t; a loss at t gives x after t no gradient."""
    run, t = pick.run(), data.draw(st.integers(1, pick.steps - 1))
    changed = run._replace(x=run.x.copy())
    changed.x[t:] += 1
    one, two = (pick.answers(each)["output"] for each in (run, changed))
    assert np.array_equal(one[:t], two[:t])
    assert not np.array_equal(one[t:], two[t:]) or pick.activation == "relu"
    silent = run._replace(grad=run.grad.copy())
    silent.grad[t:] = 0
    assert not pick.answers(silent)["x"][t:].any()


@common
@given(pick=picks(steps=2), data=st.data())
def test_a_longer_input_begins_alike(pick: Pick, data: st.DataObject) -> None:
    """Outputs of the first steps have the same bits, and so have the curves of a shorter length."""
    run, t = pick.run(), data.draw(st.integers(1, pick.steps - 1))
    short = run._replace(x=run.x[:t], grad=run.grad[:t])
    long = pick.answers(run)["output"]
    assert np.array_equal(long[:t], pick.answers(short)["output"])
    readout = np.ones(pick.hidden)
    together = pick.curves(run, [t, pick.steps], readout, "none")
    alone = pick.curves(short, [t], readout, "none")
    for name, curve in alone.items():
        have = together[name][0, 0]
        assert np.array_equal(np.isnan(have[: t + 1]), np.isnan(curve[0, 0]))
        assert np.allclose(have[: t + 1], curve[0, 0], rtol=0, atol=ROUNDING, equal_nan=True)
        assert np.isnan(have[t + 1 :]).all()


@common
@given(pick=picks(networks=4), clip=st.one_of(CHAIN_RULES, PARAMETER_RULES), data=st.data())
def test_networks_may_come_in_any_order(pick: Pick, clip: str, data: st.DataObject) -> None:
    """Permuting an ensemble permutes every answer, bit for bit."""
    run, order = pick.run(), data.draw(st.permutations(range(pick.networks)))
    mixed = run.each(lambda a: a[order])
    want = {name: value[order] for name, value in pick.answers(run, clip).items()}
    assert same_bits(pick.answers(mixed, clip), want)


@common
@given(pick=picks(), clip=CHAIN_RULES, data=st.data())
def test_sequences_may_come_in_any_order(pick: Pick, clip: str, data: st.DataObject) -> None:
    """Permuting a batch permutes outputs and their gradients; parameters gain them all together."""
    run, order = pick.run(), data.draw(st.permutations(range(pick.batch)))
    state = tuple(part[order] for part in run.state)
    mixed = run._replace(x=run.x[:, order], state=state, grad=run.grad[:, order])
    want = pick.answers(run, clip)
    for name in want:
        if name in ("output", "x"):
            want[name] = want[name][:, order]
        elif name.startswith("initial"):
            want[name] = want[name][order]
    assert max(relative_errors(pick.answers(mixed, clip), want).values()) < ROUNDING


@common
@given(pick=picks(), clip=LINEAR_RULES, a=st.floats(-3, 3), b=st.floats(-3, 3))
def test_the_adjoint_is_linear(pick: Pick, clip: str, a: float, b: float) -> None:
    """Gradients of a combination of losses are that combination of gradients."""
    run = pick.run()
    other = run._replace(grad=np.random.default_rng(pick.seed).normal(size=run.grad.shape))
    one, two = pick.answers(run, clip), pick.answers(other, clip)
    both = pick.answers(run._replace(grad=a * run.grad + b * other.grad), clip)
    for name in set(one) - {"output"}:
        size = abs(a) * np.abs(one[name]).max() + abs(b) * np.abs(two[name]).max()
        error = np.abs(both[name] - (a * one[name] + b * two[name])).max()
        assert error <= ROUNDING * size + 1e-300, name


@common
@given(pick=picks(), scale=st.integers(-1000, 1000))
def test_a_power_of_two_in_the_readout_is_one_in_the_curve(pick: Pick, scale: int) -> None:
    """Far out of float64's range too: only the exponent moves."""
    run, readout = pick.run(), np.random.default_rng(pick.seed).normal(size=pick.hidden)
    plain = pick.curves(run, [pick.steps], readout, "none")
    scaled = pick.curves(run, [pick.steps], np.ldexp(readout, scale), "none")
    for name, curve in plain.items():
        want = curve + scale * np.log(2)
        assert np.allclose(scaled[name], want, rtol=0, atol=1e-9, equal_nan=True), name


@common
@given(pick=picks(), threshold=st.floats(1e-3, 10))
def test_step_norm_never_raises_the_curve(pick: Pick, threshold: float) -> None:
    """Sequence by sequence at most c from lag 1 on, and nowhere above the unclipped curve."""
    run, readout = pick.run(), np.ones(pick.hidden)
    lengths = sorted({1, (pick.steps + 1) // 2, pick.steps})
    free = pick.curves(run, lengths, readout, "none")["state"]
    curve = pick.curves(run, lengths, readout, f"step-norm:{threshold}")["state"]
    assert not (curve > free + ROUNDING).any()
    most = np.log(threshold) + np.log(pick.batch) / 2
    assert not (curve[:, :, 1:] > most + ROUNDING).any()
    assert np.array_equal(curve[:, :, 0], free[:, :, 0])


@common
@given(pick=picks(), clip=CHAIN_RULES)
def test_no_chain_rule_raises_what_it_is_applied_to(pick: Pick, clip: str) -> None:
    """One step back: the first state's adjoint of each sequence."""
    run = pick.run()
    run = run._replace(x=run.x[:1], grad=run.grad[:1])
    free, clipped = pick.answers(run), pick.answers(run, clip)
    norms = []
    for found in (free, clipped):
        parts = [v for name, v in found.items() if name.startswith("initial")]
        rows = np.concatenate([part.reshape(pick.batch, -1) for part in parts], axis=1)
        norms.append(np.linalg.norm(rows, axis=1))
    assert (norms[1] <= norms[0] * (1 + 1e-14)).all()
    assert all(np.array_equal(free[name], clipped[name]) for name in (*run.params, "x"))


@common
@given(
    clip=PARAMETER_RULES,
    values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12),
    exponent=st.integers(-1200, 1200),
)
def test_no_parameter_rule_raises_what_it_is_applied_to(
    clip: str, values: list[float], exponent: int
) -> None:
    """Gradients of any scale: norms of any entry and of all together."""
    rule = rules.parse(clip)
    sums = Sums({"w": np.array([values])}, np.array([exponent]))
    clipped, changed = sums.clipped(rule)
    before, after = float(sums.log_norm()[0]), float(clipped.log_norm()[0])
    slack = 1e-14 * max(1.0, abs(before)) if np.isfinite(before) else 0.0
    assert after <= before + slack
    if not changed[0]:
        assert after >= before - slack
    with np.errstate(divide="ignore"):
        entries = np.log(np.abs(clipped.values["w"])) + clipped.exponent[0] * np.log(2)
    limit = np.log(rule.threshold) + 1e-12
    assert entries.max() <= limit
    assert after <= limit or rule.kind == "value"
