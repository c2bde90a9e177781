"""How activations of deep stacks are spelled, apart from what they are: a spec loads no SciPy."""

import math

from seqlab.wording import did_you_mean, one_of, refuse

PLAIN = ("identity", "sigmoid", "tanh", "erf", "relu", "selu", "gelu", "silu", "softplus")
# With a number after a colon, and what it is when left out.
WITH_NUMBER = {"leaky": 0.01, "prelu": 0.25, "elu": 1.0}
NAMES = (*PLAIN, *WITH_NUMBER)


def spelled(name: str, field: str = "activation") -> str:
    """The one spelling of a name: `elu:1` for elu and for elu:1.0.

    Raises InputError that begins with the field.
    """
    kind, number = taken_apart(name, field)
    return kind if number is None else f"{kind}:{number!r}".removesuffix(".0")


def taken_apart(name: str, field: str = "activation") -> tuple[str, float | None]:
    """One of NAMES and its number, None where it has none.

    Raises InputError that begins with the field.
    """
    if name in PLAIN:
        return name, None
    kind, colon, number = name.partition(":")
    if kind not in WITH_NUMBER:
        raise refuse(field, name, one_of(NAMES) + did_you_mean(name, NAMES))
    try:
        value = float(number) if colon else WITH_NUMBER[kind]
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise refuse(field, name, f"{kind}:NUMBER with a finite number")
    return kind, value + 0.0  # no -0.0
