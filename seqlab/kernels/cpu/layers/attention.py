"""Multi-head attention over the rows: scores by products, each head by itself."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels._jit import compiled, inlined_apart
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.cpu.linalg import add_rows, fill
from seqlab.kernels.cpu.math import exp
from seqlab.kernels.cpu.threads import share
from seqlab.kernels.memory import aligned
from seqlab.layers.attention import make_softmax

_softmax, _softmax_back = make_softmax(inlined_apart, exp)

UNSEEN = -1e37  # a score whose exponential is zero beside any other, in float32 too


@inlined_apart
def _turn(a, turned):
    """turned (columns, rows) of a (rows, columns); `turned` has as many rows as a has, or fewer,
    and zeros to the right."""
    for i in range(turned.shape[0]):
        for j in range(a.shape[0]):
            turned[i, j] = a[j, i]
        for j in range(a.shape[0], turned.shape[1]):
            turned[i, j] = 0


@inlined_apart
def _clear(a):
    for i in range(a.shape[0]):
        fill(a[i], 0)


@inlined_apart
def _keep_apart(scores, apart, unseen):
    """Scores of tokens of other sequences, of `apart` tokens each, become `unseen`."""
    for t in range(scores.shape[0]):
        first = t // apart * apart
        fill(scores[t, :first], unseen)
        fill(scores[t, first + apart : scores.shape[0]], unseen)


@compiled
def _forward(mixed, at, seen, to, weights, s, apart, sums, begin, end):
    """Tasks are heads: scores[j, t] = k_j . q_t, their softmax over j, seen = v weights; `apart`
    tokens are a sequence."""
    heads, tokens, columns = weights.shape[2:]
    units = mixed.shape[2] // 3
    each = units // heads
    for task in range(begin, end):
        m, head = task // heads, task % heads
        h, out, w = mixed[m, at], seen[m, to], weights[m, s, head]
        query, key, value = head * each, units + head * each, 2 * units + head * each
        _clear(w)
        add_rows(h, key * columns, 1, columns, tokens, h, query, each, w, 0)
        if apart < tokens:
            _keep_apart(w, apart, UNSEEN)
        _softmax(w, sums, tokens, h.dtype.type(1 / np.sqrt(each)))
        _clear(out[query : query + each])
        add_rows(h, value * columns, columns, 1, each, w, 0, tokens, out, query)


@compiled
def _back(g, at, into, to, mixed, step, weights, s, scratch, begin, end):
    sums, dw, turned = scratch
    heads, tokens, columns = weights.shape[2:]
    units = mixed.shape[2] // 3
    each = units // heads
    for task in range(begin, end):
        m, head = task // heads, task % heads
        h, w = mixed[m, step], weights[m, s, head]
        query, key, value = head * each, units + head * each, 2 * units + head * each
        for loss in range(at.places):
            of, back = g[m, at.s + loss], into[m, to.s + loss]
            for first in (query, key, value):
                _clear(back[first : first + each])
            _turn(w, turned)
            add_rows(of, query * columns, columns, 1, each, turned, 0, tokens, back, value)
            _clear(dw)
            add_rows(h, value * columns, 1, columns, tokens, of, query, each, dw, 0)
            _softmax_back(dw, w, sums, tokens, h.dtype.type(1 / np.sqrt(each)))
            add_rows(h, key * columns, columns, 1, each, dw, 0, tokens, back, query)
            _turn(dw, turned)
            add_rows(h, query * columns, columns, 1, each, turned, 0, tokens, back, key)


class _Scratch(NamedTuple):
    """sums (2, C); the adjoint of one head's weights, and one turned, (T, C) each."""

    sums: NDArray
    dw: NDArray
    turned: NDArray


def _operations(weights: NDArray, units: int) -> int:
    _, _, heads, tokens, columns = weights.shape
    return 2 * units // heads * tokens * columns


def forward(mixed: View, seen: View, weights: NDArray, s: int, tokens: int) -> None:
    """seen (.., units, C) of the queries, keys and values mixed (.., 3 units, C); keeps the weights
    (M, S, heads, T, C) at place s: of token j in what token t sees, zero where they are of two
    sequences, which have so many tokens each."""
    columns, dtype = mixed.array.shape[3], mixed.array.dtype

    def scratch() -> NDArray:
        return aligned((2, columns), dtype)

    tasks, each = len(weights) * weights.shape[2], _operations(weights, seen.units)
    arrays = (mixed.array, mixed.s, seen.array, seen.s, weights, s, tokens)
    share(_forward, tasks, scratch, *arrays, operations=each)


def back(g: View, into: View, mixed: View, weights: NDArray, s: int) -> None:
    """The adjoint of what is seen to that of queries, keys and values."""
    _, _, heads, tokens, columns = weights.shape
    dtype = mixed.array.dtype

    def scratch() -> _Scratch:
        square = (tokens, columns)
        return _Scratch(
            aligned((2, columns), dtype), aligned(square, dtype), aligned(square, dtype)
        )

    tasks, each = len(weights) * heads, 3 * g.places * _operations(weights, g.units)
    arrays = (g.array, g.place, into.array, into.place, mixed.array, mixed.s, weights, s)
    share(_back, tasks, scratch, *arrays, operations=each)
