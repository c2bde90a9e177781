"""Text for a terminal of 80 columns: paragraphs, grids of right-aligned cells, numbers."""

import math
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

WIDTH = 80
GAP = "  "
NOISE = 1e-12  # in rates and decades, the rounding of a zero

T = TypeVar("T")
Row = tuple[str, list[str]]  # a label and its cells; a title has none


def fill(text: str, indent: int = 2) -> str:
    """A paragraph; its later lines are indented."""
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def grid(headers: Sequence[Sequence[str]], rows: Sequence[Row]) -> str:
    """Lines of headers and rows of cells behind a label; a label without room has its own line."""
    lines = [*headers, *(cells for _, cells in rows if cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = WIDTH - sum(len(GAP) + width for width in widths)
    left = min(room, max(len(label) for label, cells in rows if cells))

    def line(label: str, cells: Sequence[str]) -> str:
        padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)]
        return GAP.join([f"{label:<{left}}", *padded]).rstrip()

    text = [line("", header) for header in headers]
    for label, cells in rows:
        fits = cells and len(label) <= left
        text += [line(label, cells)] if fits else [label]
        text += [line("", cells)] if cells and not fits else []
    return "\n".join(text)


def fitted(text: str, columns: int) -> str:
    """A line cut, or filled with blanks, to so many columns; letters take one, two or none."""
    taken, kept = 0, ""
    for letter in text:
        wide = unicodedata.east_asian_width(letter) in "WF"
        each = 0 if unicodedata.combining(letter) else 1 + wide
        if taken + each > columns:
            break
        taken, kept = taken + each, kept + letter
    return kept + " " * (columns - taken)


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly spaced, first and last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def joined(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns as one, a blank between them; the first alone where the second is empty."""
    listed = list(pairs)
    width = max(len(second) for _, second in listed)
    if not width:
        return [first for first, _ in listed]
    return [f"{first} {second:>{width}}" for first, second in listed]


def decimals(most: int, values: Iterable[float]) -> Callable[[float], str]:
    """How to write numbers that stand together: alike, and in eight characters at most.

    `most` decimals, one more where all are under 0.1, fewer where they are large.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    places = most + 1 if largest < 0.1 else max(1, min(most, 5 - len(str(int(largest)))))

    def write(value: float) -> str:
        size = abs(value)
        if size < NOISE:
            return f"{0:.{places}f}"
        if not math.isfinite(size) or 0.5 * 10.0**-places <= size < 99999.5:
            return f"{value:.{places}f}"
        mantissa, exponent = f"{value:.{1 if 1e-99 < size < 9e98 else 0}e}".split("e")
        return f"{mantissa}e{int(exponent)}"

    return write


def size(count: float) -> str:
    """Bytes as people read them: `4.5 KiB`, `1.2 GiB`."""
    for unit in ("KiB", "MiB"):
        count /= 1024
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} GiB"
