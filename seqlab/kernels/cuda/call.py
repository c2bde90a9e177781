"""One backward call between host and device: the bundle goes over, runs in pieces of time, and
comes back; what is kept of the steps is read off piece by piece, so that memory stays bounded."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.cuda.arrays import along, apart, move
from seqlab.kernels.cuda.chain import rule
from seqlab.kernels.cuda.linalg import product, squares
from seqlab.kernels.cuda.target import Array, empty, on_device, to_device, to_host
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace

KEPT_BYTES = 64 << 20  # of gradients that one launch keeps


class Rows(NamedTuple):
    """The live rows of the bundle on the device, one task each (T = M B live, networks outermost):
    `adjoint` (T, P, H), `exponent`, `fired` and `lag` (T,)."""

    adjoint: Array
    exponent: Array
    fired: Array
    lag: Array


class Loss(NamedTuple):
    """`gradient` (T, n, H) of the outputs of the steps from `first` on, times 2^`exponent`
    (T, n)."""

    gradient: Array
    exponent: Array
    first: int


class Path(NamedTuple):
    """What is written down at each lag of a call, which begins below step `top`: `squares`
    (T, n+1, named parts) and `exponent` (T, n+1)."""

    squares: Array
    exponent: Array
    top: int


class Kept(NamedTuple):
    """Gradients that are kept of a piece's n steps, for the first `rows` rows of each sequence's
    bundle: `values` (M B rows, n, E) at `exponent` (M B rows, n)."""

    values: Array
    exponent: Array
    rows: int


class Piece(NamedTuple):
    """A launch's share of a call: steps hi-1 down to lo."""

    lo: int
    hi: int


class Call:
    """The arrays of one call on the device, see any cell's `backward` for the arguments."""

    def __init__(
        self,
        bundle: Bundle,
        losses: Losses,
        span: Span,
        clip: Clip,
        live: int,
        trace: Trace,
        emitted: Emitted,
    ) -> None:
        self._bundle, self._span = bundle, span
        self._trace, self._emitted = trace, emitted
        self._real = bundle.adjoint.dtype.type
        self._of_inputs = live if trace.exponent.shape[2] or trace.dx.shape[1] else 0
        self._kept = max(self._of_inputs, int(emitted.values.shape[3] > 0))
        self.lead = (*bundle.exponent.shape[:2], live)  # networks, sequences, live rows of each
        tasks = int(np.prod(self.lead))
        adjoint = bundle.adjoint[:, :, :live].reshape(tasks, *bundle.adjoint.shape[3:])
        exponent, fired = bundle.exponent[:, :, :live].ravel(), np.zeros(tasks, np.int64)
        lag = np.tile(bundle.lag[:live], tasks // live)
        self.rows = Rows(*map(to_device, (adjoint, exponent, fired, lag)))
        self.rule = rule(clip, self._real)
        first = span.hi - losses.gradient.shape[1]
        self.loss = Loss(*_by_task(losses, live, self._real), first)
        lags = (tasks, span.hi - span.lo + 1)
        squares = empty((*lags, self.named), self._real)
        self.path = Path(squares, empty(lags, np.int64), span.hi)

    @property
    def named(self) -> int:
        """Parts of the state that have a name."""
        return int(self._trace.squares.shape[2])

    @property
    def keeps_gradients(self) -> bool:
        """Whether any step's gradients are asked for."""
        return self._kept > 0

    def fitting(self, width: int) -> int:
        """Steps that fit KEPT_BYTES when `width` numbers are kept of each."""
        networks, sequences, _ = self.lead
        step = networks * sequences * max(self._kept, 1) * width * np.dtype(self._real).itemsize
        return max(1, KEPT_BYTES // step)

    def pieces(self, steps: int) -> Iterator[Piece]:
        """The call's steps, last first, cut at multiples of `steps`."""
        lo, hi = self._span.lo, self._span.hi
        while hi > lo:
            first = max(lo, (hi - 1) // steps * steps)
            yield Piece(first, hi)
            hi = first

    def room(self, piece: Piece, *shape: int) -> Kept:
        """Room for what is kept of a piece, `shape` of each step."""
        networks, sequences, _ = self.lead
        lead = (networks * sequences * self._kept, piece.hi - piece.lo)
        lead = lead if self.keeps_gradients else (1, 1)
        return Kept(empty((*lead, *shape), self._real), empty(lead, np.int64), self._kept)

    def keep_gradients(self, piece: Piece, kept: Kept, weight: Array) -> None:
        """Read off what was kept of a piece; `weight` (M, K, I) leads its first K numbers to x."""
        networks, sequences, _ = self.lead
        steps = slice(piece.lo - self._span.lo, piece.hi - self._span.lo)
        if self._emitted.values.shape[3]:
            exponent = to_host(kept.exponent).reshape(networks, sequences, kept.rows, -1)
            self._emitted.exponent[:, steps] = exponent[:, :, 0].swapaxes(1, 2)
            values, count, width = self._emitted.values, piece.hi - piece.lo, kept.values.shape[2]
            walk = apart(sequences, count, width, kept.rows)
            shape = (networks, count, sequences, width)
            move(kept.values, walk, values, along(values, steps.start), shape)
        if self._of_inputs:
            dx = product(kept.values.reshape(networks, -1, kept.values.shape[2]), weight)
            if self._trace.exponent.shape[2]:
                self._record_inputs(piece, kept, dx)
            if self._trace.dx.shape[1]:
                shape = (*self.lead, piece.hi - piece.lo)
                theirs = to_host(dx).reshape(*shape, dx.shape[2])
                exponent = to_host(kept.exponent).reshape(shape)
                self._trace.dx[:, steps, :, : kept.rows] = np.moveaxis(theirs, 3, 1)
                self._trace.dx_exponent[:, steps, :, : kept.rows] = np.moveaxis(exponent, 3, 1)

    def _record_inputs(self, piece: Piece, kept: Kept, dx: Array) -> None:
        """Write down the norms of dL/dx of a piece's steps."""
        sums = to_host(squares(dx.reshape(-1, dx.shape[2]))).reshape(*self.lead, -1)
        for row in range(kept.rows):
            points = self._points(row, self._span.hi - piece.hi, piece.hi - piece.lo)
            self._trace.inputs[:, :, points] = sums[:, :, row, ::-1]

    def _points(self, row: int, since: int, count: int) -> slice:
        """Where the trace has a row's `count` lags, from `since` steps into the call."""
        first = int(self._trace.offset[row] + self._bundle.lag[row]) + since
        return slice(first, first + count)

    def finish(self) -> None:
        """Bring the bundle and what was written down back to the host."""
        live = self.lead[2]

        def returned(array: Array) -> NDArray:
            return to_host(array).reshape(*self.lead, *array.shape[1:])

        self._bundle.adjoint[:, :, :live] = returned(self.rows.adjoint)
        self._bundle.exponent[:, :, :live] = returned(self.rows.exponent)
        self._trace.fired[:, :, :live] += returned(self.rows.fired)
        if not self._trace.exponent.shape[2]:
            return
        sums, exponent = returned(self.path.squares), returned(self.path.exponent)
        for row in range(live):
            # What an earlier call ended with stands there, without what a loss adds.
            first = int(self._bundle.lag[row] > 0)
            points = self._points(row, first, exponent.shape[3] - first)
            self._trace.exponent[:, :, points] = exponent[:, :, row, first:]
            self._trace.squares[..., points] = sums[:, :, row, first:].swapaxes(2, 3)


def _by_task(losses: Losses, live: int, real: type) -> tuple[Array, Array]:
    """The live losses' gradients of the outputs (M, n, B, L, H) as the device takes them, task by
    task, (M B live, n, H), and their exponents (M B live, n)."""
    grad: Any = losses.gradient
    steps = grad.shape[1]
    if steps == 0:
        # An empty array has no place on a device; no step is late enough to read these.
        return to_device(np.zeros((1, 1, 1), real)), to_device(np.zeros((1, 1), np.int64))
    exponent = np.moveaxis(losses.exponent[:, :, :, :live], 1, 3).reshape(-1, steps)
    return _gradient_by_task(grad, live, real), to_device(exponent)


def _gradient_by_task(grad: Any, live: int, real: type) -> Array:
    networks, steps, sequences, count, units = grad.shape
    if count > 1:
        moved = np.moveaxis(grad[:, :, :, :live], 1, 3)
        return to_device(moved.reshape(-1, steps, units))
    shape = (networks, steps, sequences, units)
    source, out = on_device(grad).reshape(*shape), empty((networks * sequences, steps, units), real)
    move(source, along(source, 0), out, apart(sequences, steps, units), shape)
    return out
