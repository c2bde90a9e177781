"""Study files: what they mean, in which order, and in which words they are refused."""

import itertools
import math
import os

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from studies import tables, toml, write

from seqlab.cells import CELLS, Sizes
from seqlab.errors import InputError
from seqlab.spec.run import RunSpec
from seqlab.spec.study import MOST_RUNS, StudySpec
from seqlab.spec.table import TABLE
from seqlab.wording import one_of


def study(*args, **kwargs):
    return StudySpec.create(tables(*args, **kwargs))


def refused(path):
    """The message that a file is refused with: one line that begins with its path."""
    with pytest.raises(InputError) as caught:
        StudySpec.read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.removeprefix(f"{path}: ")


# What a file means.


def test_a_grid_is_crossed_and_its_last_field_is_the_fastest():
    runs = study(grid={"arch": ["rnn", "lstm"], "seed": [0, 1, 2]}).runs
    assert [(run.arch, run.seed) for run in runs] == [
        *itertools.product(["rnn", "lstm"], [0, 1, 2])
    ]


def test_zipped_fields_advance_together_and_faster_than_the_grid():
    runs = study(grid={"seed": [0, 1]}, zipped={"steps": [5, 9], "hidden": [3, 4]}).runs
    assert [(r.seed, r.steps, r.hidden) for r in runs] == [
        *[(0, 5, 3), (0, 9, 4)],
        *[(1, 5, 3), (1, 9, 4)],
    ]


def test_fields_mean_what_they_mean_in_a_run():
    found = study(
        fixed={"lengths": "5:20:3", "clip": ["none", "norm:1.0"], "gain": 2, "init": "he"}
    )
    assert found.runs == (
        RunSpec.create(
            arch="rnn",
            steps=20,
            hidden=3,
            inputs=2,
            networks=4,
            lengths=[5, 10, 20],
            clip=["none", "norm:1"],
            gain=2.0,
            init="he",
        ),
    )
    assert (found.name, found.notes, found.varied) == ("a study", (), ())


def test_an_entry_of_clip_is_a_run_and_an_entry_of_lengths_too():
    grid = {"clip": ["none", ["none", "norm:1"]], "lengths": ["5:20:3", [20], "5,20"]}
    assert [(r.clip, r.lengths) for r in study(grid=grid).runs] == [
        (("none",), (5, 10, 20)),
        (("none",), (20,)),
        (("none",), (5, 20)),
        (("none", "norm:1"), (5, 10, 20)),
        (("none", "norm:1"), (20,)),
        (("none", "norm:1"), (5, 20)),
    ]


@pytest.mark.parametrize("lengths", ["20", "5,20", [5, 20], "5:20:2"])
def test_lengths_are_a_list_or_a_text(lengths, tmp_path):
    (run,) = StudySpec.read(write(tmp_path / "study.toml", {"lengths": lengths})).runs
    assert run.lengths == ((20,) if lengths == "20" else (5, 20))


def test_every_field_can_be_fixed_crossed_and_zipped(tmp_path):
    shapes = CELLS["rnn"].shapes(Sizes(3, 2, 1))
    for file, prefix in (("w.npz", ""), ("model.npz", "encoder.rnn.")):
        ones = {f"{prefix}{name}": np.ones(shape) for name, shape in shapes.items()}
        np.savez(tmp_path / file, **ones)
    np.save(tmp_path / "x.npy", np.ones((20, 1, 2)))
    values = {
        "arch": "lstm",
        "state": 3,
        "activation": "relu",
        "init": "he",
        "gain": 0.5,
        "input_scale": 0.5,
        "drive": "zeros",
        "forget_bias": "chrono",
        "clip": ["truncate:3"],
        "lengths": [3, 20],
        "spectrum": 2,
        "truncation": 0.9,
        "layers": 2,
        "r_min": 0.5,
        "r_max": 0.5,
        "max_phase": 0.5,
        "decay": "none",
        "dtype": "float32",
        "params": "w.npz",
        "module": "encoder",
        "input": "x.npy",
        "seed": 7,
    } | {"steps": 30, "hidden": 4, "inputs": 5, "networks": 2}
    assert set(values) == set(TABLE)
    for name, value in values.items():
        needed = {"gain": {"init": "he"}, "forget_bias": {"arch": "lstm"}, "state": {"arch": "ssm"}}
        needed["module"] = {"params": "model.npz"}
        needed |= {key: {"arch": "lru"} for key in ("r_min", "r_max", "max_phase")}
        needed["decay"] = {"arch": "deltanet"}
        base = {"networks": 1} | needed.get(name, {})
        fixed = StudySpec.create(tables(base | {name: value}), tmp_path).runs
        crossed = StudySpec.create(tables(base, grid={name: [value]}), tmp_path).runs
        zipped = StudySpec.create(tables(base, zipped={name: [value]}), tmp_path).runs
        assert fixed == crossed == zipped
        assert getattr(fixed[0], name) not in (None, getattr(study({"networks": 1}).runs[0], name))


def test_a_field_is_left_out_where_it_means_nothing_and_equal_runs_are_one():
    found = study(grid={"arch": ["rnn", "lstm", "ssm"], "activation": ["tanh", "relu"]})
    assert [(run.arch, run.activation) for run in found.runs] == [
        *[("rnn", "tanh"), ("rnn", "relu"), ("lstm", None), ("ssm", None)]
    ]
    assert found.notes == (
        "activation means nothing for lstm, for ssm, and is left out there",
        "2 of 6 runs equal another, measured once for both",
    )
    found = study(grid={"init": ["pytorch", "normal"], "gain": [0.5, 2.0]})
    assert [(run.init, run.gain) for run in found.runs] == [
        *[("pytorch", None), ("normal", 0.5), ("normal", 2.0)]
    ]


def test_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    folder = tmp_path / "deep"
    folder.mkdir()
    shapes = CELLS["rnn"].shapes(Sizes(3, 2, 1))
    np.savez(folder / "w.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    write(folder / "study.toml", {"params": "w.npz", "networks": 1})
    monkeypatch.chdir(tmp_path)
    (run,) = StudySpec.read("deep/study.toml").runs
    assert run.params.path == str(folder / "w.npz")


def test_a_byte_order_mark_before_a_study_is_no_part_of_it(tmp_path):
    plain = write(tmp_path / "plain.toml")
    marked = tmp_path / "marked.toml"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert StudySpec.read(marked) == StudySpec.read(plain)
    marked.write_bytes(b"\xef\xbb\xbf[study]\nname = '\xff'")
    assert refused(marked) == "not UTF-8 (at line 2)"


def test_labels_tell_runs_apart():
    found = study(grid={"arch": ["rnn", "gru"], "clip": ["none", ["none", "norm:1"]]})
    labels = [found.label(run) for run in found.runs]
    assert labels[1] == "arch rnn, clip none+norm:1"
    assert len(set(labels)) == 4
    long = study({"steps": 1000}, grid={"lengths": ["10:1000:13", [1000]]})
    assert long.label(long.runs[0]) == "lengths 10+15+...+1000"
    assert study().label(study().runs[0]) == "arch rnn, steps 20"


# What is refused.

REFUSED = [
    ("[study\n", "(at line 1, column 7)"),
    ("[study]\nname = 'x'\n[grid]\nseed = [1, 2\n", "(at end of document)"),
    ("[study]\nname = 'x'\nname = 'y'\n", "(at line 3, column 11)"),
    ("a = 1", "a: no such table; study, fixed, grid or zip"),
    ("[gird]\nseed = [1]", "gird: no such table (did you mean grid?); study, fixed, grid or zip"),
    ("grid = 3", "grid: 3 is not allowed; a table, [grid]"),
    ("[fixed]\narch = 'rnn'", "study.name: is needed; a text of one line"),
    ("[study]\nname = 3", "study.name: 3 is not allowed; a text of one line"),
    ("[study]\nname = ' '", "study.name: ' ' is not allowed; a text of one line"),
    ('[study]\nname = "a\\nb"', "study.name: 'a\\nb' is not allowed; a text of one line"),
    ("[study]\nname = 'x'\nseed = 1", "study.seed: no such key; name or kind"),
    ("[study]\nname = 'x'", "arch: is needed, in [fixed], [grid] or [zip]"),
    ("[study]\nname = 'x'\n[fixed]\narch = 'rnn'", "steps: is needed; a whole number from 1 up"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_files_that_are_no_studies(text, message, tmp_path):
    path = tmp_path / "study.toml"
    path.write_text(text)
    assert message in refused(path)


WRONG = [
    ({"stpes": 9}, None, None, "fixed.stpes: no such field (did you mean steps?)"),
    (None, {"sede": [1]}, None, "grid.sede: no such field (did you mean seed?)"),
    (None, {"sede": 1}, None, "grid.sede: no such field (did you mean seed?)"),
    (None, None, {"sede": [1]}, "zip.sede: no such field (did you mean seed?)"),
    ({"steps": 0}, None, None, "fixed.steps: 0 is not allowed; a whole number from 1 up"),
    ({"arch": "lstn"}, None, None, f"fixed.arch: 'lstn' is not allowed; {one_of(CELLS)}"),
    ({"params": 3}, None, None, "fixed.params: 3 is not allowed; the path of a file"),
    ({"clip": "nrm:1"}, None, None, "clip: 'nrm:1' is not a rule"),
    (None, {"steps": 20}, None, "grid.steps: 20 is not allowed; a list of one value or more"),
    (None, {"clip": "none"}, None, "grid.clip: 'none' is not allowed; a list of one value or more"),
    (None, {"seed": []}, None, "grid.seed: [] is not allowed; a list of one value or more"),
    (None, {"seed": [1, -1]}, None, "grid.seed: -1 is not allowed; a whole number from 0 up"),
    (None, {"gain": [1.0, "x"]}, None, "grid.gain: 'x' is not allowed; a positive, finite number"),
    (None, {"lengths": [5, 20]}, None, "grid.lengths: 5 is not allowed; a:b:n"),
    (None, None, {"gain": [float("nan")]}, "zip.gain: nan is not allowed; a positive, finite"),
    (None, None, {"seed": [1, 2], "hidden": [3]}, "zip.hidden: 1 values do not go with the 2"),
    ({"activation": "relu", "arch": "lstm"}, None, None, "activation: means nothing for lstm"),
    ({"gain": 2.0}, None, None, "gain: means nothing for init pytorch: it serves no run; "),
    ({"activation": "relu"}, {"arch": ["lstm", "ssm"]}, None, "for lstm, for ssm: it serves no"),
    ({"spectrum": 4}, {"arch": ["lstm", "rnn"]}, None, "with arch rnn: spectrum: 4 is not"),
    ({"lengths": "20,5"}, None, None, "fixed.lengths: '20,5' is not allowed; a:b:n"),
    ({"lengths": [5, 20]}, {"steps": [20, 30]}, None, "with steps 30: lengths: 20 is not"),
    ({"drive": "zeros"}, {"arch": ["rnn", "ssm"]}, None, "with arch ssm: drive: 'zeros' is"),
    ({"params": "no.npz"}, None, None, "no.npz: No such file or directory"),
    (None, {"seed": [*range(1001)], "steps": [20] * 1000}, None, "grid: 1001000 runs"),
]  # fmt: skip


@pytest.mark.parametrize(("fixed", "grid", "zipped", "message"), WRONG)
def test_wrong_values_are_refused_by_their_key(fixed, grid, zipped, message, tmp_path):
    said = refused(write(tmp_path / "study.toml", fixed, grid, zipped))
    assert message in said
    assert len(said) < 300


def test_a_field_stands_in_one_table(tmp_path):
    content = tables(grid={"seed": [1]}) | {"zip": {"seed": [2]}}
    path = tmp_path / "study.toml"
    path.write_text(toml(content))
    assert refused(path) == "zip.seed: is in [grid] too; each field once"


def test_the_record_of_an_array_file_is_no_value(tmp_path):
    path = tmp_path / "study.toml"
    record = '{path = "w.npz", sha256 = "0"}'
    path.write_text(f"[study]\nname = 'x'\n[fixed]\narch = 'rnn'\nsteps = 9\nparams = {record}\n")
    assert refused(path).endswith("is not allowed; the path of a file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[study]\nname = '\xff'", "not UTF-8 (at line 2)"),
        (b"a = " + b"[" * 5000, "its lists are nested too deeply"),
        (b"seed = 1" + b"0" * 5000, "Exceeds the limit"),
        (b"\0", "(at line 1, column 1)"),
    ],
)
def test_bytes_that_are_no_toml(content, message, tmp_path):
    path = tmp_path / "study.toml"
    path.write_bytes(content)
    assert message in refused(path)


@pytest.mark.parametrize("path", ["none.toml", ".", "a\0b", "x" * 300])
def test_paths_that_are_no_files(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(path)


def test_nothing_but_numbers_and_text_comes_out_of_a_file(tmp_path):
    path = tmp_path / "study.toml"
    for value in ("2026-01-02", "12:00:00", "true", "{a = 1}", "0x10", "'__import__(\"os\")'"):
        path.write_text(
            f"[study]\nname = 'x'\n[fixed]\narch = 'rnn'\nsteps = 9\nhidden = {value}\n"
        )
        if value == "0x10":
            assert StudySpec.read(path).runs[0].hidden == 16
        else:
            assert refused(path).startswith("fixed.hidden: ")


VALUES = st.fixed_dictionaries(
    {"arch": st.lists(st.sampled_from([*CELLS]), min_size=1, max_size=3)},
    optional={
        "steps": st.lists(st.integers(1, 30), min_size=1, max_size=3),
        "activation": st.lists(st.sampled_from(["tanh", "relu"]), min_size=1, max_size=2),
        "init": st.lists(st.sampled_from(["pytorch", "he"]), min_size=1, max_size=2),
        "gain": st.lists(st.floats(0.1, 2), min_size=1, max_size=2),
        "state": st.lists(st.integers(1, 3), min_size=1, max_size=2),
        "clip": st.lists(st.sampled_from(["none", ["none", "norm:1"]]), min_size=1, max_size=2),
    },
)


@given(VALUES)
def test_each_run_is_one_that_create_makes_and_none_comes_twice(grid):
    count = math.prod(map(len, grid.values()))
    try:
        found = study(grid=grid)
    except InputError:  # a field serves none of the cells
        reject()
    assert 1 <= len(found.runs) <= count <= MOST_RUNS
    assert len({run.hash for run in found.runs}) == len(found.runs)
    for run in found.runs:
        assert RunSpec.from_dict(run.to_dict()) == run
        for name, values in grid.items():
            value = getattr(run, name)
            assert (
                value is None
                or value in [(v,) if v == "none" else v for v in values]
                or (name == "clip" and list(value) in values)
            )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
def test_devices_are_no_studies():
    assert (
        refused("/dev/null")
        == "study.name: is needed; a text of one line, such as 'gain-and-clipping'"
    )
