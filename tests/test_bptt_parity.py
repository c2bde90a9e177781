"""forward() and backward(): against PyTorch, the naive reference, differences and themselves."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import clips
import naive
import numpy as np
import numpy.typing as npt
import pytest
from drawn import (
    ARCHS,
    GATED,
    KINDS,
    Run,
    answers,
    draw,
    parts,
    public,
    relative_errors,
    same_bits,
    truth,
)
from reference import cases

import seqlab
from seqlab import rules
from seqlab.cells import CELLS, Sizes
from seqlab.engine import ensemble, tape
from seqlab.engine.backward import Sweep
from seqlab.errors import InputError
from seqlab.kernels import backends, memory

Array = npt.NDArray[Any]

PARITY = 1e-9  # what is promised against PyTorch and the naive loops; seen: 7e-13 and 6e-14
DIFFERENCE = 1e-6  # of central differences; seen: 3e-10

RULES = (*clips.biting(), "truncate:1")

LONG_DOUBLE = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp <= 1024, reason="needs a long double with a longer exponent"
)


# Against PyTorch and the naive reference.


@pytest.mark.parametrize("case", list(cases.cases()), ids=lambda case: case.name)
def test_parity_with_pytorch(case: cases.Case) -> None:
    """Output and every gradient, at every size of the reference files."""
    drawn = cases.draw(case)
    run = Run(case.arch, *drawn)
    errors = cases.relative_errors(case, answers(run, case.activation))
    assert max(errors.values()) < PARITY, errors


def sizes_of(arch: str) -> Iterator[dict[str, int]]:
    """Around every block of the kernels: 4 rows, 8 depths, 16 steps of a chunk or projection."""
    states = (1, 4, 16, 17) if "state" in CELLS[arch].options else (1,)
    for hidden in (1, 7, 16, 17, 33):
        for state in states:
            for batch, steps, inputs in ((1, 1, 1), (3, 2, 5), (2, 16, 1), (1, 33, 3)):
                yield {
                    "hidden": hidden,
                    "state": state,
                    "batch": batch,
                    "steps": steps,
                    "inputs": inputs,
                }


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_any_size_with_a_random_first_state(arch: str, activation: str) -> None:
    for sizes in sizes_of(arch):
        run = draw(arch, **sizes)
        errors = relative_errors(answers(run, activation), truth(run, activation))
        assert max(errors.values()) < PARITY, (sizes, errors)


@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("batch", [4, 5, 9])
def test_sequences_that_share_the_weights(arch: str, activation: str, batch: int) -> None:
    """From four sequences on they go in groups, the last one short."""
    run = draw(arch, hidden=13, inputs=3, state=5, steps=20, batch=batch)
    errors = relative_errors(answers(run, activation), truth(run, activation))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
@pytest.mark.parametrize(("arch", "activation"), KINDS)
@pytest.mark.parametrize("batch", [1, 5])
def test_small_runs_against_the_naive_loops(arch: str, activation: str, batch: int) -> None:
    run = draw(arch, hidden=9, inputs=2, state=3, steps=3, batch=batch)
    errors = relative_errors(answers(run, activation), truth(run, activation))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_state_left_out_is_zero(arch: str) -> None:
    run = draw(arch)
    free = seqlab.forward(arch, run.params, run.x)
    given = seqlab.forward(arch, run.params, run.x, run.each(np.zeros_like).initial)
    assert np.array_equal(free.output, given.output)
    assert same_bits(
        cases.named(free.output, *gradient_parts(seqlab.backward(free, run.grad))),
        cases.named(given.output, *gradient_parts(seqlab.backward(given, run.grad))),
    )


def gradient_parts(g: Any) -> tuple[dict[str, Array], Array, Any]:
    return g.params, g.x, parts(g.initial)


# Against differences of the compiled kernels themselves.


def perturbed(value: Array, step: float) -> Array:
    """Copies of an array (2n, ...), entry k up by `step` in copy k and down in copy n + k."""
    bumps = step * np.eye(value.size).reshape(-1, *value.shape)
    return np.concatenate([value + bumps, value - bumps])


def differences(run: Run, activation: str, step: float) -> dict[str, Array]:
    """Central differences of sum(output * grad), all entries of one array as one ensemble."""
    given = {**run.params, "x": run.x}
    given |= {f"initial_{k}": start for k, start in enumerate(run.state)}
    result = {}
    for name, value in given.items():
        bumped = {
            key: perturbed(value, step) if key == name else np.stack([array] * 2 * value.size)
            for key, array in given.items()
        }
        params = {key: bumped[key] for key in run.params}
        initial = public(tuple(bumped[f"initial_{k}"] for k in range(len(run.state))))
        output = seqlab.forward(run.arch, params, bumped["x"], initial, activation).output
        loss = (output * run.grad).sum(axis=(1, 2, 3))
        slopes = (loss[: value.size] - loss[value.size :]) / (2 * step)
        result[name] = slopes.reshape(value.shape)
    return result


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_gradients_are_central_differences(arch: str, activation: str) -> None:
    """Every entry of every parameter, of x and of the first state."""
    run, step = draw(arch, hidden=4, inputs=2, state=3, steps=5, batch=2), 1e-5
    if activation == "relu":
        saved = naive.forward(arch, run.params, run.x, run.state, activation)
        before = np.concatenate([run.initial[None], saved["output"][:-1]])
        a = run.x @ run.params["weight_ih"].T + before @ run.params["weight_hh"].T
        a += run.params["bias_ih"] + run.params["bias_hh"]
        assert np.abs(a).min() > 500 * step  # away from kinks
    have = answers(run, activation)
    del have["output"]
    errors = relative_errors(have, differences(run, activation, step))
    assert max(errors.values()) < DIFFERENCE, errors


# Ensembles, dtypes, arrays as they come.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("batch", [1, 4])
def test_an_ensemble_is_its_networks(arch: str, batch: int) -> None:
    """Bit for bit, whatever the number of networks."""
    run = draw(arch, hidden=5, steps=4, batch=batch, networks=3)
    together = answers(run, clip="step-norm:0.3")
    for m in range(3):
        alone = answers(run.network(m), clip="step-norm:0.3")
        assert same_bits({name: value[m] for name, value in together.items()}, alone)


def test_an_ensemble_is_its_networks_over_many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much time a kernel call takes in must not depend on the number of networks."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 40_000)
    for arch in ARCHS:
        run = draw(arch, hidden=16, state=4, steps=300, batch=1, networks=5)
        together = answers(run)
        alone = answers(run.network(2))
        assert same_bits({name: value[2] for name, value in together.items()}, alone), arch


@pytest.mark.parametrize(("arch", "activation"), KINDS)
def test_float32_is_float64_rounded(arch: str, activation: str) -> None:
    """Answers are float32, and off by 32 of its rounding errors, 2^-24 each (seen: 7)."""
    run = draw(arch, hidden=17, inputs=5, state=4, steps=40, batch=2).cast(np.float32)
    short, long = answers(run, activation), answers(run.cast(np.float64), activation)
    assert {value.dtype for value in short.values()} == {np.dtype(np.float32)}
    errors = relative_errors({n: v.astype(np.float64) for n, v in short.items()}, long)
    assert max(errors.values()) < 32 * 2.0**-24, errors


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_arrays_of_any_stride_and_nothing_is_overwritten(arch: str) -> None:
    run = draw(arch, networks=2)
    tripled = [np.repeat(a, 3, axis=-1)[..., ::3] for a in (*run.params.values(), run.x, run.grad)]
    strided = run._replace(
        params=dict(zip(run.params, tripled, strict=False)), x=tripled[-2], grad=tripled[-1]
    )
    before = [a.copy() for a in tripled]
    want = answers(run)
    assert same_bits(answers(strided), want)
    assert all(np.array_equal(a, b) for a, b in zip(tripled, before, strict=True))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_trajectory_can_be_gone_back_over_again(arch: str) -> None:
    run = draw(arch)
    trajectory = seqlab.forward(arch, run.params, run.x, run.initial)
    first = seqlab.backward(trajectory, run.grad)
    seqlab.backward(trajectory, 3 * run.grad, clip="step-value:0.1")
    again = seqlab.backward(trajectory, run.grad)
    assert same_bits(
        cases.named(trajectory.output, *gradient_parts(first)),
        cases.named(trajectory.output, *gradient_parts(again)),
    )
    assert trajectory.backend == "cpu"


# Clip rules.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", RULES)
def test_rules_against_the_naive_loops(arch: str, clip: str) -> None:
    run = draw(arch, hidden=4, state=3, steps=7, batch=3)
    want = truth(run, clip=clip)
    assert not same_bits(want, truth(run))  # the rule acts
    errors = relative_errors(answers(run, clip=clip), want)
    assert max(errors.values()) < PARITY, errors


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", RULES)
def test_rules_over_a_long_chain(arch: str, clip: str) -> None:
    """Groups of sequences, and chains that go far below the threshold or would go far above."""
    for gain in (0.5, 3.0):
        run = draw(arch, hidden=6, state=4, steps=60, batch=5)
        if arch in GATED:
            run.params["weight_hh"] *= gain
        errors = relative_errors(answers(run, clip=clip), truth(run, clip=clip))
        assert max(errors.values()) < PARITY, (gain, errors)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_rules_that_do_not_fire_change_nothing(arch: str) -> None:
    run = draw(arch)
    free = answers(run)
    for clip in clips.alike(1e9, 6):
        assert same_bits(answers(run, clip=clip), free), clip


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_parameter_rules_clip_each_network_alone(arch: str) -> None:
    """All gradients of a network to norm c together, or each entry to [-c, c]; nothing else."""
    run = draw(arch, networks=3)
    run.grad[1] *= 1e-6  # this network stays under the threshold
    free = answers(run)
    for clip in ("norm:0.01", "value:0.01"):
        clipped = answers(run, clip=clip)
        for name in ("output", "x", "initial_0"):
            assert np.array_equal(clipped[name], free[name])
        for m in range(3):
            have = np.concatenate([clipped[name][m].ravel() for name in run.params])
            want = np.concatenate([free[name][m].ravel() for name in run.params])
            if m == 1:
                assert np.array_equal(have, want)
            elif clip == "norm:0.01":
                assert np.linalg.norm(have) == pytest.approx(0.01, rel=1e-14)
                assert have == pytest.approx(want * (0.01 / np.linalg.norm(want)), rel=1e-13)
            else:
                assert np.array_equal(have, np.clip(want, -0.01, 0.01))


# Segments of time.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "step-norm:0.3"])
def test_segments_and_recomputation(arch: str, clip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut into segments of 16 steps, the last one short: the chain has the same bits, sums over
    time are added in another order. Computed again instead of kept: the same bits throughout."""
    run = draw(arch, hidden=3, steps=37, batch=1)
    whole = answers(run, clip=clip)
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    cut = answers(run, clip=clip)
    for name in ("output", "x", "initial_0"):
        assert np.array_equal(cut[name], whole[name]), name
    assert max(relative_errors(cut, whole).values()) < 1e-14
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    for threads in ("1", "8"):  # with eight, others compute segments ahead
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        assert same_bits(answers(run, clip=clip), cut)


@pytest.mark.tiny
def test_each_step_is_told_once_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks add up to the steps, whatever the segments and the losses that cut them."""
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    run, ticks = draw("rnn", steps=37), []
    whole = ensemble.gather("rnn", run.params, run.x).tape("cpu")
    whole.run(lambda saved: None, ticks.append)
    assert ticks == [16, 16, 5]
    ticks.clear()
    sweep = Sweep(whole, [35, 20], rules.UNCLIPPED, record=False, gradients=False)
    sweep.run(lambda first, last: np.zeros((1, 0, 2, 2, 3)), ticks.append)
    assert ticks == [3, 12, 4, 16]


def test_recomputation_uses_the_memory_of_one_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each full one lies where the last one lay."""
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")  # none to compute the next one meanwhile
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)
    run = draw("lstm", steps=70)
    ensemble_of_one = ensemble.gather("lstm", run.params, run.x, run.initial)
    monkeypatch.setattr(tape, "TRAJECTORY_BYTES", 0)
    kept = ensemble_of_one.tape("cpu")
    places = []
    kept.run(lambda saved: places.append(saved.hidden.ctypes.data))
    assert not kept.keeps_all
    places += [kept.segment(index).hidden.ctypes.data for index in range(4)]
    assert len(set(places[:4] + places[5:])) == 1
    assert kept.segment(4).hidden.shape[1] == 70 - 64 + 1


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_trajectory_takes_the_room_that_is_counted(arch: str) -> None:
    """What a step saves, in numbers; the first state of a segment comes on top."""
    sizes, kernels = Sizes(16, 3, 5), backends.kernels("cpu", arch)
    saved = kernels.save((2, 32, 3), sizes, np.dtype(np.float64))
    width, numbers = kernels.saved_width(sizes), sum(array.size for array in saved)
    assert width <= numbers / (2 * 32 * 3) <= width + sizes.hidden / 32


# What the chain does where plain numbers end.


def scaled_identity(gain: float, hidden: int = 2) -> dict[str, Array]:
    return {
        "weight_ih": np.eye(hidden),
        "weight_hh": gain * np.eye(hidden),
        "bias_ih": np.zeros(hidden),
        "bias_hh": np.zeros(hidden),
    }


@pytest.mark.tiny
def test_gradients_beyond_the_range_are_zero_or_infinite() -> None:
    """0.5^n is right down to the last subnormal; 2^n becomes infinite, never NaN."""
    steps = 90
    grad = np.zeros((steps, 1, 2))
    grad[-1] = [[2.0**-1000, -(2.0**-1000)]]
    run = Run("rnn", scaled_identity(0.5), np.zeros((steps, 1, 2)), (np.zeros((1, 2)),), grad)
    g = answers(run, "identity")
    powers = np.ldexp(1.0, -1000 - np.arange(steps)[::-1])
    assert np.array_equal(g["x"][:, 0], np.stack([powers, -powers], axis=1))
    assert powers[0] == 0.0
    assert powers[15] == 2.0**-1074
    grad[-1] = [[2.0**1000, -(2.0**1000)]]
    with np.errstate(over="ignore"):  # without the JIT NumPy's scalars warn
        g = answers(run._replace(params=scaled_identity(2.0), grad=grad), "identity")
    assert np.array_equal(g["initial_0"], [[np.inf, -np.inf]])
    assert np.array_equal(g["bias_hh"], [np.inf, -np.inf])
    assert np.array_equal(g["x"][-24:, 0, 0], np.ldexp(1.0, 1000 + np.arange(24)[::-1]))
    assert np.array_equal(g["x"][-25, 0], [np.inf, -np.inf])


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("sizes", [(0, 0, -200, 150, 0, -100, 300), (0, 200, -300, 0, 90, 0, -250)])
def test_losses_of_very_different_sizes(arch: str, sizes: tuple[int, ...]) -> None:
    """What a step gives keeps its digits whether the chain behind it is far larger or smaller."""
    run = draw(arch, steps=len(sizes), batch=2)
    run = run._replace(grad=run.grad * np.ldexp(1.0, sizes)[:, None, None])
    have, want = answers(run), truth(run)
    for t in range(len(sizes)):
        error = np.abs(have["x"][t] - want["x"][t]).max()
        assert error <= PARITY * np.abs(want["x"][t]).max(), t
    assert max(relative_errors(have, want).values()) < PARITY
    # Each loss alone: its share of every sum over time, none of which another hides.
    for t in range(len(sizes)):
        alone = run._replace(grad=np.where(np.arange(len(sizes))[:, None, None] == t, run.grad, 0))
        assert max(relative_errors(answers(alone), truth(alone)).values()) < PARITY, t


def extended_truth(run: Run, activation: str = "tanh") -> dict[str, Array]:
    """The naive reference with an exponent that has room, rounded to float64 at the end."""
    with np.errstate(over="ignore", under="ignore"):
        want = truth(run.cast(np.longdouble), activation)
        return {name: value.astype(np.float64) for name, value in want.items()}


@LONG_DOUBLE
@pytest.mark.parametrize("gain", [0.25, 1.0, 4.0])
def test_losses_all_along_a_chain_that_leaves_the_range(gain: float) -> None:
    """A loss at each step, sizes from 2^-900 to 2^900 against the chain: extended range tells."""
    steps, rng = 1200, np.random.default_rng(3)
    run = draw("rnn", hidden=3, inputs=2, steps=steps, batch=1)
    q = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    run.params["weight_hh"] = gain * q
    run = run._replace(x=np.zeros_like(run.x), state=(np.zeros((1, 3)),))
    run.params["bias_ih"][:] = 0
    run.params["bias_hh"][:] = 0
    sizes = np.ldexp(1.0, np.linspace(-900, 900, steps).astype(int))
    for order in (sizes, sizes[::-1]):
        loud = run._replace(grad=run.grad * order[:, None, None])
        have = answers(loud, "identity")
        plain = extended_truth(loud, "identity")
        for name in ("x", "initial_0", "bias_hh"):
            finite = np.isfinite(plain[name])
            assert np.array_equal(np.isfinite(have[name]), finite), name
            value, exact = np.where(finite, [have[name], plain[name]], 0)
            step = (len(exact), -1)  # of time, for x
            error = np.abs(value - exact).reshape(step).max(axis=1)
            assert (error <= 1e-11 * np.abs(exact).reshape(step).max(axis=1)).all(), name


@LONG_DOUBLE
@pytest.mark.parametrize("arch", ARCHS)
def test_one_loss_at_the_end_of_a_chain_that_dies(arch: str) -> None:
    """Far below the smallest number there are still losses, all zero: they must stay zeros."""
    run = draw(arch, steps=1500, batch=2)
    run.grad[:-1] = 0
    if arch in GATED:
        run.params["weight_hh"] *= 0.2
    else:
        run.params["dt_proj_bias"] += 4
    errors = relative_errors(answers(run), extended_truth(run))
    assert max(errors.values()) < PARITY, errors


@pytest.mark.tiny
def test_a_scan_without_input_at_some_steps() -> None:
    """x = 0 makes C = 0: the state does not see the loss there, but the input does, through D."""
    run = draw("ssm", steps=5, batch=3)
    run.x[-1] = run.x[1] = 0
    want = truth(run)
    assert np.abs(want["x"][-1]).min() > 0
    errors = relative_errors(answers(run), want)
    assert max(errors.values()) < PARITY, errors


# Linearity, and rules on what they are applied to.


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", ["none", "truncate:2"])
def test_gradients_are_linear_in_the_loss(arch: str, clip: str) -> None:
    run = draw(arch)
    other = run._replace(grad=np.random.default_rng(9).normal(size=run.grad.shape))
    both = run._replace(grad=2 * run.grad - 0.75 * other.grad)
    one, two = answers(run, clip=clip), answers(other, clip=clip)
    want = {name: 2 * one[name] - 0.75 * two[name] for name in one}
    have = answers(both, clip=clip)
    want["output"] = have["output"]
    assert max(relative_errors(have, want).values()) < 1e-13


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("clip", [c for c in RULES if not rules.parse(c).whole_steps])
def test_a_rule_never_raises_what_it_is_applied_to(arch: str, clip: str) -> None:
    """After one step the state's adjoint, or all parameter gradients together."""
    run = draw(arch, steps=1, batch=4)
    free, clipped = answers(run), answers(run, clip=clip)
    starts = [name for name in free if name.startswith("initial")]
    in_chain = rules.parse(clip).in_chain
    names = starts if in_chain else list(run.params)
    axes = 4 if in_chain else 1  # sequence by sequence, or all together

    def norms(of: dict[str, Array]) -> Array:
        rows = np.concatenate([of[name].reshape(axes, -1) for name in names], axis=1)
        return np.linalg.norm(rows, axis=1)

    assert (norms(clipped) <= norms(free) * (1 + 1e-15)).all()
    assert (norms(clipped) < norms(free)).any()


# Bad input.


def with_nan(value: Array) -> Array:
    bad = value.copy()
    bad.flat[-1] = np.nan
    return bad


def with_infinity(value: Array) -> Array:
    bad = value.copy()
    bad.flat[0] = -np.inf
    return bad


def narrowed(value: Array) -> Array:
    return value.astype(np.float32)


def lengthened(value: Array) -> Array:
    return np.concatenate([value, value])


def emptied(value: Array) -> Array:
    return value[:0]


def with_an_axis(value: Array) -> Array:
    return value[None]


SPOILERS = (with_nan, with_infinity, narrowed, lengthened, emptied, with_an_axis)


def refuses(names: tuple[str, ...], call: Callable[[], Any]) -> None:
    """In one line that begins with the argument's name and says what is allowed."""
    with pytest.raises(InputError) as refused:
        call()
    message = str(refused.value)
    assert message.startswith(tuple(f"{name}: " for name in names)), message
    assert "\n" not in message
    assert re.search("allowed|needed|leave it out|whole number|available", message), message


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("networks", [0, 2])
@pytest.mark.parametrize("spoil", SPOILERS)
def test_bad_arrays_are_refused(arch: str, networks: int, spoil: Callable[[Array], Array]) -> None:
    """Wrong values, dtype or shape of any parameter, the first state or grad_output."""
    run = draw(arch, networks=networks)

    def forward(**changed: Any) -> Any:
        return seqlab.forward(
            arch, **{"params": run.params, "x": run.x, "initial": run.initial} | changed
        )

    # A wrong size in the parameter that sizes are read from shows at the first that disagrees.
    sources = ("weight_hh", "in_proj_weight", "A_log")
    for name, value in run.params.items():
        names = (name, *run.params) if name in sources else (name,)
        refuses(names, partial(forward, params=run.params | {name: spoil(value)}))
    for k, part in enumerate(run.state):
        spoilt = (*run.state[:k], spoil(part), *run.state[k + 1 :])
        name = f"initial[{k}]" if len(spoilt) > 1 else "initial"
        refuses((name,), partial(forward, initial=public(spoilt)))
    refuses(("grad_output",), partial(seqlab.backward, forward(), spoil(run.grad)))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_bad_x_is_refused(arch: str) -> None:
    run = draw(arch)
    x = run.x
    bad = (with_nan(x), with_infinity(x), emptied(x), x[:, :0], x[..., :0], x[0], x[None, None])
    others = (x.astype(int), x.astype(complex), x.astype(">f8"), x.astype(np.float16), 1.0, "x")
    for value in (*bad, *others):
        refuses(("x",), partial(seqlab.forward, arch, run.params, value))
    # An M axis on one side only, too many features, or another dtype: the parameters do not fit x.
    for value in (x[None], np.concatenate([x, x], axis=-1), x.astype(np.float32)):
        refuses(tuple(run.params), partial(seqlab.forward, arch, run.params, value))


@pytest.mark.tiny
def test_bad_names_are_refused() -> None:
    run = draw("lstm")

    def forward(arch: Any = "lstm", params: Any = run.params, **options: Any) -> Any:
        return seqlab.forward(arch, params, run.x, **options)

    for arch in ("LSTM", "", "transformer", None):
        refuses(("arch",), partial(forward, arch))
    for activation in ("softsign", "", None, "relu"):  # relu means nothing for the lstm
        refuses(("activation",), partial(forward, activation=activation))
    for backend in ("tpu", "", None, "cuda"):
        refuses(("backend",), partial(forward, backend=backend))
    without = {name: value for name, value in run.params.items() if name != "bias_hh"}
    for params in ({}, without, run.params | {"weight_ho": run.x}):
        refuses(("params",), partial(forward, params=params))
    h, c = run.initial
    for initial in (h, (h,), (h, c, c), np.stack([h, c]), "zero"):
        refuses(("initial",), partial(forward, initial=initial))
    for clip in ("norm", "norm:", "norm:0", "step-norm:-1", "step-value:nan", "value:inf", "none:1",
                 "truncate:1.5", "truncate:0", "agc:1", "", None):  # fmt: skip
        refuses(("clip",), partial(seqlab.backward, forward(), run.grad, clip=clip))
