"""The naive reference against derivatives, PyTorch's answers and closed forms.

Tolerances, each with its reason; where a check sits well above what was seen, the room is for
other linear algebra libraries and mathematics libraries.

ROUNDING: complex step and hand-written gradients differ by rounding alone (seen: 1e-14).
PARITY: what the project promises of every implementation against PyTorch (seen: 2e-12).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import clips
import naive
import naive_adjoint
import naive_functions
import naive_rules
import naive_scan
import naive_spectrum
import numpy as np
import pytest
from naive import Array, Params, State
from reference import cases

ROUNDING = 1e-12
PARITY = 1e-9

CELLS = [(arch, name) for arch, cell in naive.CELLS.items() for name in cell.activations]
TINY = 1e-30  # a complex step has no cancellation, so it may be as small as it likes
THRESHOLDS = {"step-norm": 0.1, "step-value": 0.02, "truncate": 3}
CHAIN_RULES = [*clips.spelled(THRESHOLDS, naive_rules.IN_CHAIN), "truncate:1"]


def draw(
    arch: str, hidden: int = 3, inputs: int = 2, state: int = 2, seed: int = 1
) -> tuple[Params, np.random.Generator]:
    """Parameters of order 1, far from any special value."""
    rng = np.random.default_rng(seed)
    shapes = naive.CELLS[arch].shapes(hidden, inputs, state)
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}, rng


def draw_run(arch: str, steps: int, batch: int, **sizes: int) -> tuple[Params, Array, State, Array]:
    """Parameters, x, the initial state as a tuple of parts, dL/d(output)."""
    params, rng = draw(arch, **sizes)
    x = rng.normal(size=(steps, batch, sizes.get("inputs", 2)))
    zero = naive.zero_state(arch, params, batch, float)
    initial = tuple(rng.normal(size=part.shape) for part in zero)
    return params, x, initial, rng.normal(size=(steps, batch, sizes.get("hidden", 3)))


def complex_step(f: Callable[[Params], Any], at: Params) -> Params:
    """The gradients of a real-valued f of named arrays, each entry of each moved in turn."""
    gradients = {}
    for name, value in at.items():
        gradients[name] = np.empty_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1j * TINY
            gradients[name][index] = f(at | {name: moved}).imag / TINY
    return gradients


def named_parts(state: State) -> Params:
    return {f"state_{k}": part for k, part in enumerate(state)}


def parts_of(arrays: Params) -> State:
    return tuple(value for name, value in arrays.items() if name.startswith("state_"))


def assert_close(have: Any, want: Array, tolerance: float = ROUNDING) -> None:
    """The same shape, and close relative to the norm of what is wanted."""
    assert np.shape(have) == want.shape
    assert np.linalg.norm(want) > 0
    assert np.linalg.norm(have - want) <= tolerance * np.linalg.norm(want)


# Forward.


@pytest.mark.parametrize(
    "case",
    [c for c in cases.cases() if c.steps <= 17 and c.hidden <= 33],
    ids=lambda case: case.name,
)
def test_parity_with_pytorch(case: cases.Case) -> None:
    drawn = cases.draw(case)
    # Sums of up to 1e4 terms of order 1, by whatever order of summation.
    assert cases.checksum(drawn) == pytest.approx(
        cases.stored(case.kind)[f"{case.name}/inputs"], rel=1e-10, abs=1e-10
    ), "the generator's stream has changed: make the reference files again"
    run = naive.forward(case.arch, drawn.params, drawn.x, drawn.state, case.activation)
    back = naive.backward(
        case.arch, drawn.params, drawn.x, drawn.grad_output, drawn.state, case.activation
    )
    answers = cases.named(run["output"], back["params"], back["x"], back["initial"])
    errors = cases.relative_errors(case, answers)
    assert max(errors.values()) <= PARITY, errors


def test_parity_sees_one_wrong_entry() -> None:
    case = cases.Case("lstm", 17, 3, 5, 33)
    drawn = cases.draw(case)
    run = naive.forward(case.arch, drawn.params, drawn.x, drawn.state)
    back = naive.backward(case.arch, drawn.params, drawn.x, drawn.grad_output, drawn.state)
    gradient = back["params"]["weight_hh"]
    gradient[50, 17] += 1e-8 * np.linalg.norm(gradient)
    answers = cases.named(run["output"], back["params"], back["x"], back["initial"])
    errors = cases.relative_errors(case, answers)
    assert errors["weight_hh"] > PARITY
    assert errors["weight_ih"] <= PARITY


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_the_long_parity_cases_are_neither_dead_nor_exploding(kind: str) -> None:
    """At H = 33 and T = 300 the chain from the last step to the first must still be seen."""
    case = cases.Case(kind, 300, 1, 5, 33)
    drawn = cases.draw(case)
    readout = np.full(33, 33**-0.5)
    curve = naive_adjoint.adjoint_curve(case.arch, drawn.params, drawn.x, readout, case.activation)
    assert -30 < curve["log_norm"][300] < 5


def test_elementwise_functions_hold_in_their_tails() -> None:
    """No overflow, and the leading term exp(-|a|) where 1 - sigmoid(a) would be 0."""
    far = np.array([-700.0, 700.0])
    small = math.exp(-700)
    assert naive_functions.sigmoid(far) == pytest.approx([small, 1], rel=ROUNDING, abs=0)
    assert naive_functions.sigmoid_slope(far) == pytest.approx([small, small], rel=ROUNDING, abs=0)
    assert naive_functions.tanh_slope(far / 2) == pytest.approx(
        [4 * small] * 2, rel=ROUNDING, abs=0
    )
    assert naive_functions.softplus(far) == pytest.approx([small, 700], rel=ROUNDING, abs=0)
    with np.errstate(over="raise"):
        assert naive_functions.sigmoid(2 * far).tolist() == [0, 1]
        assert naive_functions.softplus(2 * far).tolist() == [0, 1400]


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_forward_keeps_the_initial_state_and_every_state(arch: str, activation: str) -> None:
    params, x, initial, _ = draw_run(arch, steps=5, batch=2)
    whole = naive.forward(arch, params, x, initial, activation)
    middle = tuple(part[3] for part in whole["states"])
    rest = naive.forward(arch, params, x[3:], middle, activation)
    assert np.array_equal(rest["output"], whole["output"][3:])
    for part, start, again in zip(whole["states"], initial, rest["states"], strict=True):
        assert np.array_equal(part[0], start)
        assert np.array_equal(again, part[3:])
    if arch != "ssm":
        assert np.array_equal(whole["states"][0][1:], whole["output"])


# Gradients.


@pytest.mark.parametrize(("arch", "activation"), CELLS)
@pytest.mark.parametrize("sizes", [{"hidden": 3}, {"hidden": 17, "inputs": 1, "state": 1}])
def test_backward_is_the_complex_step(arch: str, activation: str, sizes: dict[str, int]) -> None:
    """Every parameter, the input, the initial state. Width 17 gives the ssm a Delta rank of 2."""
    params, x, initial, gy = draw_run(arch, steps=3, batch=2, **sizes)

    def loss(a: Params) -> Any:  # a cell reads only the names that are its own
        return (forward(a)["output"] * gy).sum()

    def forward(a: Params) -> dict[str, Any]:
        return naive.forward(arch, a, a["x"], parts_of(a), activation)

    have = naive.backward(arch, params, x, gy, initial, activation)
    assert have["params"].keys() == params.keys()
    answers = have["params"] | {"x": have["x"]} | named_parts(have["initial"])
    want = complex_step(loss, params | {"x": x} | named_parts(initial))
    for name, gradient in want.items():
        assert_close(answers[name], gradient)


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


# The selective scan.


def draw_scan(given: tuple[str, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(5)
    batch, channels, n, length = 2, 3, 2, 4
    shapes: dict[str, tuple[int, ...]] = {
        "u": (batch, channels, length),
        "delta": (batch, channels, length),
        "A": (channels, n),
        "B": (batch, n, length),
        "C": (batch, n, length),
        "D": (channels,),
        "z": (batch, channels, length),
        "delta_bias": (channels,),
        "initial_state": (batch, channels, n),
    }
    arrays: dict[str, Any] = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    arrays["A"] = -np.exp(arrays["A"])
    kept = {k: v for k, v in arrays.items() if k not in CHOICES or k in given}
    return kept | {"delta_softplus": "delta_softplus" in given}


CHOICES = ("D", "z", "delta_bias", "initial_state", "delta_softplus")
OPTIONS = [given for count in range(6) for given in itertools.combinations(CHOICES, count)]


@pytest.mark.parametrize("given", OPTIONS)
def test_selective_scan_entry_by_entry(given: tuple[str, ...]) -> None:
    """The recurrence of Gu & Dao 2023 with the options of its published layer, in scalars."""
    a = draw_scan(given)
    want = np.empty_like(a["u"])
    for b, d in np.ndindex(a["u"].shape[:2]):
        state = [*a["initial_state"][b, d]] if "initial_state" in given else [0.0] * 2
        for t in range(a["u"].shape[2]):
            step = a["delta"][b, d, t] + (a["delta_bias"][d] if "delta_bias" in given else 0)
            if a["delta_softplus"]:
                step = math.log(1 + math.exp(step))
            u = a["u"][b, d, t]
            y = a["D"][d] * u if "D" in given else 0.0
            for n in range(len(state)):
                state[n] = math.exp(step * a["A"][d, n]) * state[n] + step * a["B"][b, n, t] * u
                y += a["C"][b, n, t] * state[n]
            z = a["z"][b, d, t] if "z" in given else None
            want[b, d, t] = y if z is None else y * z / (1 + math.exp(-z))
    assert_close(naive_scan.selective_scan(**a), want)


@pytest.mark.parametrize("given", OPTIONS)
def test_selective_scan_backward_is_the_complex_step(given: tuple[str, ...]) -> None:
    arrays = draw_scan(given)
    gy = np.random.default_rng(6).normal(size=arrays["u"].shape)
    softplus = arrays.pop("delta_softplus")
    have = naive_scan.selective_scan_backward(gy, **arrays, delta_softplus=softplus)
    assert set(have) == {"u", "delta", "A", "B", "C", *CHOICES} - {"delta_softplus"}
    assert {name for name, gradient in have.items() if gradient is not None} == arrays.keys()

    def loss(a: Params) -> Any:
        return (gy * naive_scan.selective_scan(**a, delta_softplus=softplus)).sum()

    for name, want in complex_step(loss, arrays).items():
        assert_close(have[name], want)


def test_a_gradient_of_the_last_scan_state() -> None:
    arrays = draw_scan(("initial_state",))
    del arrays["delta_softplus"]
    last = np.random.default_rng(8).normal(size=arrays["initial_state"].shape)
    silence = np.zeros(arrays["u"].shape)
    have = naive_scan.selective_scan_backward(silence, **arrays, grad_last_state=last)

    def loss(a: Params) -> Any:
        return (last * naive_scan.scan_states(*a.values())[-1]).sum()

    given = {name: arrays[name] for name in ("u", "delta", "A", "B", "initial_state")}
    for name, want in complex_step(loss, given).items():
        assert_close(have[name], want)
    assert not np.any(have["C"])  # which the last state does not know


@pytest.mark.parametrize("arch", naive.CELLS)
def test_a_gradient_of_the_last_state(arch: str) -> None:
    """By the complex step, in the first state."""
    params, x, start, silence = draw_run(arch, steps=3, batch=2, hidden=3)
    rng = np.random.default_rng(9)
    last = tuple(rng.normal(size=part.shape) for part in start)
    silence = np.zeros_like(silence)
    have = naive.backward(arch, params, x, silence, start, grad_final=last)

    def loss(a: Params) -> Any:
        states = naive.forward(arch, params, x, parts_of(a))["states"]
        return sum((g * part[-1]).sum() for g, part in zip(last, states, strict=True))

    wanted = complex_step(loss, named_parts(start)).values()
    for part, want in zip(have["initial"], wanted, strict=True):
        assert_close(part, want)


def test_the_ssm_cell_is_a_selective_scan() -> None:
    """The layer's projections into the scan, at a width where Delta has rank 2."""
    params, x, _, _ = draw_run("ssm", steps=6, batch=2, hidden=17, state=3)
    u = np.einsum("hi,tbi->bht", params["in_proj_weight"], x)
    projected = np.einsum("rh,bht->brt", params["x_proj_weight"], u)
    y = naive_scan.selective_scan(
        u,
        np.einsum("hr,brt->bht", params["dt_proj_weight"], projected[:, :2]),
        -np.exp(params["A_log"]),
        projected[:, 2:5],
        projected[:, 5:],
        params["D"],
        delta_bias=params["dt_proj_bias"],
        delta_softplus=True,
    )
    assert_close(naive.forward("ssm", params, x)["output"], y.transpose(2, 0, 1))


# Jacobians and the adjoint at every lag.


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_jacobians_are_the_complex_step(arch: str, activation: str) -> None:
    params, x, initial, _ = draw_run(arch, steps=3, batch=1)
    have = naive_spectrum.jacobians(arch, params, x, initial, activation)
    states = naive.forward(arch, params, x, initial, activation)["states"]
    for t, jacobian in enumerate(have):
        for k, part in enumerate(states):
            before = [p[t] for p in states]
            for column, index in enumerate(np.ndindex(part[t].shape)):
                moved = part[t].astype(complex)
                moved[index] += 1j * TINY
                after = naive.CELLS[arch].step(
                    params, x[t], (*before[:k], moved, *before[k + 1 :]), activation
                )[0]
                want = np.concatenate([np.asarray(p).imag.ravel() for p in after]) / TINY
                have_column = jacobian[:, k * part[t].size + column]
                assert have_column == pytest.approx(want, rel=ROUNDING, abs=ROUNDING)


@pytest.mark.parametrize(("arch", "activation"), CELLS)
def test_curve_is_the_product_of_jacobians(arch: str, activation: str) -> None:
    params, x, _, _ = draw_run(arch, steps=8, batch=1)
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve(arch, params, x, readout, activation)
    run = naive.forward(arch, params, x, None, activation)
    local = naive.CELLS[arch].loss(run["saved"][-1], readout[None])
    adjoint = np.concatenate([part.ravel() for part in local])
    steps = naive_spectrum.jacobians(arch, params, x, None, activation)
    for lag in range(9):
        if lag:
            adjoint = adjoint @ steps[8 - lag]
        with np.errstate(divide="ignore"):
            assert curve["log_norm"][lag] == pytest.approx(
                np.log(np.linalg.norm(adjoint)), rel=ROUNDING, abs=ROUNDING
            )
            names = list(naive.CELLS[arch].parts(params))
            for name, part in zip(names, np.split(adjoint, len(names)), strict=True):
                assert len(names) == 1 or curve[f"log_norm_{name}"][lag] == pytest.approx(
                    np.log(np.linalg.norm(part)), rel=ROUNDING, abs=ROUNDING
                )


@pytest.mark.parametrize(("arch", "activation"), CELLS)
@pytest.mark.parametrize("clip", ["none", *CHAIN_RULES])
def test_curve_is_the_gradient_of_the_last_output(arch: str, activation: str, clip: str) -> None:
    """Within float64's range: the input part at every lag, the state part where backward ends."""
    params, x, _, _ = draw_run(arch, steps=6, batch=3)
    readout = np.random.default_rng(2).normal(size=(3, 3))
    curve = naive_adjoint.adjoint_curve(arch, params, x, readout, activation, clip)
    gy = np.zeros((6, 3, 3))
    gy[-1] = readout
    back = naive.backward(arch, params, x, gy, None, activation, clip)
    with np.errstate(divide="ignore"):
        by_lag = np.log(np.linalg.norm(back["x"], axis=(1, 2)))[::-1]
        at_start = np.log(np.linalg.norm(np.ravel(back["initial"])))
    assert curve["log_norm_input"][:6] == pytest.approx(by_lag, rel=ROUNDING, abs=ROUNDING)
    assert math.isnan(curve["log_norm_input"][6])
    assert curve["log_norm"][6] == pytest.approx(at_start, rel=ROUNDING, abs=ROUNDING)


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


# Closed forms.


def linear(weight: Array) -> Params:
    hidden = len(weight)
    zero = np.zeros(hidden)
    return {
        "weight_ih": np.zeros((hidden, 1)),
        "weight_hh": weight,
        "bias_ih": zero,
        "bias_hh": zero,
    }


def orthogonal(size: int) -> Array:
    return np.linalg.qr(np.random.default_rng(4).normal(size=(size, size)))[0]


def test_scaled_orthogonal_chain_far_below_float64() -> None:
    """tau ln g at every lag to 10,000. Rounding: 1e4 products, each a few 1e-16."""
    steps = 10_000
    readout = np.array([0.6, 0.0, -0.8])
    curve = naive_adjoint.adjoint_curve(
        "rnn", linear(0.5 * orthogonal(3)), np.zeros((steps, 1, 1)), readout, "identity"
    )
    assert curve["log_norm"] == pytest.approx(np.arange(steps + 1) * math.log(0.5), rel=0, abs=1e-8)
    assert (curve["log_norm_input"][:-1] == -np.inf).all()


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


def test_lstm_without_weights_forgets_by_its_bias() -> None:
    """Cell part from lag 1: (tau - 1) ln sigmoid(b), to e^-2600; 1e-12 + 2e-14 tau as specified."""
    hidden, steps = 3, 2000
    zero = np.zeros(4 * hidden)
    forget = zero.copy()
    forget[hidden : 2 * hidden] = -1.0
    params = {
        "weight_ih": np.zeros((4 * hidden, 1)),
        "weight_hh": np.zeros((4 * hidden, hidden)),
        "bias_ih": zero,
        "bias_hh": forget,
    }
    curve = naive_adjoint.adjoint_curve("lstm", params, np.zeros((steps, 1, 1)), np.ones(hidden))
    cell = curve["log_norm_cell"]
    lags = np.arange(1, steps + 1)
    want = -(lags - 1) * math.log(1 + math.e)
    assert (np.abs(cell[1:] - cell[1] - want) <= 1e-12 + 2e-14 * lags).all()
    # Lag 0: the readout is all hidden. Lag 1: r o (1 - tanh(0)^2) f, with o = 1/2.
    assert curve["log_norm_hidden"][0] == pytest.approx(math.log(math.sqrt(3)), rel=1e-14)
    assert cell[0] == -np.inf
    assert cell[1] == pytest.approx(math.log(math.sqrt(3) / 2 / (1 + math.e)), rel=1e-14)
    assert (curve["log_norm_hidden"][1:] == -np.inf).all()


def test_lstm_without_recurrence_carries_by_its_forget_gates() -> None:
    """a_c(tau) = r o_T (1 - tanh^2 c_T) prod f, elementwise."""
    params, x, _, _ = draw_run("lstm", steps=40, batch=1)
    params["weight_hh"] = np.zeros_like(params["weight_hh"])
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve("lstm", params, x, readout)
    run = naive.forward("lstm", params, x)
    pre = x[:, 0] @ params["weight_ih"].T + params["bias_ih"] + params["bias_hh"]
    forget, output = 1 / (1 + np.exp(-pre[:, 3:6])), 1 / (1 + np.exp(-pre[-1, 9:]))
    c_last = run["states"][1][-1, 0]
    adjoint = readout * output * (1 - np.tanh(c_last) ** 2)
    for lag in range(1, 41):
        adjoint = adjoint * forget[40 - lag]
        assert curve["log_norm_cell"][lag] == pytest.approx(
            math.log(np.linalg.norm(adjoint)), abs=1e-10
        )


def test_ssm_carries_by_the_sum_of_its_steps() -> None:
    """ds_T/ds_t = exp(A sum Delta), for each channel and state; readout through C_T."""
    steps = 2000
    params, rng = draw("ssm")
    params["dt_proj_bias"] += 3.0  # long enough steps to leave float64's range
    x = rng.normal(size=(steps, 1, 2))
    readout = np.array([0.3, -1.2, 0.5])
    curve = naive_adjoint.adjoint_curve("ssm", params, x, readout)
    u = x[:, 0] @ params["in_proj_weight"].T
    projected = u @ params["x_proj_weight"].T
    raw = projected[:, :1] @ params["dt_proj_weight"].T + params["dt_proj_bias"]
    behind = np.concatenate([np.zeros((1, 3)), np.cumsum(np.logaddexp(0, raw)[::-1], axis=0)])
    start = readout[:, None] * projected[-1, 3:]
    logs = np.log(np.abs(start)) - np.exp(params["A_log"]) * behind[:, :, None]
    want = np.logaddexp.reduce(2 * logs.reshape(steps + 1, -1), axis=1) / 2
    assert want[-1] < -800
    tolerance = 1e-12 + 2e-14 * np.arange(steps + 1)
    # The tolerance is of a rate; the sum itself rounds at 1e-16 of its size.
    assert (np.abs(curve["log_norm"] - want) <= tolerance + 1e-14 * np.abs(want)).all()


@pytest.mark.parametrize(("activation", "slope"), [("tanh", 1.0), ("sigmoid", 0.25)])
def test_no_step_beats_the_largest_singular_value(activation: str, slope: float) -> None:
    params, x, _, _ = draw_run("rnn", steps=50, batch=1, hidden=6)
    curve = naive_adjoint.adjoint_curve("rnn", params, x, np.ones(6), activation)
    most = slope * np.linalg.norm(params["weight_hh"], 2)
    assert (np.diff(curve["log_norm"]) <= math.log(most) + 1e-12).all()


def test_lyapunov_spectrum_of_a_symmetric_linear_chain() -> None:
    """ln|eigenvalue|: exactly from the eigenframe, from a generic one after an O(1/T) transient."""
    values = np.array([1.2, -0.9, 0.5, 0.1])
    vectors = orthogonal(4)
    params = linear(vectors @ np.diag(values) @ vectors.T)
    x = np.zeros((500, 1, 1))
    want = np.log(np.abs(values[:3]))
    exact = naive_spectrum.lyapunov("rnn", params, x, 3, "identity", frame=vectors[:, :3])
    assert exact == pytest.approx(want, rel=0, abs=1e-12)
    generic = naive_spectrum.lyapunov("rnn", params, x, 3, "identity")
    assert generic == pytest.approx(want, rel=0, abs=5 / 500)


def test_lyapunov_exponents_of_an_ssm_are_its_mean_decays() -> None:
    """A diagonal Jacobian: the axes never turn, so only a generic frame finds the largest."""
    params, x, _, _ = draw_run("ssm", steps=300, batch=1, hidden=2)
    decay = np.stack([saved["decay"] for saved in naive.forward("ssm", params, x)["saved"]])
    want = np.sort(np.log(decay).mean(axis=0).ravel())[::-1][:2]
    # Transient of O(1/T) with the frame's angles as its constant.
    assert naive_spectrum.lyapunov("ssm", params, x, 2) == pytest.approx(want, rel=0, abs=5 / 300)


@pytest.mark.parametrize("frame", [None, np.eye(5)])
def test_lyapunov_sum_of_a_tanh_rnn(frame: Array | None) -> None:
    """All exponents add up to ln|det W| + <sum ln phi'>, from any frame."""
    params, x, _, _ = draw_run("rnn", steps=200, batch=1, hidden=5)
    h = naive.forward("rnn", params, x)["output"]
    before = np.concatenate([np.zeros((1, 1, 5)), h[:-1]])
    a = x @ params["weight_ih"].T + before @ params["weight_hh"].T
    slopes = np.log(np.cosh(a + params["bias_ih"] + params["bias_hh"]) ** -2.0)
    want = np.linalg.slogdet(params["weight_hh"])[1] + slopes.sum(axis=2).mean()
    exponents = naive_spectrum.lyapunov("rnn", params, x, 5, frame=frame)
    assert (np.diff(exponents) <= 0).all()
    assert exponents.sum() == pytest.approx(want, rel=0, abs=1e-10)
