"""Curves of the adjoint's norm: against the naive reference, far out of range, under rules."""

import math

import clips
import numpy as np
import pytest
from adjoints import LOG, assert_equal_curves, assert_naive, attenuate, curves
from drawn import ARCHS, GATED, KINDS, SHOWN, draw

import seqlab
from seqlab import rules
from seqlab.cells import CELLS

CHAIN_RULES = clips.biting(rules.IN_CHAIN)


def kinds_and_rules() -> list[tuple[str, str, str]]:
    """Every rule on the cells as they come, the plain chain for the other activations."""
    given = {"tanh": ("none", *clips.biting())}
    return [
        (a, phi, clip) for a, phi in KINDS for clip in given.get(phi, ("none", "step-norm:0.3"))
    ]


# Against the naive reference.


@pytest.mark.parametrize(("arch", "activation", "clip"), kinds_and_rules())
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_curves_of_a_bundle(arch: str, activation: str, clip: str, batch: int) -> None:
    """Lengths in one sweep have the curves that each would have alone."""
    run = draw(arch, hidden=7, inputs=3, state=5, steps=41, batch=batch)
    readout = np.random.default_rng(5).normal(size=(batch, 7))
    lengths = [1, 2, 16, 17, 33, 40]
    att = attenuate(run, lengths, readout, activation=activation, clip=clip)
    assert np.array_equal(att.lengths, lengths)
    assert np.array_equal(att.lags, np.arange(41))
    assert (att.clip, att.backend) == (clip, "cpu")
    assert_naive(run, att, readout, activation, clip)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", *CHAIN_RULES])
@pytest.mark.parametrize("batch", [1, 4])
def test_small_curves(arch: str, clip: str, batch: int) -> None:
    run = draw(arch, hidden=4, state=3, steps=5, batch=batch)
    readout = np.array([0.3, -1.2, 0.5, 2.0])
    assert_naive(
        run, attenuate(run, [3, 5], readout, clip=clip), readout, activation="tanh", clip=clip
    )


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_lengths_come_back_in_the_order_asked_for(arch: str) -> None:
    run, readout = draw(arch, steps=6), np.ones(3)
    rising = attenuate(run, [1, 3, 5], readout)
    mixed = attenuate(run, [3, 5, 1], readout)
    assert_equal_curves(
        curves(mixed), {name: value[:, [1, 2, 0]] for name, value in curves(rising).items()}
    )


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_an_ensemble_and_its_readouts(arch: str) -> None:
    """(H,) for all, (M, B, H) for each; left out, unit vectors, the same for all sequences."""
    run = draw(arch, networks=3, batch=2)
    full = np.random.default_rng(5).normal(size=(3, 2, 3))
    together = attenuate(run, [2, 6], full)
    for m in range(3):
        alone = attenuate(run.network(m), [2, 6], full[m])
        assert_equal_curves(
            {name: value[m : m + 1] for name, value in curves(together).items()}, curves(alone)
        )
    same = attenuate(run, [2, 6], np.broadcast_to(full[0, 0], (3, 2, 3)))
    assert_equal_curves(curves(attenuate(run, [2, 6], full[0, 0])), curves(same))
    drawn = seqlab.attenuation(arch, run.params, run.x, [2, 6])
    if arch in SHOWN:  # a scan's readout goes through C
        assert drawn.log_norm[:, :, 0] == pytest.approx(math.log(2) / 2, abs=1e-14)
        assert len({tuple(row) for row in drawn.log_norm[:, 0]}) == 3


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_curves_end_in_the_gradients_of_backward(arch: str) -> None:
    """The state at lag T has that of `initial`, the input at lag tau that of x at T - 1 - tau."""
    run, readout = draw(arch, steps=5), np.array([0.3, -1.2, 0.5])
    att = attenuate(run, [5], readout)
    grad = np.zeros_like(run.grad)
    grad[-1] = readout
    g = seqlab.backward(seqlab.forward(arch, run.params, run.x), grad)
    whole = np.concatenate([np.ravel(part) for part in g.initial])
    assert att.log_norm[0, 0, -1] == pytest.approx(math.log(np.linalg.norm(whole)), abs=1e-13)
    inputs = np.log(np.linalg.norm(g.x.reshape(5, -1), axis=1))[::-1]
    assert att.log_norm_input[0, 0, :-1] == pytest.approx(inputs, abs=1e-13)
    assert np.isnan(att.log_norm_input[0, 0, -1])
    assert tuple(att.parts) == CELLS[arch].parts
    shown, *others = att.parts.values()
    if others:
        joined = np.logaddexp.reduce([2 * part for part in (shown, *others)]) / 2
        assert att.log_norm == pytest.approx(joined, abs=1e-14)
        if arch in SHOWN:  # the loss sees that part alone
            assert all((part[:, :, 0] == -np.inf).all() for part in others)
    else:
        assert np.array_equal(shown, att.log_norm)


# Far beyond the range of plain numbers.


@pytest.mark.parametrize("gain", [0.3, 4.0])
@pytest.mark.parametrize("arch", GATED)
def test_curves_far_out_of_range(arch: str, gain: float) -> None:
    """Lag 3000 of chains that leave float64's range several times over, both ways."""
    run = draw(arch, hidden=5, steps=3000, batch=2)
    run.params["weight_hh"] *= gain
    linear = (arch, "identity") in KINDS
    activation = "identity" if linear else "tanh"
    if linear:
        run = run._replace(x=np.zeros_like(run.x))
        run.params["bias_ih"][:] = run.params["bias_hh"][:] = 0
    else:  # open gates; the candidate then is nearly linear
        run.params["weight_ih"][:] *= 0.01
        run.params["bias_ih"][:] *= 0.01
    readout = np.array([0.3, -1.2, 0.5, 2.0, -1.0])
    att = attenuate(run, [700, 3000], readout, activation=activation)
    assert_naive(run, att, readout, activation, "none")
    if linear:
        assert abs(att.log_norm[0, 1, -1]) > 1000


def test_a_scan_far_out_of_range() -> None:
    """The slowest state keeps the norm; the fast ones are lost below it without harm."""
    run = draw("ssm", hidden=5, state=4, steps=3000, batch=2)
    run.params["dt_proj_bias"] += 2
    readout = np.ones(5)
    att = attenuate(run, [700, 3000], readout)
    assert_naive(run, att, readout, "tanh", "none")
    assert att.log_norm[0, 1, -1] < -1000


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_silent_readout_is_minus_infinity(arch: str) -> None:
    """An exact zero is a result, at every lag."""
    att = attenuate(draw(arch), [2, 6], np.zeros(3))
    assert (att.log_norm[0, 1] == -np.inf).all()
    assert (att.log_norm_input[0, 1, :-1] == -np.inf).all()


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("scale", [-1072, -600, 900])
def test_a_readout_of_any_size(arch: str, scale: int) -> None:
    """A power of two moves the curve by its logarithm, from the smallest numbers that there are."""
    if arch not in SHOWN:
        scale = max(scale, -1000)  # dL/du, in units of the state's adjoint, must be a number
    run, readout = draw(arch, steps=4, batch=1), np.array([4.0, -8.0, 12.0])
    plain = curves(attenuate(run, [2, 4], readout))
    with np.errstate(over="ignore"):  # without the JIT NumPy's scalars warn
        scaled = curves(attenuate(run, [2, 4], np.ldexp(readout, scale)))
    for name, curve in plain.items():
        np.testing.assert_allclose(scaled[name], curve + scale * np.log(2), rtol=0, atol=LOG)


@pytest.mark.tiny
def test_what_overflows_in_the_forward_pass_is_not_a_number() -> None:
    """An infinite state makes NaN, which is shown and neither dropped nor replaced."""
    run = draw("ssm", steps=6, batch=1)
    run.x[3] = 1e308
    run.params["in_proj_weight"] += 10
    with np.errstate(all="ignore"):  # without the JIT NumPy's scalars warn
        att = attenuate(run, [2, 5], np.ones(3))
    assert np.isfinite(att.log_norm[0, 0, :3]).all()
    assert np.isnan(att.log_norm[0, 1]).any()
    assert not np.isinf(att.log_norm[0, 1]).any()


@pytest.mark.tiny
@pytest.mark.parametrize("clip", clips.alike(1, None))
def test_rules_far_below_their_threshold(clip: str) -> None:
    """Where the threshold, in units of the direction, is beyond the range of plain numbers."""
    weight = np.diag([0.5, 0.25, 0.125])
    params = {"weight_ih": np.ones((3, 1)), "weight_hh": weight}
    params |= {"bias_ih": np.zeros(3), "bias_hh": np.zeros(3)}
    readout = np.ldexp(np.array([1.0, -1.0, 1.0]), -1000)
    curve = seqlab.attenuation(
        "rnn", params, np.zeros((40, 1, 1)), [40], clip, readout, activation="identity"
    ).log_norm[0, 0]
    assert curve[-1] == pytest.approx(-1040 * math.log(2), abs=1e-9)


# Clip rules.


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_step_norm_over_a_long_chain(arch: str, gain: float) -> None:
    run = draw(arch, hidden=8, state=4, steps=200, batch=1)
    if arch in GATED:
        run.params["weight_hh"] *= gain
    readout = np.ones(8)
    free = attenuate(run, [50, 200], readout)
    for threshold in (0.01, 0.5, 2.0, 100.0):
        clipped = attenuate(run, [50, 200], readout, clip=f"step-norm:{threshold}")
        # nan past a length; rounding of one factor a step
        slack = 1e-15 * np.arange(201)
        over = clipped.log_norm > free.log_norm + slack
        assert not over.any()
        assert not (clipped.log_norm[:, :, 1:] > math.log(threshold) + 1e-14).any()
        assert np.array_equal(clipped.log_norm[:, :, 0], free.log_norm[:, :, 0])


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("clip", ["step-norm:1e-30", "step-value:1e-30", "step-norm:1e30"])
def test_thresholds_far_from_one(clip: str, dtype: type) -> None:
    """On a chain that grows by 2^60 a step every step is clipped, in either precision."""
    grows = {
        "weight_ih": np.zeros((2, 1), dtype),
        "weight_hh": np.diag([2.0**60, 2.0**60]).astype(dtype),
        "bias_ih": np.zeros(2, dtype),
        "bias_hh": np.zeros(2, dtype),
    }
    readout, x = np.array([0.6, 0.8], dtype), np.zeros((20, 1, 1), dtype)
    with np.errstate(over="ignore"):  # without the JIT NumPy's scalars warn
        have = seqlab.attenuation("rnn", grows, x, [20], clip, readout, activation="identity")
    kind, threshold = clip.split(":")
    # Both entries end at the limit of `value`, together sqrt 2 times as far out.
    want = math.log(float(threshold)) + (math.log(2) / 2 if kind == "step-value" else 0)
    assert have.log_norm[0, 0, 3:] == pytest.approx(want, rel=10 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("arch", ARCHS)
def test_parameter_rules_leave_the_curve_alone(arch: str) -> None:
    run, readout = draw(arch), np.ones(3)
    free = curves(attenuate(run, [2, 6], readout))
    for clip in (*clips.alike(0.001, 1, rules.AFTER), *clips.alike(1e9, 6, rules.IN_CHAIN)):
        assert_equal_curves(curves(attenuate(run, [2, 6], readout, clip=clip)), free)
