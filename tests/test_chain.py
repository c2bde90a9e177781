"""What every cell's step back shares, function by function."""

import numpy as np
import pytest

from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu import chain
from seqlab.kernels.layout import Clip


@compiled
def clip(state, rule, lag, squares):
    """One row's rule, at exponent 0."""
    return chain._clip(state, 0, rule, lag, squares)


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_rule_that_the_kernel_does_not_know_is_seen(dtype: type) -> None:
    """The host refuses it; were it let through, numbers without it would bear its name."""
    known = {
        chain.STEP_NORM: [0.6, 0.8],
        chain.STEP_VALUE: [1.0, 1.0],
        chain.TRUNCATE: [0.0, 0.0],
        max(chain.STEP_NORM, chain.STEP_VALUE, chain.TRUNCATE) + 1: [np.nan, np.nan],
    }
    for code, want in known.items():
        state, squares = np.array([3, 4], dtype), np.zeros(1)
        exponent, fired = clip(state, Clip(code, 0.5, 1, 1), 2, squares)
        have = state * 2.0 ** max(exponent, -1000)
        assert fired
        np.testing.assert_allclose(have, want, rtol=1e-6)
        np.testing.assert_allclose(squares[0], np.square(state).sum(), rtol=1e-6)
