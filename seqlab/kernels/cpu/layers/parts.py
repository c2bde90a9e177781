"""Each part of a block bound to its kernels, and chains of them, forward and back.

A part writes where it is told to, else to room of its own, and what it leaves is there on the way
back. The part after it may use it up: an activation puts its slopes where its argument was.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.cpu.layers import activation, attention, elementwise, linear, norm
from seqlab.kernels.cpu.layers.places import View
from seqlab.kernels.memory import aligned
from seqlab.layers import parts
from seqlab.layers.activation import choose


class Size(NamedTuple):
    """M networks, S layers of a segment, the rows and the columns that hold them."""

    networks: int
    steps: int
    rows: int
    columns: int
    dtype: np.dtype

    def room(self, *shape: int) -> NDArray:
        """An array (M, ...)."""
        return aligned((self.networks, *shape), self.dtype)


class Forward(NamedTuple):
    """One layer on its way forward: its place in the segment, its numbers x (M, S, 1, I), where its
    maps lie in them, and how many rows count."""

    s: int
    x: NDArray
    maps: list[linear.Map]
    rows: int


class Back(NamedTuple):
    """One layer on its way back, the `slot`th of a group whose gradients are taken together.

    `rooms` has arrays (M, slots L, units, C), by part, for `losses` L. `squares` and `values` get
    what `linear.gradient` leaves there: at the last layer of its group, which has `group`; without
    `squares` nobody asks for it. With `grows` what the map hands back is added to what is there.
    """

    s: int
    x: NDArray
    maps: list[linear.Map]
    rows: int
    slot: int
    slots: int
    losses: int
    rooms: dict["Part", NDArray]
    group: linear.Group | None
    squares: NDArray
    values: NDArray
    grows: bool

    def room(self, part: "Part", units: int, like: View) -> View:
        """For the adjoint of what a part took; it stays until the group is complete."""
        if part not in self.rooms:
            networks, _, _, columns = like.array.shape
            shape = (networks, self.slots * self.losses, units, columns)
            self.rooms[part] = aligned(shape, like.array.dtype)
        return View(self.rooms[part], self.slot * self.losses, 0, units, like.places)


class Taken(NamedTuple):
    """What a part took and gave at one layer."""

    source: View
    out: View


class Part(Protocol):
    """What a bound part offers; `units` are those of its output, `taken` those of its input, 0 for
    all that there are. `in_place` says that `back` may leave its answer where g was."""

    units: int
    taken: int
    in_place: bool

    def width(self) -> int:
        """Numbers that it keeps of one row of a layer."""

    def room(self, size: Size) -> Any:
        """For what it keeps of a segment."""

    def forward(self, on: Forward, kept: Any, source: View, target: View | None) -> Any:
        """Compute; returns what `back` wants to know, whose last entry is the output."""

    def back(self, on: Back, kept: Any, past: Any, g: View, into: View) -> None:
        """From g = dL/d(output) to dL/d(input) at `into`."""


class Linear:
    """W h + b."""

    in_place = False

    def __init__(self, part: parts.Linear, index: int, last: bool) -> None:
        self.units, self.taken = part.outputs, part.inputs
        self._index, self._last = index, last

    def width(self) -> int:
        return 0 if self._last else self.units

    def room(self, size: Size) -> NDArray:
        return size.room(0 if self._last else size.steps, self.units, size.columns)

    def forward(self, on: Forward, kept: NDArray, source: View, target: View | None) -> Taken:
        out = target or View(kept, on.s, 0, self.units)
        linear.forward(on.x, on.s, on.maps[self._index], source, out)
        return Taken(source, out)

    def back(self, on: Back, kept: NDArray, past: Taken, g: View, into: View) -> None:
        of = on.maps[self._index]
        if on.group is not None:
            linear.gradient(of, past.source, g, on.group, on.rows, on.squares, on.values)
        linear.back(on.x, on.s, of, g, into, on.grows)


class Norm:
    """Normalisation: in place where it follows a map, whose output nobody else wants."""

    in_place = True

    def __init__(self, part: parts.Norm, units: int, own: bool) -> None:
        self.units = self.taken = units
        self._part, self._own = part, own

    def width(self) -> int:
        return self.units if self._own else 0

    def room(self, size: Size) -> tuple[NDArray, NDArray]:
        inverses = norm.inverses_shape(self._part, self.units, size.columns)
        own = size.room(size.steps if self._own else 0, self.units, size.columns)
        return own, size.room(size.steps, *inverses)

    def forward(self, on: Forward, kept: Any, source: View, target: View | None) -> Taken:
        own, inverses = kept
        out = target or (View(own, on.s, 0, self.units) if self._own else source)
        if out is not source:
            elementwise.combine(source, 1.0, out, keep=False)
        norm.forward(self._part, out, inverses, on.s, on.rows)
        return Taken(source, out)

    def back(self, on: Back, kept: Any, past: Taken, g: View, into: View) -> None:
        if into is not g:
            elementwise.combine(g, 1.0, into, keep=False)
        norm.back(self._part, into, past.out, kept[1], on.s, on.rows)


class Phi:
    """An activation: its slopes go where its argument was if that is a map's output."""

    in_place = True

    def __init__(self, part: parts.Phi, units: int, own: bool, last: bool) -> None:
        self.units = self.taken = units
        self._own, self._last = own, last
        self._choice = choose(part.name)

    def width(self) -> int:
        return self.units * (int(self._own) + int(not self._last))

    def room(self, size: Size) -> tuple[NDArray, NDArray]:
        of = (self.units, size.columns)
        slopes = size.room(size.steps if self._own else 0, *of)
        return slopes, size.room(0 if self._last else size.steps, *of)

    def forward(self, on: Forward, kept: Any, source: View, target: View | None) -> Taken:
        slopes = kept[0] if self._own else source.array
        out = target or View(kept[1], on.s, 0, self.units)
        activation.forward(self._choice, source, slopes, out, on.rows)
        return Taken(View(slopes, on.s, 0, self.units), out)

    def back(self, on: Back, kept: Any, past: Taken, g: View, into: View) -> None:
        elementwise.slopes(g, past.source.array, past.source.s, into)


class Attention:
    """Softmax attention over the rows, of queries, keys and values that a map made."""

    in_place = False

    def __init__(self, part: parts.Attention, rows: int) -> None:
        self.units, self.taken = part.units, 3 * part.units
        self._heads, self._rows, self._tokens = part.heads, rows, part.tokens or rows

    def width(self) -> int:
        return self.units + self._heads * self._rows

    def room(self, size: Size) -> tuple[NDArray, NDArray]:
        weights = size.room(size.steps, self._heads, size.rows, size.columns)
        return weights, size.room(size.steps, self.units, size.columns)

    def forward(self, on: Forward, kept: Any, source: View, target: View | None) -> Taken:
        out = target or View(kept[1], on.s, 0, self.units)
        attention.forward(source, out, kept[0], on.s, self._tokens)
        return Taken(source, out)

    def back(self, on: Back, kept: Any, past: Taken, g: View, into: View) -> None:
        attention.back(g, into, past.source, kept[0], on.s)


class Residual:
    """h + alpha F(h)."""

    in_place = True

    def __init__(self, branch: "Chain", alpha: float, units: int) -> None:
        self.units = self.taken = units
        self.branch, self._alpha = branch, alpha

    def width(self) -> int:
        return self.branch.width()

    def room(self, size: Size) -> tuple[list[Any], NDArray, NDArray]:
        passing = (1, self.units, size.columns)
        return self.branch.room(size), size.room(*passing), size.room(*passing)

    def forward(self, on: Forward, kept: Any, source: View, target: View | None) -> Any:
        of_branch, passing, own = kept
        out, added = target or View(own, 0, 0, self.units), View(passing, 0, 0, self.units)
        past = self.branch.forward(on, of_branch, source, added)
        elementwise.combine(source, 1.0, out, keep=False)
        elementwise.combine(added, self._alpha, out, keep=True)
        return past, out

    def back(self, on: Back, kept: Any, past: Any, g: View, into: View) -> None:
        added = on.room(self, self.units, g)
        elementwise.combine(g, self._alpha, added, keep=False)
        answer = self.branch.back(on, kept[0], past[0], added, None)
        if into is not g:
            elementwise.combine(g, 1.0, into, keep=False)
        elementwise.combine(answer, 1.0, into, keep=True)


class Chain:
    """One bound part after the other."""

    def __init__(self, bound: Sequence[Part]) -> None:
        self.parts = bound

    def width(self) -> int:
        """Numbers that a layer keeps of one row."""
        return sum(part.width() for part in self.parts)

    def rooms(self, given: bool = True) -> int:
        """Units of the adjoints between its parts, for which `back` needs room, where the answer's
        place is `given` or not."""
        first, last, units = self.parts[0], self.parts[-1], 0
        for part in self.parts:
            if isinstance(part, Residual):
                units += part.units + part.branch.rooms(given=False)
            elif part is first and given:
                continue
            elif not part.in_place or (part is last and given and not first.in_place):
                units += part.taken
        return units

    def room(self, size: Size) -> list[Any]:
        """For what all parts keep of a segment."""
        return [part.room(size) for part in self.parts]

    def forward(self, on: Forward, kept: list[Any], source: View, target: View) -> list[Any]:
        """From the source to the target; what `back` wants to know of each part."""
        past = []
        for part, own in zip(self.parts, kept, strict=True):
            last = part is self.parts[-1]
            past.append(part.forward(on, own, source, target if last else None))
            source = past[-1][-1]
        return past

    def back(self, on: Back, kept: list[Any], past: list[Any], g: View, into: View | None) -> View:
        """dL/d(input), at `into` where that is given; g is used up. `into` may be g."""
        first = self.parts[0]
        for part, own, took in zip(self.parts[::-1], kept[::-1], past[::-1], strict=True):
            free = part.in_place and (g is not into or first.in_place)
            if part is first and into is not None:
                to = into
            else:
                to = g if free else on.room(part, part.taken, g)
            part.back(on, own, took, g, to)
            g = to
        return g

    def slopes(self, past: list[Any]) -> Iterator[View]:
        """phi'(z) of one layer's activations, in their order."""
        for part, took in zip(self.parts, past, strict=True):
            if isinstance(part, Residual):
                yield from part.branch.slopes(took[0])
            elif isinstance(part, Phi):
                yield took.source


def bound(chain: parts.Chain, units: int, rows: int) -> Chain:
    """A chain's parts bound to kernels, for a state of so many units and rows."""
    count = 0

    def bind(chain: parts.Chain, units: int) -> Chain:
        nonlocal count
        found: list[Part] = []
        for i, part in enumerate(chain):
            last = i == len(chain) - 1
            mapped = i > 0 and isinstance(chain[i - 1], parts.Linear)
            one: Part
            match part:
                case parts.Linear():
                    one, count = Linear(part, count, last), count + 1
                case parts.Norm():
                    one = Norm(part, units, own=not (mapped or last))
                case parts.Phi():
                    one = Phi(part, units, own=not mapped, last=last)
                case parts.Attention():
                    one = Attention(part, rows)
                case parts.Residual():
                    one = Residual(bind(part.branch, units), part.alpha, units)
            found.append(one)
            units = one.units
        return Chain(found)

    return bind(chain, units)
