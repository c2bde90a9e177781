"""What the value of each kind of field may be: parsers shared by runs and studies.

A parser takes the field's name and a value and returns the value in its one canonical form, or
raises InputError with one line: the field, the value, what is allowed.
"""

import difflib
import itertools
import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

from seqlab import rules
from seqlab.errors import InputError

Parser = Callable[[str, Any], Any]

LARGEST = 2**31 - 1  # netCDF-3 keeps lags and axes as 32-bit integers
MOST_LENGTHS = 1000
MOST_TOLD = 6  # of a list of lengths or rules

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def shown(value: object) -> str:
    """A value as a message shows it: its repr, cut short, on one line."""
    try:
        text = _repr.repr(value)
    except ValueError:  # an integer with more digits than Python will print
        text = "a number of too many digits"
    return " ".join(text.split())


def listed(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def told(settings: Mapping[str, object]) -> str:
    """`steps 1000, input scale 0.5, clip none+norm:1`; what is None is left out."""
    return ", ".join(
        f"{name.replace('_', ' ')} {plain(value)}"
        for name, value in settings.items()
        if value is not None
    )


def plain(value: object) -> str:
    """A setting as people write it: 1 for 1.0, and not all of many lengths."""
    if not isinstance(value, tuple):
        return str(value).removesuffix(".0")
    items = value if len(value) <= MOST_TOLD else (*value[:2], "...", value[-1])
    return "+".join(map(str, items))


def spelled(text: str) -> str:
    """A text that can be written anywhere: bytes of a file's name that are no letters escaped."""
    return text.encode(errors="backslashreplace").decode()


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def refuse(name: str, value: object, allowed: str) -> InputError:
    """The error for a value that its field does not allow."""
    return InputError(f"{name}: {shown(value)} is not allowed; {allowed}")


def whole(smallest: int, largest: int = LARGEST) -> Parser:
    """Whole numbers in a range, of any integer type but bool."""

    def parse(name: str, value: Any) -> int:
        try:
            number = None if isinstance(value, bool) else operator.index(value)
        except TypeError:
            number = None
        if number is None or number < smallest:
            raise refuse(name, value, f"a whole number from {smallest} up")
        if number > largest:
            raise refuse(name, value, f"a whole number from {smallest} to {largest}")
        return number

    return parse


def number(allowed: str, test: Callable[[float], bool] = lambda _: True) -> Parser:
    """Finite numbers that pass a test, as floats; -0.0 becomes 0.0."""

    def parse(name: str, value: Any) -> float:
        try:
            real = isinstance(value, Real) and not isinstance(value, bool)
            parsed = float(value) if real else math.nan
        except OverflowError:
            parsed = math.inf
        if not (math.isfinite(parsed) and test(parsed)):
            raise refuse(name, value, allowed)
        return parsed + 0.0

    return parse


def choice(names: Iterable[str]) -> Parser:
    """One of a few names."""
    known = tuple(names)

    def parse(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            close = nearest(value, known) if isinstance(value, str) else ""
            raise refuse(name, value, listed(known) + close)
        return value

    return parse


def number_or(word: str) -> Parser:
    """A finite number, or one word."""
    allowed = f"a finite number or {word}"
    parse_number = number(allowed)

    def parse(name: str, value: Any) -> float | str:
        return word if isinstance(value, str) and value == word else parse_number(name, value)

    return parse


def clip_rules(name: str, value: Any) -> tuple[str, ...]:
    """One clip rule or several, in their shortest spelling, each once."""
    texts = [value] if isinstance(value, str) else value
    if not (_is_list(texts) and texts and all(isinstance(text, str) for text in texts)):
        raise refuse(name, value, f"a rule or a list of rules: {rules.SPELLINGS}")
    return tuple(dict.fromkeys(str(rules.parse(text)) for text in texts))


def lengths(name: str, value: Any) -> tuple[int, ...]:
    """Sequence lengths: `a:b:n` (see `spaced`) or a list of ascending whole numbers."""
    allowed = f"a:b:n with 1 <= a <= b, or at most {MOST_LENGTHS} ascending whole numbers"
    if isinstance(value, str):
        numbers = [int(part) if _is_digits(part) else 0 for part in value.split(":")]
        if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= LARGEST:
            raise refuse(name, value, allowed)
        if not 1 <= numbers[2] <= MOST_LENGTHS:
            raise refuse(name, value, f"n from 1 to {MOST_LENGTHS}")
        return spaced(*numbers)
    if not (_is_list(value) and 1 <= len(value) <= MOST_LENGTHS):
        raise refuse(name, value, allowed)
    parse = whole(1)
    found = tuple(parse(name, item) for item in value)
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise refuse(name, value, allowed)
    return found


def spaced(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` whole numbers evenly spaced in log, ends exact, duplicates removed."""
    if count == 1:
        return (first,)
    ratio = last / first
    inner = (round(first * ratio ** (k / (count - 1))) for k in range(1, count - 1))
    return tuple(dict.fromkeys((first, *inner, last)))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
