"""Chains that go far below what their dtype can hold, and the lags where plain numbers end."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from adjoints import FAR, linear, linear_curve

import seqlab
from seqlab.measure import measure
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]


def reported(tmp_path: Path, weight: Array, steps: int) -> dict[str, Array]:
    """What a run says of a linear network of these weights, without input."""
    np.savez(tmp_path / "w.npz", **linear(weight))
    spec = RunSpec.create(
        arch="rnn", activation="identity", drive="zeros", steps=steps, clip="none",
        params=tmp_path / "w.npz",
    )  # fmt: skip
    return {name: variable.data for name, variable in measure(spec).variables.items()}


def test_lag_ten_thousand_is_a_number_and_not_minus_infinity(tmp_path: Path) -> None:
    """10,000 ln 0.5 for g = 0.5, and the lags where float32 and float64 would have stopped."""
    found = reported(tmp_path, 0.5 * np.eye(6)[[2, 0, 1, 5, 3, 4]], FAR)
    assert found["lag"][-1] == FAR
    curve = found["log_norm"][:, 0, -1]
    assert curve[:, -1] == pytest.approx(FAR * math.log(0.5), abs=1e-8)
    assert np.isfinite(curve).all()
    assert found["decay_rate"] == pytest.approx(math.log(0.5), abs=1e-12)
    # A tie: at lag 149 and 1074 the chain is the smallest number itself, to rounding.
    assert found["float32_zero_lag"][0] in (149, 150)
    assert found["float64_zero_lag"][0] in (1074, 1075)
    assert (found["horizon"] == [4, 10, 20]).all()


@pytest.mark.parametrize(
    ("factor", "float32", "float64"),
    [
        (0.25, (63, 74), (511, 537)),
        (0.5, (126, 149), (1022, 1074)),
        (0.9, (829, 980), (6724, 7066)),
        (0.99, (8690, 10276), (70485, 74071)),
    ],
)
def test_lags_where_plain_numbers_end(
    tmp_path: Path, factor: float, float32: tuple[int, int], float64: tuple[int, int]
) -> None:
    """Where a chain crosses the smallest normal and subnormal number, rounded to a whole lag.

    The lab says the first lag below the subnormal, to rounding where the crossing is a lag itself.
    """
    steps = 75_000 if factor == 0.99 else 7_100
    found = reported(tmp_path, np.array([[factor]]), steps)
    curve = linear_curve(np.array([[factor]]), steps)
    for dtype, lags in ((np.float32, float32), (np.float64, float64)):
        info = np.finfo(dtype)
        bits = np.array([info.minexp, info.minexp - info.nmant])
        crossings = np.interp(bits * math.log(2), curve[::-1], np.arange(steps + 1.0)[::-1])
        assert np.abs(crossings - lags).max() <= 0.5 + 1e-9
        first = int(found[f"{dtype.__name__}_zero_lag"][0])
        assert crossings[1] - 1e-9 <= first <= crossings[1] + 1 + 1e-9


def test_no_squares_of_small_numbers() -> None:
    """The norm of 64 float32 entries of 1e-25 is 8e-25, where a plain sum of squares is zero."""
    size, steps = 64, 3
    small = np.float32(1e-25)
    assert np.square(np.full(size, small)).sum() == 0
    params = {name: value.astype(np.float32) for name, value in linear(np.eye(size)).items()}
    x = np.zeros((steps, 1, 1), np.float32)
    readout = np.full(size, small)
    att = seqlab.attenuation("rnn", params, x, [steps], readout=readout, activation="identity")
    assert att.log_norm[0, 0] == pytest.approx(math.log(8 * float(small)), rel=0, abs=1e-6)


def test_float32_runs_go_as_far_as_float64_runs() -> None:
    """A float32 chain reports what it would be, far below its own smallest number."""
    rates = []
    for dtype in ("float32", "float64"):
        spec = RunSpec.create(
            arch="rnn", steps=1000, hidden=16, networks=4, dtype=dtype, clip="none"
        )
        rates.append(measure(spec).variables["decay_rate"].data)
    assert (rates[1] * 1000 < -149 * math.log(2)).all()
    assert rates[0] == pytest.approx(rates[1], abs=1e-4)
