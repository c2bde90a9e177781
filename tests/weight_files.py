"""Files of weights for tests, in every format, and a PyTorch that reads NumPy's files."""

import io
import json
import struct
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from naive import Array
from studies import spec_refusal
from tensors import Tensor, half

from seqlab.cells import CELLS, Sizes
from seqlab.spec.formats import npz
from seqlab.spec.run import RunSpec

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


CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64"}


def safetensors(found: Arrays, bfloat16: bool = False, **changed: Any) -> bytes:
    """A file's bytes as the format has them; `changed` are entries of the header that say other."""
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


def write(name: str, found: Arrays | Array | bytes) -> str:
    """Write a file of a format, by its suffix, where one works; gives its name."""
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


def create(**fields: Any) -> RunSpec:
    return RunSpec.create(**{"arch": "lstm", "steps": 9} | fields)


def refusal(**fields: Any) -> str:
    """The message that the spec is refused with: one line."""
    return spec_refusal(**{"arch": "lstm", "steps": 9} | fields)


def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the numbers of a file is an error."""

    def read(*_: Any) -> None:
        raise AssertionError("numbers were read")

    monkeypatch.setattr(npz, "_read", read)
    monkeypatch.setattr("seqlab.spec.formats.safetensors._read", read)
    monkeypatch.setattr("seqlab.spec.formats.checkpoint._copied", read)


def packed(found: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **found)
    return file.getvalue()
