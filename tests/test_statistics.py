"""Quantiles, horizons, intervals and fits, against simulation and known laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqlab.numbers.fit import fit_decay, fit_lags
from seqlab.numbers.statistics import bootstrap_t, first_below, median, quantile

pytestmark = pytest.mark.tiny

INF = np.inf


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(0, 1))
def test_quantile_of_finite_values_is_numpys(values, q):
    np.testing.assert_allclose(quantile(values, q), np.quantile(values, q), rtol=1e-12, atol=1e-9)


@given(st.floats(-1e6, 1e6), st.integers(1, 9), st.floats(0, 1))
def test_quantile_of_one_value_is_that_value(value, count, q):
    assert quantile([value] * count, q) == value


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-INF, -INF, -INF, 1.0], -INF),
        ([-INF, -INF, 0.0, 1.0], -INF),
        ([-INF, 0.0, 1.0, INF], 0.5),
        ([0.0, 1.0, INF, INF], INF),
        ([INF, INF, INF, INF], INF),
        ([-INF, -INF, INF, INF], np.nan),
        ([0.0, 1.0, np.nan, 2.0], np.nan),
        ([-INF, np.nan], np.nan),
        ([-INF, -3.0, INF], -3.0),
        ([-INF], -INF),
    ],
)
def test_median_knows_infinities(values, expected):
    np.testing.assert_equal(median(values), expected)
    np.testing.assert_equal(median(values[::-1]), expected)


def test_quantile_along_axes():
    values = np.random.default_rng(0).normal(size=(5, 3, 4))
    values[:3, 0, 0] = -INF
    assert quantile(values, 0.25).shape == (3, 4)
    assert quantile(values, 0.25, axis=-1).shape == (5, 3)
    assert quantile(values, 0.5)[0, 0] == -INF
    np.testing.assert_allclose(quantile(values, 0.3, 1)[3:], np.quantile(values[3:], 0.3, 1))


def test_first_below():
    curve = [0.0, -1.0, np.nan, -2.0, -1.0, -INF]
    assert first_below(curve, -0.5) == 1
    assert first_below(curve, -1.0) == 3  # at the threshold is not below it
    assert first_below(curve, -2.5) == 5
    assert first_below(curve[:5], -2.5) == -1
    assert first_below([np.nan], 0.0) == -1


def coverage(draw, mean, trials=1000, size=16):
    rng = np.random.default_rng(7)
    intervals = [bootstrap_t(draw(rng, size), resamples=999, seed=k) for k in range(trials)]
    return np.mean([low <= mean <= high for low, high in intervals])


def test_interval_covers_the_mean_of_symmetric_values():
    # 1000 trials: standard error 0.007; a percentile interval covers 0.91
    assert 0.935 < coverage(lambda rng, n: rng.normal(-0.4, 0.03, n), -0.4) < 0.965


def test_interval_covers_the_mean_of_skewed_values():
    # a percentile interval covers 0.89, swapped tails 0.88
    assert 0.92 < coverage(lambda rng, n: rng.exponential(size=n), 1.0) < 0.965


def test_interval_is_the_textbooks():
    sample = np.random.default_rng(11).exponential(size=6)
    rng = np.random.default_rng(12)
    t = []
    while len(t) < 20_000:
        drawn = rng.choice(sample, 6)
        if drawn.min() < drawn.max():
            t.append((drawn.mean() - sample.mean()) / (drawn.std(ddof=1) / 6**0.5))
    error = sample.std(ddof=1) / 6**0.5
    expected = sample.mean() - np.quantile(t, [0.95, 0.05]) * error
    half = np.ptp(expected) / 2
    np.testing.assert_allclose(bootstrap_t(sample, level=0.9), expected, atol=0.03 * half)


def test_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(3).normal(size=2000)
    half = 1.96 * values.std() / np.sqrt(values.size)
    low, high = bootstrap_t(values)
    np.testing.assert_allclose([low, high], values.mean() + np.array([-half, half]), atol=half / 20)


def test_interval_follows_shift_and_scale():
    values = np.random.default_rng(4).normal(size=8)
    np.testing.assert_allclose(
        bootstrap_t(5 + 3 * values), 5 + 3 * np.array(bootstrap_t(values)), rtol=1e-12
    )
    assert bootstrap_t(values) == bootstrap_t(values)


def test_interval_where_there_is_little_to_go_by():
    assert bootstrap_t([1.0, 2.0, 3.0]) is None
    assert bootstrap_t([1.0, 2.0, 3.0, -INF]) is None
    assert bootstrap_t([1.0, 2.0, 3.0, np.nan]) is None
    assert bootstrap_t([0.1] * 7) == (0.1, 0.1)
    low, high = bootstrap_t([1.0, 1.0, 1.0, 1.0, 2.0])  # a third of all resamples: five times 1.0
    assert np.isfinite([low, high]).all()
    assert low < 1.2 <= high


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 50, 1000, 10_000])
def test_fit_lags(steps):
    lags = fit_lags(steps)
    assert lags.dtype == np.int64
    assert lags[0] == max(1, round(min(10, steps / 10)))
    assert lags[-1] == steps
    assert np.all(np.diff(lags) > 0)
    assert len(lags) <= 64


def test_fit_finds_the_law():
    lags = fit_lags(1000)
    noise = np.random.default_rng(0).normal(scale=0.05, size=lags.size)

    exponential = fit_decay(lags, 1.0 - 0.02 * lags + noise)
    assert exponential.kind == "exponential"
    assert exponential.rate == pytest.approx(-0.02, rel=1e-2)
    assert exponential.exponential_rms == pytest.approx(noise.std(), rel=0.1)
    assert exponential.power_rms > 10 * exponential.exponential_rms

    power = fit_decay(lags, 1.0 - 1.2 * np.log(lags) + noise)
    assert power.kind == "power"
    assert power.exponent == pytest.approx(-1.2, rel=1e-2)
    assert power.power_rms == pytest.approx(noise.std(), rel=0.1)


def test_fit_agrees_with_polyfit():
    lags = fit_lags(200)
    curve = np.random.default_rng(1).normal(size=lags.size).cumsum()
    fit = fit_decay(lags, curve)
    for x, slope, rms in [
        (lags, fit.rate, fit.exponential_rms),
        (np.log(lags), fit.exponent, fit.power_rms),
    ]:
        line = np.polyfit(x, curve, 1)
        assert slope == pytest.approx(line[0])
        assert rms == pytest.approx(np.sqrt(np.mean((curve - np.polyval(line, x)) ** 2)))


def test_fit_uses_finite_lags_only():
    lags = fit_lags(1000)
    curve = -0.5 * lags
    curve[8:] = -INF
    assert fit_decay(lags, curve).rate == pytest.approx(-0.5)
    curve[7] = np.nan
    assert fit_decay(lags, curve) is None
