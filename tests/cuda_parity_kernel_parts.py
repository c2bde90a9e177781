"""Parts of the CUDA kernels by themselves: a row's step, losses, sums, and where weights lie; see
cuda_parity.py."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from drawn import MIXED, Run, answers, draw, same_bits

from seqlab.cells import CELLS, Sizes
from seqlab.kernels.cuda import call, chain, linalg, product, target, team
from seqlab.kernels.layout import EMPTY, Clip

Array = npt.NDArray[Any]


lane = team.warp().rank
STATE = np.random.default_rng(5).normal(size=(4, 9))  # more units than lanes


def finished(named: int, clip: Clip) -> tuple[Array, Array, int]:
    """A row of four parts after a step: its state, its squares, and whether the rule acted."""
    finish_step = chain.chain(chain.Row(team.warp(), named, np.float64), None).finish_step

    @target.kernel
    def finish(state, rule, path, acted):
        at = chain.TaskRow(0, 0, 0, -1)
        _, acted[lane()] = finish_step(state, 0, 1, rule, 0, at, path, None)

    state, acted = target.to_device(STATE), target.to_device(np.zeros(target.LANES, np.int64))
    path = call.Path(target.empty((1, 2, named), float), target.empty((1, 2), np.int64), 1)
    target.launch(finish, 1, target.LANES, state, chain.rule(clip, np.float64), path, acted)
    return target.to_host(state), target.to_host(path.squares)[0, 1], target.to_host(acted).max()


@pytest.mark.parametrize("named", [1, 2, 3, 4])
def test_the_last_named_part_takes_all_that_follow(named: int) -> None:
    state, squares, acted = finished(named, Clip(0, 0.5, 1, 1))
    parts = (STATE**2).sum(axis=1)
    want = [*parts[: named - 1], parts[named - 1 :].sum()]
    assert np.allclose(squares, want, rtol=1e-14)
    assert np.array_equal(state, STATE)
    assert acted == 0


def test_a_rule_that_no_kernel_knows_is_seen() -> None:
    """As NaN, never as another rule."""
    state, squares, acted = finished(2, Clip(99, 0.5, 0, 1))
    assert np.isnan(state).all()
    assert np.isnan(squares).all()
    assert acted == 0


@pytest.mark.parametrize("exponent", [EMPTY, -3, 0, 5])
def test_a_loss_may_reach_the_state_by_a_matrix(exponent: int) -> None:
    """Of 6 outputs, at an exponent of its own, to four parts of nine units."""
    rng = np.random.default_rng(6)
    gradient, readout = rng.normal(size=6), rng.normal(size=(4, 9, 6))

    @target.device
    def loss_share(p, j, gradient, exponent, given, step, at):
        share = 0.0
        for k in range(gradient.shape[0]):
            share += target.ldexp(gradient[k], -exponent) * given[p, j, k]
        return share

    row = chain.Row(team.warp(), 1, np.float64)
    inject_losses = chain.chain(row, loss_share).inject_losses

    @target.kernel
    def inject(state, before, loss, given, path, after):
        at = chain.TaskRow(0, 0, 0, -1)
        exponent = inject_losses(state, before, loss, given, 0, at, path, None)
        after[lane()] = exponent

    old = STATE * (exponent != EMPTY)
    state, after = target.to_device(old), target.to_device(np.zeros(target.LANES, np.int64))
    path = call.Path(target.empty((1, 2, 1), float), target.empty((1, 2), np.int64), 1)
    own = target.to_device(np.full((1, 1), 4, np.int64))
    loss = call.Loss(target.to_device(gradient.reshape(1, 1, 6)), own, 0)
    arrays = (state, exponent, loss, target.to_device(readout), path, after)
    target.launch(inject, 1, target.LANES, *arrays)
    have = np.ldexp(target.to_host(state), target.to_host(after)[0])
    want = np.ldexp(old, max(exponent, -5000)) + 16 * readout @ gradient
    assert np.allclose(have, want, rtol=1e-13)
    assert target.to_host(path.exponent)[0, 0] == target.to_host(after)[0]


def test_long_sums_lose_nothing() -> None:
    """Ones after 2^24: in float32 each alone is rounded away."""
    terms = np.ones((1, 400, 5), np.float32)
    terms[:, 0] = 2.0**24
    ones = target.to_device(np.ones((1, 400), np.float32))
    held = target.to_device(np.ones((1, 400, 1), np.float32))
    summed = linalg.accumulate(target.to_device(terms), slice(0, 5), ones, held, 0)
    folded = linalg.fold(target.to_device(terms[0]))
    # What is summed by itself before is the first piece, where 31 ones meet 2^24.
    lost = linalg.PIECE - 1
    assert (target.to_host(summed)[0, :, 0] >= 2.0**24 + 399 - lost).all()
    assert (target.to_host(folded) == 2.0**24 + 399).all()


def test_the_decays_sum_loses_nothing() -> None:
    """The gradient of A_log, carried from step to step: one large share, then many that float32
    would round away beside it."""
    steps = 60
    params = {
        "in_proj_weight": np.ones((1, 1)),
        "x_proj_weight": np.array([[0.0], [1.0], [1.0]]),
        "dt_proj_weight": np.zeros((1, 1)),
        "dt_proj_bias": np.zeros(1),
        "A_log": np.full((1, 1), -30.0),
        "D": np.zeros(1),
    }
    x, grad = np.full((steps, 1, 1), 2.0**-18), np.zeros((steps, 1, 1))
    x[-2], grad[-1] = 1, 1
    run = Run("ssm", params, x, (np.full((1, 1, 1), 2.0**-26),), grad).cast(np.float32)
    have = answers(run, backend="cuda")["A_log"]
    want = answers(run.cast(np.float64), backend="cpu")["A_log"]
    assert np.abs(have / want - 1).max() <= 1.2e-7


@pytest.mark.parametrize("arch", MIXED)
def test_weights_near_and_far(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In registers, in shared memory and streamed: the same bits."""
    run = draw(arch, hidden=5, steps=3, batch=2)
    results = []
    for tier in (product.REGISTERS, product.SHARED, product.STREAMED):
        with monkeypatch.context() as patch:
            patch.setattr(product, "nearest", lambda *given, tier=tier: tier)
            results.append(answers(run, clip="step-norm:0.3", backend="cuda"))
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])


@pytest.mark.parametrize("arch", MIXED)
def test_the_nearest_tier_that_fits(arch: str) -> None:
    """Of a block's weights: a column in a thread's registers, all in shared memory, none."""
    blocks = CELLS[arch].shapes(Sizes(1, 1))["weight_hh"][0]

    def tier(units: int, threads: int, taken: int = 0) -> int:
        return product.nearest(np.zeros((1, units, blocks * units)), taken, threads)

    assert tier(8, 32) == product.REGISTERS
    assert tier(32, blocks * 32) == product.REGISTERS
    assert tier(33, blocks * 33) == product.SHARED
    assert tier(8, 7) == product.SHARED
    assert tier(33, blocks * 33, target.SHARED_BYTES - 8 * blocks * 33**2 + 1) == product.STREAMED
    assert tier(256, 256) == product.STREAMED
