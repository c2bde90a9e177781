"""PyTorch's checkpoints: read without code, refused where they hold more than tensors."""

import sys
import types
import warnings
from typing import Any

import numpy as np
import pytest
from weight_files import create, model, packed, refusal, weights

from seqlab.errors import Note


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
