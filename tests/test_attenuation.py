"""Curves of the adjoint's norm: against the naive reference, far out of range, to the bit."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import clips
import naive_adjoint
import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS, GATED, KINDS, Run, draw

import seqlab
from seqlab import rules
from seqlab.cells import CELLS
from seqlab.engine import tape
from seqlab.errors import InputError
from seqlab.kernels.cpu.threads import thread_count
from seqlab.measure import measure
from seqlab.measure.attenuation import Attenuation
from seqlab.numbers.variables import Measurement
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]

LOG = 1e-10  # of a natural log against the naive reference; seen: 5e-13
CURVES = ("log_norm", "log_norm_hidden", "log_norm_cell", "log_norm_input")
CHAIN_RULES = clips.biting(rules.IN_CHAIN)


def curves(att: Attenuation) -> dict[str, Array]:
    """The curves that there are, by name, (M, lengths, lags)."""
    found = {name: getattr(att, name) for name in CURVES}
    return {name: value for name, value in found.items() if value is not None}


def attenuate(run: Run, lengths: list[int], readout: Array, **options: Any) -> Attenuation:
    return seqlab.attenuation(run.arch, run.params, run.x, lengths, readout=readout, **options)


def assert_equal_curves(have: dict[str, Array], want: dict[str, Array]) -> None:
    """The same names and the same bits."""
    assert have.keys() == want.keys()
    for name, value in want.items():
        np.testing.assert_array_equal(have[name], value, err_msg=name, strict=True)


def assert_naive(run: Run, att: Attenuation, readout: Array, activation: str, clip: str) -> None:
    """Every part, of every length, at every lag; nan past a length."""
    have = curves(att)
    for row, length in enumerate(att.lengths):
        want = naive_adjoint.adjoint_curve(
            run.arch, run.params, run.x[:length], readout, activation=activation, clip=clip
        )
        names = {"log_norm_hidden"} | want.keys() if run.arch in GATED else want.keys()
        assert have.keys() == names
        for name in want:
            curve = have[name][0, row]
            assert curve[: length + 1] == pytest.approx(want[name], rel=0, abs=LOG, nan_ok=True)
            assert np.isnan(curve[length + 1 :]).all()


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
    if arch in GATED:  # a scan's readout goes through C
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
    parts = [p for p in (att.log_norm_hidden, att.log_norm_cell) if p is not None]
    assert len(parts) == len({"hidden", "cell"} & set(CELLS[arch].parts))
    if len(parts) > 1:
        joined = np.logaddexp(2 * parts[0], 2 * parts[1]) / 2
        assert att.log_norm == pytest.approx(joined, abs=1e-14)
        assert (parts[1][:, :, 0] == -np.inf).all()
    elif parts:
        assert np.array_equal(parts[0], att.log_norm)


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
    if arch not in GATED:
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
def test_step_norm_never_raises_the_curve(arch: str, gain: float) -> None:
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


# To the bit: threads, segments, blocks, the number of networks, repetition.


def variables(result: Measurement) -> dict[str, Array]:
    return {name: variable.data for name, variable in result.variables.items()}


def assert_equal_measurements(have: Measurement, want: Measurement) -> None:
    assert_equal_curves(variables(have), variables(want))


def small_spec(arch: str, **changed: Any) -> RunSpec:
    """A run with a rule of every kind and a spectrum."""
    acting = {"step-norm": 0.5, "step-value": 0.1, "truncate": 7, "norm": 1, "value": 0.1}
    given = {"arch": arch, "steps": 100, "lengths": [1, 10, 64, 100]}
    given |= {"clip": ["none", *clips.spelled(acting)]}
    given |= {"hidden": 9, "inputs": 3, "networks": 8, "spectrum": 3}
    return RunSpec.create(**given | changed)


@pytest.mark.parametrize("arch", ARCHS)
def test_threads_and_repetition(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same bits with one, two and three threads, and again."""
    run = draw(arch, hidden=9, steps=50, batch=6, networks=3)
    spec, readout = small_spec(arch), np.ones(9)
    seen = []
    for threads in ("1", "2", "3", "2"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        g = seqlab.backward(seqlab.forward(arch, run.params, run.x, run.initial), run.grad)
        arrays = {**g.params, "x": g.x, "initial": np.asarray(g.initial)}
        arrays |= curves(attenuate(run, [7, 50], readout, clip="step-norm:0.5"))
        seen.append(arrays | variables(measure(spec)))
    for other in seen[1:]:
        assert_equal_curves(other, seen[0])


def first_networks(result: Measurement, count: int) -> dict[str, Array]:
    """What a measurement says of its first networks."""
    return {
        name: variable.data[:count]
        for name, variable in result.variables.items()
        if variable.dims[:1] == ("network",)
    }


@pytest.mark.parametrize("arch", ARCHS)
def test_a_network_does_not_depend_on_how_many_there_are(
    arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Networks 0..7 of 16 are those of 8, over many segments too."""
    for segment in (tape.SEGMENT_BYTES, 1):
        monkeypatch.setattr(tape, "SEGMENT_BYTES", segment)
        many, few = (measure(small_spec(arch, networks=n)) for n in (16, 8))
        shared = first_networks(many, 8)
        assert len(shared) >= 7
        assert_equal_curves(shared, first_networks(few, 8))


@pytest.mark.parametrize("arch", ARCHS)
def test_blocks_of_networks_change_nothing(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four networks at a time: a last block of one, no number changed."""
    spec = small_spec(arch, networks=9)
    whole = measure(spec)
    monkeypatch.setattr("seqlab.kernels.cpu.BLOCK_BYTES", 1)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "4")
    assert_equal_measurements(measure(spec), whole)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_segments_and_recomputation(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves keep their bits when time is cut, and when segments are computed again."""
    run, readout = draw(arch, steps=37, batch=1), np.ones(3)
    whole = curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3"))
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    assert_equal_curves(curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3")), whole)
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    assert_equal_curves(curves(attenuate(run, [5, 20, 35], readout, clip="step-norm:0.3")), whole)


@pytest.mark.parametrize("arch", ARCHS)
def test_a_longer_drive_begins_like_a_shorter_one(arch: str) -> None:
    """A run's curve at length 64 is that of a run of 64 steps, to rounding: fewer rows share it."""
    long = measure(small_spec(arch, spectrum=None))
    short = measure(small_spec(arch, steps=64, lengths=[1, 10, 64], spectrum=None))
    shared = np.intersect1d(long.variables["lag"].data, short.variables["lag"].data)
    assert len(shared) > 40
    for name in ("log_norm", "log_norm_input"):
        have, want = (
            result.variables[name].data[:, :, 2, np.isin(result.variables["lag"].data, shared)]
            for result in (long, short)
        )
        np.testing.assert_allclose(have, want, rtol=0, atol=1e-11)


# Bad input.


def refuses(name: str, call: Callable[[], Any]) -> None:
    """In one line that begins with the argument's name and says what is allowed."""
    with pytest.raises(InputError, match=f"^{name}: .*(allowed|needed|unknown).*$") as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.tiny
def test_bad_lengths_readouts_and_names_are_refused() -> None:
    run = draw("gru", steps=6, batch=2)

    def attenuation(arch: str = "gru", lengths: Any = (6,), **options: Any) -> Any:
        return seqlab.attenuation(arch, run.params, run.x, lengths, **options)

    for lengths in (
        [],
        [0],
        [-1, 3],
        [7],
        [3, 7],
        [2.0],
        [True],
        [3, 3],
        ["3"],
        "2:6:2",
        [[2], [3]],
    ):
        refuses("lengths", partial(attenuation, lengths=lengths))
    good = np.ones(3)
    for readout in (good[:2], np.ones((3, 3)), np.ones((1, 2, 3)), good.astype(np.float32),
                    good * np.nan, good * np.inf, np.ones(3, int)):  # fmt: skip
        refuses("readout", partial(attenuation, readout=readout))
    refuses("clip", partial(attenuation, clip="step-norm:0"))
    refuses("backend", partial(attenuation, backend="cuda"))
    refuses("arch", partial(attenuation, "lstn"))
    refuses("activation", partial(attenuation, activation="gelu"))


@pytest.mark.tiny
def test_a_bad_thread_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in ("0", "-1", "two", ""):
        monkeypatch.setenv("NUMBA_NUM_THREADS", count)
        refuses("NUMBA_NUM_THREADS", partial(attenuate, draw("rnn"), [6], np.ones(3)))
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert thread_count() == 3
