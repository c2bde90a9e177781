"""The registry of quantities: what files, documents, tables and figures have, from one row each."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import xarray
from synthetic import result
from toys import copied_package, insert, run_python

from seqlab.figures import curves
from seqlab.figures.names import MEASURES
from seqlab.measure import measure
from seqlab.measure.assemble import assemble
from seqlab.numbers import quantity
from seqlab.numbers.quantities import in_files
from seqlab.report import tidy
from seqlab.report.points import curve_points
from seqlab.spec.run import RunSpec

RULED, CURVE = ("network", "rule"), ("network", "rule", "length", "lag")
FILE = {
    "lag": (("lag",), "step"),
    "length": (("length",), "step"),
    "rule": (("rule",), "1"),
    "threshold": (("threshold",), "1"),
    "log_norm": (CURVE, "nat"),
    "log_norm_input": (CURVE, "nat"),
    "log_norm_hidden": (CURVE, "nat"),
    "log_norm_cell": (CURVE, "nat"),
    "decay_rate": (RULED, "nat/step"),
    "horizon": (("rule", "threshold"), "step"),
    "float32_zero_lag": (("rule",), "step"),
    "float64_zero_lag": (("rule",), "step"),
    "fit_exponential_rms": (("rule",), "nat"),
    "fit_power_rms": (("rule",), "nat"),
    "fit_rate": (("rule",), "nat/step"),
    "fit_exponent": (("rule",), "1"),
    "clipped_fraction": (RULED, "1"),
    "underflow": (("network", "rule", "length"), "1"),
    "log_param_grad_norm_before": (RULED, "nat"),
    "log_param_grad_norm_after": (RULED, "nat"),
    "gradient_cosine": (RULED, "1"),
    "lyapunov": (("network", "exponent"), "nat/step"),
    "theory": ((), "nat/step"),
}


def test_the_constants():
    assert math.exp(quantity.LN10) == pytest.approx(10)
    assert quantity.THRESHOLDS == {"1e-1": 0.1, "1e-3": 0.001, "1e-6": 0.000001}
    for dtype, smallest in {"float32": 2.0**-149, "float64": 5e-324}.items():
        assert np.nextafter(np.zeros(1, dtype), np.ones(1, dtype))[0] == smallest
        assert quantity.LN_SMALLEST[dtype] == pytest.approx(math.log(smallest))
        assert quantity.LOG10_SMALLEST[dtype] == pytest.approx(math.log10(smallest))


@pytest.mark.tiny
def test_a_file_has_these_variables_in_this_order():
    spec = RunSpec.create(arch="lstm", steps=12, hidden=3, inputs=2, networks=2, spectrum=2)
    found = measure(spec).variables
    assert [(name, (v.dims, v.units)) for name, v in found.items()] == list(FILE.items())
    never = [name for name, variable in found.items() if variable.never]
    assert never == ["horizon", "float32_zero_lag", "float64_zero_lag"]
    assert found["log_norm_cell"].long_name == (
        "ln norm of the cell part of the adjoint, relative to the state's at lag 0"
    )
    assert len({variable.long_name for variable in found.values()}) == len(found)


def test_a_file_may_have_the_parts_of_somebodys_own_state():
    rows = in_files()
    names = np.array(["layer 0 hidden", "layer 1 hidden"])
    found = rows["part"].variable(names), rows["log_norm_part"].variable(np.zeros((2, 1, 2, 3, 4)))
    assert [(v.dims, v.units) for v in found] == [
        (("part",), "1"),
        (("network", "rule", "part", "length", "lag"), "nat"),
    ]
    assert all(rows[name].optional for name in ("part", "log_norm_part"))


def test_tables_have_these_columns_in_this_order():
    assert list(tidy.COLUMNS[tidy.COLUMNS.index("clip") :]) == [
        *("clip", "length", "log10_attenuation", "log10_attenuation_q25", "log10_attenuation_q75"),
        *("zeros", "underflows", "overflows", "decay_rate", "decay_rate_low", "decay_rate_high"),
        *("fit", "horizon_1e-1", "horizon_1e-3", "horizon_1e-6"),
        *("float32_zero_lag", "float64_zero_lag", "clipped_fraction"),
        *("log10_param_grad_norm_before", "log10_param_grad_norm_after", "gradient_cosine"),
        *("truncation_lag", "lyapunov_1", "theory"),
    ]


def test_figures_have_these_values_in_this_order():
    assert list(MEASURES) == [
        *("log10_attenuation", "log10_attenuation_hidden", "log10_attenuation_cell"),
        *("log10_attenuation_real", "log10_attenuation_imag"),
        *("log10_attenuation_normalizer", "log10_attenuation_input", "decay_rate"),
        *("zero_share", "underflow_share", "overflow_share"),
        *("horizon_1e-1", "horizon_1e-3", "horizon_1e-6", "float32_zero_lag", "float64_zero_lag"),
        *("fit_rate", "fit_exponent", "clipped_fraction", "log10_param_grad_norm_before"),
        *("log10_param_grad_norm_after", "theory"),
        *("log10_mean_square", "cosine", "gradient_by_lag", "gradient_to_lag", "cosine_to_lag"),
        *("zero_units", "dead_units", "always_on_units"),
        *("saturated_units", "log10_weight_grad_norm", "log10_bias_grad_norm", "gradient_cosine"),
        *("truncation_lag", "lyapunov_1"),
        *("log10_attenuation_trained", "log10_attenuation_traced", "log10_moved"),
        *("best_loss", "final_loss"),
        *(
            "test_loss",
            "test_accuracy",
            "fired_share",
            "learning_rate",
            "horizon_trained_1e-3",
            "learnable_length",
        ),
        *("solved_share", "updates_to_solve", "loss"),
    ]
    assert MEASURES["horizon_1e-6"].label == "horizon at 1e-6 (steps)"
    assert {name for name, one in MEASURES.items() if one.mean} == {
        *("decay_rate", "zero_share", "underflow_share", "overflow_share"),
        *("clipped_fraction", "theory", "lyapunov_1", "cosine", "zero_units", "dead_units"),
        *("gradient_cosine",),
        *("always_on_units", "saturated_units", "fired_share", "solved_share"),
    }


def test_a_lag_has_no_middle_over_networks():
    with pytest.raises(ValueError, match="toy: a lag that may be never"):
        quantity.Quantity("toy", ("network", "rule"), "step", "a lag", kind="lag")


@pytest.mark.parametrize(
    ("asked", "points"),
    [
        ({}, [(2, 0), (2, 1), (2, 2), (4, 0), (4, 1), (4, 2), (4, 4)]),
        ({"every_lag": False}, [(2, 2), (4, 4)]),
        ({"every_length": False}, [(4, 0), (4, 1), (4, 2), (4, 4)]),
        ({"to_start": False}, [(2, 0), (2, 1), (4, 0), (4, 1), (4, 2)]),
        ({"to_start": False, "every_lag": False, "every_length": False}, [(4, 2)]),
    ],
)
def test_points_are_lags_up_to_each_length(asked, points):
    """The input has none at the last of all, the initial state's."""
    data = {"length": np.array([2, 4]), "lag": np.array([0, 1, 2, 4])}
    at = curve_points(data, **asked)
    assert list(zip(at.length.tolist(), at.lag.tolist(), strict=True)) == points
    values = 10 * data["length"][:, np.newaxis] + data["lag"]
    assert at.of(values).tolist() == [10 * length + lag for length, lag in points]


def test_curves_of_the_input_end_before_the_initial_state():
    one = result(steps=1000)
    for value, last in (("log10_attenuation", -1), ("log10_attenuation_input", -2)):
        ax = curves([one], value=value, xscale="linear")
        [end] = {x.get_xdata()[-1] for x in ax.lines if x.get_transform() == ax.transData}
        assert end == one.variables["lag"].data[last]


@pytest.mark.tiny
def test_what_has_no_row_is_not_assembled():
    spec = RunSpec.create(arch="rnn", steps=3, networks=2, clip="none")
    block = {"longest": np.zeros((2, 1, 4)), "predicted": np.zeros(2), "toy": np.zeros((2, 1))}
    with pytest.raises(KeyError, match=r"no row in seqlab\.numbers\.quantities: toy"):
        assemble(spec, [block])


ROW = """\
    Quantity(
        "toy",
        ("network", "rule"),
        "nat/step",
        "ln norm at lag 1",
        read="toy",
        label="toy rate (nat/step)",
        over="mean",
    ),
"""
LINE = '    kept["toy"] = kept["longest"][:, 1]\n'
COMMANDS = """
import seqlab
from seqlab.cli import main

def command(*words):
    try:
        main(words)
    except SystemExit as end:
        assert not end.code, words

command(*"run --arch rnn --steps 12 --hidden 3 --inputs 2 --networks 3 --json".split())
command(*"export seqlab-results -o tidy.csv".split())
command(*"plot seqlab-results -o toy.svg --kind distribution --value toy".split())
"""


def test_a_new_quantity_takes_one_row_and_one_line(tmp_path):
    """It then is in the file, the document, the tidy table and the figures."""
    folder = copied_package(tmp_path)
    insert(folder / "seqlab/numbers/quantities.py", "_MEASURED = (", ROW)
    insert(folder / "seqlab/measure/keeping.py", 'kept["longest"] = ', LINE)
    document = json.loads(run_python(folder, COMMANDS))
    with xarray.open_dataset(folder / document["result"], engine="scipy") as found:
        toy = found["toy"]
        assert (toy.dims, toy.attrs) == (
            ("network", "rule"),
            {"units": "nat/step", "long_name": "ln norm at lag 1"},
        )
        assert np.array_equal(toy, found["log_norm"].sel(length=12, lag=1))
        mean = toy.mean("network").to_numpy()
    assert [curve["toy"] for curve in document["curves"]] == pytest.approx(mean)
    table = pd.read_csv(folder / "tidy.csv")
    assert table.groupby("clip")["toy"].first().to_numpy() == pytest.approx(mean)
    drawn = pd.read_csv(folder / "toy.csv")
    assert np.sort(drawn["toy"].unique()) == pytest.approx(np.unique(toy))
    assert "toy rate (nat/step)" in (folder / "toy.svg").read_text()
