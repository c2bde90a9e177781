"""What the recurrent cells share: saved arrays, projected input, sums of gradients over time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.chain import Here, flat_rows, write_inputs
from seqlab.kernels.cpu.linalg import (
    Strip,
    accumulate,
    add_product,
    copy,
    fill,
    packed,
    project,
    project_back,
)
from seqlab.kernels.cpu.team import Product, helpers_for, recurrent_product, with_helpers
from seqlab.kernels.cpu.threads import group_size, groups, share
from seqlab.kernels.cpu.tile import prefetch
from seqlab.kernels.layout import Bundle, Clip, Emitted, Span, Trace
from seqlab.kernels.memory import LINE, aligned

BLOCK = 16  # steps whose input is projected together
AHEAD = 4  # steps by which the coefficients are asked for on the way back
PANEL = 4  # rows that share one pass over the weights


class Saved(NamedTuple):
    """What a forward segment leaves: `hidden` (M, S+1, B, H), before its first step and after
    each, and the adjoint's `coefficients` (M, S, B, C, H)."""

    hidden: NDArray
    coefficients: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S+1, B, H), after one that comes before it."""
        return self.hidden


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype, coefficients: int) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    return Saved(
        aligned((networks, steps + 1, sequences, sizes.hidden), dtype),
        aligned((networks, steps, sequences, coefficients, sizes.hidden), dtype),
    )


def saved_width(sizes: Sizes, coefficients: int) -> int:
    """Numbers that a forward step of one sequence saves."""
    return (coefficients + 1) * sizes.hidden


def both_ways(*weights: NDArray) -> Iterator[NDArray]:
    """Weights (M, J, K) for products: transposed, for the way forward, then as they are."""
    for weight in weights:
        yield packed(weight.swapaxes(1, 2))
    for weight in weights:
        yield packed(weight)


@inlined
def project_block(x, m, step, first, last, weight, bias, gathered, out):
    """Project the input of up to BLOCK steps of sequences first..last: out (BLOCK * g, J).

    Always whole blocks: a row's bits must not depend on how many steps follow.
    """
    steps = min(BLOCK, x.shape[1] - step)
    group = last - first
    for s in range(steps):
        for b in range(group):
            copy(x[m, step + s, first + b], gathered[s * group + b])
    project(gathered, BLOCK * group, weight, bias, out)


class ForwardScratch(NamedTuple):
    """`gathered` (BLOCK * g, I) and `z` (BLOCK * g, G*H) for a block of g sequences, `candidate`
    (g, H) for the part of z that a GRU's reset gate does not touch; `product` adds W_hh h to z."""

    gathered: NDArray
    z: NDArray
    candidate: NDArray
    product: Product


class BackwardScratch(NamedTuple):
    """For R rows, of one step or a few: `dz` and `dz_input` (R, G*H) of W_hh h and of W_ih x where
    they differ, `dx` (R, I). Besides, `left` (E,) for what is emitted; `squares` (P,); `readout`
    (P,), which says that the output is the first part of the state; `product` adds dz W_hh to the
    adjoint."""

    dz: NDArray
    dz_input: NDArray
    dx: NDArray
    left: NDArray
    squares: NDArray
    readout: NDArray
    product: Product


def forward(
    kernel: Callable[..., None], weights: Any, x: NDArray, state: NDArray, saved: Saved
) -> None:
    """Share a forward segment over threads; see any cell's `forward`."""
    networks, _, sequences, inputs = x.shape
    units, width = weights.recurrent.shape[1:]
    size = group_size(sequences)
    tasks = networks * groups(sequences)
    helpers = helpers_for(weights.recurrent, size, tasks)

    def scratch() -> ForwardScratch:
        z = aligned((BLOCK * size, width), x.dtype)
        return ForwardScratch(
            aligned((BLOCK * size, inputs), x.dtype),
            z,
            aligned((size, units), x.dtype),
            recurrent_product(saved.hidden, weights.recurrent, z, helpers),
        )

    share(with_helpers(kernel, helpers), tasks, scratch, weights, x, state, saved, size)


def backward(
    kernel: Callable[..., None],
    weights: Any,
    saved: Saved,
    bundle: Bundle,
    grad: NDArray,
    span: Span,
    clip: Clip,
    live: int,
    trace: Trace,
    emitted: Emitted,
) -> None:
    """Share a backward call over threads; see any cell's `backward`."""
    networks, sequences, losses, parts, _ = bundle.adjoint.shape
    # The rows of a task share each pass over the weights: one sequence's losses, or, where each
    # has one loss, some sequences.
    size = group_size(sequences) if losses == 1 else 1
    width, inputs = weights.recurrent.shape[2], weights.input.shape[1]
    most, dtype = max(size * live, PANEL), bundle.adjoint.dtype
    rows, gradient = flat_rows(bundle, grad)
    tasks = networks * -(-sequences // size)
    helpers = helpers_for(weights.recurrent_back, size * live, tasks)

    def scratch() -> BackwardScratch:
        readout = np.zeros(parts)
        readout[0] = 1.0
        dz = aligned((most, width), dtype)
        return BackwardScratch(
            dz,
            aligned((most, width), dtype),
            aligned((most, inputs), dtype),
            np.empty(emitted.values.shape[3], dtype),
            np.empty(parts),
            readout,
            recurrent_product(dz, weights.recurrent_back, rows.adjoint, helpers),
        )

    arrays = (weights, saved, rows, gradient, span, clip, trace, emitted)
    share(with_helpers(kernel, helpers), tasks, scratch, *arrays, live, size)


@inlined
def rows_of(task, rows, live, size, sequences):
    """A task's rows: `live` losses each of `size` sequences."""
    losses = rows.lag.shape[0]
    groups = -(-sequences // size)
    sequence = task % groups * size
    count = min(size, sequences - sequence) * live
    return Here(task // groups, sequence * losses, count, sequence, int(losses == 1))


@inlined
def announce(coefficients, m, s, b):
    """Ask for the coefficients of a step soon to come: no hardware foresees the way back."""
    coming = coefficients[m, max(s - AHEAD, 0), b]
    for i in range(0, coming.size, LINE // coming.itemsize):
        prefetch(coming, i)


@inlined
def steps_together(here):
    """Steps whose input is projected back together when a task has few rows: one pass over the
    weights then serves them all."""
    return max(1, PANEL // here.many)


@inlined
def input_norms(weight, dz, rows, span, step, steps, trace, dx, here):
    """Write down the norms of dL/dx of the last `steps` steps, down to `step`.

    dz (steps * count, G*H) and dx (.., I) have the latest of them first.
    """
    if trace.exponent.shape[2] == 0:
        return
    width = dz.shape[1]
    for r in range(steps * here.many):
        fill(dx[r], 0)
    add_product(dz, 0, width, 1, steps * here.many, weight, 0, width, dx, 0)
    for i in range(steps):
        write_inputs(rows, span, step + steps - 1 - i, trace, dx, i * here.many, here)


def faintest(saved: Saved, never_zero: Sequence[int], m: int, step: int, b: int) -> float:
    """The smallest of some coefficients of one sequence's step, see any cell's `faintest`."""
    return float(saved.coefficients[m, step, b, list(never_zero)].min())


def rows_of_steps(steps: NDArray) -> NDArray:
    """(M, n, B, ...) -> (M, n * B, ...), contiguous."""
    steps = np.ascontiguousarray(steps)
    return steps.reshape(len(steps), -1, *steps.shape[3:])


def add_strips(
    hidden: Sequence[Strip],
    inputs: Sequence[Strip],
    saved: Saved,
    x: NDArray,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the four parameter gradients in `out`.

    `hidden` and `inputs` say which of the E emitted numbers are gradients of W_hh h + b_hh and of
    W_ih x + b_ih; x (M, T, B, I) is the whole drive; factor (M, at least n*B) brings each step to
    the sums' common scale.
    """
    dz, sequences = rows_of_steps(emitted.values), x.shape[2]
    sides = (
        ("hh", hidden, saved.hidden, span.lo),
        ("ih", inputs, x, span.start + span.lo),
    )
    for side, strips, y, first in sides:
        weight, bias = out[f"weight_{side}"], out[f"bias_{side}"]
        for strip in strips:
            accumulate(dz, strip, factor, rows_of_steps(y), first * sequences, weight, bias)


def project_strips(
    inputs: Sequence[Strip], weight: NDArray, emitted: Emitted, out: NDArray
) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    out.fill(0)
    for strip in inputs:
        project_back(rows_of_steps(emitted.values), strip, weight, out)


def _everything(weights: Any) -> tuple[Strip, ...]:
    """For a cell whose emitted numbers are all gradients of both products."""
    return (Strip(0, 0, weights.bias.shape[1]),)


def add_gradients(
    weights: Any,
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
    strips = _everything(weights)
    add_strips(strips, strips, saved, x, span, emitted, factor, out)


def input_gradient(weights: Any, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    project_strips(_everything(weights), weights.input_back, emitted, out)
