"""Figures of what the gradient of each parameter is made of."""

import numpy as np
import pandas as pd
import pytest

import seqlab
from seqlab.errors import InputError
from seqlab.figures import Request, heatmap, plot, select
from seqlab.numbers.quantities import in_files

SIZES = {"steps": 30, "networks": 3, "hidden": 4, "inputs": 3}
LSTM = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
SHARES = ("gradient_by_lag", "gradient_to_lag", "cosine_to_lag")


@pytest.fixture(scope="module")
def lstm():
    return seqlab.run(arch="lstm", truncation=0.99, **SIZES)


@pytest.mark.parametrize("value", SHARES)
def test_a_curve_for_each_parameter_in_the_order_of_the_file(lstm, value):
    series = select([lstm], Request("curves", y="parameter", value=value)).series
    assert [one.key["parameter"] for one in series] == LSTM
    name = value if value.startswith("cosine") else f"log_{value}"
    stored = lstm.variables[f"{name}_parameter"].data  # (networks, parameters, lags)
    for k, one in enumerate(series):
        assert one.points["lag"].tolist() == list(range(30))
        each = np.sort(stored[:, k, :30], axis=0)
        middle = each[1] if value.startswith("cosine") else each[1] / np.log(10)
        np.testing.assert_allclose(one.value, middle, rtol=1e-12)


def test_rows_of_a_map_and_what_is_chosen_from_them(lstm, tmp_path):
    ax = heatmap([lstm], x="lag", y="parameter", value="gradient_to_lag")
    assert ax.get_ylabel() == "parameter"
    assert not ax.lines  # the state's horizon says nothing here
    one = Request("curves", value="gradient_to_lag", where={"parameter": ["bias_ih"]})
    plot([lstm], tmp_path / "a.svg", one)
    assert "lstm, bias_ih" in (tmp_path / "a.svg").read_text()
    assert len(pd.read_csv(tmp_path / "a.csv")) == 30


def test_shares_are_those_of_the_chain_without_a_rule(lstm):
    assert [str(rule) for rule in lstm.variables["rule"].data] == ["none", "step-norm:1"]
    [one] = select([lstm], Request("curves", value="gradient_by_lag")).series
    assert np.isnan(one.theory)


def test_a_parameter_that_a_run_had_not_is_left_out(tmp_path):
    drawn = np.random.default_rng(0)
    params = {"weight_ih": drawn.normal(size=(4, 3)), "weight_hh": drawn.normal(size=(4, 4))}
    np.savez(tmp_path / "w.npz", **params)
    made = seqlab.run(arch="rnn", params=str(tmp_path / "w.npz"), truncation=0.9, steps=20)
    series = select([made], Request("curves", y="parameter", value="gradient_by_lag")).series
    assert [one.key["parameter"] for one in series] == list(params)


def test_every_measure_of_shares_has_parameters_in_the_file():
    there = in_files().values()
    each = {quantity.of_each.name for quantity in there if quantity.each}
    assert each == {quantity.name for quantity in there if "parameter" in quantity.dims[1:]}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"y": "parameter"},
            (
                "value: 'log10_attenuation' is not allowed; gradient_by_lag, gradient_to_lag or "
                "cosine_to_lag beside parameter"
            ),
        ),
        (
            {"y": "part", "value": "gradient_by_lag"},
            (
                "value: 'gradient_by_lag' is not allowed; log10_attenuation, decay_rate, "
                "zero_share, underflow_share or overflow_share beside part"
            ),
        ),
        (
            {"where": {"parameter": ["W"]}, "value": "cosine_to_lag"},
            "where: parameter=W is in no run; parameter is weight_ih, weight_hh, bias_ih, bias_hh",
        ),
    ],
)
def test_refused_in_one_line(lstm, asked, said):
    with pytest.raises(InputError) as refusal:
        select([lstm], Request(**asked))
    assert str(refusal.value) == said
