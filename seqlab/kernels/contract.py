"""What kernels offer: a cell's kernels, a backend, and the arrays that they work on.

Each class here is the face of a module: a cell's kernels are `kernels/<backend>/cells/<cell>.py`,
a backend is the package `kernels/<backend>`, its arrays `arrays.py` and its bare selective scan
`selective_scan.py` there. A test holds every module to its class.

Axes as in layout.py, and T all steps, I input features, E what a backward step leaves behind.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NewType, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Parameters, Sizes
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace

Item = TypeVar("Item")
Result = TypeVar("Result")

# An ensemble's parameters as one cell's kernels want them; nobody else looks inside.
Weights = NewType("Weights", object)


class Array(Protocol):
    """Numbers where they live: NumPy's array, or one on a GPU."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> np.dtype: ...

    def reshape(self, shape: tuple[int, ...], /) -> Any: ...

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class Saved(Protocol):
    """What a cell's forward pass leaves of one segment, for the way back and for whoever watches;
    the cell's kernels alone know the rest."""

    @property
    def coefficients(self) -> NDArray:
        """What the step back is made of, (M, S, B, C, H) on the host, in the order of the cell's
        row: its theory takes means of them."""
        ...

    @property
    def outputs(self) -> Array:
        """The outputs where the backend keeps them, (M, at least S, B, H): the last S count."""
        ...


class Chain(Protocol):
    """What the engine asks of an architecture, a cell's row or a stack: the names of its state's
    parts, and shapes by its sizes."""

    @property
    def parts(self) -> tuple[str, ...]: ...

    @property
    def shapes(self) -> Callable[[Sizes], dict[str, tuple[int, ...]]]:
        """Of the parameters that all steps share."""
        ...

    @property
    def state_shape(self) -> Callable[[Sizes], tuple[int, int]]:
        """(P, H) of one sequence."""
        ...

    def adjoint_shape(self, sizes: Sizes) -> tuple[int, int]:
        """(P, H) of one sequence's adjoint, which may have fewer parts."""
        ...


class CellKernels(Protocol):
    """One cell's kernels. Whatever is written goes into arrays that the caller gave."""

    def prepare(self, params: Parameters, activation: str | None) -> Weights:
        """Parameters (M, ...) laid out for the kernels, in memory of their own. `activation` is
        None for a cell without the choice."""
        ...

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment; `lead` is (M, S, B)."""
        ...

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that `save` has room for, of one step of one sequence, rounded up."""
        ...

    def emitted_width(self, sizes: Sizes) -> int:
        """E, the numbers that a backward step of one sequence leaves for the sums over time."""
        ...

    def forward(self, weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
        """Run x (M, S, B, I), as `TimeArrays.cut` gives it, from `state` (M, B, P, H), which is
        left at the segment's end. Raises InputError for sizes that the backend cannot take."""
        ...

    def backward(
        self,
        weights: Weights,
        saved: Saved,
        bundle: Bundle,
        losses: Losses,
        span: Span,
        clip: Clip,
        live: int,
        trace: Trace,
        emitted: Emitted,
    ) -> None:
        """Carry the first `live` rows of the bundle from step span.hi back to span.lo.

        Writes the bundle, the trace, and what row 0 leaves to `emitted`.
        """
        ...

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
        """The smallest factor of one sequence's step back, of those that no finite state makes
        zero; None for a cell whose zeros are true."""
        ...

    def add_gradients(
        self,
        weights: Weights,
        saved: Saved,
        x: Array,
        span: Span,
        emitted: Emitted,
        factor: NDArray,
        out: dict[str, NDArray],
    ) -> None:
        """Add one call's share to the parameter gradients `out` (M, ...), float64.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings what each of the call's n
        steps emitted, then what each sequence carried, to the sums' scale.
        """
        ...

    def input_gradient(self, weights: Weights, emitted: Emitted, out: Array) -> None:
        """dL/dx of one call's n steps to `out` (M, n*B, I), each at its emitted exponent."""
        ...


class StackKernels(CellKernels, Protocol):
    """One deep stack's kernels: a cell's whose drive is its layers' numbers, each layer's followed
    by its index, and whose state is (units, C)."""

    def columns(self, dtype: np.dtype) -> int:
        """C, the columns that hold the state's rows; those after the rows count for nothing."""
        ...

    def layer_statistics(self, saved: Any, least: float) -> tuple[NDArray, NDArray]:
        """What is seen of a segment's activations: (M, S + 1, 2), before its first layer and after
        each, ln of the mean square and the mean cosine of two rows; (M, S, 4), the shares of slopes
        that are zero, of units for which all are, of units for which none is, and of slopes that
        are under `least`, nan where a slope is."""
        ...


class TimeArrays(Protocol):
    """Arrays along time, (M, S, B, W), between the drivers and a backend's kernels."""

    def room(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An uninitialised array for what kernels leave, where they want it."""
        ...

    def empty_like(self, shape: tuple[int, ...], dtype: np.dtype, like: Array) -> Any:
        """An uninitialised array for the user, where `like` is, which they gave."""
        ...

    def copied(self, array: Array) -> Array:
        """The same numbers in memory of their own, where they are."""
        ...

    def cut(self, array: Array, first: int, last: int) -> Array:
        """Steps `first` to `last` (exclusive), contiguous, as kernels take them."""
        ...

    def put(self, target: Array, first: int, count: int, part: Array) -> None:
        """The last `count` steps of `part`, from `first` on in `target`, wherever that is."""
        ...

    def scale(self, rows: Array, exponent: NDArray) -> None:
        """Rows (M, n, W) times 2^exponent (M, n), in place; beyond the dtype's range 0 or inf."""
        ...


class Backend(Protocol):
    """How a backend shares work out. None of it changes a number."""

    @property
    def BLOCK_BYTES(self) -> int:
        """Of the trajectories that are worked on together."""
        ...

    def workers(self) -> int:
        """Blocks of networks that are worked on at once."""
        ...

    def side_by_side(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """[work(item) for item in items], `workers` of them at once."""
        ...

    def ahead(
        self, tasks: int, work: Callable[..., Result], *arguments: Any
    ) -> "Future[Result] | None":
        """work(*arguments), of kernels with so many tasks, on a thread that has nothing to do; None
        where there is none."""
        ...


class ScanKernels(Protocol):
    """The bare selective scan, on checked arguments of `seqlab.selective_scan` by name."""

    def forward(self, softplus: bool, **given: Any) -> tuple[Array, Array]:
        """y (batch, D, L) and the last state (batch, D, N)."""
        ...

    def backward(
        self, grad_y: Array, grad_last_state: Array | None, softplus: bool, **given: Any
    ) -> dict[str, Any]:
        """The gradients of sum(y grad_y) + sum(last state grad_last_state), by argument."""
        ...
