"""The sLSTM: its draws, its stabiliser, which changes nothing, and all that is known of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from adjoints import curves
from drawn import Run, answers, draw, relative_errors
from naive_functions import sigmoid
from studies import spec_refusal

import seqlab
from seqlab import InputError
from seqlab.cells import CELLS, SCALED, Draw, Sizes
from seqlab.engine import tape
from seqlab.measure import measure
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]
CELL = CELLS["slstm"]


def measured(**options: Any) -> dict[str, Array]:
    """The variables of an unclipped run."""
    spec = RunSpec.create(arch="slstm", clip="none", **options)
    return {name: variable.data for name, variable in measure(spec).variables.items()}


def given(folder: Path, params: dict[str, Array], x: Array, **options: Any) -> dict[str, Array]:
    """The same of one's own arrays."""
    np.savez(folder / "w.npz", **params)
    np.save(folder / "x.npy", x)
    return measured(params=folder / "w.npz", input=folder / "x.npy", **options)


def uncoupled(**sizes: int) -> Run:
    """A run without recurrent weights, from a zero state."""
    run = draw("slstm", **sizes)
    run.params["weight_hh"][:] = 0
    return run._replace(state=tuple(np.zeros_like(part) for part in run.state))


def kept(run: Run) -> Array:
    """ln f = -ln(1 + e^-a) at each step of one network without recurrent weights, (T, B, H), in the
    longest floats that there are."""
    a = np.split(run.x @ run.params["weight_ih"].T + run.params["bias"], 4, axis=-1)[1]
    return -np.logaddexp(np.longdouble(0), -a.astype(np.longdouble))


# Draws.


@pytest.mark.tiny
def test_draws_are_the_published_ones() -> None:
    """Input weights N(0, 2/(5 I)), no recurrent ones, forget biases 5 - 12 (j/(H - 1))^0.3, no
    others."""
    params = CELL.draw(np.random.default_rng(1), Sizes(1000, 4), Draw("zeros"))
    weight = params["weight_ih"]
    # Four standard errors of the mean and, relative, of the variance.
    assert abs(weight.mean()) < 4 * math.sqrt(0.1 / weight.size)
    assert weight.var() == pytest.approx(0.1, rel=4 * math.sqrt(2 / weight.size))
    assert np.abs(weight).max() > 3.5 * math.sqrt(0.1)  # no bound: normal
    assert not params["weight_hh"].any()
    bias = params["bias"].reshape(4, 1000)
    assert not bias[[0, 2, 3]].any()
    assert bias[1, [0, -1]].tolist() == [5, -7]
    assert bias[1, 54] == pytest.approx(5 - 12 * (54 / 999) ** 0.3, abs=1e-15)
    assert (np.diff(bias[1]) < 0).all()
    assert CELL.draw(np.random.default_rng(1), Sizes(1, 1), Draw())["bias"].tolist() == [0, 5, 0, 0]


@pytest.mark.tiny
def test_options_change_what_they_name() -> None:
    def drawn(**how: Any) -> dict[str, Array]:
        return CELL.draw(np.random.default_rng(1), Sizes(60, 5), Draw(**{"init": "zeros"} | how))

    plain = drawn()
    biased = drawn(forget_bias=2.5)["bias"].reshape(4, 60)
    assert (biased[1] == 2.5).all()
    assert not biased[[0, 2, 3]].any()
    scaled = drawn(input_scale=0.3)
    assert not scaled["bias"].any()
    assert scaled["weight_ih"].var() == pytest.approx(0.09 / 5, rel=4 * math.sqrt(2 / 1200))
    for init in SCALED:
        mixed = drawn(init=init, gain=0.7)
        variance = 0.49 / 60 * (2 if init == "he" else 1)
        assert mixed["weight_hh"].var() == pytest.approx(variance, rel=0.06)
        blocks = np.split(mixed["weight_hh"], 4)
        assert len({block[0, 0] for block in blocks}) == 4
        for name in ("weight_ih", "bias"):
            assert np.array_equal(mixed[name], plain[name])


@pytest.mark.tiny
def test_a_draw_that_a_cell_does_not_know_is_refused() -> None:
    said = spec_refusal(arch="slstm", steps=9, init="pytorch")
    assert said == (
        "init: 'pytorch' is not allowed; slstm takes zeros, normal, orthogonal, xavier or he"
    )
    said = spec_refusal(arch="rnn", steps=9, init="zeros")
    assert said.startswith("init: 'zeros' is not allowed; rnn takes pytorch, keras, normal, ")
    said = spec_refusal(arch="slstm", steps=9, gain=2)
    assert said.startswith("gain: 2.0 means nothing for init zeros; it is for init normal")
    said = spec_refusal(arch="slstm", steps=9, forget_bias="chrono")
    assert said == "forget_bias: 'chrono' is not allowed; slstm takes a finite number"
    assert RunSpec.create(arch="slstm", steps=9).init == "zeros"
    assert RunSpec.create(arch="slstm", steps=9, init="he", gain=2).gain == 2


# The stabiliser.


def published(params: dict[str, Array], x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """(h, c, n, m) after each step, (T, B, H) each, by the equations of the published code."""
    found = []
    h, c, n, m = state
    for x_t in x:
        a = x_t @ params["weight_ih"].T + h @ params["weight_hh"].T + params["bias"]
        i, f, z, o = np.split(a, 4, axis=1)
        kept = m - np.logaddexp(0, -f)
        after = np.where(n == 0, i, np.maximum(kept, i))
        into, forget = (np.minimum(np.exp(v - after), 1) for v in (i, kept))
        c, n = forget * c + into * np.tanh(z), forget * n + into
        h, m = sigmoid(o) * c / n, after
        found.append((h, c, n, m))
    return tuple(np.stack(part) for part in zip(*found, strict=True))


@pytest.mark.tiny
@pytest.mark.parametrize("from_zero", [True, False])
def test_a_state_is_the_published_one(from_zero: bool) -> None:
    """All four parts at every step, rounded some times a step."""
    run = draw("slstm", hidden=5, steps=30, batch=3)
    state = tuple(np.zeros_like(part) for part in run.all_parts)
    if not from_zero:
        state = (*run.state, np.random.default_rng(3).normal(size=(3, 5)) * 4)
    want = published(run.params, run.x, state)
    for steps in (1, 2, 7, 30):
        forward = seqlab.forward("slstm", run.params, run.x[:steps], state)
        assert forward.output == pytest.approx(want[0][:steps], rel=1e-12, abs=1e-14)
        for have, part in zip(forward.final, want, strict=True):
            assert have == pytest.approx(part[steps - 1], rel=1e-12, abs=1e-14)


@pytest.mark.tiny
@pytest.mark.parametrize("shift", [-40.0, 40.0])
def test_the_stabiliser_is_a_unit_of_account(shift: float) -> None:
    """(h, c e^-k, n e^-k, m + k) is the same state: outputs and all gradients, those of the first
    state's C and N too."""
    run = draw("slstm", hidden=5, steps=12, batch=2)
    h, c, n = run.state
    m = np.random.default_rng(3).normal(size=h.shape)
    found = []
    for k in (0.0, shift):
        state = (h, c * np.exp(-k), n * np.exp(-k), m + k)
        forward = seqlab.forward("slstm", run.params, run.x, state)
        g = seqlab.backward(forward, run.grad)
        found.append({"y": forward.output, **g.params, "x": g.x, **dict(enumerate(g.initial))})
    # The exponents' own rounding, of numbers up to 40.
    assert max(relative_errors(*found).values()) < 1e-13


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "shift"), [(np.float64, 600.0), (np.float32, 80.0)])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_input_gate_of_any_size(dtype: type, shift: float, sign: int) -> None:
    """All input gates e^k times as large: C and N too, h and the parameters' gradients not, and
    dL/dC and dL/dN are e^-k times as large, to the ends of the range."""
    run, k = uncoupled(hidden=4, steps=10, batch=1).cast(dtype), dtype(sign * shift)
    plain = answers(run)
    run.params["bias"][:4] += k
    with np.errstate(over="ignore"):  # of squares: without the JIT NumPy's scalars warn
        moved = answers(run)
    assert all(np.isfinite(value).all() for value in moved.values())
    for name in ("initial_1", "initial_2"):
        moved[name] = moved[name] * np.exp(k)
    errors = relative_errors(moved, plain)
    # a_i is rounded to the last digit of k, and e^k shows that k times.
    assert max(errors.values()) < 8 * shift * float(np.finfo(dtype).eps), errors


@pytest.mark.tiny
@pytest.mark.parametrize("sign", [1, -1])
def test_an_input_gate_beyond_range_is_no_number(sign: int) -> None:
    """The output is right still; a gradient that the dtype cannot hold is no zero in silence."""
    run = draw("slstm", hidden=4, steps=6, batch=1).cast(np.float32)
    run.params["weight_hh"][:] = 0
    run.params["bias"][:4] += np.float32(100 * sign)
    with np.errstate(all="ignore"):  # without the JIT NumPy's scalars warn
        output = seqlab.forward("slstm", run.params, run.x).output
        curve = seqlab.attenuation("slstm", run.params, run.x, [6]).log_norm[0, 0]
    wide = run.cast(np.float64)
    exact = seqlab.forward("slstm", wide.params, wide.x).output
    assert output == pytest.approx(exact, abs=1e-4)
    assert curve[0] == pytest.approx(0, abs=1e-6)
    assert np.isnan(curve[1:]).all()


@pytest.mark.tiny
def test_a_state_that_is_none_is_refused() -> None:
    run = draw("slstm", hidden=3)
    h, c, n, m = run.all_parts
    low = n.copy()
    low[1, 2] = -0.25
    for state, said in (
        ((h, c, low, m), r"^initial\[2\]: -0.25 is not allowed; the normalizer is from 0 up"),
        ((h, c, n), r"^initial: tuple .* tuple of 4 arrays \(hidden, cell, normalizer, stab"),
    ):
        with pytest.raises(InputError, match=said):
            seqlab.forward("slstm", run.params, run.x, state)
    forward = seqlab.forward("slstm", run.params, run.x, run.initial)
    assert len(forward.final) == 4
    g = seqlab.backward(forward, run.grad, grad_final=(h, c, -n))
    assert len(g.initial) == 3
    with pytest.raises(InputError, match=r"^grad_final: tuple .* 3 arrays \(hidden, cell, norm"):
        seqlab.backward(forward, run.grad, grad_final=(h, c, n, m))


@pytest.mark.tiny
def test_the_first_input_gate_says_nothing() -> None:
    """N_1 = i and C_1 = i z: h_1 is o z whatever i is, and so is what any gate before it kept."""
    run = uncoupled(hidden=4, steps=1)
    g = seqlab.backward(seqlab.forward("slstm", run.params, run.x), run.grad)
    by_gate = g.params["bias"].reshape(4, 4)
    assert not by_gate[:2].any()
    assert by_gate[2:].all()


# What a unit keeps.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_each_unit_keeps_the_product_of_its_gates(dtype: type) -> None:
    """At every lag from 1 to 10,000, from gates that leave e^-40 to such as are open to the last
    digit.

    A step's factor has 3 roundings of a sum of 3 products a, which it feels 1 - f times, and some 8
    of its own; the curve's own logarithm is rounded once.
    """
    steps, centres = 10_000, np.array([-40.0, -36.0, -20.0, -3.0, 0.0, 3.0, 20.0, 36.0])
    run = uncoupled(hidden=8, inputs=2, steps=steps, batch=1)
    run.params["bias"][8:16] = centres
    run = run.cast(dtype)
    several = {name: np.stack([value] * 8) for name, value in run.params.items()}
    readout = np.eye(8, dtype=dtype)[:, None]  # one unit of each network
    att = seqlab.attenuation("slstm", several, np.stack([run.x] * 8), [steps], readout=readout)
    logs = kept(run.cast(np.float64))[::-1, 0]
    want = np.cumsum(logs[1:], axis=0).T
    rounding, a = np.finfo(dtype).eps / 2, np.abs(centres)[:, None] + 5
    bound = (3 * a * (1 - np.exp(logs[1:].T.astype(float))) + 8) * rounding
    room = np.cumsum(bound, axis=1) + 2 * np.finfo(float).eps * (np.abs(want) + 1)
    for part in ("cell", "normalizer"):
        curve = att.parts[part][:, 0]
        assert (curve[:, 0] == -np.inf).all()  # the loss sees the output alone
        assert (np.abs(curve[:, 2:] - curve[:, 1:2] - want) <= room).all(), part
    assert (att.parts["hidden"][:, 0, 1:] == -np.inf).all()
    assert want[0, -1] < -350_000
    assert want[-1, -1] > -1e-10


@pytest.mark.tiny
def test_what_the_last_step_hands_on(tmp_path: Path) -> None:
    """At lag 1: r f o/N to C and -r f o C/N^2 to N, of C and N by their sums."""
    run = uncoupled(hidden=3, steps=9, batch=2)
    a = run.x @ run.params["weight_ih"].T + run.params["bias"]
    i, _, z, o = np.split(a, 4, axis=-1)
    logs = kept(run).astype(float)
    since = np.cumsum(logs[::-1], axis=0)[::-1] - logs  # of the gates after each step
    share = np.exp(i + since)
    n, c = share.sum(axis=0), (share * np.tanh(z)).sum(axis=0)
    readout = np.array([0.3, -1.2, 0.5])
    att = curves(seqlab.attenuation("slstm", run.params, run.x, [9], readout=readout))
    into = readout * np.exp(logs[-1]) * sigmoid(o[-1]) / n
    for part, value in (("cell", into), ("normalizer", into * c / n)):
        log = math.log(np.linalg.norm(value))
        assert att[f"log_norm_{part}"][0, 0, 1] == pytest.approx(log, abs=1e-13)


@pytest.mark.tiny
def test_open_and_shut_gates() -> None:
    """At a_f = 1e4 a step keeps all: h is a mean over all steps, and every step has a share of it
    alike. At -1e4 it keeps nothing, and the gradient is known to be lost."""
    run = uncoupled(hidden=3, steps=7, batch=1)
    i, _, z, o = np.split(run.x @ run.params["weight_ih"].T + run.params["bias"], 4, axis=-1)
    run.params["bias"][3:6] = 1e4
    forward = seqlab.forward("slstm", run.params, run.x)
    share = np.exp(i) / np.exp(i).sum(axis=0)
    assert forward.output[-1] == pytest.approx(
        sigmoid(o[-1]) * (share * np.tanh(z)).sum(axis=0), rel=1e-13
    )
    att = seqlab.attenuation("slstm", run.params, run.x, [7])
    assert np.ptp(att.log_norm[0, 0, 1:]) < 1e-14
    run.params["bias"][3:6] = -1e4
    output = seqlab.forward("slstm", run.params, run.x).output
    assert output == pytest.approx(sigmoid(o) * np.tanh(z), rel=1e-13)
    att = seqlab.attenuation("slstm", run.params, run.x, [7])
    assert (att.log_norm[0, 0, 1:] == -np.inf).all()
    assert att.underflow.all()


# Theory.


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-6)])
@pytest.mark.parametrize("steps", [3, 100])
def test_the_rate_is_known_from_the_mean_logs(
    steps: int, dtype: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, over any number of steps: rounded once a step, and once more by what is summed. The
    last step is that of the last segment."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    have = measured(steps=steps, hidden=9, inputs=2, networks=2, dtype=dtype)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=tolerance)


@pytest.mark.tiny
def test_the_rate_of_one_s_own_arrays(tmp_path: Path) -> None:
    """Several sequences, each with gates of its own; with recurrent weights nothing is known, nor
    where all gates are shut beyond the range."""
    mine = draw("slstm", hidden=5, steps=40, batch=3, networks=2)
    assert np.isnan(given(tmp_path, mine.params, mine.x)["theory"])
    mine.params["weight_hh"][:] = 0
    have = given(tmp_path, mine.params, mine.x)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-14)
    mine.params["bias"][:, 5:10] = -1e4
    have = given(tmp_path, mine.params, mine.x)
    assert np.isnan(have["theory"])
    assert have["underflow"].all()


def test_exponents_are_the_mean_logs(tmp_path: Path) -> None:
    """Each unit's once for C and once for N, but for a transient of O(1/T) with the frame's angles
    as its constant. h is handed on to nothing: beyond those there is none."""
    mine = uncoupled(hidden=3, inputs=3, steps=1000, batch=1)
    have = given(tmp_path, mine.params, mine.x, spectrum=9)["lyapunov"][0]
    means = kept(mine).mean(axis=(0, 1)).astype(float)
    assert have[:6] == pytest.approx(np.sort(np.repeat(means, 2))[::-1], abs=5 / 1000)
    assert not np.isfinite(have[6:]).any()
    said = spec_refusal(arch="slstm", steps=9, hidden=3, spectrum=10)
    assert said == "spectrum: 10 is not allowed; 1 to 9, the size of the state"


def test_the_horizon_as_initialised() -> None:
    """Fast units lose what they have in ten steps, a thousandth of the loss's own gradient being
    about what N_T leaves of it in the slow ones; the slowest, of f = sigmoid(5) in the middle, take
    until lag 700 for a millionth.

    Seen: 10, and 695; 10 to 12, and 649 to 741, over four seeds.
    """
    have = measured(steps=1000)["horizon"][0]
    assert have[0] == 1
    assert 9 <= have[1] <= 13
    assert 600 <= have[2] <= 800
    assert measured(steps=20, forget_bias=5.0)["horizon"][0, 1] == -1


# Training.


def test_it_is_trained() -> None:
    """On a dependency of five steps, until it is learned; its recurrent weights begin at zero."""
    given = {"task": "latch", "lengths": [5], "networks": 2, "hidden": 8, "updates": 150}
    solved = seqlab.learn(arch="slstm", clip="none", lr=0.03, **given).variables["solved_at"].data
    assert solved.shape == (2, 1, 1)
    assert ((solved > 5) & (solved < 100)).all()
