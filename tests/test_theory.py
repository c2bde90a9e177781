"""Closed forms and mean field, against quadrature, simulation and published values."""

import math

import closed
import numpy as np
import pytest
from scipy.integrate import quad

from seqlab.numbers import theory

pytestmark = pytest.mark.tiny

PHI = {
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (4 * np.cosh(x / 2) ** 2)),
    "relu": (lambda x: max(x, 0.0), lambda x: float(x > 0)),
    "identity": (lambda x: x, lambda x: 1.0),
}


def normal_mean(f, q):
    """E[f(sqrt(q) z)] by adaptive quadrature, split where f bends."""

    def weighed(z):
        return f(math.sqrt(q) * z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    return quad(weighed, -12, 12, points=[0], epsabs=1e-13, limit=500)[0]


@pytest.mark.parametrize(
    ("sw", "s02", "rate"), [(0.9, 0.1, -0.2637), (1.5, 1.0, -0.1418), (3**-0.5, 0.0, -0.5493)]
)
def test_mean_field_reference_rates(sw, s02, rate):
    assert theory.mean_field("tanh", sw**2, s02).rate == pytest.approx(rate, abs=5e-5)


def test_mean_field_without_input_is_exact_in_the_ordered_phase():
    field = theory.mean_field("tanh", 1 / 3, 0.0)
    assert (field.q, field.chi, field.rate) == (0.0, 1 / 3, math.log(1 / 3) / 2)
    assert theory.mean_field("tanh", 1.0, 0.0).rate == 0.0


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize(
    ("sw2", "s02"),
    [(0.81, 0.1), (0.9, 2.0), (0.5, 1e-4), (2.25, 1.0), (1.5, 0.0), (9.0, 0.3), (100.0, 1.0)],
)
def test_mean_field_solves_its_equations(activation, sw2, s02):
    field = theory.mean_field(activation, sw2, s02)
    if field is None:
        assert activation == "identity" or (activation == "relu" and sw2 >= 2)
        return
    phi, slope = PHI[activation]
    q = sw2 * normal_mean(lambda x: phi(x) ** 2, field.q) + s02
    chi = sw2 * normal_mean(lambda x: slope(x) ** 2, max(field.q, 1e-20))
    assert (field.q, field.chi) == pytest.approx((q, chi), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("excess", [1e-1, 1e-3, 1e-6, 1e-9])
def test_mean_field_just_past_the_edge_of_chaos(excess):
    """Without input q* = excess/2 and chi = 1 + O(excess^2) to first order: not the root at 0."""
    field = theory.mean_field("tanh", 1 + excess, 0.0)
    assert field.q == pytest.approx(excess / 2, rel=3 * excess + 1e-5)
    assert field.chi == pytest.approx(1.0, abs=2 * excess**2 + 1e-14)


@pytest.mark.parametrize(
    ("activation", "limit"), [("tanh", math.inf), ("relu", 2), ("identity", 1)]
)
def test_mean_field_exists_while_the_variance_stays_bounded(activation, limit):
    for sw2 in (0.0, 0.5, 1.5, 2.5, 1e6):
        field = theory.mean_field(activation, sw2, 0.5)
        assert (field is not None) == (sw2 < limit)
    assert theory.mean_field(activation, 0.0, 0.5) == theory.MeanField(0.5, 0.0)
    assert theory.mean_field(activation, 0.0, 0.5).rate == -math.inf


def test_mean_field_of_silence():
    assert theory.mean_field("sigmoid", 0.0, 0.0) == theory.MeanField(0.0, 0.0)


@pytest.mark.parametrize(
    ("activation", "sw2", "s02"), [("tanh", 2.25, 1.0), ("sigmoid", 4.0, 0.5), ("relu", 1.2, 0.5)]
)
def test_mean_field_describes_a_wide_network(activation, sw2, s02):
    rng = np.random.default_rng(0)
    width, steps = 500, 200
    phi, slope = (np.vectorize(f, otypes=[float]) for f in PHI[activation])
    weight = rng.normal(scale=math.sqrt(sw2 / width), size=(width, width))
    state, slopes = np.zeros(width), []
    for _ in range(steps):
        before = weight @ state + rng.normal(scale=math.sqrt(s02), size=width)
        state = phi(before)
        slopes.append(slope(before))
    adjoint, log_norm = rng.normal(size=width), 0.0
    for gain in slopes[::-1]:
        carried = weight.T @ (gain * adjoint)
        log_norm += math.log(np.linalg.norm(carried) / np.linalg.norm(adjoint))
        adjoint = carried / np.linalg.norm(carried)
    field = theory.mean_field(activation, sw2, s02)
    assert before.var() + before.mean() ** 2 == pytest.approx(field.q, rel=0.15)
    assert log_norm / steps == pytest.approx(field.rate, abs=0.02)


def test_spectral_rate():
    rng = np.random.default_rng(0)
    orthogonal = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert theory.spectral_rate(0.5 * orthogonal) == pytest.approx(math.log(0.5), abs=1e-14)
    weight = rng.normal(size=(6, 6))
    radius = abs(np.roots(np.poly(weight))).max()
    assert theory.spectral_rate(weight) == pytest.approx(math.log(radius), abs=1e-10)
    assert theory.spectral_rate(np.zeros((3, 3))) == -math.inf
    assert math.isnan(theory.spectral_rate(np.array([[np.inf, 1.0], [0.0, 1.0]])))


def test_diagonal_rate():
    start, exponent = np.array([[3.0, -4.0], [0.0, 12.0]]), np.log([[0.5, 0.25], [1.0, 0.125]])
    after = np.linalg.norm([1.5, 1.0, 0.0, 1.5])
    want = math.log(after / 13) / 7
    assert theory.diagonal_rate(start, exponent, 7) == pytest.approx(want, abs=1e-15)
    far = theory.diagonal_rate(start, exponent - 5000, 7)  # beyond the range of plain numbers
    assert far == pytest.approx(want - 5000 / 7, rel=1e-14)
    assert math.isnan(theory.diagonal_rate(0 * start, exponent, 7))


def test_gated_rates():
    assert theory.lstm_rate(0.5, 0.0, 0.2, 0.3) == math.log(0.5)
    assert theory.lstm_rate(0.5, 2.0, 0.2, 0.3) == pytest.approx(math.log(0.62))
    assert theory.gru_rate(0.5, 0.0, 0.2) == math.log(0.5)
    assert theory.gru_rate(0.5, 2.0, 0.2) == pytest.approx(math.log(0.9))


@pytest.mark.parametrize("steps", [100, 1000, 10_000])
@pytest.mark.parametrize("share", [0.01, 0.1, 1.0, 10.0])
def test_chrono_carry(steps, share):
    lag, longest = share * steps, steps - 1

    def mean(carry):
        return quad(carry, 1, longest, epsabs=1e-13, limit=500)[0] / (longest - 1)

    carry = closed.chrono_carry(lag, steps)
    assert carry == pytest.approx(mean(lambda m: math.exp(-lag / m)), rel=1e-9)
    assert carry == pytest.approx(mean(lambda m: (m / (m + 1)) ** lag), abs=0.005)


def test_chrono_carry_over_the_whole_sequence():
    assert closed.chrono_carry(10_000, 10_000) == pytest.approx(0.1485, abs=5e-5)
    assert math.sqrt(closed.chrono_carry(20_000, 10_000)) == pytest.approx(0.1937, abs=5e-5)
    np.testing.assert_allclose(closed.chrono_carry([0, 0], 10), 1.0)


@pytest.mark.parametrize("lag", [0, 1, 10, 1000, 10_000])
def test_ssm_carry(lag):
    mean, _ = quad(lambda u: math.exp(-lag * math.exp(u)), math.log(0.001), math.log(0.1))
    assert closed.ssm_carry(lag) == pytest.approx(mean / math.log(100), rel=1e-9)


def test_untied_gaussian_product():
    rng = np.random.default_rng(0)
    size, gain, steps = 4, 1.3, 20_000
    vector, growth = np.ones(size), np.empty(steps)
    for t, matrix in enumerate(rng.normal(scale=gain / math.sqrt(size), size=(steps, size, size))):
        carried = matrix @ vector
        growth[t] = math.log(np.linalg.norm(carried) / np.linalg.norm(vector))
        vector = carried / np.linalg.norm(carried)
    mean, variance = closed.untied_gaussian_rate(size, gain)
    assert growth.mean() == pytest.approx(mean, abs=4 * math.sqrt(variance / steps))
    assert growth.var() == pytest.approx(variance, rel=0.05)
