"""Activations under normal variables: moments, slopes, and the quadrature, where they are known."""

import math

import numpy as np
import pytest

from seqlab.errors import InputError
from seqlab.numbers.activations import (
    NAMES,
    find_activation,
    kurtosis,
    mean,
    mean_square,
    slope_square,
)
from seqlab.numbers.gaussian import normal_mean, pair_mean

# At unit variance: E phi, E phi^2, E phi'^2, kappa, E phi'.
MOMENTS = {
    "identity": (0, 1, 1, 1, 1),
    "sigmoid": (0.500000, 0.293379, 0.044836, 1.1370, 0.206621),
    "tanh": (0, 0.394294, 0.464403, 1.5835, 0.605706),
    "relu": (0.398942, 0.5, 0.5, 2, 0.5),
    "leaky": (0.394953, 0.500050, 0.500050, 1.9996, 0.505),
    "prelu": (0.299207, 0.531250, 0.531250, 1.7785, 0.625),
    "elu": (0.160521, 0.644945, 0.668102, 1.3317, 0.761578),
    "gelu": (0.282095, 0.425221, 0.455851, 2.0883, 0.5),
    "silu": (0.206621, 0.355776, 0.379482, 1.9900, 0.5),
}


@pytest.mark.tiny
@pytest.mark.parametrize("name", MOMENTS)
def test_moments_at_unit_variance(name: str) -> None:
    phi = find_activation(name)
    have = [f(phi, 1) for f in (mean, mean_square, slope_square, kurtosis)]
    have.append(normal_mean(phi.slope, 1))
    want = MOMENTS[name]
    assert have == pytest.approx(want, abs=5.1e-5)  # kappa has four decimals
    assert have[:3] + have[4:] == pytest.approx(want[:3] + want[4:], abs=5.1e-7)


@pytest.mark.tiny
@pytest.mark.parametrize("name", [*NAMES, "leaky:0.3", "elu:2", "prelu:-0.5"])
def test_slopes_are_derivatives_and_none_is_steeper(name: str) -> None:
    phi = find_activation(name)
    z = np.linspace(-6, 6, 4000)
    eps = 1e-6
    difference = (phi.value(z + eps) - phi.value(z - eps)) / (2 * eps)
    assert phi.slope(z) == pytest.approx(difference, abs=1e-8)
    # Far out, on both sides of a kink, and in steps whose square a maximum is missed by.
    steepest = np.abs(phi.slope(np.concatenate([z, [-50, 50, -1e-9, 1e-9]]))).max()
    assert steepest == pytest.approx(phi.steepest, rel=1e-5)
    assert steepest <= phi.steepest * (1 + 1e-12)
    scaled = np.array_equal(phi.value(4 * z), 4 * phi.value(z))
    assert scaled == phi.homogeneous


@pytest.mark.tiny
def test_slopes_of_saturated_units_are_small_and_not_zero() -> None:
    for name, want in (("tanh", 4 * math.exp(-100)), ("sigmoid", math.exp(-50))):
        slopes = find_activation(name).slope(np.array([-50.0, 50.0]))
        assert slopes == pytest.approx(want, rel=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["elo", "leaky:", "elu:nan", "relu:1", "prelu:inf"])
def test_activations_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"^activation: .* is not allowed; [^\n]*$"):
        find_activation(name)


@pytest.mark.tiny
@pytest.mark.parametrize("q", [1e-12, 1e-3, 0.5, 3, 400, 1e8])
def test_means_over_normal_variables(q: float) -> None:
    """Where they are known: powers, half of them, an exponential, an arcsine."""
    assert normal_mean(np.ones_like, q) == pytest.approx(1, rel=1e-13)
    assert normal_mean(lambda z: z**4, q) == pytest.approx(3 * q**2, rel=1e-12)
    relu = find_activation("relu").value
    assert normal_mean(relu, q) == pytest.approx(math.sqrt(q / (2 * math.pi)), rel=1e-13)
    assert normal_mean(lambda z: np.exp(-np.square(z)), q) == pytest.approx(
        1 / math.sqrt(1 + 2 * q), rel=1e-12
    )
    for c in (-1, -0.3, 0, 0.5, 1):
        assert pair_mean(lambda x, y: x * y, q, c) == pytest.approx(c * q, abs=1e-12 * q)
        both = pair_mean(lambda x, y: relu(x) * relu(y), q, c)
        angle = math.acos(c)
        want = q * (math.sin(angle) + c * (math.pi - angle)) / (2 * math.pi)
        assert both == pytest.approx(want, abs=1e-12 * q)
