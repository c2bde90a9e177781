"""An attenuation as a result: its table, frame, figure, file and baseline."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray
from drawn import draw
from synthetic import probed

import seqlab
from seqlab.errors import InputError
from seqlab.guard import baseline
from seqlab.spec import kinds
from seqlab.study.attenuation import together
from seqlab.study.result import Result

FOUR = {"layer 0 hidden": -2.0, "layer 1 hidden": -1.0, "layer 0 cell": -3.0, "layer 1 cell": 0.0}
# A handful of sums and quotients of numbers below 1e3, rounded by 1.1e-16 each.
NEAR = 1e-12


def measured(lengths=(5, 12), **given):
    run = draw("lstm", hidden=4, inputs=3, steps=13, batch=2, networks=3)
    return seqlab.attenuation("lstm", run.params, run.x, list(lengths), **given)


def same(one, other):
    """Whether two results hold the same numbers; a file has them in another order."""
    names = one.variables.keys() | other.variables.keys()
    pairs = [(one.variables[name], other.variables[name]) for name in names]
    return one.spec == other.spec and all(
        (v.dims, v.units) == (w.dims, w.units)
        and np.array_equal(v.data, w.data, equal_nan=v.data.dtype.kind == "f")
        for v, w in pairs
    )


def test_the_labs_own_attenuation_is_a_result():
    att = measured()
    document = att.to_json()
    [curve] = document["curves"]
    found = att.log_norm[:, 1, 12] - att.log_norm[:, 1, 0]
    assert curve["decay_rate"] == pytest.approx(np.mean(found / 12), rel=NEAR)
    assert curve["log10_attenuation"] == pytest.approx(np.median(found) / np.log(10), rel=NEAR)
    assert curve["lengths"] == [5, 12]
    assert document["spec"]["arch"] == "probed"
    assert document["spec"]["engine"] == "kernels"
    json.dumps(document, allow_nan=False)
    said = att.summary()
    assert said.startswith("probed: name lstm, steps 12, networks 3, engine kernels, dtype float64")
    assert max(map(len, said.splitlines())) <= 80
    assert f"{curve['log10_attenuation']:.2f}" in said


def test_curves_of_the_state_the_input_and_the_parts_are_relative_to_the_state_at_lag_0():
    att = measured()
    frame = att.to_dataframe()
    assert list(frame.columns[-8:]) == [
        *("log_norm", "log10_norm", "log_norm_input", "log10_norm_input"),
        *("log_norm_hidden", "log10_norm_hidden", "log_norm_cell", "log10_norm_cell"),
    ]
    assert len(frame) == 3 * (6 + 13)
    for m, length, lag in ((0, 5, 0), (1, 5, 5), (2, 12, 7)):
        [row] = frame.query("network == @m and length == @length and lag == @lag").itertuples()
        k, start = [5, 12].index(length), att.log_norm[m, [5, 12].index(length), 0]
        assert row.log_norm == att.log_norm[m, k, lag] - start
        assert row.log_norm_cell == att.log_norm_cell[m, k, lag] - start
        own = att.log_norm_input[m, k, lag] - start
        assert row.log_norm_input == own or (np.isnan(own) and np.isnan(row.log_norm_input))


def test_a_saved_one_is_read_back_whatever_it_is(tmp_path):
    for att in (
        measured(),
        probed(parts=FOUR, networks=3),
        probed(every=5),
        probed(engine="input"),
        probed(link="layer", lengths=(30,), names=("x",) * 31),
        probed(dtype="bfloat16", name="naïve net"),
    ):
        path = att.save(tmp_path)
        assert path.parent == tmp_path
        read = Result.read(path)
        assert read.path == path
        assert path.name == f"{read.spec.hash}.nc"
        assert same(read, att.result)
        assert kinds.from_dict(json.loads(json.dumps(read.spec.to_dict()))) == read.spec
        assert read.summary().startswith(att.summary())
    table = seqlab.load(tmp_path)
    assert sorted(table["arch"].unique()) == ["probed", "probed-layers"]
    assert table["hash"].nunique() == 6


def test_equal_data_give_equal_bytes_and_other_data_another_name(tmp_path):
    att = probed(parts=FOUR)
    files = [replace(att, log_norm=att.log_norm.copy()).save(tmp_path / name) for name in "ab"]
    assert files[0].name == files[1].name
    assert files[0].read_bytes() == files[1].read_bytes()
    later = replace(att, duration=9.0).save(tmp_path / "a")  # takes the place of the first
    assert later == files[0]
    assert later.read_bytes() != files[1].read_bytes()
    changed = att.log_norm.copy()
    changed[0, 0, 3] = np.nextafter(changed[0, 0, 3], 1)
    part = FOUR | {"layer 0 cell": np.nextafter(-3.0, 1)}
    others = [
        replace(att, log_norm=changed),
        probed(parts=part),
        replace(att, name="Yours"),
        replace(att, engine="kernels"),
        replace(att, clip="norm:1"),
    ]
    hashes = {one.result.spec.hash for one in (att, *others)}
    assert len(hashes) == 1 + len(others)


def test_two_measurements_of_the_same_arrays_are_one_run():
    assert measured().result.spec == measured().result.spec
    assert measured().result.spec != measured(readout=np.eye(4)[0]).result.spec


def test_lengths_in_any_order_make_the_same_result():
    fields = {"networks": 2, "parts": FOUR}
    rising, mixed = (probed(lengths=n, **fields) for n in ((7, 40, 100), (40, 100, 7)))
    assert [*mixed.lengths] == [40, 100, 7]
    assert same(mixed.result, rising.result)


def test_lags_apart_are_lags_in_steps():
    """The horizon is the first lag measured at which the curve is under 1e-3."""
    result = probed(-0.1, lengths=(100, 300), every=5).result
    data = {name: variable.data for name, variable in result.variables.items()}
    assert result.spec.every == 5
    assert not (data["lag"] % 5).any()
    assert {0, 5, 100, 300} <= set(data["lag"].tolist())
    first = 5 * np.ceil(np.log([1e1, 1e3, 1e6]) / 0.1 / 5)
    assert data["horizon"].tolist() == [first.tolist()]
    curve = data["log_norm"][0, 0, 1]
    np.testing.assert_allclose(curve, -0.1 * data["lag"], rtol=NEAR, atol=NEAR)
    assert data["decay_rate"].item() == pytest.approx(-0.1, rel=NEAR)
    assert "every 5" in " ".join(result.summary().split())


def test_several_rules_are_one_result():
    rules = {"none": -0.1, "norm:2": -0.1, "step-norm:1": -0.3}
    parted = [
        probed(rate, clip=rule, parts=FOUR, fired=np.full((1, 2), 0.25 * (rule == "step-norm:1")))
        for rule, rate in rules.items()
    ]
    result = together(parted)
    assert result.spec.clip == tuple(rules)
    assert result.duration == 0.75
    data = {name: variable.data for name, variable in result.variables.items()}
    assert data["rule"].tolist() == list(rules)
    np.testing.assert_allclose(data["decay_rate"], [list(rules.values())], rtol=NEAR)
    np.testing.assert_array_equal(data["clipped_fraction"], [[0, np.nan, 0.25]])
    assert data["log_norm_part"].shape[:4] == (1, 3, 4, 2)
    shift = data["log_norm_part"][0, 2, :, 1, 0]
    np.testing.assert_allclose(shift, list(FOUR.values()), rtol=NEAR)
    assert result.spec.hash != together(parted[:1]).spec.hash


def test_zeros_are_counted_and_nothing_is_made_up_after_one_at_lag_0():
    att = probed(networks=3)
    att.log_norm[0, 1, 50:] = -np.inf
    att.log_norm[1, 1, 50:], att.underflow[1, 1] = -np.inf, True
    [curve] = att.to_json()["curves"]
    assert (curve["zeros"], curve["underflows"], curve["overflows"]) == (1, 1, 0)
    assert "exactly zero in 1 of 3 networks" in " ".join(att.summary().split())
    never = probed()
    never.log_norm[:] = -np.inf  # the loss is no function of the network
    [curve] = never.to_json()["curves"]
    assert curve["overflows"] == 1  # 0/0
    assert "not finite in 1 of 1 networks" in " ".join(never.summary().split())


def test_of_inputs_a_length_is_what_lies_between_the_first_and_the_last():
    att = probed(engine="input", lengths=(10, 60))
    result = att.result
    assert (result.spec.steps, result.spec.lengths) == (59, (9, 59))
    data = {name: variable.data for name, variable in result.variables.items()}
    assert data["lag"].max() == 59
    np.testing.assert_array_equal(data["log_norm"], data["log_norm_input"])
    said = " ".join(att.summary().split())
    assert "|dL/dx|" in said
    assert "|dL/d state|" not in said
    assert "engine input: the curve is of dL/dx" in said
    with pytest.raises(InputError, match="lengths: 1 is not allowed; a result needs a lag besides"):
        probed(engine="input", lengths=(1, 10)).save("never")


def test_xarray_reads_it(tmp_path):
    att = probed(parts=FOUR, networks=2)
    with xarray.open_dataset(att.save(tmp_path), engine="scipy") as found:
        assert found["part"].values.tolist() == list(FOUR)
        assert found["log_norm_part"].dims == ("network", "rule", "part", "length", "lag")
        curve = found["log_norm"].isel(network=0, rule=0, length=1)
        np.testing.assert_allclose(curve, -0.45 * found["lag"], rtol=NEAR)
        assert json.loads(found.attrs["spec"])["name"] == "Mine"


@pytest.mark.parametrize("parts", [None, FOUR])
def test_it_draws_itself(parts, tmp_path):
    probed(parts=parts).plot(tmp_path / "reach.svg")
    text = (tmp_path / "reach.csv").read_text()
    assert ("layer 1 cell" in text) == (parts is not None)
    with pytest.raises(InputError, match="known format"):
        probed().plot(tmp_path / "reach.gif")


def test_a_store_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="store: cannot write"):
        probed().save(tmp_path / "file")


def test_the_fixture_takes_it(pytester, monkeypatch):
    att = probed(networks=5)
    curve, by_length = baseline.curves_of(att)
    assert (curve.name, by_length.name) == ("none", "none by length")
    np.testing.assert_allclose(curve.log10, -0.45 * 1.02 * curve.lag / np.log(10), rtol=NEAR)
    pytester.makepyfile(
        """
        import os, sys
        sys.path.insert(0, FOLDER)
        from synthetic import probed

        def test_mine(decay_regression):
            decay_regression.check(probed(float(os.environ.get("RATE", "-0.45")), networks=5))
        """.replace("FOLDER", repr(str(Path(__file__).parent)))
    )
    assert pytester.runpytest_inprocess("-p", "seqlab.pytest_plugin", "--decay-update").ret == 0
    assert pytester.runpytest_inprocess("-p", "seqlab.pytest_plugin").ret == 0
    monkeypatch.setenv("RATE", "-0.47")
    assert pytester.runpytest_inprocess("-p", "seqlab.pytest_plugin").ret == 1
