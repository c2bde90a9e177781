"""One's own weights and sequence in a spec: sizes, digests, and files that do not fit."""

import warnings

import numpy as np
import pytest
from studies import spec_refusal as refusal
from tensors import Tensor

import seqlab
from seqlab.cells import CELLS, Sizes
from seqlab.errors import InputError, Note
from seqlab.spec import arrays
from seqlab.spec.run import RunSpec


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
    assert spec.state == (2 if "state" in CELLS[arch].options else None)
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


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({}, weights() | {"bias_ih": np.ones(6)}, "shape (6,); (5,) goes with the other"),
        ({}, weights("lstm"), "goes with the other arrays"),
        ({}, weights(leading=(0,)), "none of them empty"),
        ({}, weights(dtype=">f8"), "weight_ih is >f8; allowed: float64"),
        ({}, weights() | {"bias_hh": np.full(5, np.nan)}, "bias_hh has NaN or infinity"),
        ({}, weights() | {"bias_hh": np.full(5, np.inf)}, "bias_hh has NaN or infinity"),
        ({"init": "he"}, weights(), "init: 'he' means nothing beside params"),
        ({"input_scale": 1.0}, weights(), "input_scale: 1.0 means nothing beside params"),
        ({"gain": 1.0}, weights(), "gain: 1.0 means nothing beside params"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused(fields, content, message, store):
    """Beside what test_formats_damaged.py refuses in every format."""
    said = refusal(**{"arch": "rnn", "steps": 9, "params": store("w.npz", content)} | fields)
    assert message in said
    assert "w.npz" in said or "beside params" in said


@pytest.mark.parametrize(
    ("fields", "content", "message"),
    [
        ({}, np.ones((7, 3)), "has shape (7, 3); allowed: (T, B, I) or (M, T, B, I)"),
        ({}, np.full((7, 2, 3), np.nan), "x.npy has NaN or infinity"),
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


def test_arrays_in_memory_are_what_files_of_them_are(store):
    content, x = weights("gru", leading=(2,)), np.ones((7, 2, 3))
    files = {"params": store("w.npz", content), "input": store("x.npy", x)}
    of_files = seqlab.run(arch="gru", **files)
    named = {f"encoder.rnn.{name}_l0": array for name, array in content.items()}
    # A dictionary of a whole model, one of whose arrays is no weight of the layer.
    whole = named | {"steps": np.array(3)}
    for given in ({"params": content}, {"params": whole, "module": "encoder.rnn"}):
        result = seqlab.run(arch="gru", input=x.tolist(), **given)
        assert (result.spec, result.spec.hash) == (of_files.spec, of_files.spec.hash)
        for name, variable in of_files.variables.items():
            np.testing.assert_array_equal(result.variables[name].data, variable.data)
    assert str(result.spec.params) == str(result.spec.input) == "<in memory>"
    assert "params <in memory>" in " ".join(result.summary().split())


def test_the_layers_of_a_stack_in_memory(store):
    rng = np.random.default_rng(0)
    # Names that no number puts in order: a dictionary has one of its own, as a .npz has.
    content = {f"{name}.weight": rng.normal(size=(4, 4)) / 2 for name in ("low", "high", "head")}
    file, given = (seqlab.depth(params=p) for p in (store("w.npz", content), content))
    assert (file.spec.hash, file.spec.steps) == (given.spec.hash, 3)
    np.testing.assert_array_equal(given.variables["log_norm"].data, file.variables["log_norm"].data)


def test_tensors_in_memory(store):
    content = weights(dtype="float32")
    tensors = {name: Tensor(array) for name, array in content.items()}
    fields = {"arch": "rnn", "dtype": "float32"}
    spec = RunSpec.create(params=tensors, input=Tensor(np.ones((7, 2, 3), "float32")), **fields)
    x = store("x.npy", np.ones((7, 2, 3), "float32"))
    assert spec == RunSpec.create(params=store("w.npz", content), input=x, **fields)
    narrow = {name: Tensor(array, dtype="bfloat16") for name, array in content.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # said once in a process
        assert spec == RunSpec.create(params=narrow, input=x, **fields)


def test_arrays_in_memory_that_change_or_are_gone_are_told():
    content = weights()
    spec = RunSpec.create(arch="rnn", steps=7, params=content)
    again = RunSpec.from_dict(spec.to_dict())
    with pytest.raises(InputError, match=r"params: cannot read <in memory>: .* give them again$"):
        arrays.load_params(CELLS["rnn"], again.params.source, again.params.sha256)
    content["bias_hh"][0] += 1
    with pytest.raises(InputError, match="params: <in memory> has changed since the spec was made"):
        arrays.load_params(CELLS["rnn"], spec.params.source, spec.params.sha256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"params": 3}, "params: 3 is not allowed; the path of a file, or a dictionary of arrays"),
        ({"params": [np.ones(3)]}, "the path of a file, or a dictionary of arrays by name"),
        ({"params": {3: np.ones(3)}}, "it has 3 for a name; names are text"),
        ({"params": weights() | {"bias_hh": np.ones(6)}}, "params: <in memory>, bias_hh has shape"),
        ({"params": weights(dtype="float32")}, "<in memory>, weight_ih is float32; allowed: float"),
        ({"params": weights() | {"bias_hh": "five"}}, "params bias_hh: dtype <U4 is not allowed"),
        ({"input": 3.0}, "input: 3.0 is not allowed; the path of a file, or an array"),
        ({"input": {"x": 1}}, "is not allowed; the path of a file, or an array"),
        ({"input": np.ones((7, 3))}, "input: <in memory> has shape (7, 3); allowed: (T, B, I)"),
        ({"input": [[[1.0], [2.0, 3.0]]]}, "input: ragged lists are not allowed"),
        ({"input": np.full((7, 2, 3), np.nan)}, "input: <in memory> has NaN or infinity"),
    ],
)
def test_arrays_in_memory_that_do_not_fit_are_refused(fields, message):
    said = refusal(**{"arch": "rnn", "steps": 7} | fields)
    assert message in said
    assert "\n" not in said
