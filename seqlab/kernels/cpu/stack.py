"""Deep stacks on the CPU, as the engine runs a cell: a layer is a step, its weights are the drive.

A stack has no parameters, so whoever made the kernels has said all, and nobody here looks at the
engine's weights and sizes. The blocks' parts do the work; the chain's rules are every cell's.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Parameters, Sizes
from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.contract import Weights
from seqlab.kernels.cpu.chain import (
    TaskRows,
    finish_step,
    flat_rows,
    inject_losses,
    sum_of_squares,
)
from seqlab.kernels.cpu.layers.linear import Group, Map, panels_of
from seqlab.kernels.cpu.layers.parts import Back, Forward, Part, Size, bound
from seqlab.kernels.cpu.layers.places import View, padded
from seqlab.kernels.cpu.layers.statistics import slope_statistics, state_statistics
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace
from seqlab.layers.stack import Stack

DYING = ("relu", "leaky:0", "prelu:0", "elu:0")  # whose slopes are zero for half of all numbers
NORMS = 2  # what a step back leaves when only norms are asked for: of dL/dW and of dL/db


@dataclass
class Saved:
    """What a forward segment leaves: `x` its layers' numbers; `path` the states, (M, S+1, n, C)
    before its first layer and after each, of a stack that grows all features (M, 1, units, C);
    `kept` what the parts keep, and `past` by layer what they know of it."""

    x: NDArray
    path: NDArray
    kept: list[Any]
    past: list[Any]
    rows: int

    @property
    def outputs(self) -> NDArray:
        """The states after the segment's layers, (M, S, 1, n C)."""
        after = self.path[:, 1:]
        return after.reshape(*after.shape[:2], 1, -1)

    @property
    def coefficients(self) -> NDArray:
        """None: a stack's theory takes its numbers from the spec."""
        return self.path[:, :0]


@inlined
def _add(state, gradient, factor):
    for j in range(gradient.shape[0]):
        state[j] += gradient[j] * factor


@inlined
def _record_newest(rows, trace, m, loss, lag, newest):
    """Of a stack that grows the curve is that of its newest features, numbers `newest` of the
    state; of any other there are none of these, and the whole state's is recorded already."""
    low, high = newest
    if high > 0 and trace.exponent.shape[2] > 0:
        part = rows.adjoint[m, loss, low:high]
        trace.squares[m, 0, 0, trace.offset[loss] + lag] = sum_of_squares(part)


@compiled
def _begin(rows, newest, losses, span, step, trace, live, squares, begin, end):
    for m in range(begin, end):
        task = TaskRows(m, 0, 0, live, 0, 0)
        inject_losses(rows, losses, span, step, trace, squares, task, _add)
        for loss in range(live):
            if step == span.hi - 1 and rows.lag[loss] == 0:
                _record_newest(rows, trace, m, loss, 0, newest)


@compiled
def _record(rows, found, span, group, norms, trace, emitted, live, scratch, begin, end):
    """What the parameters of a group of layers get, at the exponents before the steps, which the
    trace has: for every loss together, of loss 0 the norms of dL/dW and dL/db too where `norms` are
    wanted."""
    for m in range(begin, end):
        for layer in range(group.layers):
            i = group.step + group.layers - 1 - layer
            for loss in range(live):
                of_weights, of_biases = 0.0, 0.0
                for panel in range(found.shape[3]):
                    of_weights += found[m, layer, loss, panel, 0]
                    of_biases += found[m, layer, loss, panel, 1]
                if trace.exponent.shape[2] > 0:
                    point = trace.offset[loss] + rows.lag[loss] + span.hi - 1 - span.lo - i
                    trace.inputs[m, 0, point] = of_weights + of_biases
                if norms and loss == 0:
                    emitted.values[m, i, 0, 0] = math.sqrt(of_weights)
                    emitted.values[m, i, 0, 1] = math.sqrt(of_biases)


@compiled
def _finish(rows, newest, span, step, clip, trace, emitted, live, squares, begin, end):
    for m in range(begin, end):
        if emitted.values.shape[3] > 0:
            emitted.exponent[m, step - span.lo, 0] = rows.exponent[m, 0]
        task = TaskRows(m, 0, 0, live, 0, 0)
        finish_step(rows, span, step, clip, trace, squares, task)
        for loss in range(live):
            _record_newest(rows, trace, m, loss, rows.lag[loss] + span.hi - step, newest)


class StackKernels:
    """One stack's kernels; see `seqlab.kernels.contract.CellKernels`. With `entries` a step back
    leaves the gradients of the layer's numbers for loss 0, else only their norms."""

    def __init__(self, stack: Stack, entries: bool = False) -> None:
        self.stack, self._entries = stack, entries
        self.chain = bound(stack.block, stack.width, stack.rows)

    def columns(self, dtype: np.dtype) -> int:
        """Columns that hold the rows."""
        return padded(self.stack.rows, dtype.itemsize)

    def prepare(self, params: Parameters, activation: str | None) -> Weights:
        """Nothing: all weights are the drive."""
        del params, activation
        return Weights(None)

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, layers, 1)."""
        networks, steps, _ = lead
        stack = self.stack
        size = Size(networks, steps, stack.rows, self.columns(dtype), dtype)
        states = 1 if stack.grows else steps + 1
        path = size.room(states, stack.units, size.columns)
        return Saved(path[:, :0], path, self.chain.room(size), [], stack.rows)

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a layer saves, its own among them."""
        states = self.stack.width + self.chain.width()
        return self.stack.most_numbers + states * (sizes.hidden // self.stack.units)

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a step back leaves."""
        return self.stack.most_numbers if self._entries else NORMS

    def forward(self, weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
        """Run layers x (M, S, 1, I) from `state` (M, 1, 1, units C), left at the segment's end."""
        networks, steps = x.shape[:2]
        path = saved.path
        before = path[:, 0].reshape(networks, 1, 1, -1)
        before[:] = state
        saved.x = x
        for s in range(steps):
            layer = self._layer(x, s)
            source, target = self._around(path, s, layer)
            on = Forward(s, x, self._maps(layer), self.stack.rows)
            saved.past.append(self.chain.forward(on, saved.kept, source, target))
        state[:] = path[:, -1].reshape(state.shape)

    def _layer(self, x: NDArray, s: int) -> int:
        """Which layer of the stack it is: its last number."""
        return int(x[0, s, 0, -1])

    def _maps(self, layer: int) -> list[Map]:
        return _maps(self.stack, layer if self.stack.grows else 0)

    def _around(self, array: NDArray, s: int, layer: int, count: int = 1) -> tuple[View, View]:
        """A layer's input and output."""
        width = self.stack.width
        if self.stack.grows:
            features = (layer + 1) * width
            return View(array, 0, 0, features, count), View(array, 0, features, width, count)
        return View(array, s, 0, width), View(array, s + 1, 0, width)

    def layer_statistics(self, saved: Saved, least: float) -> tuple[NDArray, NDArray]:
        """What is seen of a segment's activations, see `seqlab.kernels.contract.StackKernels`."""
        networks, steps = saved.x.shape[:2]
        states, slopes = np.empty((networks, steps + 1, 2)), np.empty((networks, steps, 4))
        for s in range(steps):
            source, target = self._around(saved.path, s, self._layer(saved.x, s))
            if s == 0:
                newest = source.units - self.stack.width
                first = source._replace(first=newest, units=self.stack.width)
                states[:, 0] = state_statistics(first, saved.rows)
            states[:, s + 1] = state_statistics(target, saved.rows)
            for one in self.chain.slopes(saved.past[s]):
                slopes[:, s] = slope_statistics(one, saved.rows, least)
        return states, slopes

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
        """Carry the first `live` rows of the bundle from step span.hi back to span.lo."""
        networks, count, dtype = len(saved.x), bundle.exponent.shape[2], saved.x.dtype
        rows, given = flat_rows(bundle, losses)
        columns = saved.path.shape[3]
        adjoint = bundle.adjoint.reshape(networks, count, self.stack.units, columns)
        leaves = emitted.values.size > 0
        whole, measured = leaves and self._entries, leaves or trace.exponent.size > 0
        slots = self._slots(bundle.adjoint) if measured else 1
        panels = sum(panels_of(one) for one in self._maps(0)) if measured else 0
        found = np.empty((networks, slots, live, panels, 2))
        values = emitted.values if whole else np.empty((networks, 0, 1, 0), dtype)
        rooms: dict[Part, NDArray] = {}
        for s in range(span.hi - 1, span.lo - 1, -1):
            layer, step, slot = self._layer(saved.x, s), s - span.lo, (span.hi - 1 - s) % slots
            if whole:
                values[:, step, 0, self.stack.numbers(layer) :] = 0
            if s == span.hi - 1 or s >= span.hi - given.gradient.shape[1]:
                newest = self._newest(layer + 1, columns)
                self._share(_begin, rows, newest, given, span, s, trace, live)
            complete = measured and (slot == slots - 1 or s == span.lo)
            group = Group(slot + 1, step, count, whole) if complete else None
            place = (slot, slots, count, rooms, group)
            maps, answers = self._maps(layer), (found, values, self.stack.grows)
            on = Back(s, saved.x, maps, saved.rows, *place, *answers)
            if self.stack.grows:
                into, g = self._around(adjoint, s, layer, live)
                self.chain.back(on, saved.kept, saved.past[s], g, into)
                g.array[:, :live, g.first : g.first + g.units] = 0
            else:
                g = View(adjoint, 0, 0, self.stack.width, live)
                self.chain.back(on, saved.kept, saved.past[s], g, g)
            newest = self._newest(layer, columns)
            self._share(_finish, rows, newest, span, s, clip, trace, emitted, live)
            if group is not None:
                norms = leaves and not whole
                self._share(_record, rows, found, span, group, norms, trace, emitted, live)

    def _slots(self, adjoint: NDArray) -> int:
        """Layers whose gradients are taken together: their adjoints stay in half of the L2 cache.
        Maps of a stack that grows are all different."""
        layer = adjoint.nbytes * self.chain.rooms() // self.stack.width
        return 1 if self.stack.grows else max(1, SHAPES.large // 2 // layer)

    def _newest(self, layer: int, columns: int) -> tuple[int, int]:
        """Where a growing stack's state has what layer `layer` begins with."""
        size = self.stack.width * columns
        return (layer * size, (layer + 1) * size) if self.stack.grows else (0, 0)

    def _share(self, kernel: Any, rows: Bundle, *arguments: Any) -> None:
        """A kernel of the chain, over networks."""
        networks, losses, size = rows.adjoint.shape
        share(kernel, networks, lambda: np.empty(1), rows, *arguments, operations=4 * losses * size)

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
        """The smallest |slope| of a layer of one network; None where zeros are true."""
        if self.stack.activation in DYING:
            return None
        slopes = self.chain.slopes(saved.past[step])
        found = [np.abs(one.array[m, one.s, :, : saved.rows]).min() for one in slopes]
        return float(min(found, default=1.0))

    def add_gradients(
        self,
        weights: Weights,
        saved: Saved,
        x: NDArray,
        span: Span,
        emitted: Emitted,
        factor: NDArray,
        out: dict[str, NDArray],
    ) -> None:
        """Nothing: no parameters are shared by the layers."""

    def input_gradient(self, weights: Weights, emitted: Emitted, out: NDArray) -> None:
        """dL/dx of one call's layers, where they were asked for."""
        out[..., : emitted.values.shape[3]] = emitted.values[:, :, 0]


@cache
def _maps(stack: Stack, layer: int) -> list[Map]:
    """Where a layer's numbers have its maps."""
    found: list[Map] = []
    start = panel = 0
    for one, idle in zip(stack.maps(layer), stack.idle_biases, strict=True):
        bias = start + one.outputs * one.inputs
        found.append(Map(start, bias, one.outputs, one.inputs, panel, idle))
        start, panel = bias + one.outputs, panel + panels_of(found[-1])
    return found
