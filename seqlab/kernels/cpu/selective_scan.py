"""The bare selective scan on the CPU, in mamba_ssm's layout: time innermost in memory.

A task is one sequence and as many channels as there are lanes. It takes CHUNK steps at a time:
reads them into scratch with channels innermost, does everything there, writes the results back.
The way back keeps the state before each chunk and runs the chunk again.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined
from seqlab.kernels.cpu.diagonal import CHUNK
from seqlab.kernels.cpu.selective_scan_chunk import (
    Chunk,
    Path,
    clear,
    copy_rows,
    discretise,
    finish,
    gate,
    gate_back,
    lanes,
    move,
    new_chunk,
    new_path,
    prefetch_block,
    read,
    scale,
    show,
    task_channels,
    write,
)
from seqlab.kernels.cpu.selective_scan_states import advance, back, skip_ahead
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.memory import aligned

TOGETHER = 4  # chunks whose sums over time go to float64 at once


class Arguments(NamedTuple):
    """u, delta, z (batch, D, L), z empty without a gate; a (1, D, N); b, c (batch, N, L); skip,
    bias (1, D, 1); initial (batch, D, N), empty for a state of zeros. Or each task's share of their
    gradients: then the first axis of a, skip and bias, in float64, is the batch, and b and c are
    (tasks, N, whole chunks)."""

    u: NDArray
    delta: NDArray
    a: NDArray
    b: NDArray
    c: NDArray
    skip: NDArray
    z: NDArray
    bias: NDArray
    initial: NDArray


class Totals(NamedTuple):
    """A task's gradients that are sums over time, in float64: a (N, lanes); skip, bias (1, lanes).

    Some chunks' share is added at once: a million steps added in float32 would lose half of its
    digits.
    """

    a: NDArray
    skip: NDArray
    bias: NDArray


@inlined
def _place(arguments, task):
    """A task's sequence, first channel and number of channels."""
    channels, most = arguments.u.shape[1], lanes(arguments.u)
    blocks = -(-channels // most)
    first = task % blocks * most
    return task // blocks, first, min(most, channels - first)


@inlined
def _read_state(states, place, target):
    """A task's part of states (batch, D, N) to (N, lanes); zeros where there are none."""
    if states.size > 0:
        read(states, place, (0, target.shape[0]), target)
    else:
        clear(target)


@inlined
def _start(arguments, place, chunk, path):
    """Bring a task to its first step."""
    _, first, width = place
    read(arguments.a, (0, first, width), (0, chunk.a.shape[0]), chunk.a)
    scale(chunk.a, path)
    read(arguments.skip, (0, first, width), (0, 1), chunk.skip)
    read(arguments.bias, (0, first, width), (0, 1), chunk.bias)
    _read_state(arguments.initial, place, chunk.h)


@inlined
def _span(length, k):
    """First step and number of steps of chunk k."""
    return k * CHUNK, min(CHUNK, length - k * CHUNK)


@inlined
def _load(arguments, soft, place, span, coming, chunk, path):
    """The steps of `span` made ready for the states; those of `coming` are wanted next. Whether
    all decays are normal numbers."""
    shared = (place[0], 0, chunk.h.shape[0])
    read(arguments.u, place, span, chunk.u)
    read(arguments.delta, place, span, chunk.delta)
    prefetch_block(arguments.u, place, coming)
    prefetch_block(arguments.delta, place, coming)
    prefetch_block(arguments.b, shared, coming)
    prefetch_block(arguments.c, shared, coming)
    return discretise(chunk, path, span[1], soft)


@inlined
def _scan(arguments, normal, place, span, chunk, path):
    """The steps of `span` from chunk.h on, to y without its gate; reads the gate's argument."""
    show(chunk, span[1])
    advance(chunk, path, arguments.b[place[0]], arguments.c[place[0]], span, normal)
    if arguments.z.size > 0:
        read(arguments.z, place, span, chunk.z)


@compiled
def _forward(arguments, soft, y, last, scratch, begin, end):
    chunk, path = scratch
    length = y.shape[2]
    chunks = -(-length // CHUNK)
    for task in range(begin, end):
        place = _place(arguments, task)
        _start(arguments, place, chunk, path)
        for k in range(chunks):
            span, coming = _span(length, k), _span(length, min(k + 1, chunks - 1))
            prefetch_block(y, place, span)
            normal = _load(arguments, soft, place, span, coming, chunk, path)
            _scan(arguments, normal, place, span, chunk, path)
            if arguments.z.size > 0:
                gate(chunk, span[1])
            write(chunk.y, place, span, y)
        write(chunk.h, place, (0, last.shape[2]), last)


@inlined
def _scan_back(arguments, soft, task, place, span, coming, kept, grad_y, out, chunk, path, grad):
    """The steps of `span` back, from the state before them in `kept`."""
    count, states = span[1], (task, 0, chunk.h.shape[0])
    prefetch_block(out.u, place, span)
    prefetch_block(out.delta, place, span)
    prefetch_block(out.b, states, span)
    prefetch_block(out.c, states, span)
    prefetch_block(grad_y, place, coming)
    normal = _load(arguments, soft, place, span, coming, chunk, path)
    read(grad_y, place, span, grad.y)
    copy_rows(kept, chunk.h)
    if arguments.z.size > 0:
        _scan(arguments, normal, place, span, chunk, path)
        copy_rows(kept, chunk.h)
        gate_back(chunk, grad, count)
    clear(grad.delta)
    clear(grad.drive)
    b, c = arguments.b[place[0]], arguments.c[place[0]]
    back(chunk, path, grad, b, c, span, normal, out.b[task], out.c[task])
    finish(chunk, grad, path.slope, count)


@compiled
def _backward(arguments, soft, grad_y, grad_last, out, scratch, begin, end):
    chunk, path, grad, total, kept = scratch  # kept (chunks, N, lanes): the state before each chunk
    length, (chunks, states, _) = grad_y.shape[2], kept.shape
    for task in range(begin, end):
        place = _place(arguments, task)
        _start(arguments, place, chunk, path)
        for k in range(chunks):
            copy_rows(chunk.h, kept[k])
            if k < chunks - 1:
                span, coming = _span(length, k), _span(length, k + 1)
                normal = _load(arguments, soft, place, span, coming, chunk, path)
                skip_ahead(chunk, path, arguments.b[place[0]], span, normal)
        clear(grad.a)
        _read_state(grad_last, place, grad.h)
        clear(grad.skip)
        clear(grad.bias)
        clear(total.a)
        clear(total.skip)
        clear(total.bias)
        for k in range(chunks - 1, -1, -1):
            span, coming = _span(length, k), _span(length, max(k - 1, 0))
            _scan_back(
                arguments, soft, task, place, span, coming, kept[k], grad_y, out, chunk, path, grad
            )
            if k % TOGETHER == 0:
                move(grad.a, total.a)
                move(grad.skip, total.skip)
                move(grad.bias, total.bias)
            write(grad.u, place, span, out.u)
            write(grad.delta, place, span, out.delta)
            if out.z.size > 0:
                write(grad.z, place, span, out.z)
        write(grad.h, place, (0, states), out.initial)
        write(total.a, place, (0, states), out.a)
        write(total.skip, place, (0, 1), out.skip)
        write(total.bias, place, (0, 1), out.bias)


def _arguments(
    u: NDArray,
    delta: NDArray,
    A: NDArray,
    B: NDArray,
    C: NDArray,
    D: NDArray | None,
    z: NDArray | None,
    delta_bias: NDArray | None,
    initial_state: NDArray | None,
) -> Arguments:
    def of_channel(value: NDArray | None) -> NDArray:
        shape = (1, u.shape[1], 1)
        return np.zeros(shape, u.dtype) if value is None else value.reshape(shape)

    gate, initial = (_or_empty(value, u) for value in (z, initial_state))
    channel = (of_channel(D), gate, of_channel(delta_bias))
    return Arguments(u, delta, A[None], B, C, *channel, initial)


def _or_empty(value: NDArray | None, like: NDArray) -> NDArray:
    """An array with three axes for a kernel, empty for none."""
    return np.empty((0, 0, 0), like.dtype) if value is None else value


def _blocks(u: NDArray) -> int:
    """Tasks that one sequence makes."""
    return -(-u.shape[1] // task_channels(u))


def forward(softplus: bool, **given: Any) -> tuple[NDArray, NDArray]:
    """y (batch, D, L) and the last state (batch, D, N) from checked arguments of
    `seqlab.selective_scan`."""
    arguments = _arguments(**given)
    y = np.empty_like(arguments.u)
    last = np.empty((*y.shape[:2], arguments.a.shape[2]), y.dtype)

    def scratch() -> tuple[Chunk, Path]:
        return new_chunk(arguments.a.shape[2], y), new_path(y)

    share(_forward, len(y) * _blocks(y), scratch, arguments, softplus, y, last)
    return y, last


def backward(
    grad_y: NDArray, grad_last_state: NDArray | None, softplus: bool, **given: Any
) -> dict[str, NDArray]:
    """The gradients of sum(y grad_y) + sum(last state grad_last_state), with the arguments' names
    and shapes.

    Sums over tasks run in the order of tasks, whichever thread each ran on.
    """
    arguments = _arguments(**given)
    batch, channels, length = grad_y.shape
    blocks, states, dtype = _blocks(grad_y), arguments.a.shape[2], grad_y.dtype
    chunks = -(-length // CHUNK)
    shares = (batch * blocks, states, chunks * CHUNK)
    out = Arguments(
        u=np.empty_like(grad_y),
        delta=np.empty_like(grad_y),
        a=np.empty((batch, channels, states)),
        b=aligned(shares, dtype),
        c=aligned(shares, dtype),
        skip=np.empty((batch, channels, 1)),
        z=np.empty_like(arguments.z),
        bias=np.empty((batch, channels, 1)),
        initial=np.empty((batch, channels, states), dtype),
    )

    def scratch() -> tuple[Chunk, Path, Chunk, Totals, NDArray]:
        chunk, grad = new_chunk(states, grad_y), new_chunk(states, grad_y)
        sums = (grad.a, grad.skip, grad.bias)
        total = Totals._make(aligned(part.shape, np.float64) for part in sums)
        return chunk, new_path(grad_y), grad, total, aligned((chunks, *chunk.h.shape), dtype)

    def over_blocks(shares: NDArray) -> NDArray:
        parts = shares[..., :length].reshape(batch, blocks, states, length)
        if blocks <= 2:  # a single rounding in any dtype
            return parts.sum(axis=1)
        return parts.sum(axis=1, dtype=np.float64).astype(dtype)

    grad_last = _or_empty(grad_last_state, grad_y)
    share(_backward, batch * blocks, scratch, arguments, softplus, grad_y, grad_last, out)
    return {
        "u": out.u,
        "delta": out.delta,
        "A": out.a.sum(axis=0).astype(dtype),
        "B": over_blocks(out.b),
        "C": over_blocks(out.c),
        "D": out.skip.sum(axis=(0, 2)).astype(dtype),
        "z": out.z,
        "delta_bias": out.bias.sum(axis=(0, 2)).astype(dtype),
        "initial_state": out.initial,
    }
