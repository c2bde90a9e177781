"""Files of weights and sequences: what is read from which format, by which names."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from drawn import GATED
from weight_files import MODEL, create, model, refusal, safetensors, weights

import seqlab
from seqlab import values
from seqlab.cells import CELLS
from seqlab.cli import main
from seqlab.errors import Note
from seqlab.spec import arrays
from seqlab.spec.run import RunSpec
from seqlab.spec.study import StudySpec
from seqlab.study.result import Result


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "pth", "PT"])
@pytest.mark.parametrize("arch", CELLS)
def test_equal_content_is_one_spec_whatever_file_and_names_it_is_in(
    suffix: str, arch: str, write: Any
) -> None:
    plain = weights(arch)
    spec = create(arch=arch, params=write("plain.npz", plain))
    for spell in ("{}_l0", "{}", "rnn.{}_l0", "a.b.{}") if arch in GATED else ("{}", "a.b.{}"):
        named = {spell.format(name): value for name, value in plain.items()}
        other = create(arch=arch, params=write(f"other.{suffix}", named))
        assert (other, other.hash) == (spec, spec.hash)
        loaded = arrays.load_params(CELLS[arch], f"other.{suffix}", spec.params.sha256)
        assert loaded.keys() == plain.keys()
        assert all(np.array_equal(loaded[name], plain[name]) for name in plain)


def test_the_order_in_a_file_changes_nothing(write: Any) -> None:
    wrong = weights() | {"weight_hh": np.ones((2, 16, 4))}
    said = {refusal(params=write("w.npz", dict(sorted(wrong.items(), reverse=r)))) for r in (0, 1)}
    assert len(said) == 1


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_a_module_of_a_whole_model(suffix: str, write: Any) -> None:
    path = write(f"m.{suffix}", model())
    for seed, module in enumerate(MODEL):
        plain = create(params=write("plain.npz", weights(seed=seed)))
        for name in (module, module.split(".")[0], f"{module}."):
            spec = create(params=path, module=name)
            assert (spec, spec.hash) == (plain, plain.hash)
            assert spec.module == name.removesuffix(".")
            assert RunSpec.from_dict(spec.to_dict()).module == spec.module
    assert create(params=path, module="encoder") != create(params=path, module="decoder")
    said = refusal(params=path)
    assert said.startswith(f"params: m.{suffix} holds several modules, of which module chooses one")
    for module in MODEL:
        assert module in said
        assert module in refusal(params=path, module="enc")


def test_the_hash_of_a_plain_file_never_changes(write: Any) -> None:
    sizes = {"weight_ih": (5, 3), "weight_hh": (5, 5), "bias_ih": (5,), "bias_hh": (5,)}
    found = {name: np.arange(np.prod(size)).reshape(size) / 8 for name, size in sizes.items()}
    path, sequence = write("w.npz", found), write("x.npy", np.arange(42.0).reshape(7, 2, 3))
    spec = RunSpec.create(arch="rnn", params=path, input=sequence)
    assert spec.hash == "4c9574de02e38244"


def test_biases_may_be_left_out(write: Any) -> None:
    """Zeros then, and no part of the gradient's norm."""
    full = weights()
    bare = {name: value for name, value in full.items() if not name.startswith("bias")}
    full |= {name: np.zeros_like(full[name]) for name in full if name.startswith("bias")}
    fields = {"arch": "lstm", "steps": 20, "clip": ["none", "norm:1e-3", "step-norm:0.1"]}
    with_, without = (seqlab.run(**fields, params=write(f"{len(p)}.npz", p)) for p in (full, bare))
    assert with_.spec.hash != without.spec.hash
    for name in ("log_norm", "fit_rate"):
        one, other = (run.variables[name].data for run in (with_, without))
        assert np.array_equal(one, other, equal_nan=True)
    before, after = (
        [run.variables[f"log_param_grad_norm_{when}"].data for run in (with_, without)]
        for when in ("before", "after")
    )
    assert (before[0] > before[1]).all()  # a norm of fewer numbers, none of them zero
    assert after[1][:, 1] == pytest.approx(np.log(1e-3), abs=1e-12)
    assert (after[0][:, 2] > after[1][:, 2]).all()


@pytest.fixture
def untold() -> Iterator[None]:
    """As if nothing had been said yet, in this process."""
    values.say_widened.cache_clear()
    yield
    values.say_widened.cache_clear()


@pytest.mark.usefixtures("pretended", "untold")
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_bfloat16_is_float32_and_said_once(suffix: str, write: Any) -> None:
    plain = weights(dtype="float32")
    content: Any = plain | {"narrow": np.ones(1)}
    if suffix == "safetensors":
        content = safetensors(plain, bfloat16=True)
    path = write(f"w.{suffix}", content)
    words = ("run", "--arch", "lstm", "--steps", "9", "--dtype", "float32", "--params", path)
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0
    assert done.stderr == (
        "seqlab: note: bfloat16 is taken as float32, which holds each of its numbers\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        spec = create(params=path, dtype="float32")
    assert spec == create(params=write("plain.npz", plain), dtype="float32")
    assert json.loads(done.stdout)["result"] == f"seqlab-results/{spec.hash}.nc"


def test_an_array_stored_by_columns_counts_twice(write: Any) -> None:
    """It is turned into rows beside itself, and means the same."""
    rows = weights()
    columns = rows | {"weight_hh": np.asfortranarray(rows["weight_hh"])}
    spec = create(params=write("rows.npz", rows))
    assert create(params=write("columns.npz", columns)) == spec
    cell = CELLS["lstm"]
    with (
        arrays.opened_params(cell, "rows.npz") as plain,
        arrays.opened_params(cell, "columns.npz") as turned,
    ):
        assert turned["weight_hh"].bytes == 2 * plain["weight_hh"].bytes
        assert turned["weight_ih"].bytes == plain["weight_ih"].bytes == rows["weight_ih"].nbytes
    sequence = np.random.default_rng(0).normal(size=(9, 2, 3))
    one, other = (
        create(steps=None, input=write(f"{name}.npy", a))
        for name, a in (("c", sequence), ("f", np.asfortranarray(sequence)))
    )
    assert one == other


def test_files_of_the_safetensors_package(write: Any) -> None:
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    package.save_file(
        {name: np.ascontiguousarray(v) for name, v in model().items()}, "m.safetensors"
    )
    spec = create(params="m.safetensors", module="encoder")
    assert spec == create(params=write("plain.npz", weights()))


# The option and the field.


@pytest.mark.parametrize("module", ["", " ", ".", 3, ["a"], b"a"])
def test_a_module_is_a_name(module: Any, write: Any) -> None:
    said = refusal(params=write("w.npz", weights()), module=module)
    assert said.endswith("is not allowed; the name of a module, such as encoder.rnn")


def test_a_module_without_a_file_means_nothing() -> None:
    assert refusal(module="rnn") == (
        "module: 'rnn' means nothing without params, of whose file it is a part"
    )


def test_a_module_from_the_command_line_is_repeated_from_its_result(write: Any) -> None:
    path = write("m.safetensors", model())
    words = ["run", "--arch", "lstm", "--steps", "9", "--params", path, "--module"]
    done = CliRunner().invoke(main, [*words, "decoder", "--json"])
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["spec"]["module"] == "decoder"
    again = CliRunner().invoke(main, ["run", "--from", document["result"], "--json"])
    assert json.loads(again.stdout) == document
    assert "module decoder" in Result.read(document["result"]).summary()
    here = seqlab.run(arch="lstm", steps=9, params=path, module="decoder.rnn")
    assert here.spec.hash == Path(document["result"]).stem
    write("m.safetensors", model() | {"embed.weight": np.zeros((2, 3))})  # not what was measured
    assert CliRunner().invoke(main, ["run", "--from", document["result"]]).exit_code == 0
    changed = model() | {f"decoder.rnn.{n}_l0": v for n, v in weights(seed=9).items()}
    write("m.safetensors", changed)
    refused = CliRunner().invoke(main, ["run", "--from", document["result"]])
    assert refused.exit_code == 2
    assert refused.stderr.endswith("m.safetensors has changed since the spec was made\n")
    wrong = CliRunner().invoke(main, [*words, "dec"])
    assert wrong.exit_code == 2
    assert wrong.stderr == (
        "seqlab: error: module: 'dec' holds no lstm in m.safetensors; "
        "allowed: 'encoder.rnn', 'decoder.rnn'\n"
    )


def test_a_study_over_modules(write: Any) -> None:
    write("m.safetensors", model())
    tables = {
        "study": {"name": "modules"},
        "fixed": {"arch": "lstm", "steps": 9, "params": "m.safetensors"},
        "grid": {"module": ["encoder.rnn", "decoder.rnn", "encoder"]},
    }
    study = StudySpec.create(tables)
    assert [spec.module for spec in study.runs] == list(MODEL)
    assert study.notes == ("1 of 3 runs equal another, measured once for both",)
    assert [study.label(spec) for spec in study.runs] == [f"module {name}" for name in MODEL]
