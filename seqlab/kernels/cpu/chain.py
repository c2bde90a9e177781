"""What every cell's backward step shares: injection, clip rules, rescaling, writing down."""

import math

import numpy as np

from seqlab.kernels._jit import compiled
from seqlab.kernels.cpu.linalg import copy
from seqlab.kernels.layout import EMPTY, NONE, STEP_NORM, TRUNCATE

# A direction is rescaled when the square of its norm leaves this window, wide enough to make that
# rare and narrow enough that float32 squares of what matters do not underflow.
LOW, HIGH = 2.0**-60, 2.0**60


@compiled
def power_of_two(exponent):
    """2^exponent as float64, 0 and inf beyond its range."""
    return math.ldexp(1.0, min(max(exponent, -5000), 5000))


@compiled
def sum_of_squares(row):
    """Sum of squares of a vector."""
    total = row.dtype.type(0)
    for j in range(row.shape[0]):
        total += row[j] * row[j]
    return total


@compiled
def _total(squares):
    total = 0.0
    for p in range(squares.shape[0]):
        total += squares[p]
    return total


@compiled
def _rescale(state, exponent):
    """Bring the largest entry of `state` (P, H) into [1/2, 1); return the new exponent."""
    largest = 0.0
    for p in range(state.shape[0]):
        for j in range(state.shape[1]):
            size = abs(state[p, j])
            # An unordered comparison lets NaN through.
            largest = largest if size <= largest else size
    if largest == 0.0:
        return EMPTY
    if not math.isfinite(largest):
        return exponent
    shift = math.frexp(largest)[1]
    # In two steps: 2^-shift itself may overflow when the entry is subnormal.
    half = shift // 2
    first, second = power_of_two(-half), power_of_two(half - shift)
    for p in range(state.shape[0]):
        for j in range(state.shape[1]):
            state[p, j] = state[p, j] * first * second
    return exponent + shift


@compiled
def normalise(state, exponent, squares):
    """Rescale `state` (P, H) if need be, write each part's sum of squares to `squares` (P,).

    Returns the exponent; EMPTY for the zero vector.
    """
    for p in range(state.shape[0]):
        squares[p] = sum_of_squares(state[p])
    if LOW < _total(squares) < HIGH:
        return exponent
    exponent = _rescale(state, exponent)
    for p in range(state.shape[0]):
        squares[p] = sum_of_squares(state[p])
    return exponent


@compiled
def common_exponent(exponent, state):
    """Scale `state` (P, H) so that a gradient of exponent 0 can be added; return the exponent."""
    if exponent < 0:
        factor = power_of_two(exponent)
        for p in range(state.shape[0]):
            for j in range(state.shape[1]):
                state[p, j] = state[p, j] * factor
        return 0
    return exponent


@compiled
def silent(gradient):
    """Whether a loss gradient (H,) is all zero: then nothing is injected and no scale is lost."""
    for j in range(gradient.shape[0]):  # noqa: SIM110
        if gradient[j] != 0:
            return False
    return True


@compiled
def _clip_norm(state, threshold, squares):
    norm = math.sqrt(_total(squares))
    if not norm > threshold:
        return False
    factor = threshold / norm
    for p in range(state.shape[0]):
        squares[p] *= factor * factor
        for j in range(state.shape[1]):
            state[p, j] = state[p, j] * factor
    return True


@compiled
def _clip_value(state, threshold, squares):
    fired = False
    limit = state.dtype.type(threshold)
    for p in range(state.shape[0]):
        for j in range(state.shape[1]):
            if state[p, j] > limit:
                state[p, j] = limit
                fired = True
            elif state[p, j] < -limit:
                state[p, j] = -limit
                fired = True
        squares[p] = sum_of_squares(state[p])
    return fired


@compiled
def settle(state, exponent, clip, lag, squares):
    """Finish one row's step: rescale, apply the in-chain rule, sum the squares.

    `state` (P, H) is the adjoint handed to `lag`. Returns (exponent, whether the rule acted).
    """
    exponent = normalise(state, exponent, squares)
    if clip.code == NONE or exponent == EMPTY:
        return exponent, False
    if clip.code == TRUNCATE:
        steps = np.int64(clip.threshold)
        if lag < 2 or (lag - 1) % steps != 0:
            return exponent, False
        for p in range(state.shape[0]):
            squares[p] = 0
            for j in range(state.shape[1]):
                state[p, j] = 0
        return EMPTY, True
    threshold = clip.threshold * power_of_two(-exponent)
    if clip.code == STEP_NORM:
        fired = _clip_norm(state, threshold, squares)
    else:
        fired = _clip_value(state, threshold, squares)
    return exponent, fired


@compiled
def inject(state, exponent, gradient, readout):
    """Add the loss's gradient of the output (H,) to the state (P, H); return the exponent.

    `readout` (P,) says how much of each part the output shows.
    """
    if silent(gradient):
        return exponent
    exponent = common_exponent(exponent, state)
    factor = power_of_two(-exponent)
    for p in range(state.shape[0]):
        if readout[p] != 0:
            weight = readout[p] * factor
            for j in range(gradient.shape[0]):
                state[p, j] += gradient[j] * weight
    return exponent


@compiled
def write_state(trace, m, b, row, lag, exponent, squares):
    """Write down one row's state adjoint at `lag`, if anything is to be written.

    The trace keeps the parts of the state that have a name; the last one takes all that follow.
    """
    if trace.exponent.shape[2] == 0:
        return
    trace.exponent[m, b, row, lag] = exponent
    named = trace.squares.shape[4]
    for p in range(named):
        trace.squares[m, b, row, lag, p] = squares[p]
    for p in range(named, squares.shape[0]):
        trace.squares[m, b, row, lag, named - 1] += squares[p]


@compiled
def arrive(bundle, grad, readout, span, step, trace, squares, m, first, last, live):
    """Before a step back, add what the losses give at it.

    `grad` (M, n, B, L, H) belongs to the last n steps before span.hi. The adjoint at the call's
    first step is written down here, every later one by `leave`. `squares` (P,) is scratch.
    """
    index = step - (span.hi - grad.shape[1])
    for b in range(first, last):
        for row in range(live):
            state, exponent = bundle.adjoint[m, b, row], bundle.exponent[m, b, row]
            if index >= 0:
                exponent = inject(state, exponent, grad[m, index, b, row], readout)
            if index >= 0 or step == span.hi - 1:
                exponent = normalise(state, exponent, squares)
                bundle.exponent[m, b, row] = exponent
            if step == span.hi - 1:
                write_state(trace, m, b, row, bundle.lag[row], exponent, squares)


@compiled
def leave(bundle, span, step, clip, trace, dx, squares, m, first, last, live):
    """After a step back, settle each row and write it down.

    `dx` (rows, I) is the input part of the step, still at the exponent before it; `squares` (P,)
    is scratch.
    """
    for b in range(first, last):
        for row in range(live):
            lag = bundle.lag[row] + span.hi - 1 - step
            if trace.exponent.shape[2] > 0:
                trace.inputs[m, b, row, lag] = sum_of_squares(dx[(b - first) * live + row])
            state = bundle.adjoint[m, b, row]
            exponent, fired = settle(state, bundle.exponent[m, b, row], clip, lag + 1, squares)
            bundle.exponent[m, b, row] = exponent
            trace.fired[m, b, row] += fired
            write_state(trace, m, b, row, lag + 1, exponent, squares)


@compiled
def emit(emitted, m, step, b, exponent, values):
    """Keep row 0's gradient of a step for the sums over time."""
    if emitted.values.shape[3] > 0:
        copy(values, emitted.values[m, step, b])
        emitted.exponent[m, step, b] = exponent
