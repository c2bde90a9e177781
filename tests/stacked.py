"""Deep stacks of the naive reference through the lab's engine: their numbers, a run, its way back.

Networks are lists of layers as `naive_depth.draw` gives them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array, Gradients

from seqlab import rules
from seqlab.cells import Sizes
from seqlab.engine import tape as tapes
from seqlab.engine.backward import Sweep
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import backends
from seqlab.kernels.layout import Emitted, Span
from seqlab.layers.stack import Stack

LN2 = math.log(2.0)
ORDER = {
    "transformer": (
        "self_attn.in_proj_weight",
        "self_attn.in_proj_bias",
        "self_attn.out_proj.weight",
        "self_attn.out_proj.bias",
        "linear1.weight",
        "linear1.bias",
        "linear2.weight",
        "linear2.bias",
    )
}
TWO = ("weight", "bias")
DTYPES = pytest.mark.parametrize("dtype", [np.float64, np.float32])

Network = list[Gradients]


def flat(arch: str, layer: Gradients) -> Array:
    """A layer's parameters, or their gradients, as the lab has them in a row."""
    return np.concatenate([layer[name].ravel() for name in ORDER.get(arch, TWO)])


def networks(
    stack: naive.Stack, count: int, depth: int, width: int, init: str = "pytorch", seed: int = 0
) -> list[Network]:
    """Some networks, each from a generator of its own."""
    rngs = [np.random.default_rng([seed, m]) for m in range(count)]
    return [naive.draw(rng, stack, depth, width, init) for rng in rngs]


def columns_first(array: Array, columns: int, pad: float) -> Array:
    """(.., rows, units) as states have them, (.., units, C), with `pad` in the columns between."""
    *lead, rows, units = array.shape
    found = np.full((*lead, units, columns), pad, array.dtype)
    found[..., :rows] = array.swapaxes(-1, -2)
    return found


def inputs(count: int, rows: int, width: int, seed: int = 1) -> Array:
    """h_0 (M, rows, width), normal; a network's do not depend on how many there are."""
    return np.stack(
        [np.random.default_rng([seed, m]).normal(size=(rows, width)) for m in range(count)]
    )


class Way(NamedTuple):
    """A way back. By length: `curves` ln of the norms of dL/dh by lag (M, T + 1), of a growing
    stack's newest features, `weights` the same of all of a layer's gradients. `gradients` by layer
    (M, numbers), of the longest length's loss, as a mantissa and an exponent of two (M,); `last`
    dL/dh_0 (M, losses, rows, units) with ln of its scale (M, losses)."""

    curves: list[Array]
    weights: list[Array]
    gradients: list[tuple[Array, Array]]
    last: tuple[Array, Array]
    lost: Array
    fired: Array

    def gradient(self, layer: int, m: int = 0) -> Array:
        """In float64, where its range holds it."""
        values, exponent = self.gradients[layer]
        return np.asarray(np.ldexp(values[m].astype(float), int(exponent[m])))


class Run:
    """Networks that have gone forward; `of` is the lab's stack, `looked` what was seen of each
    segment's activations."""

    def __init__(
        self,
        stack: naive.Stack,
        layers: Sequence[Network],
        x: Array,
        dtype: Any = np.float64,
        entries: bool = True,
        budget: int = tapes.TRAJECTORY_BYTES,
    ) -> None:
        count, rows, width = x.shape
        depth, dtype = len(layers[0]), np.dtype(dtype)
        self.of = Stack(
            stack.arch,
            depth,
            width,
            rows,
            stack.activation,
            stack.norm,
            stack.place,
            stack.outside,
            stack.alpha,
            stack.heads,
            stack.eps,
        )
        self.entries, self.dtype = entries, dtype
        self.kernels = backends.stack_kernels("cpu", self.of, entries)
        self.columns = self.kernels.columns(dtype)
        numbers = np.zeros((count, depth, 1, self.of.most_numbers + 1), dtype)
        for m, network in enumerate(layers):
            for index, layer in enumerate(network):
                row = flat(stack.arch, layer)
                numbers[m, index, 0, : len(row)], numbers[m, index, 0, -1] = row, index
        state = np.zeros((count, self.of.units, self.columns), dtype)
        state[:, :width, :rows] = x.swapaxes(1, 2)
        sizes = Sizes(self.of.units * self.columns, numbers.shape[3])
        level = Level(self.of, self.kernels, self.kernels.prepare({}, None), sizes)
        self.tape = Tape("cpu", [level], numbers, state.reshape(count, 1, 1, -1), budget=budget)
        self._seen: list[Array] = [state.copy()]
        self.looked: list[tuple[Array, Array]] = []
        self.tape.run(self._observe)

    def _observe(self, saved: Any) -> None:
        count = len(saved.path)
        if not self.of.grows:
            after = saved.outputs.reshape(count, -1, self.of.units, self.columns)
            self._seen += list(after.swapaxes(0, 1).copy())
        self.looked.append(self.kernels.layer_statistics(saved, 0.0))

    def state(self, layer: int, m: int = 0) -> Array:
        """h_layer (rows, units), of a growing stack all features until then."""
        if self.of.grows:
            whole = self.tape.state.reshape(-1, self.of.units, self.columns)
            return whole[m, : self.of.width * (layer + 1), : self.of.rows].T
        return self._seen[layer][m, :, : self.of.rows].T

    def back(
        self,
        readouts: Sequence[Array],
        lengths: Sequence[int] | None = None,
        rule: str = "none",
    ) -> Way:
        """Of the losses sum(readout h_T), readouts (M, rows, units at T), T rising."""
        depth, count = self.of.depth, self.tape.networks
        rising = list(lengths or [depth])
        columns, units = self.columns, self.of.units
        padded = np.zeros((count, len(rising), units, columns), self.dtype)
        for k, readout in enumerate(readouts):
            padded[:, k, : readout.shape[2], : self.of.rows] = readout.swapaxes(1, 2)
        sweep = Sweep(self.tape, rising[::-1], rules.parse(rule), record=True, gradients=True)
        found: list[Any] = [None] * depth

        def loss(first: int, last: int) -> Array:
            gradient = np.zeros((count, int(last in rising), 1, len(rising), units * columns))
            if last in rising:
                k = rising.index(last)
                gradient[:, 0, 0, len(rising) - 1 - k] = padded[:, k].reshape(count, -1)
            return np.asarray(gradient.astype(self.dtype))

        def keep(first: int, emitted: Emitted) -> None:
            for i in range(emitted.exponent.shape[1]):
                size = self.of.numbers(first + i) if self.entries else 2
                values = emitted.values[:, i, 0, :size].copy()
                found[first + i] = values, emitted.exponent[:, i, 0].copy()

        sweep.run(loss, on_gradient=keep)
        trace = sweep.lanes[0].trace

        def logs(squares: Array) -> list[Array]:
            with np.errstate(divide="ignore"):
                log = np.log(squares) / 2 + trace.exponent[:, 0] * LN2
            return np.split(log, trace.offset[1:], axis=1)[::-1]

        rows, exponent = sweep.rows()
        adjoint = rows.reshape(count, len(rising), units, columns)[:, ::-1]
        assert not adjoint[..., self.of.rows :].any()  # of the padding there is none
        last = adjoint[:, :, : self.of.width, : self.of.rows].swapaxes(2, 3)
        return Way(
            logs(trace.squares[:, 0, 0]),
            logs(trace.inputs[:, 0]),
            found,
            (last, exponent[:, 0, ::-1] * LN2),
            sweep.lost[:, 0, ::-1],
            sweep.fired[:, 0, ::-1],
        )

    def by_lag(self, readout: Array) -> list[Array]:
        """dL/dh (M, rows, units) of the loss at the end, by lag, each layer in a call of its own;
        of a growing stack all features until then. In float64, whose range must hold it."""
        count, units = self.tape.networks, self.of.units
        sweep = Sweep(self.tape, [self.of.depth], rules.UNCLIPPED, record=False, gradients=False)
        padded = np.zeros((count, units, self.columns), self.dtype)
        padded[:, : readout.shape[2], : self.of.rows] = readout.swapaxes(1, 2)
        gradient, found = padded.reshape(count, 1, 1, 1, -1), [readout]
        for index, span in sweep.spans():
            for high in range(span.hi, span.lo, -1):
                trail = self.tape.segment(index)
                sweep.back(trail, Span(span.start, high - 1, high), gradient)
                gradient = gradient[:, :0]
                rows, exponent = sweep.rows()
                g = rows.reshape(count, units, self.columns)[..., : self.of.rows]
                scaled = np.ldexp(g.astype(float), exponent[:, 0, 0][:, None, None])
                layer = span.start + high - 1
                born = self.of.width * (layer + 1) if self.of.grows else units
                assert not scaled[:, born:].any()
                found.append(scaled[:, :born].swapaxes(1, 2))
        return found


def readout(run: Run, length: int | None = None, seed: int = 2, last: bool = False) -> Array:
    """Normal, (M, rows, units at a length), of norm one; with `last` of the newest features."""
    length = run.of.depth if length is None else length
    units = run.of.width * (length + 1) if run.of.grows else run.of.width
    found = []
    for m in range(run.tape.networks):
        drawn = np.random.default_rng([seed, m, length]).normal(size=(run.of.rows, units))
        if last:
            drawn[:, : -run.of.width] = 0
        found.append(drawn / np.linalg.norm(drawn))
    return np.stack(found)


def largest_error(have: Array, want: Array) -> float:
    """Relative to the largest entry; the difference itself where all are zero."""
    size = float(np.abs(want).max())
    return float(np.abs(have - want).max()) / (size or 1.0)
