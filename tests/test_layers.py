"""Each part of a layer by itself, at any place of any array: forward against NumPy, the way back
against the naive parts and central differences; columns of padding count for nothing.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array
from stacked import DTYPES, columns_first, largest_error

from seqlab.kernels.cpu.layers.linear import Group, Map, panels_of
from seqlab.kernels.cpu.layers.parts import Back, Forward, Size, bound
from seqlab.kernels.cpu.layers.places import View, padded
from seqlab.layers.parts import Attention, Linear, Norm, Part, Phi, Residual

NETWORKS, LOSSES, STEPS, STEP = 3, 3, 2, 1  # the last loss is not live; the first step not ours
LIVE = LOSSES - 1
# Of a few hundred sums of a hundred terms or less, relative to the largest entry: a hundred
# roundings of the format. Seen: 8e-15 and 2e-6, of norms.
NEAR = {np.float64: 1e-13, np.float32: 2e-5}
SIZES = (1, 3, 7, 33)


class Alone(NamedTuple):
    """A part that has been forward and back: its input h (M, rows, units), its map's W and b, its
    output, the losses' gradients of that and of the input (M, losses, rows, units), sums of squares
    (M, losses, 2) of the map's gradients, and these themselves (M, numbers) for the first loss."""

    h: Array
    weight: Array
    bias: Array
    out: Array
    g: Array
    back: Array
    squares: Array
    values: Array


def alone(
    part: Part,
    taken: int,
    given: int,
    rows: int,
    dtype: Any,
    linear: Linear | None = None,
    pad: float = 0.0,
    numbers: float = 1.0,
) -> Alone:
    """One part from `taken` units to `given`, normal numbers of this scale all around; `pad` is
    what padding holds on the way forward."""
    rng = np.random.default_rng([taken, given, rows])
    dtype = np.dtype(dtype)
    columns = padded(rows, dtype.itemsize)
    h = (numbers * rng.normal(size=(NETWORKS, rows, taken))).astype(dtype)
    g = rng.normal(size=(NETWORKS, LOSSES, rows, given)).astype(dtype)
    maps, size = [], 0
    if linear is not None:
        weights = linear.outputs * linear.inputs
        maps, size = [Map(0, weights, linear.outputs, linear.inputs, 0)], weights + linear.outputs
    x = rng.normal(size=(NETWORKS, STEPS, 1, size + 1)).astype(dtype)
    chain = bound((part,), taken, rows)
    kept = chain.room(Size(NETWORKS, STEPS, rows, columns, dtype))
    source = np.full((NETWORKS, STEPS, taken, columns), np.nan, dtype)
    source[:, STEP] = columns_first(h, columns, pad)
    target = np.full((NETWORKS, STEPS + 1, given, columns), np.nan, dtype)
    with np.errstate(all="ignore"):  # of what is in the padding
        past = chain.forward(
            Forward(STEP, x, maps, rows),
            kept,
            View(source, STEP, 0, taken),
            View(target, 2, 0, given),
        )
    out = target[:, 2, :, :rows].swapaxes(1, 2).copy()
    adjoint = columns_first(g, columns, 0.0)
    into = np.full((NETWORKS, LOSSES, taken, columns), np.nan, dtype)
    squares, values = (
        np.zeros((NETWORKS, 1, LIVE, sum(map(panels_of, maps)), 2)),
        np.full((NETWORKS, STEPS, 1, size), np.nan, dtype),
    )
    group = Group(1, STEP, LOSSES, True)
    on = Back(STEP, x, maps, rows, 0, 1, LOSSES, {}, group, squares, values, False)
    chain.back(on, kept, past, View(adjoint, 0, 0, given, LIVE), View(into, 0, 0, taken, LIVE))
    assert np.isnan(into[:, LIVE:]).all()  # the loss that is not live
    assert not into[:, :LIVE, :, rows:].any()
    assert np.isnan(values[:, 0]).all()  # the other step
    weight, bias = np.zeros((NETWORKS, 0, 0)), np.zeros((NETWORKS, 0))
    if linear is not None:
        weight = x[:, STEP, 0, : maps[0].bias].reshape(NETWORKS, linear.outputs, linear.inputs)
        bias = x[:, STEP, 0, maps[0].bias : -1]
    back = into[:, :LIVE, :, :rows].swapaxes(2, 3)
    return Alone(h, weight, bias, out, g, back, squares[:, 0].sum(axis=2), values[:, STEP, 0])


def assert_naive(
    seen: Alone, part: Callable[[Array, int], naive.Part], dtype: Any, near: float | None = None
) -> None:
    """`part(h, m)` is the naive one, of network m."""
    near = NEAR[dtype] if near is None else near
    for m in range(NETWORKS):
        out, back = part(seen.h[m].astype(float), m)
        assert largest_error(seen.out[m], out) <= near
        for loss in range(LIVE):
            g, grads = back(seen.g[m, loss].astype(float))
            assert largest_error(seen.back[m, loss], g) <= near
            for i, name in enumerate(("weight", "bias")):
                if name in grads:
                    want = float(np.linalg.norm(grads[name]))
                    assert math.sqrt(seen.squares[m, loss, i]) == pytest.approx(want, rel=near)
            if loss == 0 and grads:
                want = np.concatenate([grads[name].ravel() for name in ("weight", "bias")])
                assert largest_error(seen.values[m], want) <= near


def assert_central(seen: Alone, part: Callable[[Array], Array]) -> None:
    """The way back of network 0 along a random direction; `part` is NumPy's forward. Curvature
    times 1e-10 and rounding over 1e-5 are both far under a millionth."""
    h = seen.h[0].astype(float)
    direction = np.random.default_rng(0).normal(size=h.shape)
    difference = (part(h + 1e-5 * direction) - part(h - 1e-5 * direction)) / 2e-5
    for loss in range(LIVE):
        want = float(np.sum(seen.g[0, loss] * difference))
        size = float(np.linalg.norm(seen.g[0, loss]) * np.linalg.norm(difference))
        assert float(np.sum(seen.back[0, loss] * direction)) == pytest.approx(want, abs=1e-6 * size)


def same_bits_whatever_is_in_the_padding(run: Callable[[float], Alone]) -> None:
    plain = run(0.0)
    for pad in (math.inf, -math.inf, math.nan, 1e30):
        other = run(pad)
        for name in ("out", "back", "squares", "values"):
            np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))


@DTYPES
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize(("outputs", "taken"), [(1, 1), (3, 7), (7, 3), (33, 1), (70, 33), (1, 65)])
def test_a_map(outputs: int, taken: int, rows: int, dtype: Any) -> None:
    """More outputs than one task has, and than one panel of its gradient."""
    part = Linear(outputs, taken)

    def run(pad: float) -> Alone:
        return alone(part, taken, outputs, rows, dtype, part, pad)

    seen = run(0.0)
    for m in range(NETWORKS):
        want = seen.h[m].astype(float) @ seen.weight[m].T.astype(float) + seen.bias[m]
        assert largest_error(seen.out[m], want) <= NEAR[dtype]
    assert_naive(
        seen,
        lambda h, m: naive.linear(h, seen.weight[m].astype(float), seen.bias[m].astype(float)),
        dtype,
    )
    same_bits_whatever_is_in_the_padding(run)
    if dtype is np.float64:
        assert_central(seen, lambda h: h @ seen.weight[0].T + seen.bias[0])


NORMS = ("batch", "layer", "group:3")


def norm_part(kind: str, eps: float) -> Norm:
    name, _, groups = kind.partition(":")
    return Norm(name == "batch", int(groups or 1), eps)


@DTYPES
@pytest.mark.parametrize("eps", [0.0, 1e-3])
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize(
    ("kind", "units"),
    [(kind, units) for kind in NORMS for units in ((9, 33) if kind == "group:3" else SIZES)],
)
def test_a_norm(kind: str, units: int, rows: int, eps: float, dtype: Any) -> None:
    part = norm_part(kind, eps)

    def run(pad: float) -> Alone:
        return alone(part, units, units, rows, dtype, pad=pad)

    seen = run(0.0)
    over = rows if kind == "batch" else units // part.groups
    if over > 1 or eps:  # of one number NumPy divides zero by zero
        # Of few numbers the spread may be small, and its inverse then as large.
        near = 50 * NEAR[dtype] if over < 7 else None
        assert_naive(seen, lambda h, _: naive.norm(h, kind, eps), dtype, near)
    if over == 1:
        assert not seen.out.any()
        assert not seen.back.any()
    same_bits_whatever_is_in_the_padding(run)
    if dtype is np.float64 and over > 2:
        assert_central(seen, lambda h: naive.norm(h, kind, eps)[0])


@DTYPES
@pytest.mark.parametrize("kind", ["batch", "layer", "group:3"])
def test_two_numbers_let_exactly_nothing_through(kind: str, dtype: Any) -> None:
    """At eps = 0 they are +-1 whatever they were, but for the rounding of a mean that is ten times
    as large as their distance."""
    units, rows = {"batch": (5, 2), "layer": (2, 5), "group:3": (6, 5)}[kind]
    seen = alone(norm_part(kind, 0.0), units, units, rows, dtype)
    assert np.abs(np.abs(seen.out) - 1).max() <= 30 * np.finfo(dtype).eps
    assert not seen.back.any()
    assert alone(norm_part(kind, 1e-2), units, units, rows, dtype).back.all()


@DTYPES
@pytest.mark.parametrize("rows", [3, 5, 6, 7, 33])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_constant_is_zero_and_not_what_rounding_makes_of_it(
    kind: str, rows: int, dtype: Any
) -> None:
    """0.1 added up and divided is another number: over its own rounding that would be 1."""
    units = rows
    columns = padded(rows, np.dtype(dtype).itemsize)
    chain = bound((norm_part(kind, 0.0),), units, rows)
    kept = chain.room(Size(1, 1, rows, columns, np.dtype(dtype)))
    source = np.full((1, 1, units, columns), 0.1, dtype)
    target = View(np.full_like(source, np.nan), 0, 0, units)
    past = chain.forward(
        Forward(0, np.zeros((1, 1, 1, 1), dtype), [], rows), kept, View(source, 0, 0, units), target
    )
    assert not target.array[..., :rows].any()
    g = View(np.ones_like(source), 0, 0, units)
    on = Back(0, source, [], rows, 0, 1, 1, {}, None, source, source, False)
    chain.back(on, kept, past, g, g)
    assert not g.array[..., :rows].any()


@DTYPES
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_spread_beyond_the_range_is_seen(kind: str, dtype: Any) -> None:
    """Its square is infinite: NaN, and no zeros, as if all numbers were the same."""
    far = float(np.sqrt(np.finfo(dtype).max)) * 10
    with np.errstate(all="ignore"):
        seen = alone(norm_part(kind, 0.0), 7, 7, 7, dtype, numbers=far)
    assert np.isnan(seen.out).all()


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_a_large_mean_costs_no_more_digits_than_it_must(kind: str) -> None:
    """A spread of 1 around 1e8: the numbers themselves have eight digits of it left."""
    h = 1e8 + np.random.default_rng(0).normal(size=(33, 33))
    centred = h - 1e8  # exact
    axis = 0 if kind == "batch" else 1
    centred -= centred.mean(axis=axis, keepdims=True)
    want = centred / centred.std(axis=axis, keepdims=True)
    columns = padded(33, 8)
    chain = bound((norm_part(kind, 0.0),), 33, 33)
    kept = chain.room(Size(1, 1, 33, columns, np.dtype(float)))
    source = columns_first(h[None, None], columns, 0.0)
    target = View(np.empty_like(source), 0, 0, 33)
    chain.forward(Forward(0, np.zeros((1, 1, 1, 1)), [], 33), kept, View(source, 0, 0, 33), target)
    assert np.abs(target.array[0, 0, :, :33].T - want).max() <= 1e-6


def looked(mixed: Array, heads: int) -> naive.Part:
    """softmax(Q K^T/sqrt(units)) V head by head, of queries, keys and values side by side."""
    q, k, v = np.split(mixed, 3, axis=1)
    each = q.shape[1] // heads
    parts = [slice(i * each, (i + 1) * each) for i in range(heads)]
    scores = [q[:, part] @ k[:, part].T / math.sqrt(each) for part in parts]
    weights = [np.exp(s - s.max(axis=1, keepdims=True)) for s in scores]
    weights = [w / w.sum(axis=1, keepdims=True) for w in weights]
    out = np.concatenate([w @ v[:, p] for w, p in zip(weights, parts, strict=True)], axis=1)

    def back(g: Array) -> tuple[Array, naive.Gradients]:
        dq, dk, dv = np.empty_like(q), np.empty_like(k), np.empty_like(v)
        for part, w in zip(parts, weights, strict=True):
            dw = g[:, part] @ v[:, part].T
            ds = w * (dw - np.sum(w * dw, axis=1, keepdims=True)) / math.sqrt(each)
            dq[:, part], dk[:, part] = ds @ k[:, part], ds.T @ q[:, part]
            dv[:, part] = w.T @ g[:, part]
        return np.concatenate([dq, dk, dv], axis=1), {}

    return out, back


@DTYPES
@pytest.mark.parametrize("tokens", SIZES)
@pytest.mark.parametrize(("units", "heads"), [(1, 1), (3, 3), (6, 2), (33, 11)])
def test_attention(units: int, heads: int, tokens: int, dtype: Any) -> None:
    part = Attention(units, heads)

    def run(pad: float) -> Alone:
        return alone(part, 3 * units, units, tokens, dtype, pad=pad)

    seen = run(0.0)
    assert_naive(seen, lambda h, _: looked(h, heads), dtype)
    same_bits_whatever_is_in_the_padding(run)
    if dtype is np.float64:
        assert_central(seen, lambda h: looked(h, heads)[0])


@DTYPES
@pytest.mark.parametrize(("tokens", "sequences"), [(1, 3), (5, 3), (7, 5), (16, 2)])
def test_attention_keeps_sequences_apart(tokens: int, sequences: int, dtype: Any) -> None:
    """Of rows that are several sequences one after the other each sees its own."""
    units, heads, rows = 6, 2, tokens * sequences

    def each(h: Array, _: int) -> naive.Part:
        parts = [looked(one, heads) for one in h.reshape(sequences, tokens, -1)]
        return naive.apart(parts)

    def run(pad: float) -> Alone:
        part = Attention(units, heads, tokens)
        return alone(part, 3 * units, units, rows, dtype, pad=pad)

    assert_naive(run(0.0), each, dtype)
    same_bits_whatever_is_in_the_padding(run)


@DTYPES
def test_large_scores_overflow_nowhere(dtype: Any) -> None:
    """One token is seen then; e^(s - max) is at most one."""
    seen = alone(Attention(6, 2), 18, 6, 7, dtype, numbers=300.0)
    assert_naive(seen, lambda h, _: looked(h, 2), dtype, 20 * NEAR[dtype])


@DTYPES
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("units", SIZES)
def test_a_residual_block(units: int, rows: int, dtype: Any) -> None:
    """alpha is on the branch alone, both ways."""
    linear = Linear(units, units)

    def run(pad: float) -> Alone:
        return alone(Residual((linear,), -0.3), units, units, rows, dtype, linear, pad)

    seen = run(0.0)

    def block(h: Array, m: int) -> naive.Part:
        weight, bias = seen.weight[m].astype(float), seen.bias[m].astype(float)
        return naive.residual(h, naive.linear(h, weight, bias), -0.3)

    assert_naive(seen, block, dtype)
    same_bits_whatever_is_in_the_padding(run)
    if dtype is np.float64:
        assert_central(seen, lambda h: block(h, 0)[0])


@DTYPES
@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("units", SIZES)
def test_an_activation(units: int, rows: int, dtype: Any) -> None:
    def run(pad: float) -> Alone:
        return alone(Phi("gelu"), units, units, rows, dtype, pad=pad)

    seen = run(0.0)
    assert_naive(seen, lambda h, _: naive.activation(h, "gelu"), dtype)
    same_bits_whatever_is_in_the_padding(run)
    if dtype is np.float64:
        assert_central(seen, lambda h: naive.activation(h, "gelu")[0])
