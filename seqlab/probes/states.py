"""States of any form: tensors in tuples, lists and dictionaries, and the adjoint of them all as one
vector with one power of two."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.values import named
from seqlab.wording import refuse

Tensor = Any  # torch.Tensor, which is not imported for its name
State = Any
_CONSTANTS = (bool, int, float, str, type(None))
# An adjoint is rescaled when its largest entry leaves this window: rare, and far from every limit.
LOW, HIGH = 2.0**-30, 2.0**30


def is_tensor(value: object) -> bool:
    return hasattr(value, "is_floating_point") and hasattr(value, "requires_grad")


def each(state: State, change: Callable[[Tensor], Any]) -> State:
    """The same form with every tensor changed.

    Raises InputError for whatever is no tensor, number, text or None, nor a tuple, list or
    dictionary of them.
    """
    if is_tensor(state):
        return change(state)
    if isinstance(state, dict):
        return {key: each(value, change) for key, value in state.items()}
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(each(value, change) for value in state))
    if isinstance(state, list | tuple):
        return type(state)(each(value, change) for value in state)
    if isinstance(state, _CONSTANTS):
        return state
    raise refuse(
        "state",
        type(state).__name__,
        "tensors are needed, or tuples, lists or dictionaries of tensors; another class needs an "
        "adapter that takes it apart",
    )


def named_tensors(state: State, name: str = "state") -> Iterator[tuple[str, Tensor]]:
    """Every tensor with a gradient and its place as Python spells it: `state[0]['h']`, `state.c`.

    Whole numbers, such as a counter, and tensors without entries are part of the state but not of
    its adjoint.
    """
    if is_tensor(state):
        if state.is_complex():
            raise refuse(name, named(state.dtype), "a real state is needed")
        if has_gradient(state):
            yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from named_tensors(value, f"{name}[{key!r}]")
    elif isinstance(state, list | tuple):
        keys = getattr(state, "_fields", None)
        for i, value in enumerate(state):
            yield from named_tensors(value, f"{name}.{keys[i]}" if keys else f"{name}[{i}]")


def has_gradient(tensor: Tensor) -> bool:
    """Whether a tensor has entries of floating point."""
    return bool(tensor.is_floating_point() and tensor.numel())


def tensors_of(state: State) -> list[Tensor]:
    return [tensor for _, tensor in named_tensors(state)]


def kept(state: State) -> State:
    """The same numbers apart from everything that might change or hold them."""
    return each(state, lambda tensor: tensor.detach().clone())


def with_leaves(state: State) -> tuple[State, list[Tensor]]:
    """The state as the start of a graph, and what its gradients are asked of, in order.

    The state is a copy of these leaves, so that a module may change it in place.
    """
    leaves = []

    def start(tensor: Tensor) -> Tensor:
        if not has_gradient(tensor):
            return tensor.clone()
        leaves.append(tensor.detach().requires_grad_())
        return leaves[-1].clone()

    return each(state, start), leaves


class Part(NamedTuple):
    """A named part of the vector that a state's adjoint is: so many entries, in order."""

    name: str
    size: int


class Layout:
    """How the tensors of a state lie in one vector of n entries, and where its parts begin.

    Raises InputError for a state without numbers, or with several dtypes or devices.
    """

    def __init__(self, tensors: Sequence[Tensor], parts: Sequence[Part]) -> None:
        for what in ("dtype", "device"):
            found = {named(getattr(tensor, what)) for tensor in tensors}
            if len(found) > 1:
                raise refuse(
                    "state", ", ".join(sorted(found)), f"one {what} for all tensors is needed"
                )
            if "float16" in found:  # but not bfloat16, which has the range of float32
                raise refuse("state", "float16", "its range is too small; use float32 or float64")
        if not any(tensor.numel() for tensor in tensors):
            raise refuse("state", "nothing", "a state of floating-point numbers is needed")
        self.shapes = [tuple(tensor.shape) for tensor in tensors]
        self.sizes = [tensor.numel() for tensor in tensors]
        self.parts = [part.name for part in parts]
        self._part_sizes = [part.size for part in parts]
        self._starts = np.concatenate([[0], np.cumsum(self._part_sizes)[:-1]])

    def joined(self, gradients: Sequence[Tensor | None], like: Tensor) -> Tensor:
        """One vector (n,) of a state's gradients, None where nothing came."""
        import torch

        return torch.cat(
            [
                like.new_zeros(size) if gradient is None else gradient.detach().reshape(-1)
                for gradient, size in zip(gradients, self.sizes, strict=True)
            ]
        )

    def apart(self, vector: Tensor) -> list[Tensor]:
        """The vector's pieces in the tensors' shapes."""
        pieces = vector.split(self.sizes)
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def log_norms(self, values: NDArray) -> tuple[float, NDArray]:
        """Natural log of the norm of float64 values (n,), and of each part's, (P,).

        Each part is measured in units of its own, so that its squares cannot underflow beside a
        greater one. -inf is an exact zero.
        """
        magnitudes = np.abs(values)
        shifts = np.frexp(np.maximum.reduceat(magnitudes, self._starts))[1]
        units = np.ldexp(magnitudes, -np.repeat(shifts, self._part_sizes))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(np.add.reduceat(units * units, self._starts)) + shifts * math.log(4)
            return float(np.logaddexp.reduce(logs)) / 2, logs / 2


def log_norm_of(values: NDArray) -> float:
    """Natural log of the norm of float64 values (n,), whose squares may be beyond every float."""
    peak = peak_of(values)
    if not 0 < peak < math.inf:
        return -math.inf if peak == 0 else math.nan
    shift = math.frexp(peak)[1]
    return math.log(float(np.linalg.norm(np.ldexp(values, -shift)))) + shift * math.log(2)


def on_host(vector: Tensor) -> NDArray:
    """The values as float64, sharing memory where they can."""
    values: NDArray = vector.detach().double().cpu().numpy()
    return values


def peak_of(values: NDArray) -> float:
    """The largest magnitude; nan where one is."""
    return float(np.abs(values).max())


def rescaled(vector: Tensor, peak: float) -> tuple[Tensor, int]:
    """The vector with its largest entry, `peak` above 0 and finite, near one; and the exponent of
    the power of two that it has lost."""
    if LOW <= peak <= HIGH:
        return vector, 0
    shift = math.frexp(peak)[1]
    # In two factors: one alone leaves the dtype's range when entries are subnormal.
    half = shift // 2
    return vector * 2.0**-half * 2.0 ** (half - shift), shift
