"""What the value of each kind of field may be: parsers shared by runs and studies.

A parser takes the field's name and a value and returns the value in its one canonical form, or
raises InputError with one line: the field, the value, what is allowed.
"""

import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

from seqlab import rules
from seqlab.wording import did_you_mean, one_of, refuse

Parser = Callable[[str, Any], Any]

MOST_DIGITS = 40  # of a whole number with an exponent, as many as the largest seed has
_SCIENTIFIC = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]{1,3}")
LARGEST = 2**31 - 1  # netCDF-3 keeps lags and axes as 32-bit integers
MOST_LENGTHS = 1000
DEFAULT_LENGTHS = (10, 13)  # the shortest, and how many up to `steps`


@dataclass(frozen=True)
class Spelled:
    """A parser of values that are, or begin with, one of some words."""

    parse: Parser
    words: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> Any:
        return self.parse(name, value)


def words_of(parser: Parser) -> tuple[str, ...]:
    """The words of a parser, none where it takes others."""
    return parser.words if isinstance(parser, Spelled) else ()


def whole_of(text: str) -> int | None:
    """The whole number of a text, which may have an exponent, `1e4`; None where it is none."""
    try:
        return int(text)
    except ValueError:
        pass
    if not _SCIENTIFIC.fullmatch(text.strip()):
        return None
    number = Decimal(text.strip())
    if number.adjusted() > MOST_DIGITS or number != number.to_integral_value():
        return None
    return int(number)


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
            close = did_you_mean(value, known) if isinstance(value, str) else ""
            raise refuse(name, value, one_of(known) + close)
        return value

    return Spelled(parse, known)


def number_or(word: str) -> Parser:
    """A finite number, or one word."""
    allowed = f"a finite number or {word}"
    parse_number = number(allowed)

    def parse(name: str, value: Any) -> float | str:
        return word if isinstance(value, str) and value == word else parse_number(name, value)

    return Spelled(parse, (word,))


def clip_rules(name: str, value: Any) -> tuple[str, ...]:
    """One clip rule or several, in their shortest spelling, each once."""
    texts = [value] if isinstance(value, str) else value
    if not (_is_list(texts) and texts and all(isinstance(text, str) for text in texts)):
        raise refuse(name, value, f"a rule or a list of rules: {rules.SPELLINGS}")
    return tuple(dict.fromkeys(str(rules.parse(text)) for text in texts))


def lengths(name: str, value: Any) -> tuple[int, ...]:
    """Sequence lengths: `a:b:n` (see `spaced`), or ascending whole numbers as a list or as text
    between commas, `10,100,1000`."""
    allowed = (
        f"a:b:n with 1 <= a <= b, or at most {MOST_LENGTHS} ascending whole numbers, such as "
        "10,100,1000"
    )
    if isinstance(value, str) and ":" in value:
        numbers = _whole_numbers(value, ":")
        if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= LARGEST:
            raise refuse(name, value, allowed)
        if not 1 <= numbers[2] <= MOST_LENGTHS:
            raise refuse(name, value, f"n from 1 to {MOST_LENGTHS}")
        return spaced(*numbers)
    items = _whole_numbers(value, ",") if isinstance(value, str) else value
    if not (_is_list(items) and 1 <= len(items) <= MOST_LENGTHS):
        raise refuse(name, value, allowed)
    if isinstance(value, str) and not all(1 <= item <= LARGEST for item in items):
        raise refuse(name, value, allowed)
    parse = whole(1)
    found = tuple(parse(name, item) for item in items)
    if any(a >= b for a, b in itertools.pairwise(found)):
        raise refuse(name, value, allowed)
    return found


def check_lengths(lengths: Sequence[Any], steps: int) -> int:
    """The longest of one or more different numbers of steps, in any order, of a sequence of so
    many. Raises InputError for others."""
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in lengths)
    if not (len(lengths) and whole and min(lengths) >= 1 and max(lengths) <= steps):
        raise refuse("lengths", lengths, f"whole numbers from 1 to {steps}")
    if len(set(lengths)) < len(lengths):
        raise refuse("lengths", lengths, "each length once")
    return int(max(lengths))


def spaced(first: int, last: int, count: int) -> tuple[int, ...]:
    """`count` whole numbers evenly spaced in log, ends exact, duplicates removed."""
    if count == 1:
        return (first,)
    ratio = last / first
    inner = (round(first * ratio ** (k / (count - 1))) for k in range(1, count - 1))
    return tuple(dict.fromkeys((first, *inner, last)))


def _whole_numbers(text: str, between: str) -> list[int]:
    """The numbers between separators; 0 for what is none, or has too many digits."""
    return [_length(part) for part in text.split(between)]


def _length(text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST))
    if not (plain or _SCIENTIFIC.fullmatch(text)):
        return 0
    return whole_of(text) or 0


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
