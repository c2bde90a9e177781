"""Register-blocked rows of a matrix product, in LLVM vectors.

    out[r, c] += sum over k of a[r, k] b[k, c]

LLVM vectorises a plain loop over c but keeps `out` in memory; in these a tile of it stays in
registers while k runs, which is 1.3 (weights from L2) to 4 times (weights from L1) faster. A narrow
tile would wait for each sum in turn: it splits k into phases, summed side by side, added at the
end.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seqlab.kernels._jit import DISABLED
from seqlab.kernels.cpu.shapes import SHAPES

Panel = Callable[..., None]


def lanes(itemsize: int) -> int:
    """Numbers in one vector."""
    return SHAPES.vector // itemsize


def make_panel(rows: int, apart: bool = False) -> Panel:
    """A function (a, a0, ar, ak, b, b0, bk, depth, out, o0, o_row, vectors) -> None.

    It adds the product to `rows` rows of `vectors` whole vectors each. Offsets and strides count
    entries: row r at step k is a[a0 + r*ar + k*ak], row k of b begins at b[b0 + k*bk], row r of
    out at out[o0 + r*o_row]. `apart` sums from zero and adds what `out` has at the end: a long sum
    in pieces then loses few digits, and a step of a small network some percent of its time.
    """
    return _plain_panel(rows) if DISABLED else _vector_panel(rows, apart)


def _plain_panel(rows: int) -> Panel:
    """The definition, for runs without the JIT."""

    def panel(a, a0, ar, ak, b, b0, bk, depth, out, o0, o_row, vectors):
        a, b, out = a.reshape(-1), b.reshape(-1), out.reshape(-1)
        width = vectors * lanes(out.itemsize)
        for r in range(rows):
            row = out[o0 + r * o_row : o0 + r * o_row + width]
            total = np.zeros_like(row)
            for k in range(depth):
                total += a[a0 + r * ar + k * ak] * b[b0 + k * bk : b0 + k * bk + width]
            row += total

    return panel


def _vector_panel(rows: int, apart: bool) -> Any:
    @intrinsic
    def panel(typing_context, a, a0, ar, ak, b, b0, bk, depth, out, o0, o_row, vectors):
        word = types.intp
        signature = types.void(a, word, word, word, b, *[word] * 3, out, *[word] * 3)

        def generate(context, builder, signature, arguments):
            a, b, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in (0, 4, 8)
            )
            values = [a, *arguments[1:4], b, *arguments[5:8], out, *arguments[9:]]
            builder.call(_panel_function(builder.module, a.type, rows, apart), values)
            return context.get_dummy_value()

        return signature, generate

    return panel


def _panel_function(module: Any, pointer: Any, rows: int, apart: bool) -> Any:
    """The panel as a function of its own in an LLVM module.

    Inlined, the addresses of every width of tile would be worked out at every time step, whichever
    of them are used: a third of a small network's time.
    """
    name = f"seqlab.panel.{pointer.pointee}.{rows}{'.apart' if apart else ''}"
    if name in module.globals:
        return module.globals[name]
    word = ir.IntType(64)
    kinds = [pointer, *[word] * 3, pointer, *[word] * 3, pointer, *[word] * 3]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    # Unrolled further it takes longer to compile, and as long to run.
    function.attributes.add("optsize")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    arguments = function.args
    emitter = _Emitter(builder, pointer.pointee, rows, apart)
    emitter.panel(arguments[:4], arguments[4:8], arguments[8:])
    builder.ret_void()
    return function


def _make_prefetch() -> Callable[..., None]:
    """A function (a, i) -> None: ask for the cache line of entry i of a contiguous array."""
    if DISABLED:
        return lambda a, i: None

    @intrinsic
    def prefetch(typing_context, a, i):
        def generate(context, builder, signature, arguments):
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            address = builder.gep(array.data, [arguments[1]])
            pointer, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [pointer, flag, flag, flag])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            # To read, to be kept close, data.
            flags = [flag(0), flag(3), flag(1)]
            builder.call(function, [builder.bitcast(address, pointer), *flags])
            return context.get_dummy_value()

        return types.void(a, types.intp), generate

    return prefetch


prefetch = _make_prefetch()


def _make_transpose() -> Callable[..., None]:
    """A function (a, a0, a_row, b, b0, b_row) -> None: transpose a square of as many rows as a
    vector has lanes, b[b0 + j*b_row + i] = a[a0 + i*a_row + j]; a and b are contiguous."""
    if DISABLED:
        return _plain_transpose

    @intrinsic
    def transpose(typing_context, a, a0, a_row, b, b0, b_row):
        word = types.intp

        def generate(context, builder, signature, arguments):
            source, target = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in (0, 3)
            )
            emitter = _Emitter(builder, source.type.pointee, 1, False)
            emitter.transpose((source, *arguments[1:3]), (target, *arguments[4:]))
            return context.get_dummy_value()

        return types.void(a, word, word, b, word, word), generate

    return transpose


def _plain_transpose(a, a0, a_row, b, b0, b_row):
    a, b = a.reshape(-1), b.reshape(-1)
    for i in range(lanes(a.itemsize)):
        for j in range(lanes(a.itemsize)):
            b[b0 + j * b_row + i] = a[a0 + i * a_row + j]


transpose = _make_transpose()


def _make_dot_rows() -> Callable[..., None]:
    """A function (a, a0, b, b0, row, vectors, out, o0) -> None, for as many rows as a vector has
    lanes: out[o0 + i] = sum over j of a[a0 + i*row + j] b[b0 + i*row + j], j over `vectors` whole
    vectors. The arrays are contiguous.

    A sum by itself ends with its lanes added one to another; these end so side by side.
    """
    if DISABLED:
        return _plain_dot_rows

    @intrinsic
    def dot_rows(typing_context, a, a0, b, b0, row, vectors, out, o0):
        word = types.intp

        def generate(context, builder, signature, arguments):
            a, b, out = (
                context.make_array(signature.args[i])(context, builder, arguments[i]).data
                for i in (0, 2, 6)
            )
            _, a0, _, b0, row, vectors, _, o0 = arguments
            emitter = _Emitter(builder, out.type.pointee, 1, False)
            emitter.dot_rows((a, a0, row), (b, b0, row), vectors, (out, o0))
            return context.get_dummy_value()

        return types.void(a, word, b, word, word, word, out, word), generate

    return dot_rows


def _plain_dot_rows(a, a0, b, b0, row, vectors, out, o0):
    a, b, out = a.reshape(-1), b.reshape(-1), out.reshape(-1)
    width = vectors * lanes(out.itemsize)
    for i in range(lanes(out.itemsize)):
        x, y = a[a0 + i * row :][:width], b[b0 + i * row :][:width]
        with np.errstate(all="ignore"):  # a chunk's rows past its last step hold anything
            out[o0 + i] = (x * y).sum()


dot_rows = _make_dot_rows()


class _Emitter:
    """Writes a panel's instructions; names of values as in `make_panel`."""

    def __init__(self, builder: Any, element: Any, rows: int, apart: bool) -> None:
        self.builder, self.rows, self.apart = builder, rows, apart
        self.size = 8 if isinstance(element, ir.DoubleType) else 4
        self.lanes = lanes(self.size)
        self.vector = ir.VectorType(element, self.lanes)
        self.word = ir.IntType(64)

    def panel(self, a, b, out):
        """Tiles side by side: any number of the widest, then narrower ones once each, by halves."""
        builder, word = self.builder, self.word
        *out, vectors = out
        done = word(0)
        columns = SHAPES.tiles[self.rows - 1]
        while columns:
            count = builder.sdiv(builder.sub(vectors, done), word(columns))

            def tile(i, columns=columns, done=done):
                index = builder.mul(i, word(columns))
                column = builder.mul(builder.add(done, index), word(self.lanes))
                self._tile(columns, a, b, out, column)

            self._repeat(count, [], lambda i, state, tile=tile: tile(i) or [])
            done = builder.add(done, builder.mul(count, word(columns)))
            columns = 1 << (columns - 1).bit_length() - 1 if columns > 1 else 0

    def _tile(self, columns, a, b, out, column):
        builder, word, tile = self.builder, self.word, self.rows * columns
        (a, a0, ar, ak), (b, b0, bk, depth), (out, o0, o_row) = a, b, out
        phases = -(-SHAPES.phases // tile)
        at = [a0, builder.add(b0, column)]
        places = [
            builder.add(builder.add(o0, column), builder.add(word(c * self.lanes), row))
            for row in (builder.mul(o_row, word(r)) for r in range(self.rows))
            for c in range(columns)
        ]
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        sums = [zero if self.apart else self._load(out, place) for place in places]

        def advance(sums, at, count):
            """`count` steps of k from the offsets `at` in a and b, each on sums of its own."""
            for phase in range(count):
                mine = slice(phase * tile, (phase + 1) * tile)
                sums[mine] = self._step(a, ar, b, at, sums[mine])
                at = [builder.add(x, y) for x, y in zip(at, (ak, bk), strict=True)]
            return sums, at

        def body(count):
            def run(_, state):
                sums, at = advance(list(state[2:]), state[:2], count)
                return [*at, *sums]

            return run

        whole = builder.sdiv(depth, word(phases))
        state = [*at, *sums, *[zero] * (tile * (phases - 1))]
        state = self._repeat(whole, state, body(phases))
        at, sums = state[:2], state[2:]
        for phase in range(1, phases):
            more = sums[phase * tile : (phase + 1) * tile]
            sums[:tile] = [builder.fadd(x, y) for x, y in zip(sums[:tile], more, strict=True)]
        rest = builder.sub(depth, builder.mul(whole, word(phases)))
        if phases > 1:
            sums = self._repeat(rest, [*at, *sums[:tile]], body(1))[2:]
        for place, value in zip(places, sums[:tile], strict=True):
            if self.apart:
                value = builder.fadd(self._load(out, place), value)
            builder.store(value, self._at(out, place)).align = self.size

    def _repeat(self, count, state, body):
        """`count` turns of state = body(i, state); returns the values after the last."""
        builder, before = self.builder, self.builder.block
        head = builder.function.append_basic_block("head")
        inside = builder.function.append_basic_block("body")
        after = builder.function.append_basic_block("after")
        builder.branch(head)
        builder.position_at_end(head)
        phis = []
        for value in [self.word(0), *state]:
            phi = builder.phi(value.type)
            phi.add_incoming(value, before)
            phis.append(phi)
        builder.cbranch(builder.icmp_signed("<", phis[0], count), inside, after)
        builder.position_at_end(inside)
        changed = body(phis[0], phis[1:])
        following = [builder.add(phis[0], self.word(1)), *changed]
        for phi, value in zip(phis, following, strict=True):
            phi.add_incoming(value, builder.block)
        builder.branch(head)
        builder.position_at_end(after)
        return phis[1:]

    def _step(self, a, ar, b, at, sums):
        """One k: a row of vectors of b, times each row's entry of a, added to the sums."""
        columns = len(sums) // self.rows

        def entry(r):
            return self._spread(a, self.builder.add(at[0], self.builder.mul(ar, self.word(r))))

        def vector(c):
            return self._load(b, self.builder.add(at[1], self.word(c * self.lanes)))

        places = [(r, c) for r in range(self.rows) for c in range(columns)]
        if columns > self.rows:
            places.sort(key=lambda place: place[1])
        entry, vector = cache(entry), cache(vector)
        result = list(sums)
        for r, c in places:
            product = self.builder.fmul(entry(r), vector(c), flags=("contract",))
            i = r * columns + c
            result[i] = self.builder.fadd(sums[i], product, flags=("contract",))
        return result

    def _spread(self, pointer, offset):
        entry = self.builder.load(self.builder.gep(pointer, [offset]))
        undefined = ir.Constant(self.vector, ir.Undefined)
        single = self.builder.insert_element(undefined, entry, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def _at(self, pointer, offset):
        address = self.builder.gep(pointer, [offset])
        return self.builder.bitcast(address, self.vector.as_pointer())

    def _load(self, pointer, offset):
        loaded = self.builder.load(self._at(pointer, offset))
        loaded.align = self.size
        return loaded

    def transpose(self, a, b):
        """Squares of half the side are exchanged across the diagonal, then within each of these
        squares of a quarter, down to single numbers."""
        rows, half = [self._load(a[0], place) for place in self._places(a)], self.lanes // 2
        while half:
            for i in range(self.lanes):
                if not i & half:
                    rows[i], rows[i + half] = self._exchange(rows[i], rows[i + half], half)
            half //= 2
        for place, row in zip(self._places(b), rows, strict=True):
            self.builder.store(row, self._at(b[0], place)).align = self.size

    def dot_rows(self, a, b, vectors, out):
        """As `transpose`, but that what it would put side by side is added."""
        builder, zero = self.builder, ir.Constant(self.vector, [0.0] * self.lanes)
        starts = list(zip(self._places(a), self._places(b), strict=True))

        def multiply(i, sums):
            column = builder.mul(i, self.word(self.lanes))
            for r, places in enumerate(starts):
                x, y = (
                    self._load(matrix[0], builder.add(place, column))
                    for matrix, place in zip((a, b), places, strict=True)
                )
                product = builder.fmul(x, y, flags=("contract",))
                sums[r] = builder.fadd(sums[r], product, flags=("contract",))
            return sums

        sums, half = self._repeat(vectors, [zero] * self.lanes, multiply), self.lanes // 2
        while half:
            pairs = [self._exchange(sums[i], sums[i + half], half) for i in range(half)]
            sums, half = [builder.fadd(x, y) for x, y in pairs], half // 2
        builder.store(sums[0], self._at(*out)).align = self.size

    def _exchange(self, upper, lower, half):
        """Two rows after the exchange of every other `half` numbers of the upper one with those
        of the lower one beside them."""
        numbers = range(self.lanes)
        left = [j if not j & half else self.lanes + j - half for j in numbers]
        right = [j + half if not j & half else self.lanes + j for j in numbers]
        return self._pick(upper, lower, left), self._pick(upper, lower, right)

    def _places(self, matrix):
        """Where each row of a square begins."""
        _, first, row = matrix
        builder, word = self.builder, self.word
        return [builder.add(first, builder.mul(row, word(i))) for i in range(self.lanes)]

    def _pick(self, x, y, numbers):
        """Of two vectors' numbers, one after the other, some."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), numbers)
        return self.builder.shuffle_vector(x, y, mask)
