"""backward() under clip rules: against the naive reference, and on what each is applied to."""

import clips
import numpy as np
import pytest
from drawn import ARCHS, GATED, PARITY, answers, draw, relative_errors, same_bits, truth

RULES = (*clips.biting(), "truncate:1")


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
