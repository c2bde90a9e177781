"""Specs: what is refused and in which words, defaults, canonical forms, and the hash."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import spec_refusal as refusal

from seqlab.cells import ACTIVATIONS, CELLS, INITS, Sizes
from seqlab.errors import InputError
from seqlab.spec.fields import spaced
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE
from seqlab.wording import one_of

DECADES = (10, 15, 22, 32, 46, 68, 100, 147, 215, 316, 464, 681, 1000)


# The cells that an option is for, as a message has them.
DRAWN, BIASED = (
    one_of(cell.name for cell in CELLS.values() if option in cell.options)
    for option in ("init", "forget_bias")
)
REFUSED = [
    ({"arch": None}, f"arch: is needed; {one_of(CELLS)}"),
    ({"arch": "lstn"}, f"arch: 'lstn' is not allowed; {one_of(CELLS)} (did you mean lstm?)"),
    ({"arch": ["rnn"]}, f"arch: ['rnn'] is not allowed; {one_of(CELLS)}"),
    ({"steps": None}, "steps: is needed; a whole number from 1 up"),
    ({"stpes": 9}, "stpes: no such field (did you mean steps?)"),
    ({"steps": 0}, "steps: 0 is not allowed; a whole number from 1 up"),
    ({"steps": True}, "steps: True is not allowed; a whole number from 1 up"),
    ({"steps": 10.0}, "steps: 10.0 is not allowed; a whole number from 1 up"),
    ({"steps": "10"}, "steps: '10' is not allowed; a whole number from 1 up"),
    ({"steps": 2**31}, "steps: 2147483648 is not allowed; a whole number from 1 to 2147483647"),
    ({"hidden": 0}, "hidden: 0 is not allowed"),
    ({"inputs": -1}, "inputs: -1 is not allowed"),
    ({"arch": "ssm", "state": 0}, "state: 0 is not allowed"),
    ({"networks": 0}, "networks: 0 is not allowed"),
    ({"seed": -1}, "seed: -1 is not allowed; a whole number from 0 up"),
    ({"seed": 10**5000}, "seed: a number of too many digits is not allowed"),
    ({"activation": "gelu"}, f"activation: 'gelu' is not allowed; {one_of(ACTIVATIONS)}"),
    ({"arch": "gru", "activation": "relu"}, "activation: 'relu' means nothing for gru; it is for"),
    ({"arch": "lstm", "activation": "tanh"}, "activation: 'tanh' means nothing for lstm"),
    ({"init": "ones"}, f"init: 'ones' is not allowed; {one_of(INITS)}"),
    ({"arch": "ssm", "init": "he"}, f"init: 'he' means nothing for ssm; it is for {DRAWN}"),
    ({"gain": 1.0}, "gain: 1.0 means nothing for init pytorch; it is for init normal"),
    ({"gain": 1.0, "init": "pytorch"}, "gain: 1.0 means nothing for init pytorch"),
    ({"gain": 1.0, "init": "keras"}, "gain: 1.0 means nothing for init keras; it is for"),
    ({"gain": 0, "init": "he"}, "gain: 0 is not allowed; a positive, finite number"),
    ({"gain": math.nan, "init": "he"}, "gain: nan is not allowed"),
    ({"gain": math.inf, "init": "he"}, "gain: inf is not allowed"),
    ({"gain": 10**400, "init": "he"}, "gain: 1000"),
    ({"gain": False, "init": "he"}, "gain: False is not allowed"),
    ({"input_scale": -0.1}, "input_scale: -0.1 is not allowed; a finite number from 0 up"),
    ({"input_scale": math.inf}, "input_scale: inf is not allowed"),
    ({"drive": "pink"}, "drive: 'pink' is not allowed; white or zeros"),
    ({"arch": "ssm", "drive": "zeros"}, "drive: 'zeros' is not allowed; ssm computes nothing"),
    ({"arch": "ssm", "input_scale": -0.0}, "input_scale: 0.0 is not allowed; ssm computes nothing"),
    ({"forget_bias": 1}, f"forget_bias: 1.0 means nothing for rnn; it is for {BIASED}"),
    ({"arch": "gru", "forget_bias": "chron"}, "forget_bias: 'chron' is not allowed; a finite"),
    ({"arch": "lstm", "forget_bias": math.nan}, "forget_bias: nan is not allowed"),
    ({"arch": "gru", "forget_bias": "chrono"}, "forget_bias: 'chrono' is not allowed; gru takes"),
    ({"arch": "lstm", "forget_bias": "chrono", "steps": 2}, "it needs steps from 3 up, not 2"),
    ({"clip": "nrm:1"}, "clip: 'nrm:1' is not a rule"),
    ({"clip": ["none", "norm:0"]}, "clip: 'norm:0' has no positive"),
    ({"clip": "step-norm:-1"}, "clip: 'step-norm:-1' has no positive"),
    ({"clip": "value:nan"}, "clip: 'value:nan' has no positive"),
    ({"clip": []}, "clip: [] is not allowed; a rule or a list of rules"),
    ({"clip": [1]}, "clip: [1] is not allowed"),
    ({"clip": 1}, "clip: 1 is not allowed"),
    ({"lengths": []}, "lengths: [] is not allowed"),
    ({"lengths": [5, 3, 100]}, "lengths: [5, 3, 100] is not allowed"),
    ({"lengths": [5, 5, 100]}, "lengths: [5, 5, 100] is not allowed"),
    ({"lengths": [0, 100]}, "lengths: 0 is not allowed"),
    ({"lengths": [10, 200]}, "lengths: 200 is not allowed as the last; it must equal steps, 100"),
    ({"lengths": [10, 50]}, "lengths: 50 is not allowed as the last; it must equal steps, 100"),
    ({"lengths": "10:50:3"}, "lengths: 50 is not allowed as the last"),
    ({"lengths": "10:100:1"}, "lengths: 10 is not allowed as the last"),
    ({"lengths": "0:100:3"}, "lengths: '0:100:3' is not allowed; a:b:n"),
    ({"lengths": "100:10:3"}, "lengths: '100:10:3' is not allowed"),
    ({"lengths": "10:100"}, "lengths: '10:100' is not allowed"),
    ({"lengths": "1e-1:100:3"}, "lengths: '1e-1:100:3' is not allowed"),
    ({"lengths": "1e400:100:3"}, "lengths: '1e400:100:3' is not allowed"),
    ({"lengths": "10,100,50"}, "lengths: '10,100,50' is not allowed; a:b:n with 1 <= a <= b, or"),
    ({"lengths": "100,10"}, "at most 1000 ascending whole numbers, such as 10,100,1000"),
    ({"lengths": "10,,100"}, "lengths: '10,,100' is not allowed; a:b:n"),
    ({"lengths": "10, 100"}, "lengths: '10, 100' is not allowed; a:b:n"),
    ({"lengths": "0,100"}, "lengths: '0,100' is not allowed; a:b:n"),
    ({"lengths": "10:50,100"}, "lengths: '10:50,100' is not allowed; a:b:n"),
    ({"lengths": "100,99999999999"}, "lengths: '100,99999999999' is not allowed; a:b:n"),
    ({"lengths": ""}, "lengths: '' is not allowed; a:b:n"),
    ({"lengths": "50"}, "lengths: 50 is not allowed as the last; it must equal steps, 100"),
    ({"lengths": ",".join(map(str, range(1, 1002)))}, "at most 1000 ascending whole numbers"),
    ({"lengths": "10:100:0"}, "lengths: '10:100:0' is not allowed; n from 1 to 1000"),
    ({"lengths": "10:100:999999999"}, "n from 1 to 1000"),
    ({"lengths": list(range(1, 1002))}, "lengths: [1, 2, 3, 4, 5, 6, ...] is not allowed"),
    ({"spectrum": 0}, "spectrum: 0 is not allowed"),
    ({"spectrum": 65}, "spectrum: 65 is not allowed; 1 to 64, the size of the state"),
    ({"arch": "lstm", "spectrum": 129}, "spectrum: 129 is not allowed; 1 to 128"),
    ({"dtype": "float16"}, "dtype: 'float16' is not allowed; float64 or float32"),
    ({"params": 3}, "params: 3 is not allowed; the path of a file"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_refused_in_one_line_that_names_field_value_and_what_is_allowed(fields, message):
    assert message in refusal(**({"arch": "rnn", "steps": 100} | fields))


def test_refusals_begin_with_the_field_and_show_the_value():
    for fields, _ in REFUSED:
        message = refusal(**({"arch": "rnn", "steps": 100} | fields))
        assert message.split(":")[0] in {*TABLE, "stpes"}


def test_defaults():
    spec = RunSpec.create(arch="rnn", steps=1000)
    assert spec.lengths == DECADES
    assert spec.clip == ("none", "step-norm:1")
    for name in ("hidden", "inputs", "networks", "seed", "activation", "init", "drive", "dtype"):
        assert getattr(spec, name) == TABLE[name].default
    assert (spec.hidden, spec.inputs, spec.networks, spec.seed) == (64, 16, 16, 0)
    assert (spec.activation, spec.init, spec.drive, spec.dtype) == (
        *("tanh", "pytorch", "white", "float64"),
    )
    nothing = ("state", "gain", "input_scale", "forget_bias", "spectrum", "params", "input")
    assert all(getattr(spec, name) is None for name in nothing)


@pytest.mark.parametrize("arch", CELLS)
def test_what_means_nothing_for_a_cell_is_none(arch):
    spec = RunSpec.create(arch=arch, steps=9, init="he" if "init" in CELLS[arch].options else None)
    for name in ("activation", "init", "gain", "state"):
        assert (getattr(spec, name) is not None) == (name in CELLS[arch].options)
    assert spec.sizes == Sizes(64, 16, 16)


def test_silent_drive_is_for_cells_that_have_something_to_say():
    assert RunSpec.create(arch="gru", steps=9, drive="zeros", input_scale=0).input_scale == 0.0


@pytest.mark.parametrize(
    ("steps", "lengths", "expected"),
    [
        (1, None, (1,)),
        (9, None, (9,)),
        (12, None, (10, 11, 12)),
        (1000, "10:1000:13", DECADES),
        (1000, "1:1000:4", (1, 10, 100, 1000)),
        (12, "10:12:1000", (10, 11, 12)),
        (7, "7:7:1", (7,)),
        (7, (1, 7), (1, 7)),
        (7, "7", (7,)),
        (1000, "1000", (1000,)),
        (1000, "500,1000", (500, 1000)),
        (1000, "10,100,1000", (10, 100, 1000)),
        (1000, ",".join(map(str, range(1, 1001))), tuple(range(1, 1001))),
    ],
)
def test_lengths(steps, lengths, expected):
    assert RunSpec.create(arch="rnn", steps=steps, lengths=lengths).lengths == expected


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(2, 1000))
def test_spaced_lengths_ascend_from_first_to_last(a, b, count):
    first, last = sorted((a, b))
    lengths = spaced(first, last, count)
    assert lengths[0] == first
    assert lengths[-1] == last
    assert len(lengths) <= count
    assert list(lengths) == sorted(set(lengths))


def test_clip_rules_are_spelled_shortest_and_kept_once():
    spec = RunSpec.create(arch="rnn", steps=9, clip=["norm:1.0", "norm:1", "none", "norm:1e0"])
    assert spec.clip == ("norm:1", "none")
    assert RunSpec.create(arch="rnn", steps=9, clip="truncate:5.0").clip == ("truncate:5",)


def test_numbers_of_any_type_become_pythons_own():
    spec = RunSpec.create(
        arch="lstm", steps=np.int64(9), init="he", gain=np.float32(0.5), forget_bias=-0.0
    )
    assert type(spec.steps) is int
    assert type(spec.gain) is float
    assert str(spec.forget_bias) == "0.0"


SILENT = [cell.name for cell in CELLS.values() if cell.silent_drive]
SPECS = st.fixed_dictionaries(
    {"arch": st.sampled_from(SILENT), "steps": st.integers(1, 5000)},
    optional={
        "hidden": st.integers(1, 99),
        "seed": st.integers(0, 2**128 - 1),
        "input_scale": st.floats(0, 1e300),
        "drive": st.sampled_from(["white", "zeros"]),
        "clip": st.lists(st.sampled_from(["none", "norm:0.1", "truncate:3"]), min_size=1),
        "dtype": st.sampled_from(["float32", "float64"]),
        "spectrum": st.just(1),
    },
)


@given(SPECS)
def test_dictionaries_and_json_give_the_same_spec_back(fields):
    spec = RunSpec.create(**fields)
    again = RunSpec.from_dict(json.loads(json.dumps(spec.to_dict(), allow_nan=False)))
    assert again == spec
    assert again.hash == spec.hash
    assert set(spec.to_dict()) == set(TABLE)


@given(SPECS, SPECS)
def test_hashes_are_equal_exactly_where_specs_are(one, other):
    a, b = RunSpec.create(**one), RunSpec.create(**other)
    assert (a == b) == (a.hash == b.hash)


def test_equal_measurements_have_one_hash():
    plain = RunSpec.create(arch="rnn", steps=1000)
    said = RunSpec.create(
        arch="rnn",
        steps=1000,
        hidden=64,
        seed=0,
        activation="tanh",
        init="pytorch",
        clip=("none", "step-norm:1.0"),
        lengths=list(DECADES),
    )
    assert said == plain
    assert said.hash == plain.hash


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"arch": "rnn", "steps": 1000}, "bf0e5fb59fb4d2d2"),
        (
            {"arch": "lstm", "steps": 300, "forget_bias": "chrono", "spectrum": 3},
            "776e5eb52d22e719",
        ),
        (
            {"arch": "ssm", "steps": 50, "dtype": "float32", "clip": "truncate:7"},
            "f8216a2b63ee0b39",
        ),
    ],
)
def test_hashes_never_change(fields, expected):
    assert RunSpec.create(**fields).hash == expected


@pytest.mark.parametrize("broken", [{"steps": 0}, {"arch": None}, {"extra": 1}, {"lengths": [3]}])
def test_dictionaries_are_validated(broken):
    with pytest.raises(InputError):
        RunSpec.from_dict(RunSpec.create(arch="rnn", steps=9).to_dict() | broken)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(), SCALARS, max_size=2)


@given(st.dictionaries(st.sampled_from([*TABLE, "other"]), VALUES, max_size=4))
@settings(max_examples=300)
def test_whatever_is_given_makes_a_spec_or_an_input_error(fields):
    with contextlib.suppress(InputError):
        spec = RunSpec.create(**({"arch": "rnn", "steps": 100} | fields))
        assert RunSpec.from_dict(spec.to_dict()) == spec
