"""Whether a value is one of a type hint: enough of the language of types for those of the face."""

import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """As a type checker would have it: an int is a float too, and a bool an int."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return (
            isinstance(value, tuple) and len(value) == len(inner) and all(map(fits, value, inner))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        pairs = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(fits(k, inner[0]) and fits(v, inner[1]) for k, v in pairs)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, origin) and all(fits(item, inner[0]) for item in value)
    plain = types.NoneType if hint is None else (origin or hint)
    return isinstance(value, (int, float) if plain is float else plain)
