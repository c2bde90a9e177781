"""What this machine can do at best, on one core, and what a step of a cell needs of it.

Three bounds: streaming the recurrent weights once a step, the operations of the products, and the
exponentials of the gates. Elementwise work other than exponentials, the projection's weights and
what a step saves are not counted: the floor is a little lower than anything can reach.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from seqlab.bench.alone import ONE_THREAD, ask
from seqlab.bench.race import turn
from seqlab.cells import CELLS, Cost, Sizes
from seqlab.errors import InputError
from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.math import exp
from seqlab.kernels.memory import aligned

SECONDS = 0.2  # of one measurement
LANES = 8  # arrays read side by side, each into a sum of its own
PASSES = 64  # over the array in one call
EXPONENTS = 2048  # in an array that fits in L1


@compiled
def _read(lanes: NDArray, passes: int) -> float:
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = lanes.dtype.type(0)
    for _ in range(passes):
        for j in range(lanes.shape[1]):
            s0 += lanes[0, j]
            s1 += lanes[1, j]
            s2 += lanes[2, j]
            s3 += lanes[3, j]
            s4 += lanes[4, j]
            s5 += lanes[5, j]
            s6 += lanes[6, j]
            s7 += lanes[7, j]
    return s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7


@compiled
def _exponentials(x: NDArray, out: NDArray, passes: int) -> None:
    for _ in range(passes):
        for j in range(x.shape[0]):
            out[j] = exp(x[j])


@cache
def stream(size: int, seconds: float = SECONDS) -> float:
    """Bytes a second, reading an array of about `size` bytes over and over."""
    lanes = aligned((LANES, max(1, size // 8 // LANES)), np.float64)
    lanes[:] = 1.0
    _read(lanes, 1)
    return lanes.nbytes * PASSES / turn(lambda: _read(lanes, PASSES), seconds, min)


@cache
def exponential(dtype: str, seconds: float = SECONDS) -> float:
    """Seconds of the lab's own exponential, one of a long vector."""
    x = aligned((EXPONENTS,), np.dtype(dtype))
    x[:] = np.linspace(-20.0, 20.0, EXPONENTS)
    out = aligned((EXPONENTS,), np.dtype(dtype))
    _exponentials(x, out, 1)
    return turn(lambda: _exponentials(x, out, PASSES), seconds, min) / (EXPONENTS * PASSES)


@cache
def product(dtype: str) -> float:
    """Floating-point operations a second of a large product, by NumPy's BLAS on one thread."""
    return float(ask("gemm", ONE_THREAD, dtype=dtype))


@dataclass(frozen=True)
class Work:
    """What a network's steps need: passes over its recurrent weights, operations of products, and
    exponentials."""

    passes: float
    operations: float
    exponentials: float = 0.0


def _cost(cell: str) -> Cost:
    """What a cell's row says of a step; InputError for a cell whose row says nothing."""
    cost = CELLS[cell].cost if cell in CELLS else None
    if cost is None:
        known = ", ".join(name for name, row in CELLS.items() if row.cost is not None)
        raise InputError(f"cell: {cell!r} has no floor; allowed: {known}")
    return cost


def forward(cell: str, sizes: Sizes, batch: int) -> Work:
    """One step forward: W_ih x and W_hh h, 2 G H (I + H) operations for a sequence."""
    cost = _cost(cell)
    rows = batch * cost.blocks * sizes.hidden
    exponentials = batch * cost.exponentials * sizes.hidden
    return Work(1, 2 * rows * (sizes.inputs + sizes.hidden), exponentials)


def backward(cell: str, sizes: Sizes, rows: int, gradients: bool) -> Work:
    """One step back of `rows` adjoints: the products' transposes, and with `gradients` as many
    operations again for the sums of the weights' gradients."""
    operations = forward(cell, sizes, rows).operations
    return Work(1, operations * (2 if gradients else 1))


@dataclass(frozen=True)
class Bounds:
    """Seconds that each bound alone would take, and `floor`: the one of stream and product that
    binds, step by step."""

    stream: float
    product: float
    exponential: float
    floor: float

    def times(self, factor: float) -> "Bounds":
        """The bounds of so many times the work."""
        return Bounds(*(factor * seconds for seconds in vars(self).values()))


def bounds(cell: str, hidden: int, dtype: str, steps: Sequence[tuple[int, Work]]) -> Bounds:
    """The bounds of some numbers of steps, on one core."""
    size = _cost(cell).blocks * hidden * hidden * np.dtype(dtype).itemsize
    each = [
        (count * work.passes * size / stream(size), count * work.operations / product(dtype))
        for count, work in steps
    ]
    exponentials = sum(count * work.exponentials for count, work in steps)
    return Bounds(
        sum(streamed for streamed, _ in each),
        sum(multiplied for _, multiplied in each),
        exponentials * exponential(dtype) if exponentials else 0.0,
        sum(map(max, each)),
    )


def attenuation(
    cell: str, sizes: Sizes, batch: int, lengths: Sequence[int]
) -> list[tuple[int, Work]]:
    """The steps of `seqlab.attenuation`: forward once, then all losses back together, each from
    its own length; `lengths` rise."""
    edges = [0, *lengths]
    back = [
        (end - start, backward(cell, sizes, batch * (len(lengths) - k), gradients=False))
        for k, (start, end) in enumerate(zip(edges, lengths, strict=False))
    ]
    return [(lengths[-1], forward(cell, sizes, batch)), *back]
