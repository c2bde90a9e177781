"""Stand-ins for PyTorch's tensors, which the tests do without: what they can do and what they
refuse is what PyTorch 2.13 does."""

from typing import Any

import numpy as np
from naive import Array


class Tensor:
    """A tensor of the CPU; of dtype bfloat16 its numbers are kept as float32."""

    def __init__(self, values: Any, requires_grad: bool = False, dtype: str = "") -> None:
        self.values = np.asarray(values)
        self.requires_grad = requires_grad
        self.dtype = f"torch.{dtype or self.values.dtype}"
        self.shape, self.ndim = self.values.shape, self.values.ndim

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.numpy()

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> "Tensor":
        return Tensor(self.values[index], self.requires_grad, self.dtype.removeprefix("torch."))

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def detach(self) -> "Tensor":
        return type(self)(self.values, False, self.dtype.removeprefix("torch."))

    def cpu(self) -> "Tensor":
        return self

    def float(self) -> "Tensor":
        return type(self)(self.values.astype(np.float32), self.requires_grad)

    def numpy(self) -> Array:
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use detach().")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values

    def numel(self) -> int:
        return self.values.size

    def element_size(self) -> int:
        return 2 if self.dtype == "torch.bfloat16" else self.values.itemsize


class GpuTensor(Tensor):
    """One that lives on a GPU."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.requires_grad:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")
        return {"shape": self.shape}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class Unplaced(Tensor):
    """One that is nowhere."""

    def __dlpack_device__(self) -> tuple[int, int]:
        raise ValueError("Unknown device type meta for Dlpack")

    def cpu(self) -> "Tensor":
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")


def half(values: Array) -> Array:
    """Numbers that bfloat16 can hold, as float32: the upper half of its bits."""
    bits = np.asarray(values, np.float32).view(np.uint32) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32)


# Numbers that all kinds of arrays here can hold; three axes, as x has them.
NUMBERS = np.arange(24.0).reshape(4, 3, 2)


def same_numbers(array: Array, dtype: Any = np.float64) -> bool:
    return type(array) is np.ndarray and array.dtype == dtype and np.array_equal(array, NUMBERS)


def scan_arguments() -> tuple[Array, dict[str, Array]]:
    rng = np.random.default_rng(0)
    shapes = {"u": (2, 3, 4), "delta": (2, 3, 4), "A": (3, 2), "B": (2, 2, 4), "C": (2, 2, 4)}
    shapes |= {"D": (3,), "z": (2, 3, 4), "delta_bias": (3,)}
    grad, *arrays = (rng.normal(size=shape) for shape in ((2, 3, 4), *shapes.values()))
    return grad, dict(zip(shapes, arrays, strict=True))
