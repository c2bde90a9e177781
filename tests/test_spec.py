"""Specs: what is refused and in which words, defaults, canonical forms, and the hash."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqlab.cells import CELLS, Sizes
from seqlab.errors import InputError
from seqlab.spec import arrays
from seqlab.spec.fields import spaced
from seqlab.spec.run import RunSpec
from seqlab.spec.table import TABLE

DECADES = (10, 15, 22, 32, 46, 68, 100, 147, 215, 316, 464, 681, 1000)


def refusal(**fields):
    """The message that a spec is refused with: one line."""
    with pytest.raises(InputError) as caught:
        RunSpec.create(**fields)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


REFUSED = [
    ({"arch": None}, "arch: is needed; rnn, lstm, gru or ssm"),
    ({"arch": "lstn"}, "arch: 'lstn' is not allowed; rnn, lstm, gru or ssm (did you mean lstm?)"),
    ({"arch": ["rnn"]}, "arch: ['rnn'] is not allowed; rnn, lstm, gru or ssm"),
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
    ({"activation": "gelu"}, "activation: 'gelu' is not allowed; tanh, relu, sigmoid or identity"),
    ({"arch": "gru", "activation": "relu"}, "activation: 'relu' means nothing for gru; it is for"),
    ({"arch": "lstm", "activation": "tanh"}, "activation: 'tanh' means nothing for lstm"),
    ({"init": "ones"}, "init: 'ones' is not allowed; pytorch, normal, orthogonal, xavier or he"),
    ({"arch": "ssm", "init": "he"}, "init: 'he' means nothing for ssm; it is for rnn, lstm or gru"),
    ({"gain": 1.0}, "gain: 1.0 means nothing for init pytorch; it is for init normal"),
    ({"gain": 1.0, "init": "pytorch"}, "gain: 1.0 means nothing for init pytorch"),
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
    ({"forget_bias": 1}, "forget_bias: 1.0 means nothing for rnn; it is for lstm or gru"),
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
    ({"lengths": "1e1:100:3"}, "lengths: '1e1:100:3' is not allowed"),
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
    spec = RunSpec.create(arch=arch, steps=9, init=None if arch == "ssm" else "he")
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


SPECS = st.fixed_dictionaries(
    {"arch": st.sampled_from(["rnn", "lstm", "gru"]), "steps": st.integers(1, 5000)},
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


# One's own weights and sequence.


def weights(arch="rnn", hidden=5, inputs=3, leading=(), dtype="float64"):
    """Random parameters of the right shapes."""
    rng = np.random.default_rng(0)
    shapes = CELLS[arch].shapes(Sizes(hidden, inputs, 2))
    return {name: rng.normal(size=leading + shape).astype(dtype) for name, shape in shapes.items()}


@pytest.fixture
def store(tmp_path):
    """Store arrays; gives their path."""

    def save(name, content):
        path = tmp_path / name
        if isinstance(content, dict):
            np.savez(path, **content)
        else:
            np.save(path, content)
        return str(path)

    return save


@pytest.mark.parametrize("arch", CELLS)
@pytest.mark.parametrize("leading", [(), (4,)])
def test_sizes_come_from_the_weights(arch, leading, store):
    spec = RunSpec.create(arch=arch, steps=9, params=store("w.npz", weights(arch, leading=leading)))
    assert (spec.hidden, spec.inputs, spec.networks) == (5, 3, (*leading, 1)[0])
    assert spec.state == (2 if arch == "ssm" else None)
    assert spec.init is spec.gain is spec.input_scale is spec.forget_bias is None


@pytest.mark.parametrize("shape", [(7, 2, 3), (4, 7, 2, 3)])
def test_sizes_come_from_the_sequence(shape, store):
    spec = RunSpec.create(arch="rnn", input=store("x.npy", np.ones(shape)))
    assert (spec.steps, spec.inputs, spec.networks) == (7, 3, 4 if len(shape) == 4 else 16)
    assert spec.drive is None
    assert spec.init == "pytorch"


def test_weights_and_sequence_together(store):
    spec = RunSpec.create(
        arch="lstm",
        dtype="float32",
        params=store("w.npz", weights("lstm", leading=(4,), dtype="float32")),
        input=store("x.npy", np.ones((7, 2, 3), "float32")),
    )
    assert (spec.steps, spec.networks, spec.dtype) == (7, 4, "float32")
    assert RunSpec.from_dict(spec.to_dict()) == spec


def test_the_hash_covers_the_content_of_arrays_and_not_their_path(store):
    def spec(name, content):
        return RunSpec.create(arch="rnn", steps=9, params=store(name, content))

    content = weights()
    changed = content | {"bias_ih": content["bias_ih"] + 1e-300 + 1e-12}
    assert spec("a.npz", content) == spec("b.npz", content)
    assert spec("a.npz", content).hash == spec("b.npz", content).hash
    assert spec("a.npz", content).hash != spec("c.npz", changed).hash
    assert spec("a.npz", content).hash != RunSpec.create(arch="rnn", steps=9).hash


def test_the_digest_knows_names_shapes_and_types():
    flat = np.arange(6.0)
    variants = [
        {"a": flat},
        {"b": flat},
        {"a": flat.reshape(2, 3)},
        {"a": flat.astype("float32")},
        {"a": flat[::-1]},
    ]
    assert len({arrays.digest(variant) for variant in variants}) == len(variants)
    assert arrays.digest({"a": np.asfortranarray(flat.reshape(2, 3))}) == arrays.digest(variants[2])


def test_an_array_that_changed_is_noticed_when_it_is_loaded(store):
    spec = RunSpec.create(
        arch="rnn", params=store("w.npz", weights()), input=store("x.npy", np.ones((7, 2, 3)))
    )
    assert (
        arrays.load_params(CELLS["rnn"], spec.params.path, spec.params.sha256).keys()
        == weights().keys()
    )
    assert arrays.load_input(spec.input.path, spec.input.sha256).shape == (7, 2, 3)
    store("w.npz", weights(hidden=6))
    store("x.npy", np.zeros((7, 2, 3)))
    with pytest.raises(InputError, match=r"params: .*w\.npz has changed since the spec was made"):
        arrays.load_params(CELLS["rnn"], spec.params.path, spec.params.sha256)
    with pytest.raises(InputError, match=r"input: .*x\.npy has changed since the spec was made"):
        arrays.load_input(spec.input.path, spec.input.sha256)


def _without(name):
    return {key: value for key, value in weights().items() if key != name}


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({}, _without("bias_hh"), "lacks bias_hh of rnn"),
        ({}, weights() | {"weight_h": np.ones(1)}, "is not of rnn (did you mean weight_ih?)"),
        ({}, weights() | {"bias_ih": np.ones(6)}, "shape (6,); (5,) goes with the other"),
        ({}, weights() | {"bias_ih": np.ones((4, 5))}, "bias_ih has shape (4, 5); allowed: 1 axes"),
        ({}, weights() | {"weight_hh": np.ones((5, 6))}, "goes with the other arrays"),
        ({}, weights("lstm"), "goes with the other arrays"),
        ({}, weights(leading=(0,)), "none of them empty"),
        ({}, weights(dtype="float32"), "weight_ih is float32; allowed: float64, the run's dtype"),
        ({"dtype": "float32"}, weights(), "weight_ih is float64; allowed: float32"),
        ({}, weights(dtype=">f8"), "weight_ih is >f8; allowed: float64"),
        ({}, weights(dtype="int64"), "weight_ih is int64; allowed: float64"),
        ({}, weights() | {"bias_hh": np.full(5, np.nan)}, "bias_hh has NaN or infinity"),
        ({}, weights() | {"bias_hh": np.full(5, np.inf)}, "bias_hh has NaN or infinity"),
        ({"hidden": 6}, weights(), "hidden: 6 does not match the 5 of params"),
        ({"networks": 16}, weights(), "networks: 16 does not match the 1 of params"),
        ({"init": "he"}, weights(), "init: 'he' means nothing beside params"),
        ({"input_scale": 1.0}, weights(), "input_scale: 1.0 means nothing beside params"),
        ({"gain": 1.0}, weights(), "gain: 1.0 means nothing beside params"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(fields, content, message, store):
    said = refusal(**{"arch": "rnn", "steps": 9, "params": store("w.npz", content)} | fields)
    assert message in said
    assert "w.npz" in said or "beside params" in said


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({}, np.ones((7, 3)), "has shape (7, 3); allowed: (T, B, I) or (M, T, B, I)"),
        ({}, np.ones((0, 2, 3)), "none empty"),
        ({}, np.ones((7, 2, 3), "float32"), "x.npy is float32; allowed: float64"),
        ({}, np.full((7, 2, 3), np.nan), "x.npy has NaN or infinity"),
        ({"steps": 8}, np.ones((7, 2, 3)), "steps: 8 does not match the 7 of input"),
        ({"inputs": 4}, np.ones((7, 2, 3)), "inputs: 4 does not match the 3 of input"),
        ({"networks": 4}, np.ones((5, 7, 2, 3)), "networks: 4 does not match the 5 of input"),
        ({"drive": "white"}, np.ones((7, 2, 3)), "drive: 'white' means nothing beside input"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(fields, content, message, store):
    assert message in refusal(**{"arch": "rnn", "input": store("x.npy", content)} | fields)


def test_weights_and_sequence_that_disagree_are_both_named(store):
    params, sequence = store("w.npz", weights()), store("x.npy", np.ones((7, 2, 4)))
    said = refusal(arch="rnn", params=params, input=sequence)
    assert said == f"inputs: the 3 of params {params} does not match the 4 of input {sequence}"


def test_files_that_are_no_arrays_are_refused(store, tmp_path):
    text = tmp_path / "text"
    text.write_text("weights")
    pickled = store("objects.npz", {"weight_ih": np.array([{}], dtype=object)})
    cut = tmp_path / "cut.npz"
    cut.write_bytes((tmp_path / store("w.npz", weights())).read_bytes()[:-40])
    for path in (str(text), pickled, str(cut), str(tmp_path), str(tmp_path / "none"), "a\0b", ""):
        assert refusal(arch="rnn", steps=9, params=path).startswith("params: cannot read")
        assert refusal(arch="rnn", steps=9, input=path).startswith("input: ")
    assert "holds one array" in refusal(arch="rnn", params=store("x.npy", np.ones(3)))
    assert "is an archive" in refusal(arch="rnn", input=store("w.npz", weights()))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
VALUES = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(), SCALARS, max_size=2)


@given(st.dictionaries(st.sampled_from([*TABLE, "other"]), VALUES, max_size=4))
@settings(max_examples=300)
def test_whatever_is_given_makes_a_spec_or_an_input_error(fields):
    with contextlib.suppress(InputError):
        spec = RunSpec.create(**({"arch": "rnn", "steps": 100} | fields))
        assert RunSpec.from_dict(spec.to_dict()) == spec
