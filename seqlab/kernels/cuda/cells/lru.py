"""The linear recurrent unit on a GPU: one segment of time forward, one segment back.

The drives and the outputs are products over all steps; the states, as complex numbers, are parallel
over chunks of time, see diagonal.py. Every state is kept, so that nothing is computed again on the
way back: a block carries one row's adjoint and keeps it at every step, from which the gradients of
all steps follow side by side.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.cells import lru as algebra
from seqlab.kernels.cuda import diagonal
from seqlab.kernels.cuda.arrays import cut
from seqlab.kernels.cuda.call import Call, Kept, Piece
from seqlab.kernels.cuda.linalg import accumulate, add_projected, project, real_type
from seqlab.kernels.cuda.target import (
    Array,
    block_size,
    cuda,
    device,
    empty,
    kernel,
    launch,
    ldexp,
    to_device,
    to_host,
)
from seqlab.kernels.layout import Bundle, Clip, Emitted, Losses, Span, Trace

_state = device(algebra.state)
_adjoint = device(algebra.adjoint)
_eigenvalue_adjoint = device(algebra.eigenvalue_adjoint)


class Weights(NamedTuple):
    """lambda as complex numbers (M, H). Forward `drive` (M, I, 2 H), `skip` (M, I, H) and `readout`
    (M, 2 H, H); back `input_back` (M, 3 H, I) and `readout_back` (M, H, 2 H); and what they are
    made of."""

    eigenvalue: Array
    drive: Array
    skip: Array
    readout: Array
    input_back: Array
    readout_back: Array
    given: algebra.Given


class Saved(NamedTuple):
    """What a forward segment leaves on the device: `first` (M, B, 2, H), the state before it,
    `states` (M, S, B, 2, H), the state after each step, and `y` (M, S, B, H)."""

    first: Array
    states: Array
    y: Array

    @property
    def outputs(self) -> Array:
        """The outputs of the segment (M, S, B, H)."""
        return self.y

    @property
    def coefficients(self) -> NDArray:
        """Of no step's own, (M, S, B, 0, H)."""
        networks, steps, sequences, units = self.y.shape
        return np.empty((networks, steps, sequences, 0, units), self.y.dtype)


class Driven(NamedTuple):
    """lambda (M, H) and the real, then the imaginary parts of the drives (M, S, B, 2 H)."""

    eigenvalue: Array
    drive: Array


class Read(NamedTuple):
    """lambda (M, H) and what the outputs are read with (M, H, 2 H)."""

    eigenvalue: Array
    readout: Array


def _complex(dtype: Any) -> np.dtype:
    """Of two such numbers."""
    return np.result_type(dtype, np.complex64)


def prepare(params: dict[str, NDArray], activation: str | None) -> Weights:
    """Lay one ensemble's parameters out for the kernels."""
    del activation
    dtype, made = params["nu_log"].dtype, algebra.effective(params)
    with np.errstate(over="ignore"):  # overflow is a result
        into, readout = made.input.astype(dtype), made.readout.astype(dtype)
        eigenvalue = _joined(made.eigenvalue).astype(_complex(dtype))
    turned, units = into.swapaxes(1, 2), eigenvalue.shape[1]
    arrays = (turned[:, :, : 2 * units], turned[:, :, 2 * units :], readout.swapaxes(1, 2))
    device_arrays = map(to_device, (eigenvalue, *arrays, into, readout))
    return Weights._make([*device_arrays, algebra.given(params)])


def _joined(planes: NDArray) -> NDArray:
    """Real and imaginary parts (..., 2, H) as complex numbers (..., H)."""
    whole = np.empty((*planes.shape[:-2], planes.shape[-1]), _complex(planes.dtype))
    whole.real, whole.imag = planes[..., 0, :], planes[..., 1, :]
    return whole


def save(lead: tuple[int, int, int], sizes: Sizes, dtype: np.dtype) -> Saved:
    """Room for one segment of (networks, steps, sequences)."""
    networks, _, sequences = lead
    units = sizes.hidden
    shapes = ((networks, sequences, 2, units), (*lead, 2, units), (*lead, units))
    return Saved._make(empty(shape, dtype) for shape in shapes)


def saved_width(sizes: Sizes) -> int:
    """Numbers that a forward step of one sequence saves."""
    return 3 * sizes.hidden


def emitted_width(sizes: Sizes) -> int:
    """Numbers that a backward step leaves for the sums over time: those of the drives, of the
    output and of lambda, 5 H."""
    return 5 * sizes.hidden


@device
def _rate(given, m, n, d):
    """lambda."""
    return given.eigenvalue[m, d]


@device
def _time(given, m, s, b, d):
    """What a step leaves of a state, which is its time."""
    return given.eigenvalue[m, d]


@device
def _decay(rate, time):
    return time


@device
def _product(first, second):
    return first * second


@device
def _step(given, rates, m, s, b, d, state):
    """The mode's state after step s, in place."""
    h, of, units = state[0], rates[0], given.eigenvalue.shape[1]
    v_re, v_im = given.drive[m, s, b, d], given.drive[m, s, b, units + d]
    re, im = _state(h.real, h.imag, of.real, of.imag, v_re, v_im)
    state[0] = complex(re, im)


_LAW = diagonal.Law(_rate, _time, _decay, _step, _product, 1.0)


@device
def _record(given, rates, saved, slot, i, m, s, b, d, state):
    """See `diagonal.replay`: the states."""
    if s == 0:
        saved.first[m, b, 0, d], saved.first[m, b, 1, d] = state[0].real, state[0].imag
    _step(given, rates, m, s, b, d, state)
    saved.states[m, s, b, 0, d], saved.states[m, s, b, 1, d] = state[0].real, state[0].imag


def forward(weights: Weights, x: Array, state: NDArray, saved: Saved) -> None:
    """Run a device's x (M, S, B, I) from `state` (M, B, 2, H), left at the segment's end."""
    networks, steps, sequences, inputs = x.shape
    rows, units = steps * sequences, state.shape[3]
    drive = empty((networks, steps, sequences, 2 * units), real_type(x))
    flat, y = x.reshape(networks, rows, inputs), saved.y.reshape(networks, rows, units)
    project(flat, weights.drive, None, drive.reshape(networks, rows, 2 * units))
    given, end = Driven(weights.eigenvalue, drive), to_device(_joined(state)[:, :, None])
    chunks = -(-steps // diagonal.CHUNK)
    starts = empty((networks, chunks, sequences, 1, units), real_type(end))
    diagonal.join(_LAW, given, steps, end, starts)
    numbers = range(networks * chunks * sequences)
    diagonal.replay(_LAW.rate, _record, given, steps, starts, numbers, saved)
    project(flat, weights.skip, None, y)
    add_projected(saved.states.reshape(networks, rows, 2 * units), 0, weights.readout, y, 0)
    last = to_host(end)[:, :, 0]
    state[:, :, 0], state[:, :, 1] = last.real, last.imag


@device
def _loss_share(p, j, gradient, exponent, given, step, at):
    """To part p of a mode, from all outputs; see `chain`."""
    total, units = type(gradient[0])(0), gradient.shape[0]
    for k in range(units):
        total += gradient[k] * given.readout[at.network, k, p * units + j]
    return ldexp(total, -exponent)


@device
def _shared(given, m, s, b, d, state):
    """Both parts of a mode's adjoint a step earlier; see `diagonal.Back`."""
    of = given.eigenvalue[m, d]
    return _adjoint(state[0, d], state[1, d], of.real, of.imag)


@device
def _carry(given, m, s, b, n, d, g, earlier):
    return earlier[0] if n == 0 else earlier[1]


_BACK = diagonal.Back(_shared, _carry, _loss_share)


@cache
def _gradients(real: type) -> Any:
    zero = real(0)

    @kernel
    def gradients(saved, loss, piece, live, kept, out):
        """What a step gives to the drives, to its output and to lambda, from its adjoint and the
        state before it. A block has one step of one row."""
        steps, sequences = piece.hi - piece.lo, saved.y.shape[2]
        slot, i = cuda.blockIdx.x // steps, cuda.blockIdx.x % steps
        s, group, units = piece.lo + i, slot // kept.rows, saved.y.shape[3]
        m, b, has_loss = group // sequences, group % sequences, s >= loss.first
        task, index = group * live + slot % kept.rows, max(s - loss.first, 0)
        shift = loss.exponent[task, index] - kept.exponent[slot, i] if has_loss else 0
        for d in range(cuda.threadIdx.x, units, cuda.blockDim.x):
            re, im, shown = kept.values[slot, i, 0, d], kept.values[slot, i, 1, d], zero
            if has_loss:
                shown = ldexp(loss.gradient[task, index, d], shift)
            if s > 0:
                h_re, h_im = saved.states[m, s - 1, b, 0, d], saved.states[m, s - 1, b, 1, d]
            else:
                h_re, h_im = saved.first[m, b, 0, d], saved.first[m, b, 1, d]
            out[slot, i, d], out[slot, i, units + d] = re, im
            out[slot, i, 2 * units + d] = shown
            re, im = _eigenvalue_adjoint(re, im, h_re, h_im)
            out[slot, i, 3 * units + d], out[slot, i, 4 * units + d] = re, im

    return gradients


def _step_gradients(saved: Saved, call: Call, piece: Piece, live: int, kept: Kept) -> Kept:
    """What a piece's steps give to all else, from the adjoints that they kept."""
    slots, steps, _, units = kept.values.shape
    real = real_type(kept.values)
    out = empty((slots, steps, 5 * units), real)
    arrays = (saved, call.loss, piece, live, kept, out)
    launch(_gradients(real), slots * steps, block_size(units), *arrays)
    return Kept(out, kept.exponent, kept.rows)


def backward(
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
    call = Call(bundle, losses, span, clip, live, trace, emitted)
    given, width = Read(weights.eigenvalue, weights.readout_back), 7 * bundle.adjoint.shape[4]
    for piece in call.pieces(call.fitting(width) if call.keeps_gradients else span.hi):
        kept = diagonal.back(_BACK, given, call, piece)
        if call.keeps_gradients:
            steps = _step_gradients(saved, call, piece, live, kept)
            call.keep_gradients(piece, steps, weights.input_back)
    call.finish()


def faintest(weights: Weights, saved: Saved, m: int, step: int, b: int) -> float:
    """The smallest |lambda|, which none makes zero: where it is all but zero, a gradient may have
    left the dtype's range."""
    del saved, step, b
    return float(np.abs(to_host(weights.eigenvalue)[m]).min())


def add_gradients(
    weights: Weights,
    saved: Saved,
    x: Array,
    span: Span,
    emitted: Emitted,
    factor: NDArray,
    out: dict[str, NDArray],
) -> None:
    """Add one call's share to the parameter gradients in `out`.

    x (M, T, B, I) is the whole drive; factor (M, n*B + B) brings each emitted step, then each
    carried sum, to the sums' scale.
    """
    networks, steps, sequences, width = emitted.values.shape
    rows, units = steps * sequences, width // 5
    dz, scale = emitted.values.reshape(networks, rows, width), to_device(factor[:, :rows])

    def summed(first: int, last: int, y: Array, start: int) -> NDArray:
        """Of columns first H to last H."""
        flat = y.reshape(networks, -1, y.shape[-1])
        columns = slice(first * units, last * units)
        return to_host(accumulate(dz, columns, scale, flat, start))

    inputs = cut(x, span.start + span.lo, span.start + span.hi)
    states = saved.states.reshape(networks, -1, 2 * units)
    ones = to_device(np.ones((networks, rows, 1), factor.dtype))
    made = algebra.Effective(
        summed(3, 5, ones, 0).reshape(networks, 2, units),
        summed(0, 3, inputs, 0),
        summed(2, 3, states, span.lo * sequences),
    )
    algebra.add_gradients(weights.given, made, out)


def input_gradient(weights: Weights, emitted: Emitted, out: Array) -> None:
    """dL/dx of one call's steps, out (M, n*B, I) there, each at its emitted exponent."""
    # What leads to the input leads what is emitted.
    dz = emitted.values.reshape(*out.shape[:2], emitted.values.shape[3])
    project(dz, weights.input_back, None, out)
