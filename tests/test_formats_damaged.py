"""Files that do not fit or are damaged: refused by their headers, before anything is read."""

import io
import json
import struct
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from naive import Array
from weight_files import Arrays, framed, packed, refusal, safetensors, weights

import seqlab
from seqlab.cli import main
from seqlab.errors import InputError
from seqlab.spec.run import RunSpec

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
    assert not changed or path in str(refused.value)


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
