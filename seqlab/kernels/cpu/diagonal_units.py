"""Cells of one state a unit that is their output, on the CPU: h_t = a(z_t) h_{t-1} + b(z_t), unit
by unit, where z = W x + b comes from the input alone.

Every state is kept, as an output, so that nothing is computed again on the way back.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.diagonal import CHUNK, Diagonal, StepsBack
from seqlab.kernels.cpu.linalg import (
    Strip,
    accumulate,
    add_product,
    both_ways,
    copy,
    fill,
    project,
    project_strips,
    rows_of_steps,
)
from seqlab.kernels.layout import Emitted, Span
from seqlab.kernels.memory import aligned, cleared


class Weights(NamedTuple):
    """The layers' weights, one under the other: `forward` (M, I, Q H) with `bias` (M, Q H) and
    `back` (M, Q H, I)."""

    forward: NDArray
    back: NDArray
    bias: NDArray


class Saved(NamedTuple):
    """What a forward segment leaves: the outputs `hidden` (M, S, B, H) and the adjoint's
    `coefficients` (M, S, B, C, H)."""

    hidden: NDArray
    coefficients: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S, B, H)."""
        return self.hidden


class ForwardChunk(NamedTuple):
    """One chunk's input `x` (CHUNK, I) and pre-activations `z` (CHUNK, Q H)."""

    x: NDArray
    z: NDArray


class BackwardChunk(NamedTuple):
    """For each live row the gradients `dz` (Q H,) and `dx` (I,) of one step."""

    dz: NDArray
    dx: NDArray


@inlined
def _add_output_gradient(state, gradient, factor, weights, chunk, m, k):
    """The output is the state."""
    for j in range(gradient.shape[0]):
        state[j] += gradient[j] * factor


@inlined
def _project_back(weights, chunk, m, live, recorded):
    if recorded:
        for row in range(live):
            fill(chunk.dx[row], 0)
        width = chunk.dz.shape[1]
        add_product(chunk.dz, 0, width, 1, live, weights.back[m], 0, width, chunk.dx, 0)


def _make_run(step: Callable[..., None]) -> Callable[..., None]:
    @inlined
    def run(weights, x, h, saved, chunk, m, b, first, count):
        """One chunk of one sequence."""
        for s in range(count):
            copy(x[m, first + s, b], chunk.x[s])
        # Whole chunks: a row's bits must not depend on how many steps follow. What is in the other
        # rows counts for nothing.
        project(chunk.x, CHUNK, weights.forward[m], weights.bias[m], chunk.z)
        for s in range(count):
            step(chunk.z[s], h[0], saved.coefficients[m, first + s, b])
            copy(h[0], saved.hidden[m, first + s, b])

    return run


def _make_step_back(step_back: Callable[..., None]) -> Callable[..., None]:
    @inlined
    def back(weights, saved, adjoint, chunk, m, b, s, k, row):
        step_back(adjoint[0], saved.coefficients[m, s, b], chunk.dz[row])

    return back


class DiagonalUnits:
    """The kernels of one such cell, see any backend's cells.

    `layers` names the Q linear layers of the input, each with parameters of its own,
    `<layer>_weight` (H, I) and `<layer>_bias` (H,); `coefficients` is C, of which those in
    `never_zero` no finite state makes zero. Two functions that go into the kernels take one
    sequence's, or one row's, units through a step:

    `step(z, h, k)` from z (Q H,): h (H,) in place; writes the adjoint's coefficients k (C, H);

    `step_back(dh, k, dz)`: the adjoint dh (H,) of h_t becomes that of h_{t-1}; writes dz (Q H,).
    """

    def __init__(
        self,
        layers: Sequence[str],
        coefficients: int,
        never_zero: Sequence[int],
        step: Callable[..., None],
        step_back: Callable[..., None],
    ) -> None:
        self._layers, self._coefficients = layers, coefficients
        self._never_zero = list(never_zero)
        steps_back = StepsBack(_add_output_gradient, _make_step_back(step_back), _project_back)
        self._cell = Diagonal(_make_run(step), steps_back, _forward_chunk, _backward_chunk)
        self.forward, self.backward = self._cell.forward, self._cell.backward

    def prepare(self, params: dict[str, NDArray], activation: str | None) -> Weights:
        """Lay one ensemble's parameters out for the kernels."""
        del activation
        weight, bias = (
            np.concatenate([params[f"{layer}_{kind}"] for layer in self._layers], axis=1)
            for kind in ("weight", "bias")
        )
        return Weights._make([*both_ways(weight), bias])

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, steps, sequences)."""
        units = sizes.hidden
        shapes = ((*lead, units), (*lead, self._coefficients, units))
        return Saved._make(aligned(shape, dtype) for shape in shapes)

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a forward step of one sequence saves."""
        return (self._coefficients + 1) * sizes.hidden

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a backward step leaves for the sums over time, Q H."""
        return len(self._layers) * sizes.hidden

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
        """The smallest factor of one sequence's step back among those that no finite state makes
        zero: where it is all but zero, a gradient may have left the dtype's range."""
        del weights
        return float(saved.coefficients[m, step, b, self._never_zero].min())

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
        """Add one call's share to the parameter gradients in `out`.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
        carried sum, to the sums' scale.
        """
        del weights, saved
        dz, y = rows_of_steps(emitted.values), rows_of_steps(x)
        units, start = dz.shape[2] // len(self._layers), (span.start + span.lo) * x.shape[2]
        for q, layer in enumerate(self._layers):
            weight, bias = out[f"{layer}_weight"], out[f"{layer}_bias"]
            accumulate(dz, Strip(q * units, 0, units), factor, y, start, weight, bias)

    def input_gradient(self, weights: Weights, emitted: Emitted, out: NDArray) -> None:
        """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
        strip = Strip(0, 0, weights.back.shape[1])
        project_strips(rows_of_steps(emitted.values), (strip,), weights.back, out)


def _forward_chunk(weights: Weights, dtype: np.dtype) -> ForwardChunk:
    inputs, width = weights.forward.shape[1:]
    # Rows past the end count for nothing, but must be numbers.
    return ForwardChunk(cleared((CHUNK, inputs), dtype), aligned((CHUNK, width), dtype))


def _backward_chunk(weights: Weights, live: int, dtype: np.dtype) -> BackwardChunk:
    width, inputs = weights.back.shape[1:]
    return BackwardChunk(aligned((live, width), dtype), aligned((live, inputs), dtype))
