"""Where parts find what they work on."""

from typing import NamedTuple

from numpy.typing import NDArray

from seqlab.kernels.cpu.shapes import SHAPES


class View(NamedTuple):
    """Some units of some states, or of the adjoints of some losses: of array (M, S, .., C) the
    places from s on, `places` of them, and the units from `first` on, `units` of them."""

    array: NDArray
    s: int
    first: int
    units: int
    places: int = 1

    @property
    def place(self) -> "Place":
        """The view without its array, as kernels take it."""
        return Place(*self[1:])

    @property
    def size(self) -> int:
        """Numbers of one network."""
        return self.units * self.places * self.array.shape[3]


class Place(NamedTuple):
    """A view's numbers."""

    s: int
    first: int
    units: int
    places: int


def padded(rows: int, itemsize: int) -> int:
    """Columns for so many rows: whole vectors."""
    lanes = SHAPES.vector // itemsize
    return -(-rows // lanes) * lanes
