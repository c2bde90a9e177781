"""PyTorch's checkpoints (.pt, .pth), read by PyTorch itself: tensors alone, never code."""

import os
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from numpy.typing import NDArray

from seqlab.host import available_memory
from seqlab.spec.formats.stored import Archive, Stored, Unreadable
from seqlab.values import as_array, named


def archive(path: str | os.PathLike[str]) -> Archive:
    """The tensors of a checkpoint by name; those in dictionaries within it by `outer.inner`.

    Raises Unreadable without PyTorch, and where the file holds more than tensors.
    """
    try:
        import torch
    except ImportError:
        raise Unreadable(
            "it needs PyTorch, which is not here: pip install torch, or store .safetensors"
        ) from None
    try:
        content = torch.load(
            os.fspath(path), map_location="cpu", weights_only=True, mmap=_is_mappable(path)
        )
    except (OSError, MemoryError, Unreadable):
        raise
    except Exception:  # of pickle, of zip, of PyTorch's own
        raise Unreadable(
            "it is no file of tensors alone, as model.state_dict() makes one"
        ) from None
    if not isinstance(content, Mapping):
        raise Unreadable(f"it holds a {type(content).__name__}; a dictionary of tensors is needed")
    return {name: _described(name, tensor) for name, tensor in _tensors(content)}


def _is_mappable(path: str | os.PathLike[str]) -> bool:
    """Whether its numbers can stay in the file until they are wanted: all but those of PyTorch
    before 1.6. Raises Unreadable for one that would grow in memory."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as members:
        sizes = [info.file_size for info in members.infolist()]
        packed = any(info.compress_type != zipfile.ZIP_STORED for info in members.infolist())
    room = available_memory()
    if packed or (room is not None and sum(sizes) > room):
        raise Unreadable(f"it would take {sum(sizes)} bytes")
    return True


def _tensors(content: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Every tensor in a dictionary and those within it, each dictionary once."""
    seen, left = set(), [("", content)]
    while left:
        prefix, inner = left.pop()
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        for key, value in inner.items():
            if isinstance(value, Mapping):
                left.append((f"{prefix}{key}.", value))
            elif hasattr(value, "detach"):
                yield f"{prefix}{key}", value


def _described(name: str, tensor: Any) -> Stored:
    dtype, size = named(tensor.dtype), tensor.numel() * tensor.element_size()
    read = partial(_copied, name, tensor)
    if dtype == "bfloat16":
        return Stored("float32", tuple(tensor.shape), 4 * size, read)
    return Stored(dtype, tuple(tensor.shape), size, read)


def _copied(name: str, tensor: Any) -> NDArray:
    """The numbers themselves: those in a file could change under a run."""
    return as_array(name, tensor).copy()
