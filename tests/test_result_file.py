"""Results: the file and its checksum, the JSON document, the table, the data frame."""

import json
import math
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import example, given
from hypothesis import strategies as st
from synthetic import measurement

from seqlab.errors import InputError
from seqlab.report import run_table
from seqlab.spec.run import RunSpec
from seqlab.study import files, netcdf
from seqlab.study.files import WriteError
from seqlab.study.netcdf import DamagedResult
from seqlab.study.result import FORMAT, OtherFormat, Result, read_spec

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LN10 = math.log(10)


def made(arch="lstm", steps=1000, replaced=None, rate=-0.45, spread=0.01, duration=0.25, **fields):
    """A result of a made-up measurement."""
    spec = RunSpec.create(arch=arch, steps=steps, **fields)
    measured = measurement(spec, rate, spread, **(replaced or {}))
    return Result.from_measurement(spec, measured, NOW, duration)


def entry(result, rule=0):
    return result.to_json()["curves"][rule]


# The file.


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = made(spectrum=3, clip=["none", "step-value:0.001", "truncate:7"])
    stored = result.write(tmp_path / "new" / "store")
    assert stored.path == tmp_path / "new" / "store" / f"{result.spec.hash}.nc"
    again = Result.read(stored.path)
    assert again.path == stored.path
    for name in ("spec", "backend", "created", "duration", "versions"):
        assert getattr(again, name) == getattr(result, name)
    assert set(again.variables) == set(result.variables)
    for name, variable in result.variables.items():
        found = again.variables[name]
        assert (found.dims, found.units) == (variable.dims, variable.units)
        assert (found.long_name, found.never) == (variable.long_name, variable.never)
        assert found.data.dtype == variable.data.dtype
        np.testing.assert_array_equal(found.data, variable.data, strict=True)
    assert [path.name for path in stored.path.parent.iterdir()] == [stored.path.name]


def test_not_a_number_keeps_its_bits(tmp_path):
    odd = np.array([np.inf, -np.inf, -0.0, 5e-324, np.nan, -np.nan])
    odd = np.append(odd, np.uint64(0x7FF0000000000001).view(np.float64))  # a signalling NaN
    result = made(networks=7, clip="none", replaced={"decay_rate": odd[:, np.newaxis]})
    found = Result.read(result.write(tmp_path).path).variables["decay_rate"].data
    assert found.tobytes() == odd.tobytes()


def test_equal_specs_give_equal_data_bytes(tmp_path):
    first = made().write(tmp_path / "a").path.read_bytes()
    again = made().write(tmp_path / "b").path.read_bytes()
    later = made(duration=9.5).write(tmp_path / "c").path.read_bytes()
    assert first == again
    assert first != later
    for name, variable in netcdf.decode(first)[0].items():
        assert variable.data.tobytes() == netcdf.decode(later)[0][name].data.tobytes()


def test_xarray_reads_it_without_seqlab(tmp_path):
    result = made(spectrum=2)
    path = result.write(tmp_path).path
    with xarray.open_dataset(path, engine="scipy") as found:
        assert found["log_norm"].dims == ("network", "rule", "length", "lag")
        assert found["rule"].to_numpy().tolist() == ["none", "step-norm:1"]
        assert set(found.coords) == {"rule", "length", "lag", "threshold"}
        assert found["length"].to_numpy().tolist() == list(result.spec.lengths)
        assert found["decay_rate"].attrs["units"] == "nat/step"
        assert all(variable.attrs["long_name"] for variable in found.variables.values())
        assert found["horizon"].attrs["flag_values"] == -1
        assert found["horizon"].attrs["flag_meanings"] == "never"
        assert "flag_values" not in found["lag"].attrs
        assert found["horizon"].sel(rule="none", threshold=1e-3) == 16
        assert found["float64_zero_lag"].sel(rule="none") == -1
        assert float(found["theory"]) == float(result.variables["theory"].data)
        np.testing.assert_array_equal(found["log_norm"], result.variables["log_norm"].data)
        assert RunSpec.from_dict(json.loads(found.attrs["spec"])) == result.spec
        assert found.attrs["spec_hash"] == result.spec.hash
        assert set(json.loads(found.attrs["versions"])) >= {"seqlab", "python", "numpy", "numba"}
        assert found.attrs["backend"] == "cpu"
        assert found.attrs["created"] == "2026-01-02T03:04:05Z"
        assert found.attrs["duration"] == 0.25
        assert found.attrs["Conventions"]
        assert found.attrs["title"]


def test_text_beyond_ascii_survives(tmp_path):
    result = made()
    variables = {"rule": result.variables["rule"]}
    long = netcdf.Variable(("rule",), np.array(["", "größer"]), "1", "λ")
    found, attributes = netcdf.decode(netcdf.encode(variables | {"x": long}, {"title": "∂L/∂h"}))
    assert found["x"].data.tolist() == ["", "größer"]
    assert found["x"].long_name == "λ"
    assert attributes["title"] == "∂L/∂h"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A small result's path and bytes."""
    result = made(steps=5, networks=2, clip="none").write(tmp_path_factory.mktemp("store"))
    return result.path, result.path.read_bytes()


@pytest.mark.parametrize("part", range(20))
def test_a_file_cut_short_is_damaged(stored, part, tmp_path):
    _, data = stored
    cut = tmp_path / "cut.nc"
    cut.write_bytes(data[: len(data) * part // 20])
    with pytest.raises(DamagedResult, match=r"^.*cut\.nc: damaged[^\n]*$"):
        Result.read(cut)


def test_one_flipped_byte_anywhere_is_damage(stored):
    _, data = stored
    netcdf.decode(data)
    for offset in range(len(data)):
        for flip in (0x01, 0x20, 0xFF):
            changed = bytearray(data)
            changed[offset] ^= flip
            with pytest.raises(DamagedResult):
                netcdf.decode(bytes(changed))


def test_bytes_added_at_the_end_are_damage(stored):
    with pytest.raises(DamagedResult):
        netcdf.decode(stored[1] + b"\0")


@given(st.binary(max_size=300))
def test_other_files_are_no_results(data):
    with pytest.raises(DamagedResult, match="no checksum"):
        netcdf.decode(data)


def test_a_sound_file_of_something_else_is_no_result(tmp_path):
    path = tmp_path / "other.nc"
    for attributes in ({}, {"spec": "{"}, {"spec": "[]"}, {"spec": '{"arch": "rnn", "steps": 0}'}):
        path.write_bytes(netcdf.encode({}, {"format": float(FORMAT), **attributes}))
        with pytest.raises(DamagedResult, match="not a result of this seqlab"):
            Result.read(path)


@pytest.mark.parametrize("form", [{}, {"format": 1.0}, {"format": FORMAT + 1.0}])
def test_a_file_of_another_format_is_refused_in_one_line(tmp_path, form):
    """Its spec can be read all the same, so that it can be measured again."""
    spec = made().spec
    path = tmp_path / "old.nc"
    path.write_bytes(netcdf.encode({}, {"spec": json.dumps(spec.to_dict()), **form}))
    number = f"{form.get('format', 1):g}"
    said = rf"^.*old\.nc: has format {number} and this seqlab reads {FORMAT}; measure it again.*$"
    with pytest.raises(OtherFormat, match=said):
        Result.read(path)
    assert read_spec(path) == spec


def test_a_missing_file_is_an_input_error(tmp_path):
    for path in (tmp_path / "none.nc", tmp_path, tmp_path / "a\0b"):
        with pytest.raises(InputError, match="cannot read"):
            Result.read(path)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "No space left on device"), WriteError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failed_write_leaves_the_older_file_and_nothing_else(
    error, raised, tmp_path, monkeypatch
):
    path = made().write(tmp_path).path
    before = path.read_bytes()

    def fail(_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(raised) as caught:
        made(duration=9.0).write(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    if raised is WriteError:
        assert str(caught.value) == f"cannot write {path}: No space left on device"


def test_files_are_readable_as_the_umask_says(tmp_path):
    mode = stat.S_IMODE(made().write(tmp_path).path.stat().st_mode)
    (tmp_path / "plain").touch()
    assert mode == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_what_cannot_be_written_is_known_before(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    files.require_writable("store", tmp_path / "a" / "b" / "c.nc", 1000)
    before = sorted(tmp_path.rglob("*"))
    for path, size in (
        (tmp_path / "file" / "c.nc", 0),
        (tmp_path / "file" / "deeper" / "c.nc", 0),
        (tmp_path / "folder.nc", 0),
        (tmp_path / "dangling" / "c.nc", 0),
        (tmp_path / ("long" * 100) / "c.nc", 0),
        (tmp_path / "nul\0" / "c.nc", 0),
        (tmp_path / "c.nc", 2**62),
        (Path("/proc/nothing/c.nc"), 0),
    ):
        with pytest.raises(InputError, match=r"^store: cannot write [^\n]*: [^\n]+$"):
            files.require_writable("store", path, size)
    assert sorted(tmp_path.rglob("*")) == before


# The document.

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
    "lyapunov": list,
    "lyapunov_dead": int,
    "theory": float,
}


def strict(document):
    """The document through JSON without its non-standard numbers."""
    return json.loads(json.dumps(document, allow_nan=False))


def test_the_document_has_these_fields_and_no_other(tmp_path):
    result = made(steps=4000, spectrum=3).write(tmp_path)
    document = strict(result.to_json())
    assert list(document) == ["spec", "backend", "result", "curves"]
    assert document["spec"] == result.spec.to_dict()
    assert document["backend"] == "cpu"
    assert document["result"] == str(result.path)
    assert [curve["clip"] for curve in document["curves"]] == ["none", "step-norm:1"]
    for curve in document["curves"]:
        assert {name: type(value) for name, value in curve.items()} == FIELDS


def test_the_numbers_of_the_document():
    result = made(steps=4000, spectrum=3, networks=5, rate=-0.5, spread=0.1)
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
    assert found["lyapunov"] == pytest.approx([-0.5, -0.6, -0.7])
    assert found["lyapunov_dead"] == 0
    assert found["theory"] == pytest.approx(-0.498)


def test_what_there_is_not_is_null():
    replaced = {"theory": math.nan, "fit_exponential_rms": [math.nan] * 2}
    found = strict(entry(made(steps=2, networks=3, rate=-0.01, spread=0, replaced=replaced)))
    nothing = {
        "decay_rate_ci95",
        "fit",
        "float32_zero_lag",
        "float64_zero_lag",
        "lyapunov",
        "lyapunov_dead",
        "theory",
    }
    assert {name for name, value in found.items() if value is None} == nothing
    assert found["horizon"] == {"1e-1": None, "1e-3": None, "1e-6": None}


def test_a_result_without_a_file_says_null():
    assert made().to_json()["result"] is None


def with_ends(ends):
    """A result of one rule whose networks end at these logs at the longest length's last lag."""
    spec = RunSpec.create(arch="rnn", steps=20, networks=len(ends), clip="none")
    norms = measurement(spec).variables["log_norm"].data.copy()
    norms[:, 0, -1, -1] = ends
    rates = np.array(ends)[:, np.newaxis] / 20
    return made(
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
    result = made("rnn", 20, replaced, networks=3, clip="none")
    found = strict(entry(result))
    assert (found["zeros"], found["underflows"], found["overflows"]) == (1, 2, 0)
    said = "the gradient at lag 20 is under the range of float64 in 2 of 3 networks"
    assert said in " ".join(result.summary().split())


def test_dead_and_unknown_exponents_are_counted_and_shown():
    exponents = np.array([[-0.5, -np.inf, -np.inf, np.nan]] * 2)
    replaced = {"lyapunov": exponents}
    result = made("rnn", 20, replaced, networks=2, clip="none", spectrum=4)
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
    assert entry(made(replaced=replaced))["fit"] == fit


# The table.


def lines_of(text):
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    return lines


def test_the_table_says_what_the_document_says(tmp_path):
    result = made(steps=10000, rate=-0.55, spectrum=2).write(tmp_path)
    text = result.summary()
    lines = lines_of(text)
    assert lines[0].startswith("lstm: steps 10000, hidden 64, inputs 16, networks 16, seed 0")
    assert "measured on cpu in 0.25 s" in " ".join(lines[:2])
    assert "none         -0.5500 [-0.5534, -0.5466]  -2388.6 [-2410.3, -2366.9]" in lines
    assert "theory       -0.5480" in lines
    assert "none              13      188     1354  exp     0.0%   -0.30 -> -0.30" in lines
    assert "first 2 of 2: -0.5500, -0.6500" in text
    assert "".join(text[text.index("stored:") :].split()) == f"stored:{result.path}"


def test_cells_are_compared_in_one_table():
    results = [made("rnn", init="he"), made("lstm", rate=-0.005), made("ssm", rate=0.1)]
    lines = lines_of(run_table.table(results))
    assert lines[0].startswith("rnn, lstm, ssm: steps 1000, hidden 64")
    assert "rnn: activation tanh, init he, gain 1" in lines
    assert "ssm: state 16" in lines
    assert sum(line.startswith("  none ") for line in lines) == 9
    assert sum(line.startswith("  theory ") for line in lines) == 3


EXTREME = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(EXTREME, min_size=5, max_size=5),
    st.lists(EXTREME, min_size=5, max_size=5),
    st.sampled_from(["none", "step-value:1.7976931348623157e+308", "truncate:9007199254740992"]),
    EXTREME,
    st.sampled_from([1, 7, 2000]),
)
@example([-2388.5 * LN10] * 5, [-2388.5 * LN10] * 5, "norm:1", math.nan, 2000)
def test_the_table_has_80_columns_at_most_whatever_the_numbers(ends, grads, rule, theory, steps):
    spec = RunSpec.create(arch="lstm", steps=steps, networks=5, clip=rule, spectrum=5)
    norms = measurement(spec).variables["log_norm"].data.copy()
    norms[:, 0, -1, -1] = ends
    column = np.array(grads)[:, np.newaxis]
    replaced = {
        "log_norm": norms,
        "decay_rate": np.array(ends)[:, np.newaxis],
        "log_param_grad_norm_before": column,
        "log_param_grad_norm_after": -column,
        "lyapunov": np.array([ends] * 5),
        "theory": theory,
        "horizon": [[2**31 - 1] * 3],
        "float32_zero_lag": [2**31 - 1],
        "float64_zero_lag": [2**31 - 1],
    }
    result = made("lstm", steps, replaced, networks=5, clip=rule, spectrum=5)
    with np.errstate(all="ignore"):
        lines_of(result.summary())
        lines_of(run_table.table([result, made("rnn", steps, networks=5, clip="norm:1")]))
        strict(result.to_json())


def test_the_rounding_of_a_zero_is_written_as_zero():
    result = made(rate=-1e-18, spread=0.0, replaced={"theory": 0.0})
    assert "none         0.00000 [0.00000, 0.00000]  0.000 [0.000, 0.000]" in lines_of(
        result.summary()
    )


def test_long_paths_are_broken_over_lines(tmp_path):
    stored = made().write(tmp_path / ("deep" * 30))
    text = stored.summary()
    lines_of(text)
    assert "".join(text[text.index("stored:") :].split()) == f"stored:{stored.path}"


# The data frame.


def test_the_data_frame_has_a_row_for_each_network_rule_length_and_lag():
    result = made(steps=20, networks=3)
    frame = result.to_dataframe()
    lags = result.variables["lag"].data
    assert len(frame) == 3 * 2 * sum((lags <= length).sum() for length in result.spec.lengths)
    assert not frame.duplicated(["network", "rule", "length", "lag"]).any()
    parts = {"log_norm", "log_norm_input", "log_norm_hidden", "log_norm_cell"}
    assert parts | {part.replace("log", "log10") for part in parts} < set(frame.columns)
    assert frame["arch"].unique().tolist() == ["lstm"]
    assert frame["hash"].unique().tolist() == [result.spec.hash]
    assert frame["networks"].unique().tolist() == [3]
    row = frame.query("network == 1 and rule == 'step-norm:1' and length == 20 and lag == 20")
    assert row["log_norm"].item() == pytest.approx(-0.45 * 20)
    assert row["log10_norm"].item() == pytest.approx(-0.45 * 20 / LN10)
    assert row["log_norm_cell"].item() == pytest.approx(-0.45 * 20 - 2)
    assert frame["log_norm"].notna().all()
