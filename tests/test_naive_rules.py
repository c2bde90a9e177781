"""The clip rules of the naive reference, against the same by hand and closed forms."""

import math
from collections.abc import Callable
from typing import Any

import naive
import naive_adjoint
import numpy as np
import pytest
from naive import Array, Params, State
from naive_runs import (
    CELLS,
    CHAIN_RULES,
    ROUNDING,
    assert_close,
    complex_step,
    draw_run,
    linear,
    named_parts,
    orthogonal,
    parts_of,
)


def clipped_by_hand(clip: str, handed: State, lag: int) -> State:
    """The in-chain rules of the interface's table, one sequence at a time, at true scale."""
    kind, _, threshold = clip.partition(":")
    rows = [np.concatenate([part[b].ravel() for part in handed]) for b in range(len(handed[0]))]
    for row in rows:
        if kind == "step-norm":
            row *= float(threshold) / max(float(threshold), float(np.linalg.norm(row)))
        elif kind == "step-value":
            row[:] = np.maximum(-float(threshold), np.minimum(float(threshold), row))
        elif kind == "truncate" and lag - 1 in range(int(threshold), 100, int(threshold)):
            row[:] = 0
    ends = np.cumsum([part[0].size for part in handed])[:-1]
    whole = [np.split(row, ends) for row in rows]
    return tuple(
        np.stack([pieces[k].reshape(part.shape[1:]) for pieces in whole])
        for k, part in enumerate(handed)
    )


def step_gradients(
    step: Callable[[Params, Array, State], tuple[State, Array]],
    params: Params,
    x_t: Array,
    before: State,
    handed: State,
    gy_t: Array,
) -> tuple[Params, Array, State]:
    """Complex-step gradients of <handed, new state> + <gy_t, output> of one step."""

    def weighted(a: Params) -> Any:
        after, y = step(a, a["x"], parts_of(a))
        return sum((g * s).sum() for g, s in zip(handed, after, strict=True)) + (gy_t * y).sum()

    found = complex_step(weighted, params | {"x": x_t} | named_parts(before))
    return {name: found[name] for name in params}, found["x"], parts_of(found)


@pytest.mark.parametrize(("arch", "activation"), CELLS)
@pytest.mark.parametrize("clip", CHAIN_RULES)
def test_in_chain_rules_act_on_what_is_handed_over(arch: str, activation: str, clip: str) -> None:
    """Each step alone by complex step, the clipped adjoint handed on by hand."""
    params, x, initial, gy = draw_run(arch, steps=5, batch=2)
    states = naive.forward(arch, params, x, initial, activation)["states"]

    def step(params: Params, x_t: Array, before: State) -> tuple[State, Array]:
        return naive.CELLS[arch].step(params, x_t, before, activation)[:2]

    want = {name: np.zeros_like(value) for name, value in params.items()}
    want_x = np.zeros_like(x)
    handed: State = tuple(np.zeros_like(part) for part in initial)
    fired = False
    for t in reversed(range(5)):
        before = tuple(part[t] for part in states)
        by_name, want_x[t], raw = step_gradients(step, params, x[t], before, handed, gy[t])
        for name in params:
            want[name] += by_name[name]
        handed = clipped_by_hand(clip, raw, 5 - t)
        fired |= not all(np.array_equal(a, b) for a, b in zip(raw, handed, strict=True))
    assert fired
    have = naive.backward(arch, params, x, gy, initial, activation, clip)
    for name in params:
        assert_close(have["params"][name], want[name])
    assert_close(have["x"], want_x)
    for part, start in zip(have["initial"], handed, strict=True):
        if start.any():
            assert_close(part, start)
        else:
            assert not part.any()


@pytest.mark.parametrize("arch", naive.CELLS)
def test_rules_after_the_chain_change_parameter_gradients_only(arch: str) -> None:
    params, x, initial, gy = draw_run(arch, steps=4, batch=2)
    plain, by_norm, by_value, loose = (
        naive.backward(arch, params, x, gy, initial, clip=clip)
        for clip in ("none", "norm:0.5", "value:0.01", "norm:1e9")
    )

    def joint(result: dict[str, Any]) -> Array:
        return np.concatenate([g.ravel() for g in result["params"].values()])

    g = joint(plain)
    assert np.linalg.norm(g) > 0.5
    assert_close(joint(by_norm), g * 0.5 / np.linalg.norm(g))
    assert np.array_equal(joint(by_value), np.minimum(0.01, np.maximum(-0.01, g)))
    assert np.array_equal(joint(loose), g)
    for clipped in (by_norm, by_value):
        assert np.array_equal(clipped["x"], plain["x"])
        assert np.array_equal(clipped["initial"], plain["initial"])


def test_unknown_rules_are_errors() -> None:
    params, x, _, gy = draw_run("rnn", steps=2, batch=1)
    with pytest.raises(ValueError, match="is no rule"):
        naive.backward("rnn", params, x, gy, clip="stepnorm:1")


@pytest.mark.parametrize("clip", ["none", *CHAIN_RULES])
def test_sequences_are_clipped_one_by_one_and_summed(clip: str) -> None:
    params, x, _, _ = draw_run("lstm", steps=7, batch=3)
    readout = np.random.default_rng(3).normal(size=(3, 3)) * np.array([[1e-9], [1.0], [1e9]])
    whole = naive_adjoint.adjoint_curve("lstm", params, x, readout, clip=clip)
    alone = [
        naive_adjoint.adjoint_curve("lstm", params, x[:, b : b + 1], readout[b], clip=clip)
        for b in range(3)
    ]
    for name, curve in whole.items():
        with np.errstate(invalid="ignore"):  # the input part has a nan at lag T
            want = np.logaddexp.reduce([2 * one[name] for one in alone]) / 2
        assert curve == pytest.approx(want, rel=ROUNDING, abs=ROUNDING, nan_ok=True)


def test_step_norm_holds_an_expanding_chain_at_its_threshold() -> None:
    readout = np.array([1e200, 0.0, 0.0])
    curve = naive_adjoint.adjoint_curve(
        "rnn",
        linear(1.3 * orthogonal(3)),
        np.zeros((50, 1, 1)),
        readout,
        "identity",
        "step-norm:0.25",
    )
    assert curve["log_norm"][0] == pytest.approx(math.log(1e200), rel=1e-14)
    assert curve["log_norm"][1:] == pytest.approx(np.full(50, math.log(0.25)), rel=0, abs=1e-12)


def test_step_value_is_a_constant_offset_on_a_contracting_chain() -> None:
    """Signed permutation: every entry is clamped once, then falls by g, beyond float64's range."""
    turn = np.roll(np.diag([1.0, -1.0, 1.0]), 1, axis=0)
    curve = naive_adjoint.adjoint_curve(
        "rnn",
        linear(0.5 * turn),
        np.zeros((2000, 1, 1)),
        np.array([1.0, -2.0, 3.0]),
        "identity",
        "step-value:1e-200",
    )
    lags = np.arange(1, 2001)
    want = math.log(math.sqrt(3) * 1e-200) + (lags - 1) * math.log(0.5)
    assert curve["log_norm"][1:] == pytest.approx(want, rel=1e-14)


@pytest.mark.parametrize("arch", naive.CELLS)
def test_truncation_is_exact(arch: str) -> None:
    params, x, _, _ = draw_run(arch, steps=9, batch=2)
    full = naive_adjoint.adjoint_curve(arch, params, x, np.ones(3))
    cut = naive_adjoint.adjoint_curve(arch, params, x, np.ones(3), clip="truncate:4")
    for name, curve in full.items():
        assert np.array_equal(cut[name][:5], curve[:5])
        assert (cut[name][5:9] == -np.inf).all()
    assert cut["log_norm"][9] == -np.inf


def test_parameter_rules_leave_the_curve_alone() -> None:
    params, x, _, _ = draw_run("gru", steps=9, batch=2)
    full = naive_adjoint.adjoint_curve("gru", params, x, np.ones(3))
    for clip in ("norm:0.001", "value:0.001"):
        curve = naive_adjoint.adjoint_curve("gru", params, x, np.ones(3), clip=clip)
        assert np.array_equal(curve["log_norm"], full["log_norm"])
