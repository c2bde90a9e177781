"""The JSON document of a result: its fields, its numbers, and what there is not."""

import json
import math

import numpy as np
import pytest
from synthetic import made_result, measurement

from seqlab.spec.run import RunSpec

LN10 = math.log(10)


def entry(result, rule=0):
    return result.to_json()["curves"][rule]


FIELDS = {
    "clip": str,
    "decay_rate": float,
    "decay_rate_ci95": list,
    "log10_attenuation": float,
    "log10_attenuation_iqr": list,
    "lengths": list,
    "log10_attenuation_by_length": list,
    "fit": str,
    "horizon": dict,
    "float32_zero_lag": int,
    "float64_zero_lag": int,
    "zeros": int,
    "underflows": int,
    "overflows": int,
    "clipped_fraction": float,
    "log10_param_grad_norm": dict,
    "gradient_cosine": float,
    "truncation_lag": type(None),
    "lyapunov": list,
    "lyapunov_dead": int,
    "theory": float,
}


def strict(document):
    """The document through JSON without its non-standard numbers."""
    return json.loads(json.dumps(document, allow_nan=False))


def test_the_document_has_these_fields_and_no_other(tmp_path):
    result = made_result(steps=4000, spectrum=3).write(tmp_path)
    document = strict(result.to_json())
    assert list(document) == ["spec", "backend", "result", "curves"]
    assert document["spec"] == result.spec.to_dict()
    assert document["backend"] == "cpu"
    assert document["result"] == str(result.path)
    assert [curve["clip"] for curve in document["curves"]] == ["none", "step-norm:1"]
    for curve in document["curves"]:
        assert {name: type(value) for name, value in curve.items()} == FIELDS


def test_the_numbers_of_the_document():
    result = made_result(steps=4000, spectrum=3, networks=5, rate=-0.5, spread=0.1)
    found = entry(result)
    assert found["decay_rate"] == pytest.approx(-0.5)
    low, high = found["decay_rate_ci95"]
    assert low < -0.5 < high
    assert found["log10_attenuation"] == pytest.approx(-0.5 * 4000 / LN10)
    assert found["log10_attenuation_iqr"] == pytest.approx(
        [-0.55 * 4000 / LN10, -0.45 * 4000 / LN10]
    )
    assert found["lengths"] == list(result.spec.lengths)
    by_length = [-0.5 * length / LN10 for length in result.spec.lengths]
    assert found["log10_attenuation_by_length"] == pytest.approx(by_length)
    assert found["fit"] == "exponential"
    assert found["horizon"] == {"1e-1": 5, "1e-3": 14, "1e-6": 28}
    assert (found["float32_zero_lag"], found["float64_zero_lag"]) == (207, 1489)
    assert (found["zeros"], found["overflows"], found["clipped_fraction"]) == (0, 0, 0.0)
    assert found["log10_param_grad_norm"] == pytest.approx(
        {"before": -0.7 / LN10, "after": -0.7 / LN10}
    )
    assert found["gradient_cosine"] == pytest.approx(0.75)
    assert found["lyapunov"] == pytest.approx([-0.5, -0.6, -0.7])
    assert found["lyapunov_dead"] == 0
    assert found["theory"] == pytest.approx(-0.498)


def test_what_there_is_not_is_null():
    replaced = {"theory": math.nan, "fit_exponential_rms": [math.nan] * 2}
    found = strict(entry(made_result(steps=2, networks=3, rate=-0.01, spread=0, replaced=replaced)))
    nothing = {
        "decay_rate_ci95",
        "fit",
        "float32_zero_lag",
        "float64_zero_lag",
        "truncation_lag",
        "lyapunov",
        "lyapunov_dead",
        "theory",
    }
    assert {name for name, value in found.items() if value is None} == nothing
    assert found["horizon"] == {"1e-1": None, "1e-3": None, "1e-6": None}


def test_a_result_without_a_file_says_null():
    assert made_result().to_json()["result"] is None


def with_ends(ends):
    """A result of one rule whose networks end at these logs at the longest length's last lag."""
    spec = RunSpec.create(arch="rnn", steps=20, networks=len(ends), clip="none")
    norms = measurement(spec).variables["log_norm"].data.copy()
    norms[:, 0, -1, -1] = ends
    rates = np.array(ends)[:, np.newaxis] / 20
    return made_result(
        "rnn", 20, {"log_norm": norms, "decay_rate": rates}, networks=len(ends), clip="none"
    )


def test_zeros_and_overflows_are_counted_and_shown():
    result = with_ends([-np.inf, -np.inf, np.inf, np.nan, -3.0])
    found = strict(entry(result))
    assert (found["zeros"], found["overflows"]) == (2, 2)
    assert found["decay_rate"] == "nan"
    assert found["decay_rate_ci95"] is None
    assert (
        "rnn, none: the gradient at lag 20 is exactly zero in 2 of 5 networks" in result.summary()
    )
    assert "rnn, none: the gradient at lag 20 is not finite in 2 of 5 networks" in result.summary()


def test_what_is_under_the_range_is_no_zero():
    spec = RunSpec.create(arch="rnn", steps=20, networks=3, clip="none")
    norms, lost = (measurement(spec).variables[n].data.copy() for n in ("log_norm", "underflow"))
    norms[:, 0, -1, -1], lost[:2, 0, -1] = -np.inf, 1
    replaced = {"log_norm": norms, "underflow": lost}
    result = made_result("rnn", 20, replaced, networks=3, clip="none")
    found = strict(entry(result))
    assert (found["zeros"], found["underflows"], found["overflows"]) == (1, 2, 0)
    said = "the gradient at lag 20 is under the range of float64 in 2 of 3 networks"
    assert said in " ".join(result.summary().split())


def test_dead_and_unknown_exponents_are_counted_and_shown():
    exponents = np.array([[-0.5, -np.inf, -np.inf, np.nan]] * 2)
    replaced = {"lyapunov": exponents}
    result = made_result("rnn", 20, replaced, networks=2, clip="none", spectrum=4)
    found = strict(entry(result))
    assert found["lyapunov"] == [-0.5, "-inf", "-inf", "nan"]
    assert found["lyapunov_dead"] == 2
    said = " ".join(result.summary().split())
    assert "rnn: 2 of 4 directions dead (-inf)" in said
    assert "rnn: 1 of 4 exponents not known (nan)" in said


def test_infinities_are_strings():
    found = strict(entry(with_ends([-np.inf] * 4)))
    assert found["decay_rate"] == found["log10_attenuation"] == "-inf"
    assert found["log10_attenuation_iqr"] == ["-inf", "-inf"]
    assert strict(entry(with_ends([np.inf] * 4)))["log10_attenuation"] == "inf"


@pytest.mark.parametrize(("rms", "fit"), [((0.1, 0.2), "exponential"), ((0.2, 0.1), "power")])
def test_the_smaller_misfit_wins(rms, fit):
    replaced = {"fit_exponential_rms": [rms[0]] * 2, "fit_power_rms": [rms[1]] * 2}
    assert entry(made_result(replaced=replaced))["fit"] == fit
