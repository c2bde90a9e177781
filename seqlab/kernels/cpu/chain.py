"""What every cell's backward step shares: losses injected, clip rules, rescaling, records."""

import math
from typing import NamedTuple

from seqlab.kernels._jit import inlined
from seqlab.kernels.cpu.linalg import copy, fill
from seqlab.kernels.layout import EMPTY, NONE, STEP_NORM, STEP_VALUE, TRUNCATE, Bundle, Losses

# A direction is rescaled when the square of its norm leaves this window, wide enough to make that
# rare and narrow enough that float32 squares of what matters do not underflow.
LOW, HIGH = 2.0**-60, 2.0**60


class TaskRows(NamedTuple):
    """Of the rows that a task carries back, those of a network from `first` on, `begin` to `end`.

    The task's are one sequence's losses (`across` 0), or one loss of several sequences (`across`
    1), from `sequence` on. Divisions would tell the two apart as well, but took measurable time
    beside a small network's step.
    """

    network: int
    first: int
    begin: int
    end: int
    sequence: int
    across: int


@inlined
def sequence_of(task, r):
    """The sequence of row first + r."""
    return task.sequence + r * task.across


@inlined
def loss_of(task, r):
    """The loss of row first + r."""
    return r - r * task.across


@inlined
def power_of_two(exponent):
    """2^exponent as float64, 0 and inf beyond its range."""
    if exponent > 1023:
        return math.inf  # where Python's own ldexp raises
    return math.ldexp(1.0, int(max(exponent, -1100)))


@inlined
def sum_of_squares(row):
    """Sum of squares of a vector."""
    total = row.dtype.type(0)
    for j in range(row.shape[0]):
        total += row[j] * row[j]
    return total


@inlined
def _measure(state, squares):
    """Sum of squares of each of the P parts of `state` (P*H,) to `squares` (P,), and of all."""
    parts = squares.shape[0]
    # Without a division for each row where there is nothing to divide.
    units = state.shape[0] if parts == 1 else state.shape[0] // parts
    total = 0.0
    for p in range(parts):
        # A view: a loop from p * units on would not vectorise.
        squares[p] = sum_of_squares(state[p * units : (p + 1) * units])
        total += squares[p]
    return total


@inlined
def _rescale(state, exponent):
    """Bring the largest entry of `state`, which has no NaN, into [1/2, 1); return the new
    exponent."""
    largest = 0.0
    for j in range(state.shape[0]):
        largest = max(largest, abs(state[j]))
    if largest == 0.0:
        return EMPTY
    if not math.isfinite(largest):
        return exponent
    shift = math.frexp(largest)[1]
    # In two passes: 2^-shift itself may overflow when the entry is subnormal, and two factors in
    # one pass would be multiplied with each other first.
    half = shift // 2
    for part in (half, shift - half):
        factor = power_of_two(-part)
        for j in range(state.shape[0]):
            state[j] = state[j] * factor
    return exponent + shift


@inlined
def normalise(state, exponent, squares):
    """Rescale `state` (P*H,) if need be, write each part's sum of squares to `squares` (P,).

    Returns the exponent; EMPTY for the zero vector. NaN stays where it is.
    """
    total = _measure(state, squares)
    if LOW < total < HIGH or math.isnan(total):
        return exponent
    exponent = _rescale(state, exponent)
    _measure(state, squares)
    return exponent


@inlined
def _clip_norm(state, exponent, mantissa, limit, squares):
    norm = math.sqrt(_measure(state, squares))
    if not norm > mantissa * power_of_two(limit - exponent):
        return exponent, False
    factor = mantissa / norm
    for j in range(state.shape[0]):
        state[j] = state[j] * factor
    for p in range(squares.shape[0]):
        squares[p] *= factor * factor
    return limit, True


@inlined
def _clip_value(state, exponent, mantissa, limit, squares):
    fired = False
    if exponent > limit:  # what then overflows is above the threshold
        gap = min(exponent - limit, 2000)
        for part in (gap // 2, gap - gap // 2):
            factor = power_of_two(part)
            for j in range(state.shape[0]):
                state[j] = state[j] * factor
        exponent = limit
    threshold = state.dtype.type(mantissa * power_of_two(limit - exponent))
    for j in range(state.shape[0]):
        if state[j] > threshold:
            state[j] = threshold
            fired = True
        elif state[j] < -threshold:
            state[j] = -threshold
            fired = True
    _measure(state, squares)
    return exponent, fired


@inlined
def _clip(state, exponent, clip, lag, squares):
    """Apply an in-chain rule to what was handed to `lag`; return (exponent, whether it acted).

    The row then has the threshold's own exponent: in another one it might underflow.
    """
    if clip.code == TRUNCATE:
        if lag < 2 or (lag - 1) % clip.steps != 0:
            return exponent, False
        fill(state, 0)
        fill(squares, 0.0)
        return EMPTY, True
    if clip.code == STEP_NORM:
        return _clip_norm(state, exponent, clip.mantissa, clip.exponent, squares)
    if clip.code == STEP_VALUE:
        return _clip_value(state, exponent, clip.mantissa, clip.exponent, squares)
    fill(state, math.nan)  # a rule that the host should have refused: not unclipped in silence
    fill(squares, math.nan)
    return exponent, True


@inlined
def is_zero(gradient):
    """Whether a loss gradient is all zero: then nothing is injected and no scale is lost."""
    for j in range(gradient.shape[0]):  # noqa: SIM110
        if gradient[j] != 0:
            return False
    return True


@inlined
def _inject(state, exponent, gradient, given, add_output_gradient, *readout):
    """Add a loss's gradient of the output, times 2^given, to `state` (P*H,); return the
    exponent."""
    if exponent < given:
        factor = power_of_two(exponent - given)
        for j in range(state.shape[0]):
            state[j] = state[j] * factor
        exponent = given
    add_output_gradient(state, gradient, power_of_two(given - exponent), *readout)
    return exponent


@inlined
def asks_for_inputs(trace):
    """Whether a call's trace wants anything of dL/dx."""
    return trace.exponent.shape[2] > 0 or trace.dx.shape[1] > 0


@inlined
def _keep_exponents(rows, trace, index, task):
    """The exponents of dL/dx at a step of the call, if they are wanted."""
    if trace.dx.shape[1] == 0:
        return
    m = task.network
    for r in range(task.begin, task.end):
        exponent = rows.exponent[m, task.first + r]
        trace.dx_exponent[m, index, sequence_of(task, r), loss_of(task, r)] = exponent


@inlined
def record(trace, m, b, point, exponent, squares):
    """Record one row's state adjoint, if the trace has points.

    The trace keeps the parts of the state that have a name; the last one takes all that follow.
    """
    if trace.exponent.shape[2] == 0:
        return
    trace.exponent[m, b, point] = exponent
    named = trace.squares.shape[2]
    for p in range(named):
        trace.squares[m, b, p, point] = squares[p]
    for p in range(named, squares.shape[0]):
        trace.squares[m, b, named - 1, point] += squares[p]


@inlined
def inject_losses(rows, losses, span, step, trace, squares, task, add_output_gradient, *readout):
    """Before a step back, add what the losses give at it to a task's rows.

    `losses` have sequences and losses on one axis, as `rows` do. The adjoint at lag 0 is recorded
    here, every later one by `finish_step`. `squares` (P,) is scratch.
    `add_output_gradient(state, gradient, factor, *readout)` is the cell's: it adds `factor` times
    the way back of its readout to `state` (P*H,), for the gradient of its output.
    """
    index = step - (span.hi - losses.gradient.shape[1])
    if index < 0 and step < span.hi - 1:
        _keep_exponents(rows, trace, step - span.lo, task)
        return
    m = task.network
    for r in range(task.begin, task.end):
        row, loss = task.first + r, loss_of(task, r)
        state, exponent = rows.adjoint[m, row], rows.exponent[m, row]
        has_loss = index >= 0 and not is_zero(losses.gradient[m, index, row])
        if has_loss:
            gradient, given = losses.gradient[m, index, row], losses.exponent[m, index, row]
            exponent = _inject(state, exponent, gradient, given, add_output_gradient, *readout)
        exponent = normalise(state, exponent, squares)
        if has_loss and exponent == EMPTY:
            # A loss that the state does not see may still reach the input.
            exponent = losses.exponent[m, index, row]
        rows.exponent[m, row] = exponent
        if step == span.hi - 1 and rows.lag[loss] == 0:
            record(trace, m, sequence_of(task, r), trace.offset[loss], exponent, squares)
    _keep_exponents(rows, trace, step - span.lo, task)


@inlined
def finish_step(rows, span, step, clip, trace, squares, task):
    """After a step back, rescale, clip and record a task's rows; `squares` (P,) is scratch."""
    m, done = task.network, span.hi - 1 - step
    for r in range(task.begin, task.end):
        row, b, loss = task.first + r, sequence_of(task, r), loss_of(task, r)
        lag = rows.lag[loss] + done
        state = rows.adjoint[m, row]
        exponent = normalise(state, rows.exponent[m, row], squares)
        if clip.code != NONE and exponent != EMPTY:
            exponent, fired = _clip(state, exponent, clip, lag + 1, squares)
            trace.fired[m, b, loss] += fired
        rows.exponent[m, row] = exponent
        record(trace, m, b, trace.offset[loss] + lag + 1, exponent, squares)


@inlined
def record_inputs(rows, span, step, trace, dx, dx0, task):
    """Record the input's part of a step: rows of `dx` from dx0 on, still at the exponent before the
    step, which the trace has."""
    done, m = span.hi - 1 - step, task.network
    for r in range(task.begin, task.end):
        b, loss = sequence_of(task, r), loss_of(task, r)
        if trace.exponent.shape[2] > 0:
            point = trace.offset[loss] + rows.lag[loss] + done
            trace.inputs[m, b, point] = sum_of_squares(dx[dx0 + r])
        if trace.dx.shape[1] > 0:
            copy(dx[dx0 + r], trace.dx[m, step - span.lo, b, loss])


@inlined
def keep_gradient(emitted, m, step, b, exponent, values, at):
    """Keep a part of row 0's gradient of a step, from entry `at` on, for the sums over time."""
    if emitted.values.shape[3] > 0:
        copy(values, emitted.values[m, step, b, at : at + values.shape[0]])
        emitted.exponent[m, step, b] = exponent


def flat_rows(bundle: Bundle, given: Losses) -> tuple[Bundle, Losses]:
    """The same arrays with sequences and losses on one axis, b * L + l, and the state on one."""
    networks, sequences, losses, parts, units = bundle.adjoint.shape
    count = sequences * losses
    rows = Bundle(
        bundle.adjoint.reshape(networks, count, parts * units),
        bundle.exponent.reshape(networks, count),
        bundle.lag,
    )
    lead = (networks, given.gradient.shape[1], count)
    return rows, Losses(given.gradient.reshape(*lead, units), given.exponent.reshape(lead))
