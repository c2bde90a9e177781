"""The linear recurrent unit on the CPU: what is its own beside `diagonal`'s loops over time. The
input's products and the outputs of a chunk are made at once; every state is kept, of which the
outputs' parameters want to know, so that nothing is computed again on the way back."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import lru as algebra
from seqlab.kernels._jit import inlined, inlined_apart
from seqlab.kernels.cpu.diagonal import CHUNK, Diagonal, StepsBack, copy_state
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

_state = inlined(algebra.state)
_adjoint = inlined(algebra.adjoint)
_eigenvalue_adjoint = inlined(algebra.eigenvalue_adjoint)


class Weights(NamedTuple):
    """`eigenvalue` (M, 2, H); `input` (M, I, 3 H) for the drives and for D x, and `readout`
    (M, 2 H, H), for the way forward, and turned for the way back; what they are made of."""

    eigenvalue: NDArray
    input: NDArray
    readout: NDArray
    input_back: NDArray
    readout_back: NDArray
    given: algebra.Given


class Saved(NamedTuple):
    """What a forward segment leaves: `states` (M, S+1, B, 2, H), before its first step and after
    each, and `y` (M, S, B, H)."""

    states: NDArray
    y: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """Of no step's own, (M, S, B, 0, H)."""
        networks, steps, sequences, units = self.y.shape
        return np.empty((networks, steps, sequences, 0, units), self.y.dtype)


class ForwardChunk(NamedTuple):
    """One chunk's input `x` (CHUNK, I), its products `z` (CHUNK, 3 H), which are the drives and D
    x, the states after each step `path` (CHUNK, 2, H) and `y` (CHUNK, H); `none` a bias of
    zeros."""

    x: NDArray
    z: NDArray
    path: NDArray
    y: NDArray
    none: NDArray


class BackwardChunk(NamedTuple):
    """One chunk's states before each step, `path` (CHUNK, 2, H); a loss's `gradient` (1, H); and
    for each live row the gradients of one step, `dz` (3 H,) and `dx` (I,)."""

    path: NDArray
    gradient: NDArray
    dz: NDArray
    dx: NDArray


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    dtype, made = params["nu_log"].dtype, algebra.effective(params)
    with np.errstate(over="ignore"):  # overflow is a result
        eigenvalue, *matrices = (array.astype(dtype) for array in made)
    return Weights._make([eigenvalue, *both_ways(*matrices), algebra.given(params)])


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, steps, sequences = lead
    units = sizes.hidden
    states = aligned((networks, steps + 1, sequences, 2, units), dtype)
    return Saved(states, aligned((*lead, units), dtype))


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return 3 * sizes.hidden


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: those of the drives and of the
    output, 3 H."""
    return 3 * sizes.hidden


@inlined_apart
def _step(h, eigenvalue, z):
    """h (2, H), which becomes h_t; z (3 H,) begins with the drives."""
    units = h.shape[1]
    for j in range(units):
        h[0, j], h[1, j] = _state(
            h[0, j], h[1, j], eigenvalue[0, j], eigenvalue[1, j], z[j], z[units + j]
        )


@inlined
def _run(weights, x, h, saved, chunk, m, b, first, count):
    """One chunk of one sequence."""
    units = h.shape[1]
    if first == 0:
        copy_state(h, saved.states[m, 0, b])
    for s in range(count):
        copy(x[m, first + s, b], chunk.x[s])
    # Whole chunks: a row's bits must not depend on how many steps follow. What is in the other
    # rows counts for nothing.
    project(chunk.x, CHUNK, weights.input[m], chunk.none, chunk.z)
    for s in range(count):
        _step(h, weights.eigenvalue[m], chunk.z[s])
        copy_state(h, chunk.path[s])
        copy_state(h, saved.states[m, first + s + 1, b])
    for s in range(CHUNK):
        copy(chunk.z[s, 2 * units :], chunk.y[s])
    wide = 2 * units
    add_product(chunk.path, 0, wide, 1, CHUNK, weights.readout[m], 0, wide, chunk.y, 0)
    for s in range(count):
        copy(chunk.y[s], saved.y[m, first + s, b])


@inlined
def _enter_chunk(weights, saved, chunk, m, b, first, count):
    """The states."""
    for s in range(count):
        copy_state(saved.states[m, first + s, b], chunk.path[s])


@inlined
def _add_output_gradient(state, gradient, factor, weights, chunk, m, k):
    """y = Re(C h) + D x."""
    units = gradient.shape[0]
    for j in range(units):
        chunk.gradient[0, j] = gradient[j] * factor
    out, weight = state.reshape(1, 2 * units), weights.readout_back[m]
    add_product(chunk.gradient, 0, units, 1, 1, weight, 0, units, out, 0)


@inlined_apart
def _add(adjoint, h, total):
    """total (2, H) += dL/d(lambda) of a step, from h_{t-1} (2, H)."""
    for j in range(total.shape[1]):
        re, im = _eigenvalue_adjoint(adjoint[0, j], adjoint[1, j], h[0, j], h[1, j])
        total[0, j] += re
        total[1, j] += im


@inlined
def _add_to_total(adjoint, chunk, k, total):
    """dL/d(lambda)."""
    _add(adjoint, chunk.path[k], total)


@inlined_apart
def _back(adjoint, eigenvalue, dz):
    """dL/dh_t (2, H) -> dL/dh_{t-1} in place; dz (3 H,) has that of the drives, and no output's."""
    units = adjoint.shape[1]
    for j in range(units):
        re, im = adjoint[0, j], adjoint[1, j]
        dz[j], dz[units + j], dz[2 * units + j] = re, im, 0
        adjoint[0, j], adjoint[1, j] = _adjoint(re, im, eigenvalue[0, j], eigenvalue[1, j])


@inlined
def _step_back(weights, saved, adjoint, chunk, m, b, s, k, row):
    _back(adjoint, weights.eigenvalue[m], chunk.dz[row])


@inlined
def _readout_back(weights, gradient, factor, chunk, m, k, row):
    """To the output, whose parameters and D x have it from there."""
    units = gradient.shape[0]
    for j in range(units):
        chunk.dz[row, 2 * units + j] = gradient[j] * factor


@inlined
def _project_back(weights, chunk, m, live, recorded):
    if recorded:
        for row in range(live):
            fill(chunk.dx[row], 0)
        width = chunk.dz.shape[1]
        add_product(chunk.dz, 0, width, 1, live, weights.input_back[m], 0, width, chunk.dx, 0)


def _forward_chunk(weights: Weights, dtype: np.dtype) -> ForwardChunk:
    inputs, width = weights.input.shape[1:]
    units = width // 3
    # Rows past the end count for nothing, but must be numbers.
    shapes = ((CHUNK, inputs), (CHUNK, width), (CHUNK, 2, units), (CHUNK, units), (width,))
    return ForwardChunk._make(cleared(shape, dtype) for shape in shapes)


def _backward_chunk(weights: Weights, live: int, dtype: np.dtype) -> BackwardChunk:
    width, inputs = weights.input_back.shape[1:]
    units = width // 3
    shapes = ((CHUNK, 2, units), (1, units), (live, width), (live, inputs))
    return BackwardChunk._make(aligned(shape, dtype) for shape in shapes)


_steps_back = StepsBack(
    _add_output_gradient,
    _step_back,
    _project_back,
    enter_chunk=_enter_chunk,
    add_to_total=_add_to_total,
    readout_back=_readout_back,
)
_cell = Diagonal(_run, _steps_back, _forward_chunk, _backward_chunk)
forward, backward = _cell.forward, _cell.backward


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest |lambda|, which none makes zero: where it is all but zero, a gradient may have
    left the dtype's range."""
    del saved, step, b
    return float(np.hypot(*weights.eigenvalue[m]).min())


def add_gradients(
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
    networks, _, sequences, width = emitted.values.shape
    dz, units = rows_of_steps(emitted.values), width // 3
    into, no_bias = np.zeros((networks, width, x.shape[3])), np.zeros((networks, width))
    readout = np.zeros((networks, units, 2 * units))
    states = saved.states.reshape(networks, -1, 2 * units)
    first, start = (span.lo + 1) * sequences, (span.start + span.lo) * sequences
    accumulate(dz, Strip(0, 0, width), factor, rows_of_steps(x), start, into, no_bias)
    accumulate(dz, Strip(2 * units, 0, units), factor, states, first, readout, no_bias)
    with np.errstate(over="ignore", invalid="ignore"):  # overflow is a result
        eigenvalue = np.einsum("mb,mbpj->mpj", factor[:, dz.shape[1] :], emitted.carried)
    algebra.add_gradients(weights.given, algebra.Effective(eigenvalue, into, readout), out)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    strip = Strip(0, 0, weights.input_back.shape[1])
    project_strips(rows_of_steps(emitted.values), (strip,), weights.input_back, out)
