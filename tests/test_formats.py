"""Files of weights and sequences: judged by their headers before anything of them is read."""

import io
import json
import struct
import sys
import tracemalloc
import types
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from naive import Array
from tensors import Tensor, half

import seqlab
from seqlab import values
from seqlab.cells import CELLS, Sizes
from seqlab.cli import main
from seqlab.errors import InputError, Note
from seqlab.spec import arrays
from seqlab.spec.formats import npz
from seqlab.spec.run import RunSpec
from seqlab.spec.study import StudySpec
from seqlab.study.result import Result

Arrays = dict[str, Any]
MODEL = ("encoder.rnn", "decoder.rnn")


def weights(arch: str = "lstm", hidden: int = 4, seed: int = 0, dtype: Any = "float64") -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = CELLS[arch].shapes(Sizes(hidden, 3))
    return {name: half(rng.normal(size=shape)).astype(dtype) for name, shape in shapes.items()}


def model(dtype: Any = "float64") -> Arrays:
    """Two layers and more of a model, by the names of its state_dict."""
    found: Arrays = {"embed.weight": np.ones((9, 3), dtype), "steps": np.ones((), "int64")}
    for seed, module in enumerate(MODEL):
        part = weights(seed=seed, dtype=dtype)
        found |= {f"{module}.{name}_l0": value for name, value in part.items()}
    return found


# safetensors, written as its format says.

CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}


def safetensors(found: Arrays, bfloat16: bool = False, **changed: Any) -> bytes:
    """A file's bytes; `changed` are entries of the header that say something else."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in found.items():
        narrow = bfloat16 and value.dtype == np.float32
        raw = (value.view(np.uint32) >> 16).astype("<u2") if narrow else value
        code = "BF16" if narrow else CODES[str(value.dtype)]
        offsets = [len(data), len(data) + raw.nbytes]
        header[name] = {"dtype": code, "shape": value.shape, "data_offsets": offsets}
        data += raw.tobytes()
    return framed(json.dumps(header | changed).encode(), data)


def framed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


# Checkpoints, with a PyTorch that reads NumPy's files.


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for PyTorch; gives the options that files were loaded with."""
    loaded: list[dict[str, Any]] = []

    def load(path: str, **options: Any) -> Any:
        loaded.append(options)
        with np.load(path, allow_pickle=False) as archive:
            if "object" in archive:
                raise RuntimeError("Weights only load failed.\nIn PyTorch 2.6 ...")
            if "tensor" in archive:
                return Tensor(archive["tensor"])
            nested: dict[Any, Any] = {"epoch": 3, "state_dict": {}, "optimizer": {0: {"state": 1}}}
            nested["state_dict"]["itself"] = nested
            inside = nested["state_dict"] if "nested" in archive else {}
            narrow = "bfloat16" if "narrow" in archive else ""
            for name, value in archive.items():
                if name not in ("narrow", "nested"):
                    inside[name] = Tensor(value, True, narrow)
            return nested if "nested" in archive else inside

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    return loaded


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a file of a format, by its suffix; gives its name in the folder that is worked in."""
    monkeypatch.chdir(tmp_path)

    def save(name: str, found: Arrays | Array | bytes) -> str:
        if isinstance(found, bytes):
            Path(name).write_bytes(found)
        elif name.endswith(".safetensors"):
            assert isinstance(found, dict)
            Path(name).write_bytes(safetensors(found))
        elif isinstance(found, dict):
            with open(name, "wb") as file:
                np.savez(file, **found)
        else:
            np.save(name, found)
        return name

    return save


def create(**fields: Any) -> RunSpec:
    return RunSpec.create(**{"arch": "lstm", "steps": 9} | fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(InputError) as refused:
        create(**fields)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 300
    return message


# What is read from which format.


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt", "pth", "PT"])
@pytest.mark.parametrize("arch", CELLS)
def test_equal_content_is_one_spec_whatever_file_and_names_it_is_in(
    suffix: str, arch: str, write: Any
) -> None:
    plain = weights(arch)
    spec = create(arch=arch, params=write("plain.npz", plain))
    gated = arch != "ssm"
    for spell in ("{}_l0", "{}", "rnn.{}_l0", "a.b.{}") if gated else ("{}", "a.b.{}"):
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


# What is refused by its headers alone.


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the numbers of a file is an error."""

    def read(*_: Any) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr(npz, "_read", read)
    monkeypatch.setattr("seqlab.spec.formats.safetensors._read", read)
    monkeypatch.setattr("seqlab.spec.formats.checkpoint._copied", read)


FILES = [
    ({}, {"weight_ih": np.ones((16, 4))}, "inputs: the 4 of params"),
    ({}, {"weight_hh": np.ones((15, 4))}, "goes with the other arrays"),
    ({}, {"bias_ih": np.ones(17)}, "goes with the other arrays"),
    ({}, {"bias_ih": np.ones((2, 16))}, "has shape (2, 16); allowed: 1 axes"),
    ({}, {"bias_ih": np.ones(0)}, "none of them empty"),
    ({}, {"bias_ih": np.ones(16, "float32")}, "bias_ih is float32; allowed: float64"),
    ({}, {"bias_ih": np.ones(16, "float16")}, "bias_ih is float16; allowed: float64"),
    ({}, {"bias_ih": np.ones(16, "int64")}, "bias_ih is int64; allowed: float64"),
    ({}, {"bias_ho": np.ones(16)}, "'bias_ho' is not of lstm (did you mean "),
    ({}, {"bias_ih": None}, "lacks bias_ih of lstm"),
    ({"hidden": 5}, {}, "hidden: 5 does not match the 4 of params"),
    ({"networks": 2}, {}, "networks: 2 does not match the 1 of params"),
    ({"dtype": "float32"}, {}, "is float64; allowed: float32, the run's dtype"),
    ({"spectrum": 9}, {}, "spectrum: 9 is not allowed; 1 to 8"),
    ({"lengths": [3]}, {}, "lengths: 3 is not allowed as the last"),
    ({"steps": 10}, {}, "steps: 10 does not match the 9 of input"),
]  # fmt: skip


@pytest.mark.usefixtures("unread", "pretended")
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
@pytest.mark.parametrize(("fields", "changed", "said"), FILES)
def test_what_does_not_fit_is_refused_unread(
    suffix: str, fields: Arrays, changed: Arrays, said: str, write: Any
) -> None:
    found = {name: a for name, a in (weights() | changed).items() if a is not None}
    path, sequence = write(f"w.{suffix}", found), write("x.npy", np.ones((9, 1, 3)))

    def check(spec: RunSpec) -> None:
        raise AssertionError("went on")

    with pytest.raises(InputError) as refused:
        RunSpec.create(check, **{"arch": "lstm", "params": path, "input": sequence} | fields)
    assert said in str(refused.value)


@pytest.mark.usefixtures("unread")
def test_a_sequence_that_does_not_fit_is_refused_unread(write: Any) -> None:
    for shape, fields, said in (
        ((9, 3), {}, "input: x.npy has shape (9, 3); allowed"),
        ((0, 1, 3), {}, "none empty"),
        ((9, 1, 3), {"steps": 8}, "steps: 8 does not match the 9 of input x.npy"),
        ((9, 1, 3), {"dtype": "float32"}, "x.npy is float64; allowed: float32"),
    ):
        path = write("x.npy", np.ones(shape))
        assert said in refusal(**{"steps": None, "input": path} | fields)


@pytest.mark.usefixtures("unread", "pretended")
@pytest.mark.parametrize("suffix", ["npz", "safetensors", "pt"])
def test_what_does_not_fit_in_memory_is_refused_unread(
    suffix: str, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sequence = write(f"w.{suffix}", weights()), write("x.npy", np.ones((90, 1, 3)))
    least = sum(value.nbytes for value in weights().values())
    monkeypatch.setattr("seqlab.spec.arrays.available_memory", lambda: least - 1)
    assert refusal(params=path).startswith(f"params: {path} would take 0.0 GiB of memory; 0.0 GiB ")
    assert refusal(input=sequence, steps=None).startswith("input: x.npy would take")


@pytest.mark.usefixtures("unread")
def test_a_run_that_does_not_fit_in_memory_is_refused_with_its_files_unread(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what its headers say: whether the file itself fits is another question."""
    path = write("w.npz", weights(hidden=70))
    monkeypatch.setattr("seqlab.study.limits.available_memory", lambda: 1 << 16)
    with pytest.raises(InputError, match=r"^hidden: 70 is not allowed; the run would take"):
        seqlab.run(arch="lstm", steps=9, params=path)
    words = ["run", "--arch", "lstm", "--steps", "9", "--params", path]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert done.stderr.startswith("seqlab: error: hidden: 70 is not allowed")


def packed(found: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **found)
    return file.getvalue()


BOMB = 1 << 25  # bytes that a few thousand become


@pytest.mark.parametrize("name", ["weight_ih", "stranger", "bias_hh"])
def test_a_file_that_would_grow_is_refused_small(name: str, write: Any) -> None:
    content = packed(weights() | {name: np.zeros((4, BOMB // 32))})
    assert len(content) < BOMB // 100
    path = write("bomb.npz", content)
    tracemalloc.start()
    try:
        refusal(params=path, hidden=4, inputs=3)
        assert tracemalloc.get_traced_memory()[1] < BOMB // 16
    finally:
        tracemalloc.stop()


def npy(value: Array, **header: Any) -> bytes:
    """An array as .npy, whose header may say something else."""
    file = io.BytesIO()
    fields = {"descr": value.dtype.str, "fortran_order": False, "shape": value.shape}
    np.lib.format.write_array_header_1_0(file, fields | header)  # type: ignore[arg-type]
    return file.getvalue() + value.tobytes()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def members(**changed: bytes) -> dict[str, bytes]:
    return {f"{name}.npy": changed.get(name, npy(value)) for name, value in weights().items()}


BIAS = weights()["bias_ih"]
LONG_HEADER = np.lib.format.magic(2, 0) + struct.pack("<I", 1 << 31) + b" " * 100_000
NPY = {
    "too little": npy(BIAS)[:-1],
    "too much": npy(BIAS) + b"\0",
    "a larger shape": npy(BIAS, shape=(17,)),
    "a huge shape": npy(BIAS, shape=(16, 1 << 50)),
    "a negative shape": npy(BIAS, shape=(-16,)),
    "two negative axes": npy(BIAS, shape=(-4, -4)),
    "a wider dtype": npy(BIAS, descr="<c16"),
    "objects": npy(BIAS, descr="|O"),
    "a long header": LONG_HEADER,
    "an unknown version": b"\x93NUMPY\x09\x00" + npy(BIAS)[8:],
    "no header": b"\x93NUMPY\x01\x00",
    "nothing": b"",
}


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("kind", NPY)
def test_an_array_that_is_not_what_its_header_says_is_refused_unread(kind: str, write: Any) -> None:
    path = write("w.npz", zipped(members(bias_ih=NPY[kind])))
    assert refusal(params=path).startswith("params: cannot read w.npz: ")
    path = write("x.npy", NPY[kind])
    assert refusal(input=path).startswith("input: cannot read x.npy: ")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_archives_that_are_no_archives_of_arrays_are_refused(write: Any) -> None:
    file = io.BytesIO(zipped(members()))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("bias_ih.npy", npy(BIAS))
    twice = file.getvalue()
    sound = zipped(members())
    lying = bytearray(sound)
    place = lying.rfind(b"PK\x01\x02", 0, lying.rfind(b"bias_hh.npy"))
    size = struct.unpack_from("<I", lying, place + 24)[0]
    struct.pack_into("<I", lying, place + 24, size + 8)
    for content, said in (
        (twice, "it holds bias_ih twice"),
        (zipped(members() | {"readme.txt": b"hello"}), "readme.txt in it is no array"),
        (bytes(lying), "its header says"),
        (sound[:-40], "not a file of arrays of numbers"),
        (b"PK", "not a file of arrays of numbers"),
        (b"weights", "it is no file of arrays of numbers"),
        (b"", "it is no file of arrays of numbers"),
    ):
        assert refusal(params=write("w.npz", content)).startswith(
            f"params: cannot read w.npz: {said}"
        )


def test_damaged_numbers_are_refused(write: Any) -> None:
    """What the headers do not show: a stream that ends, a checksum that does not fit."""
    sound = zipped(members())
    place = sound.index(b"bias_hh.npy") + len("bias_hh.npy") + 20
    damaged = sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :]
    assert "not a file of arrays of numbers" in refusal(params=write("w.npz", damaged))


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


SAFETENSORS = {
    "too little": safetensors(weights())[:-1],
    "too much": safetensors(weights()) + b"\0",
    "no header": b"\x05\0\0\0\0\0\0\0",
    "a header beyond the file": struct.pack("<Q", 1 << 60) + b"{}",
    "a header of another kind": framed(b"[1, 2]"),
    "no JSON": framed(b"{weights}"),
    "deep": framed(b"[" * 100_000),
    "no entry": framed(b'{"weight_ih": 3}'),
    "a name twice": framed(b'{"a": 1, "a": 1}'),
    "a gap": safetensors(
        weights(), bias_hh={"dtype": "F64", "shape": [15], "data_offsets": [1032, 1152]}
    ),
    "overlapping": safetensors(
        weights(), bias_hh={"dtype": "F64", "shape": [17], "data_offsets": [1016, 1152]}
    ),
    "another shape": safetensors(
        weights(), bias_hh={"dtype": "F64", "shape": [17], "data_offsets": [1024, 1152]}
    ),
    "a negative shape": safetensors(
        weights(), bias_hh={"dtype": "F64", "shape": [-4, -4], "data_offsets": [1024, 1152]}
    ),
    "words for numbers": safetensors(
        weights(), bias_hh={"dtype": "F64", "shape": ["16"], "data_offsets": [1024, 1152]}
    ),
    "nothing": b"",
}


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("kind", SAFETENSORS)
def test_a_damaged_safetensors_file_is_refused_unread(kind: str, write: Any) -> None:
    path = write("w.safetensors", SAFETENSORS[kind])
    assert refusal(params=path).startswith("params: cannot read w.safetensors: ")


def test_the_offsets_above_are_those_of_the_format() -> None:
    """So that each damaged file differs from a sound one in what its name says."""
    content = safetensors(weights())
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert header["bias_hh"]["data_offsets"] == [1024, 1152]


# Checkpoints.


def test_a_checkpoint_is_read_without_code_and_left_in_its_file(
    pretended: list[dict[str, Any]], write: Any
) -> None:
    create(params=write("w.pt", weights()))
    assert pretended == [{"map_location": "cpu", "weights_only": True, "mmap": True}]


@pytest.mark.usefixtures("pretended")
def test_dictionaries_within_a_checkpoint_are_part_of_the_name(write: Any) -> None:
    path = write("w.pt", model() | {"nested": np.ones(1)})
    spec = create(params=path, module="state_dict.encoder.rnn")
    assert spec == create(params=write("plain.npz", weights()))
    said = refusal(params=path, module="encoder.rnn")
    assert said.startswith("module: 'encoder.rnn' holds no lstm in w.pt; allowed: 'state_dict.enc")


@pytest.mark.usefixtures("pretended")
def test_checkpoints_that_are_none_are_refused(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for found, said in (
        ({"object": np.ones(1)}, "it is no file of tensors alone, as model.state_dict() makes one"),
        ({"tensor": np.ones(1)}, "it holds a Tensor; a dictionary of tensors is needed"),
        (b"weights", "it is no file of tensors alone"),
        (packed(weights()), "it would take"),  # PyTorch never compresses
    ):
        path = write("w.pt", found)
        assert refusal(params=path).startswith(f"params: cannot read w.pt: {said}")
    assert refusal(params="none.pt") == "params: cannot read none.pt: No such file or directory"
    monkeypatch.setattr("seqlab.spec.formats.checkpoint.available_memory", lambda: 100)
    path = write("w.pt", weights())
    assert refusal(params=path).startswith("params: cannot read w.pt: it would take")


def test_without_pytorch_a_checkpoint_is_refused_with_the_way_out(
    write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = refusal(params=write("w.pt", weights()))
    assert said == (
        "params: cannot read w.pt: it needs PyTorch, which is not here: pip install torch, "
        "or store .safetensors"
    )


def test_checkpoints_of_pytorch(torch: Any, write: Any) -> None:
    """As PyTorch writes them, now and before 1.6, whole models and other code refused."""
    plain = weights(dtype="float32")
    want = create(params=write("w.npz", plain), dtype="float32")
    state = {name: torch.tensor(value) for name, value in model("float32").items()}
    for name, options in (("new.pt", {}), ("old.pth", {"_use_new_zipfile_serialization": False})):
        torch.save(state, name, **options)
        assert create(params=name, module="encoder", dtype="float32") == want
        torch.save({"model": state, "optimizer": {0: torch.ones(3)}, "epoch": 3}, name, **options)
        assert create(params=name, module="model.encoder.rnn", dtype="float32") == want
        torch.save({"a": types.SimpleNamespace()}, name, **options)
        assert "it is no file of tensors alone" in refusal(params=name)
    torch.save({n: v.to(torch.bfloat16) for n, v in state.items()}, "narrow.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        assert create(params="narrow.pt", module="encoder", dtype="float32") == want


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
