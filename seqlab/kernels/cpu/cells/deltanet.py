"""Gated DeltaNet on the CPU: what is its own beside `diagonal`'s loops over time.

A step's Jacobian is no diagonal one, but the same for all units and known from the input alone:
vector lanes go over units, and chunks, kept states and their second coming are as there.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import deltanet as algebra
from seqlab.cells.deltanet import (
    ALPHA,
    ALPHA_SLOPE,
    BETA,
    BETA_SLOPE,
    LOG_ALPHA,
    PER_KEY,
    PER_QUERY,
    SHARED,
)
from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.delta_steps import activate, advance, over_length, over_length_back
from seqlab.kernels.cpu.delta_steps import step_back as state_step_back
from seqlab.kernels.cpu.diagonal import (
    CHUNK,
    Diagonal,
    StepsBack,
    copy_state,
    kept_shape,
    kept_width,
)
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
from seqlab.kernels.cpu.math import exp, sigmoid_pair, softplus
from seqlab.kernels.layout import Emitted, Span
from seqlab.kernels.memory import aligned, cleared


class Weights(NamedTuple):
    """The layers' weights, one under the other in W = 2K + H + 2 rows: `forward` (M, I, W) with
    `bias` (M, W), which is dt_bias, and `back` (M, W, I); `rate` (M,) = exp(A_log); K."""

    forward: NDArray
    back: NDArray
    bias: NDArray
    rate: NDArray
    keys: int


class Saved(NamedTuple):
    """What a forward segment leaves: the layers' outputs `z` (M, S, B, W) and the head's `y`
    (M, S, B, H); `kept` (M, S/CHUNK, B, K, H), the state before every CHUNK steps."""

    z: NDArray
    y: NDArray
    kept: NDArray

    @property
    def outputs(self) -> NDArray:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """None (M, S, B, 0, H): no mean over time says what a product of matrices is."""
        return self.y[:, :, :, np.newaxis][:, :, :, :0]


class Inputs(NamedTuple):
    """What the input makes of a chunk's steps: the layers' outputs `z` (CHUNK, W); of queries, keys
    and values together, `made` and their `slope` by z (CHUNK, 2K + H), queries and keys not yet
    over their length; and then `q`, `k` (CHUNK, K), `v` (CHUNK, H); `shared` (CHUNK, SHARED)."""

    z: NDArray
    made: NDArray
    slope: NDArray
    q: NDArray
    k: NDArray
    v: NDArray
    shared: NDArray


class ForwardChunk(NamedTuple):
    """One chunk's drive `x` (CHUNK, I) and what it makes; two states in turn, `path` (2, K, H), the
    step's `error` v - alpha S k (1, H), and its output `y` (H,)."""

    x: NDArray
    inputs: Inputs
    path: NDArray
    error: NDArray
    y: NDArray


class BackwardChunk(NamedTuple):
    """One chunk's states before each step and after the last, `path` (CHUNK + 1, K, H), and
    `error` (CHUNK, H); for each live row `dz` (W + 1,), which ends with the share of A_log's
    gradient, and `dx` (I,); `along` (H,) what the key finds in an adjoint, `dkey` (K,)."""

    inputs: Inputs
    path: NDArray
    error: NDArray
    y: NDArray
    dz: NDArray
    dx: NDArray
    along: NDArray
    dkey: NDArray


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    weight, bias = algebra.layers(params)
    rate, keys = np.exp(params["A_log"][:, 0]), params["k_proj_weight"].shape[1]
    forward, back = both_ways(weight)
    return Weights(forward, back, bias, rate, keys)


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    shapes = (*lead, algebra.width(sizes)), (*lead, sizes.hidden)
    return Saved._make(
        aligned(shape, dtype) for shape in (*shapes, kept_shape(lead, sizes.state, sizes.hidden))
    )


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return algebra.width(sizes) + sizes.hidden + kept_width(sizes.state, sizes.hidden)


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: dz, and of A_log."""
    return algebra.width(sizes) + 1


@inlined
def _make_inputs(inputs, rate, count):
    """All that `count` steps take from their layers' outputs."""
    states, units = inputs.q.shape[1], inputs.v.shape[1]
    for s in range(count):
        z, made, shared = inputs.z[s], inputs.made[s], inputs.shared[s]
        activate(z, made, inputs.slope[s])
        shared[PER_QUERY] = over_length(made[:states], inputs.q[s])
        shared[PER_KEY] = over_length(made[states : 2 * states], inputs.k[s])
        copy(made[2 * states :], inputs.v[s])
        a, b = z[2 * states + units], z[2 * states + units + 1]
        beta, rest = sigmoid_pair(b)
        shared[BETA], shared[BETA_SLOPE] = beta, beta * rest
        shared[LOG_ALPHA] = -rate * softplus(a)
        shared[ALPHA] = exp(shared[LOG_ALPHA])
        shared[ALPHA_SLOPE] = -rate * sigmoid_pair(a)[0]


@inlined
def _readout_scale(like, states):
    """1/sqrt K."""
    return like.dtype.type(1 / math.sqrt(states))


@inlined
def _advance(inputs, s, before, error, after, y):
    """One step of a chunk."""
    scale = _readout_scale(y, before.shape[0])
    shared = inputs.shared[s]
    alpha, beta = shared[ALPHA], shared[BETA]
    advance(before, inputs.q[s], inputs.k[s], inputs.v[s], alpha, beta, scale, error, after, y)


@inlined
def _run(weights, x, h, saved, chunk, m, b, first, count):
    """One chunk of one sequence."""
    inputs, path = chunk.inputs, chunk.path
    copy_state(h, saved.kept[m, first // CHUNK, b])
    copy_state(h, path[0])
    for s in range(count):
        copy(x[m, first + s, b], chunk.x[s])
    # Whole chunks: a row's bits must not depend on how many steps follow. What is in the other
    # rows counts for nothing.
    project(chunk.x, CHUNK, weights.forward[m], weights.bias[m], inputs.z)
    _make_inputs(inputs, weights.rate[m], count)
    for s in range(count):
        _advance(inputs, s, path[s % 2], chunk.error[0], path[(s + 1) % 2], chunk.y)
        copy(chunk.y, saved.y[m, first + s, b])
        copy(inputs.z[s], saved.z[m, first + s, b])
    copy_state(path[count % 2], h)


@inlined
def _enter_chunk(weights, saved, chunk, m, b, first, count):
    """The states again."""
    inputs, path = chunk.inputs, chunk.path
    for s in range(count):
        copy(saved.z[m, first + s, b], inputs.z[s])
    _make_inputs(inputs, weights.rate[m], count)
    copy_state(saved.kept[m, first // CHUNK, b], path[0])
    for s in range(count):
        _advance(inputs, s, path[s], chunk.error[s], path[s + 1], chunk.y)


@inlined
def _add_output_gradient(state, gradient, factor, weights, chunk, m, k):
    """y = S q / sqrt K."""
    q, units = chunk.inputs.q[k], gradient.shape[0]
    scale = _readout_scale(q, q.shape[0])
    for n in range(q.shape[0]):
        weight = scale * q[n] * factor
        for d in range(units):
            state[n * units + d] += gradient[d] * weight


@inlined
def _step_back(weights, saved, adjoint, chunk, m, b, s, k, row):
    inputs, along, dkey, dz = chunk.inputs, chunk.along, chunk.dkey, chunk.dz[row]
    states, units = adjoint.shape
    shared, slope = inputs.shared[k], inputs.slope[k]
    alpha, beta = shared[ALPHA], shared[BETA]
    dlog, dbeta = state_step_back(
        adjoint, chunk.path[k], inputs.k[k], chunk.error[k], alpha, beta, along, dkey
    )
    two = 2 * states
    fill(dz[:states], 0)
    over_length_back(dkey, inputs.k[k], shared[PER_KEY], slope[states:two], dz[states:two])
    for d in range(units):
        dz[two + d] = beta * along[d] * slope[two + d]
    dz[two + units] = dlog * shared[ALPHA_SLOPE]
    dz[two + units + 1] = dbeta * shared[BETA_SLOPE]
    dz[two + units + 2] = dlog * shared[LOG_ALPHA]


@inlined
def _readout_back(weights, gradient, factor, chunk, m, k, row):
    """To the query."""
    h, q, dquery = chunk.path[k + 1], chunk.inputs.q[k], chunk.dkey
    states, units = h.shape
    scale = _readout_scale(q, states) * factor
    for n in range(states):
        total = h.dtype.type(0)
        for d in range(units):
            total += gradient[d] * h[n, d]
        dquery[n] = total * scale
    inverse, slope = chunk.inputs.shared[k, PER_QUERY], chunk.inputs.slope[k, :states]
    over_length_back(dquery, q, inverse, slope, chunk.dz[row, :states])


@inlined
def _project_back(weights, chunk, m, live, recorded):
    if recorded:
        for row in range(live):
            fill(chunk.dx[row], 0)
        depth, stride = weights.back.shape[1], chunk.dz.shape[1]
        add_product(chunk.dz, 0, stride, 1, live, weights.back[m], 0, depth, chunk.dx, 0)


def _inputs(weights: Weights, dtype: np.dtype) -> Inputs:
    width, keys = weights.bias.shape[1], weights.keys
    columns = (width, width - 2, width - 2, keys, keys, width - 2 - 2 * keys, SHARED)
    return Inputs._make(aligned((CHUNK, count), dtype) for count in columns)


def _forward_chunk(weights: Weights, dtype: np.dtype) -> ForwardChunk:
    # Rows past the end count for nothing, but must be numbers.
    x, inputs = cleared((CHUNK, weights.forward.shape[1]), dtype), _inputs(weights, dtype)
    units = inputs.v.shape[1]
    shapes = (2, weights.keys, units), (1, units), (units,)
    return ForwardChunk(x, inputs, *(aligned(shape, dtype) for shape in shapes))


def _backward_chunk(weights: Weights, live: int, dtype: np.dtype) -> BackwardChunk:
    (_, width, columns), keys = weights.back.shape, weights.keys
    inputs = _inputs(weights, dtype)
    units = inputs.v.shape[1]
    steps = (CHUNK + 1, keys, units), (CHUNK, units), (units,)
    shapes = (*steps, (live, width + 1), (live, columns), (units,), (keys,))
    return BackwardChunk(inputs, *(aligned(shape, dtype) for shape in shapes))


_steps_back = StepsBack(
    _add_output_gradient,
    _step_back,
    _project_back,
    enter_chunk=_enter_chunk,
    readout_back=_readout_back,
)
_cell = Diagonal(_run, _steps_back, _forward_chunk, _backward_chunk)
forward, backward = _cell.forward, _cell.backward


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smaller factor of one sequence's step, along its key, which no finite state makes zero
    but rounding may: where it is all but zero, a gradient may have left the dtype's range."""
    z, keys = saved.z[m, step, b], weights.keys
    with np.errstate(over="ignore"):
        alpha = np.exp(-weights.rate[m] * np.logaddexp(z.dtype.type(0), z[-2]))
        beta = 1.0 / (1.0 + np.exp(-z[-1]))
    return algebra.faintest(alpha, beta, algebra.unit(z[keys : 2 * keys]))


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
    del saved
    dz, start = rows_of_steps(emitted.values), (span.start + span.lo) * x.shape[2]
    networks, _, width = dz.shape
    weight, bias = np.zeros((networks, width, x.shape[3])), np.zeros((networks, width))
    accumulate(dz, Strip(0, 0, width), factor, rows_of_steps(x), start, weight, bias)
    algebra.add_layers(out, weight, bias, weights.keys)


def input_gradient(weights: Weights, emitted: Emitted, out: NDArray) -> None:
    """dL/dx of one call's steps, out (M, n*B, I), each at its emitted exponent."""
    strip = Strip(0, 0, weights.back.shape[1])
    project_strips(rows_of_steps(emitted.values), (strip,), weights.back, out)
