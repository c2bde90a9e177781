"""The file of a result: what is in it, its checksum and format, and how it is written."""

import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from synthetic import made_result

from seqlab.errors import InputError
from seqlab.spec.run import RunSpec
from seqlab.study import files, netcdf
from seqlab.study.files import WriteError
from seqlab.study.netcdf import DamagedResult
from seqlab.study.result import FORMAT, OtherFormat, Result, read_spec


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = made_result(spectrum=3, clip=["none", "step-value:0.001", "truncate:7"])
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


# NumPy's own texts end before a NUL, and no encoding has half of a pair of surrogates.
NAMES = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_parts_have_any_names(names):
    norms = np.arange(3.0 * len(names)).reshape(1, 1, -1, 1, 3)
    data = {"part": np.array(names), "log_norm_part": norms}
    made = made_result("rnn", steps=2, lengths=[2], networks=1, clip="none", replaced=data)
    found = Result.decode(made.encode()).variables
    assert found["part"].data.tolist() == names
    assert (found["part"].dims, found["log_norm_part"].dims[2]) == (("part",), "part")
    np.testing.assert_array_equal(found["log_norm_part"].data, norms)


def test_xarray_reads_the_names_of_parts(tmp_path):
    names = ["layer 0 hidden", "state['z\N{COMBINING TILDE}']"]
    data = {"part": np.array(names), "log_norm_part": np.zeros((1, 1, 2, 1, 3))}
    made = made_result("rnn", steps=2, lengths=[2], networks=1, clip="none", replaced=data)
    with xarray.open_dataset(made.write(tmp_path).path, engine="scipy") as found:
        assert found["part"].values.tolist() == names
        assert found["log_norm_part"].sel(part=names[1]).dims == (
            "network",
            "rule",
            "length",
            "lag",
        )


def test_not_a_number_keeps_its_bits(tmp_path):
    odd = np.array([np.inf, -np.inf, -0.0, 5e-324, np.nan, -np.nan])
    odd = np.append(odd, np.uint64(0x7FF0000000000001).view(np.float64))  # a signalling NaN
    result = made_result(networks=7, clip="none", replaced={"decay_rate": odd[:, np.newaxis]})
    found = Result.read(result.write(tmp_path).path).variables["decay_rate"].data
    assert found.tobytes() == odd.tobytes()


def test_equal_specs_give_equal_data_bytes(tmp_path):
    first = made_result().write(tmp_path / "a").path.read_bytes()
    again = made_result().write(tmp_path / "b").path.read_bytes()
    later = made_result(duration=9.5).write(tmp_path / "c").path.read_bytes()
    assert first == again
    assert first != later
    for name, variable in netcdf.decode(first)[0].items():
        assert variable.data.tobytes() == netcdf.decode(later)[0][name].data.tobytes()


def test_xarray_reads_it_without_seqlab(tmp_path):
    result = made_result(spectrum=2)
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
    result = made_result()
    variables = {"rule": result.variables["rule"]}
    long = netcdf.Variable(("rule",), np.array(["", "größer"]), "1", "λ")
    found, attributes = netcdf.decode(netcdf.encode(variables | {"x": long}, {"title": "∂L/∂h"}))
    assert found["x"].data.tolist() == ["", "größer"]
    assert found["x"].long_name == "λ"
    assert attributes["title"] == "∂L/∂h"


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A small result's path and bytes."""
    result = made_result(steps=5, networks=2, clip="none").write(tmp_path_factory.mktemp("store"))
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
    spec = made_result().spec
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
    path = made_result().write(tmp_path).path
    before = path.read_bytes()

    def fail(_):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(raised) as caught:
        made_result(duration=9.0).write(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    if raised is WriteError:
        assert str(caught.value) == f"cannot write {path}: No space left on device"


def test_files_are_readable_as_the_umask_says(tmp_path):
    mode = stat.S_IMODE(made_result().write(tmp_path).path.stat().st_mode)
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
