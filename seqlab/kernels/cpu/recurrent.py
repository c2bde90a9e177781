"""The recurrent cells on the CPU: one loop over time forward, one back, for whatever a unit does.

A cell gives its step over units forward and back, each a compiled function, and how its parameters
are laid out; a kernel is made of each. PyTorch's Q gates are one matrix product each way. In some
gates, the last ones, the two products of a step do not simply add (the GRU's candidate, whose reset
gate multiplies the recurrent one alone): their input part is kept apart, so that E = Q + `apart`
pre-activations of a unit have gradients of their own.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells.recurrent import biases
from seqlab.kernels.cpu.chain import flat_rows
from seqlab.kernels.cpu.linalg import Strip, accumulate, both_ways, project_strips, rows_of_steps
from seqlab.kernels.cpu.recurrent_backward import PANEL, BackwardScratch, make_backward
from seqlab.kernels.cpu.recurrent_forward import BLOCK, ForwardScratch, Saved, Weights, make_forward
from seqlab.kernels.cpu.shapes import SHAPES
from seqlab.kernels.cpu.team import APART, board_for, helpers_for
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace
from seqlab.kernels.memory import aligned, cleared


def _group_size(sequences: int, weights: Weights) -> int:
    """Sequences a task takes: few are better spread over threads, unless the weights then come to
    each from beyond its L2 cache."""
    spread = sequences if weights.recurrent[0].nbytes >= SHAPES.large else sequences // 2
    return max(1, min(PANEL, spread))


class Recurrent:
    """The kernels of one recurrent cell, see any backend's cells.

    `gates` is Q and `coefficients` C, of which those in `never_zero` no finite state makes zero; of
    the last `apart` gates the input part is kept apart. Two functions that go into the kernels take
    one sequence's, or one row's, units through a step:

    `step(code, z, z_input, before, after, rest, k)` from z (Q H,), with z_input (apart * H,),
    h_{t-1} in `before` (H,) and the further parts of the state `rest` (P-1, H): writes h_t to
    `after` (H,), the further parts in place, and the adjoint's coefficients k (C, H);

    `step_back(dh, rest, k, dz, dz_input)` from the adjoint dh (H,) of h_t and that of the further
    parts, `rest` ((P-1) H,): leaves in both what goes back without the recurrent weights; writes
    dz (Q, H) of the recurrent product and, if any are apart, dz_input (Q, H) of the input's.
    """

    def __init__(
        self,
        gates: int,
        coefficients: int,
        never_zero: Sequence[int],
        step: Callable[..., None],
        step_back: Callable[..., None],
        apart: int = 0,
    ) -> None:
        self._gates, self._coefficients, self._never_zero = gates, coefficients, list(never_zero)
        self._apart = apart
        self._forward, self._backward = make_forward(step, apart), make_backward(step_back, apart)

    def prepare(self, params: dict[str, NDArray], activation: str | None) -> Weights:
        """Lay one ensemble's parameters out for the kernels."""
        del activation
        joined = (self._gates - self._apart) * params["weight_hh"].shape[2]
        into, recurrent_bias = biases(params)
        bias = into.copy()
        bias[:, :joined] += recurrent_bias[:, :joined]
        ways = both_ways(params["weight_hh"], params["weight_ih"])
        apart_bias = np.ascontiguousarray(recurrent_bias[:, joined:])
        return Weights._make([*ways, bias, apart_bias, 0])

    def save(self, lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
        """Room for one segment of (networks, steps, sequences)."""
        networks, steps, sequences = lead
        return Saved(
            aligned((networks, steps + 1, sequences, sizes.hidden), dtype),
            aligned((networks, steps, sequences, self._coefficients, sizes.hidden), dtype),
        )

    def saved_width(self, sizes: Sizes) -> int:
        """Numbers that a forward step of one sequence saves."""
        return (self._coefficients + 1) * sizes.hidden

    def emitted_width(self, sizes: Sizes) -> int:
        """Numbers that a backward step leaves for the sums over time, E H."""
        return (self._gates + self._apart) * sizes.hidden

    def forward(self, weights: Weights, x: NDArray, state: NDArray, saved: Saved) -> None:
        """Run x (M, S, B, I) from `state` (M, B, P, H), which is left at the segment's end."""
        networks, _, sequences, inputs = x.shape
        units, width = weights.recurrent.shape[1:]
        size = _group_size(sequences, weights)
        tasks = networks * -(-sequences // size)
        helpers = helpers_for(weights.recurrent, size, tasks)

        def scratch() -> ForwardScratch:
            return ForwardScratch(
                cleared((BLOCK * size, inputs), x.dtype),  # rows past the end count for nothing
                aligned((BLOCK * size, width), x.dtype),
                aligned((size, self._apart * units), x.dtype),
                board_for(helpers),
            )

        share(self._forward.by(helpers), tasks, scratch, weights, x, state, saved, size)

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
        networks, sequences, count, _, _ = bundle.adjoint.shape
        # The rows of a task share each pass over the weights: one sequence's losses, or, where each
        # has one loss, some sequences.
        size = _group_size(sequences, weights) if count == 1 else 1
        width, inputs = weights.recurrent.shape[2], weights.input.shape[1]
        most, dtype = max(size * live, PANEL), bundle.adjoint.dtype
        rows, given = flat_rows(bundle, losses)
        tasks = networks * -(-sequences // size)
        helpers = helpers_for(weights.recurrent_back, size * live, tasks)

        def scratch() -> BackwardScratch:
            dz = aligned((most, width), dtype)
            return BackwardScratch(
                dz,
                aligned((most, width), dtype) if self._apart else dz,
                aligned((most, inputs), dtype),
                np.empty(APART * (1 + helpers)),
                board_for(helpers),
            )

        arrays = (weights, saved, rows, given, span, clip, trace, emitted)
        share(self._backward.by(helpers), tasks, scratch, *arrays, live, size)

    def faintest(self, weights: Weights, saved: Saved, m: int, step: int, b: int) -> float | None:
        """The smallest factor of one sequence's step back among those that no finite state makes
        zero: where it is all but zero, a gradient may have left the dtype's range."""
        del weights
        return float(saved.coefficients[m, step, b, self._never_zero].min())

    def _input_strips(self, units: int) -> tuple[Strip, ...]:
        """Where a step's emitted numbers have the gradients of W_ih x + b_ih."""
        width, apart = self._gates * units, self._apart * units
        joined = Strip(0, 0, width - apart)
        return (joined, Strip(width, width - apart, apart)) if apart else (joined,)

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
        """Add one call's share to the parameters' gradients in `out`.

        x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
        carried sum, to the sums' scale.
        """
        units, width = weights.recurrent.shape[1:]
        dz, sequences = rows_of_steps(emitted.values), x.shape[2]
        into, within = biases(out)
        sides = (
            ("hh", (Strip(0, 0, width),), saved.hidden, span.lo, within),
            ("ih", self._input_strips(units), x, span.start + span.lo, into),
        )
        for side, strips, y, first, bias in sides:
            weight = out[f"weight_{side}"]
            for strip in strips:
                accumulate(dz, strip, factor, rows_of_steps(y), first * sequences, weight, bias)

    def input_gradient(self, weights: Weights, emitted: Emitted, out: NDArray) -> None:
        """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
        strips = self._input_strips(weights.recurrent.shape[1])
        project_strips(rows_of_steps(emitted.values), strips, weights.input_back, out)
