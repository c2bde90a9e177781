"""How messages and tables phrase values."""

import difflib
import re
import reprlib
from collections.abc import Iterable, Mapping

from seqlab.errors import InputError

MOST_LISTED = 6  # of a list of lengths or rules
# What a text says of the links of a chain, of time steps first.
_OF_LINKS = {
    "step": ("step", "steps", "sequence length", "by length"),
    "layer": ("layer", "layers", "depth", "by depth"),
}

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 60


def short_repr(value: object) -> str:
    """A value as a message shows it: its repr, cut short, on one line."""
    try:
        text = _repr.repr(value)
    except ValueError:  # an integer with more digits than Python will print
        text = "a number of too many digits"
    return " ".join(text.split())


def one_of(names: Iterable[str]) -> str:
    """`a, b or c`."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def in_links(text: str, links: Iterable[str]) -> str:
    """A text about steps, of the links that there are: `nat/layer`, `steps or layers`.

    Names with a hyphen, of clip rules, stay as they are.
    """
    for usual, *words in zip(_OF_LINKS["step"], *map(_OF_LINKS.__getitem__, links), strict=True):
        text = re.sub(rf"\b{usual}\b(?!-)", " or ".join(words), text)
    return text


def describe_settings(settings: Mapping[str, object]) -> str:
    """`steps 1000, input scale 0.5, clip none+norm:1`; what is None is left out."""
    return ", ".join(
        f"{name.replace('_', ' ')} {describe_value(value)}"
        for name, value in settings.items()
        if value is not None
    )


def describe_value(value: object) -> str:
    """A setting as people write it: 1 for 1.0, and not all of many lengths."""
    if value is True:
        return "yes"
    if not isinstance(value, tuple):
        return str(value).removesuffix(".0")
    items = value if len(value) <= MOST_LISTED else (*value[:2], "...", value[-1])
    return "+".join(map(str, items))


def describe_array(array: object) -> str:
    """An array, or tuples and dictionaries of some, by their shapes: `(3, 4)`, `((3, 4), (3,))`."""
    if isinstance(array, Mapping):
        return ", ".join(f"{name} {describe_array(part)}" for name, part in array.items())
    if isinstance(array, tuple):
        return f"({', '.join(map(describe_array, array))})"
    return str(getattr(array, "shape", array))


def lasting(seconds: float) -> str:
    """A time to be waited: `40 s`, `12 min`, `3.5 h`, `12 days`."""
    for unit, length, places in (("s", 1, 0), ("min", 60, 0), ("h", 3600, 1)):
        if seconds < 90 * length:
            return f"{seconds / length:.{places}f} {unit}"
    return f"{seconds / 86400:.0f} days"


def taken(seconds: float) -> str:
    """A time that was taken: `0.25 s`, and longer ones as `lasting` has them."""
    return f"{seconds:.2g} s" if seconds < 9.5 else lasting(seconds)


def extra(name: str) -> str:
    """How to install what comes with an extra of seqlab, from an index or in a clone."""
    return f"pip install 'seqlab[{name}]', in a clone '.[{name}]'"


def printable(text: str) -> str:
    """A text that can be written anywhere: bytes of a file's name that are no letters escaped."""
    return text.encode(errors="backslashreplace").decode()


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing where no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def refuse(name: str, value: object, allowed: str) -> InputError:
    """The error for a value that its field does not allow."""
    return InputError(f"{name}: {short_repr(value)} is not allowed; {allowed}")
