"""Baselines of decay curves: what is kept in a file, and what differs from it by too much."""

import re
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import probed, result

from seqlab.errors import InputError
from seqlab.figures.overlay import overlay
from seqlab.guard import baseline


def test_a_file_is_whole_whoever_writes_it(tmp_path):
    path = tmp_path / "a" / "b.decay.csv"
    curves = baseline.curves_of({"lag": np.arange(99), "log_norm": -0.1 * np.arange(99)})
    writers = [threading.Thread(target=baseline.write, args=(path, curves)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert baseline.compare(curves, baseline.read(path), 0, 1e-6) == []


def one(log_norm, lag=None):
    return baseline.curves_of(
        {"lag": np.arange(len(log_norm)) if lag is None else lag, "log_norm": log_norm}
    )


def told(found, kept, rate_atol=1e-3, log10_atol=0.05, *, path):
    baseline.write(path, kept)
    return baseline.compare(found, baseline.read(path), rate_atol, log10_atol)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kept.decay.csv"


LN10 = np.log(10)
LINE = -0.1 * np.arange(101)


@pytest.mark.parametrize(("decades", "problems"), [(0.049, 0), (0.051, 2)])
def test_decades_may_differ_by_the_tolerance(decades, problems, path):
    bent = LINE.copy()
    bent[50] += decades * LN10
    lags = [0, 1, 10, 50, 100]
    assert len(told(one(bent[lags], lags), one(LINE[lags], lags), path=path)) == problems


def test_a_rate_may_differ_though_no_decade_does(path):
    short = 0.0015 * np.arange(11)
    lines = told(one(LINE[:11] + short), one(LINE[:11]), path=path)
    assert lines == ["rate -0.0985 nat/step, was -0.1; -0.101 to -0.099 is allowed"]
    assert told(one(LINE[:11] + short), one(LINE[:11]), rate_atol=0.002, path=path) == []


def test_a_rate_of_networks_may_lie_anywhere_in_its_interval(path):
    rates = np.array([-0.12, -0.11, -0.10, -0.09, -0.08, -0.1])[:, None]
    lag = np.arange(101)
    [kept] = found = one(rates * lag, lag)
    assert kept.rate == pytest.approx(-0.1)
    assert kept.low < -0.11 < -0.09 < kept.high
    np.testing.assert_allclose(kept.log10, -0.1 * lag / LN10)
    assert told(one((rates + 0.005) * lag, lag), found, log10_atol=9, path=path) == []
    [line] = told(one((rates + 0.05) * lag, lag), found, log10_atol=9, path=path)
    assert line.startswith("rate -0.05 nat/step, was -0.1; ")


@pytest.mark.parametrize(
    ("value", "said"), [(np.inf, "an overflow (inf)"), (-np.inf, "a zero (-inf)")]
)
def test_what_is_no_number_must_stay_what_it_is(value, said, path):
    ends, lag = LINE.copy(), np.arange(101)
    ends[50:] = value
    thin = np.unique([*range(10), *range(10, 101, 10)])
    kept, found = (one(line[thin], lag[thin]) for line in (LINE, ends))
    assert told(found, found, path=path) == []
    number = f"{-5 / LN10:.6g}"
    assert told(found, kept, path=path) == [
        f"{said} at lag 50, was {number}",
        "beyond that from lag 50 on, at 6 of 20 lags compared",
        f"rate {value} nat/step, was -0.1; -0.101 to -0.099 is allowed",
    ]
    assert told(kept, found, path=path) == [
        f"{number} at lag 50, was {said}",
        "beyond that from lag 50 on, at 6 of 20 lags compared",
        f"rate -0.1 nat/step, was {said}",
    ]
    picture = path.with_suffix(".png")
    assert baseline.draw(found, kept, 0.05, picture) == f"picture: {picture}"


def test_zeros_of_some_lags_alone_are_told_apart_by_lag(path):
    """As a gradient that skips steps has them."""
    gaps = LINE[:21].copy()
    gaps[1::2] = -np.inf
    assert told(one(gaps), one(gaps), path=path) == []
    filled = gaps.copy()
    filled[3] = LINE[3]
    assert told(one(filled), one(gaps), path=path) == [
        f"{-0.3 / LN10:.6g} at lag 3, was a zero (-inf)",
        "beyond that from lag 3 on, at 1 of 21 lags compared",
    ]


def test_a_curve_without_a_rate(path):
    """Of a zero at lag 0 nothing is left, so that no rate is defined."""
    dead = np.full(11, -np.inf)
    assert np.isnan(one(dead)[0].rate)
    assert told(one(dead), one(dead), path=path) == []
    assert told(one(LINE[:11]), one(dead), path=path)[-1] == "rate -0.1 nat/step, was none"
    assert told(one(dead), one(LINE[:11]), path=path)[-1] == (
        "no rate, was -0.1; -0.101 to -0.099 is allowed"
    )


def test_nan_is_no_decay():
    ends = LINE.copy()
    ends[57:] = np.nan
    with pytest.raises(InputError, match=r"^curve: nan at lag 57, at 44 of 101 lags, .* finite$"):
        one(ends)

    def lost(log_norm, lag):
        log_norm[0, 1, -1, lag > 500] = np.nan

    with pytest.raises(InputError, match=r"^norm:1: nan at lag \d+, at \d+ of \d+ lags"):
        baseline.curves_of(result(clip=["none", "norm:1"], edit=lost))


def test_what_a_step_has_lost_is_a_zero(path):
    """An attenuation whose zeros are under the range of its dtype."""
    found = probed(-0.1)
    found.log_norm[0, 1, 50:], found.underflow[0, 1] = -np.inf, True
    kept = baseline.curves_of(found)
    assert kept[0].log10[-1] == kept[0].rate == -np.inf
    assert told(kept, kept, path=path) == []
    lines = told(baseline.curves_of(probed(-0.1)), kept, path=path)
    assert lines[0].startswith("none: -2.38862 at lag 55, was a zero (-inf)")


def test_another_choice_of_lags_is_told(path):
    [line] = told(one(LINE[:50]), one(LINE), path=path)[:1]
    assert re.fullmatch(r"lag \d+ is not there any more \(\d+ of \d+ lags\)", line)
    more = np.arange(201)
    assert told(one(-0.1 * more)[:1], one(LINE), path=path) == []


def test_each_rule_of_a_result_is_held_by_lag_and_by_length(path):
    run = result(rate=-0.01, clip=["none", "truncate:100"])
    curves = baseline.curves_of(run)
    assert [curve.name for curve in curves] == [
        *("none", "none by length"),
        *("truncate:100", "truncate:100 by length"),
    ]
    assert curves[0].rate == pytest.approx(-0.01)
    assert np.isnan(curves[1].rate)
    np.testing.assert_array_equal(curves[1].lag, run.spec.lengths)
    np.testing.assert_allclose(curves[1].log10, -0.01 * np.array(run.spec.lengths) / LN10)
    assert told(curves, curves, path=path) == []
    [line] = told(curves[:2], curves, path=path)
    assert line == (
        "its curves are none, none by length; "
        "they were none, none by length, truncate:100, truncate:100 by length"
    )


def test_tensors_of_any_framework(path):
    array = SimpleNamespace(detach=lambda: SimpleNamespace(cpu=lambda: LINE))
    assert told(one(array, np.arange(101)), one(LINE), path=path) == []


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ([1, 2], "curve: list is not allowed; a result of seqlab.run or"),
        ({"lag": [0]}, "curve: it has ['lag']; lag and log_norm are needed"),
        ({"lag": [0, 0.5], "log_norm": [0, 1]}, "lag: whole steps from 0 up are needed"),
        ({"lag": [1, 0], "log_norm": [0, 1]}, "lag: whole steps from 0 up are needed"),
        ({"lag": [], "log_norm": []}, "lag: whole steps from 0 up are needed"),
        ({"lag": [0, 1], "log_norm": [0]}, "log_norm: its shape is (1,); (2,) or"),
        ({"lag": [0, 1], "log_norm": [[[0, 1]]]}, "log_norm: its shape is (1, 1, 2); (2,) or"),
        ({"lag": [0, 1], "log_norm": "ab"}, "log_norm: str is no array of numbers"),
    ],
)
def test_what_is_no_curve_is_refused_in_one_line(curve, said):
    with pytest.raises(InputError) as refusal:
        baseline.curves_of(curve)
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "a,b\n", "curve,quantity,lag,value\nc,log10,x,1\n"])
def test_a_file_that_is_no_baseline_is_told(path, text):
    path.write_text(text)
    with pytest.raises(InputError, match="not a baseline of decay curves"):
        baseline.read(path)


def test_a_byte_order_mark_is_no_part_of_a_baseline(path):
    baseline.write(path, one(LINE))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert baseline.compare(one(LINE), baseline.read(path), 1e-3, 0.05) == []


def test_a_picture_that_fails_hides_nothing(path, monkeypatch):
    overlay(one(LINE), one(LINE), 0.05, path.with_suffix(".png"))
    said = baseline.draw(one(LINE), one(LINE), 0.05, path.parent / "none" / "a.png")
    assert said.startswith("no picture: ")
