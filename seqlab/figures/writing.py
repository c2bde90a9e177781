"""Texts on figures: what in them is mathematics, what the font has, where their lines break."""

import math
import re
import textwrap
from collections.abc import Iterator
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.mathtext import MathTextParser
from matplotlib.textpath import text_to_path

from seqlab.figures.style import FONT, LETTER, SMALL, style
from seqlab.wording import refuse, short_repr

LONGEST = {"title": 300}  # letters
LONGEST_LABEL = 80
LONGEST_NAME = 84  # points on paper, of a line of a field's value: 20 letters or so
SPARE = 1.05  # times a formula's length, for a comma behind it
LEAST = 4  # letters of a line, at which it is broken no further
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
LEFT_OUT = "\N{HORIZONTAL ELLIPSIS}"

# As in Markdown: between two dollars that touch what they enclose, the second before no digit, is
# mathematics; \$ and any other dollar are money.
_PIECES = re.compile(
    r"\\\$|(?P<math>\$(?=\S)(?:\\\$|\\(?!\$)|[^$\\])*(?<=\S)\$(?!\d))|(?P<money>\$)", re.DOTALL
)
_PRIVATE = 0xE000  # letters that stand for each piece, as many as it is long, while lines break
_HIDDEN = re.compile(r"([\ue000-\uf8ff])\1*")


def check(option: str, text: object) -> None:
    """Refuse a text of the user's that cannot be drawn as it is meant. Raises InputError."""
    longest = LONGEST.get(option, LONGEST_LABEL)
    if not isinstance(text, str):
        raise refuse(option, text, "a text")
    if len(text) > longest:
        raise refuse(option, text, f"at most {longest} letters, and it has {len(text)}")
    if absent := sorted({c for c in text if not c.isspace()} - _letters()):
        raise refuse(option, text, f"letters of {FONT}, which has no {short_repr(''.join(absent))}")
    for piece in _PIECES.finditer(text):
        if piece["math"] is not None and not _is_mathematics(piece["math"]):
            found = short_repr(piece["math"])
            raise refuse(
                option, text, rf"{found} between dollars is no mathematics; \$ is a dollar"
            )


def written(text: str) -> str:
    """A text that was checked, as Matplotlib takes it: on one line, with money escaped."""
    return " ".join(_PIECES.sub(lambda piece: r"\$" if piece["money"] else piece[0], text).split())


def literal(name: str, lines: int = 1) -> str:
    """A name as Matplotlib takes it, letter by letter; of one that is longer than so many lines the
    middle is left out.

    Nothing in it is mathematics, and what the font lacks is marked.
    """
    known = "".join(c if c in _letters() else " " if c.isspace() else UNKNOWN for c in name)
    return shortened(known.replace("$", r"\$"), lines * LONGEST_NAME, SMALL)


def shortened(text: str, room: float, size: float) -> str:
    """A text of so many points with so much of its middle left out that it has room."""
    parts = [part[0] for part in re.finditer(rf"{_PIECES.pattern}|.", text, re.DOTALL)]
    short, middle = text, len(parts) // 2
    left, right = parts[:middle], parts[middle:]
    while length(short, size) > room and right:
        left, right = (left, right[1:]) if len(left) < len(right) else (left[:-1], right)
        short = "".join([*left, LEFT_OUT, *right])
    return short


def wrapped(text: str, room: float, size: float, letters: int) -> list[str]:
    """The lines of a text of so many points, in so many points of room; no formula is broken.

    They have at most so many letters each.
    """
    pieces: list[str] = []

    def hidden(piece: re.Match[str]) -> str:
        pieces.append(piece[0])
        return chr(_PRIVATE + len(pieces) - 1) * math.ceil(length(piece[0], size) / size / LETTER)

    def whole(line: str) -> str:
        return _HIDDEN.sub(lambda run: pieces[ord(run[1]) - _PRIVATE], line)

    short = _PIECES.sub(hidden, text)
    while True:
        lines = [whole(line) for line in _broken(short, max(letters, LEAST))]
        longest = max((length(line, size) for line in lines), default=0.0)
        if longest <= room or letters <= LEAST:
            return lines
        letters = min(letters - 1, int(letters * room / longest))


def balanced(text: str, room: float, size: float) -> list[str]:
    """The lines of a text of so many points, in so many points of room: as few as there can be, and
    then as alike in length as whole words are. Only what has no room is broken, as by `wrapped`."""
    found: list[str] = []
    whole = wrapped(text, math.inf, size, max(len(text), LEAST))
    for letters in range(len(text), LEAST, -1):
        lines = wrapped(text, math.inf, size, letters)
        if " ".join(lines) != " ".join(whole) or (found and len(lines) > len(found)):
            break
        if max((length(line, size) for line in lines), default=0.0) <= room:
            found = lines
    return found or wrapped(text, room, size, len(text))


def _broken(text: str, letters: int) -> Iterator[str]:
    """Lines of so many letters; a longer word is broken, unless a formula is in it."""
    for line in textwrap.wrap(text, letters, break_long_words=False):
        yield from [line] if _HIDDEN.search(line) else textwrap.wrap(line, letters)


def least(text: str, size: float, lines: int) -> float:
    """Points that so many lines of a text need, none of whose formulas is broken."""
    formulas = (length(piece["math"], size) for piece in _PIECES.finditer(text) if piece["math"])
    return max(length(text, size) / lines, SPARE * max(formulas, default=0.0))


def length(line: str, size: float) -> float:
    """The length of a line in points."""
    prop = FontProperties(family=FONT, size=size)
    formula = any(piece["math"] for piece in _PIECES.finditer(line))
    plain = line if formula else line.replace(r"\$", "$")
    return float(text_to_path.get_text_width_height_descent(plain, prop, formula)[0])


def _is_mathematics(text: str) -> bool:
    with style():
        try:
            MathTextParser("path").parse(text)
        except (ValueError, RuntimeError):  # RuntimeError: nested too deeply
            return False
    return True


@cache
def _letters() -> frozenset[str]:
    """What the font has, but for what stands for pieces here."""
    found = map(chr, get_font(findfont(FontProperties(family=FONT))).get_charmap())
    return frozenset(letter for letter in found if not _HIDDEN.match(letter))
