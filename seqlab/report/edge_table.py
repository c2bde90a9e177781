"""The edge of chaos as a table: the weights' variance at which the gradient of a wide stack neither
grows nor fades, and how deep a signal reaches beside it. At most 80 columns."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from seqlab.layers.draws import Draw, moments
from seqlab.layers.parts import Linear
from seqlab.numbers.activations import find_activation
from seqlab.numbers.edge import Critical, correlation_depths, critical, variance_slope
from seqlab.report.text import Row, fill, grid
from seqlab.wording import refuse

ASKED_BY = ("activation", "bias_scale", "init", "gain", "hidden")
_BIAS_SCALES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
_HEADERS = (
    ("bias", "bias", "", "weight", ""),
    ("scale", "variance", "q*", "variance", "gain"),
)
_LEGEND = """\
bias scale       standard deviation of the biases
q*               variance of a pre-activation that stays as it is
weight variance  n Var W of a layer of n units
gain             of init normal, xavier and orthogonal; for he 0.7071 times that"""
_LEAVES = """\
* q moves away from this point (dq'/dq > 1): gradients keep only while q is
  there, and a real network leaves it"""
_OFF_LEGEND = """\
chi              factor on the gradient's mean square in a layer at q*
rate             ln(chi)/2, nat/layer
variance depth   layers in which q comes e times closer to q*
correlation      that two inputs come to; its depth is the layers in which what
                 is left of the difference shrinks by e: as deep as a signal
                 about them reaches"""
_NO_Q = "no variance of pre-activations stays: q grows for ever, or fades to zero"
_NEAR_ZERO = 1e-3  # where a point at q = 0 is told to be left or not


def asked(given: Mapping[str, Any]) -> tuple[str, Sequence[float], tuple[float, float] | None]:
    """The arguments of `critical_table` for options of a stack's spec, those in ASKED_BY: some bias
    scales where none is given, and the point of the weights where these are."""
    activation = given.get("activation", "relu")
    scales = [given["bias_scale"]] if "bias_scale" in given else _BIAS_SCALES
    if not given.keys() & {"init", "gain", "hidden"}:
        return activation, scales, None
    width = given.get("hidden", 64)
    init = given.get("init", "pytorch" if "gain" not in given else "normal")
    how = Draw(init, given.get("gain"), given.get("bias_scale"))
    return activation, scales, moments(Linear(width, width), how)


def critical_document(
    activation: str, bias_scales: Sequence[float], at: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The edge of chaos for biases of these standard deviations, for JSON.

    `at` is a point (sw2, sb2), n Var W and the variance of a bias, whose depths are told as well.
    None stands for what there is not: an edge with these biases, a fixed point, a depth without
    end. `stays` says whether a real network stays at the point. Raises InputError.
    """
    phi = find_activation(activation)
    rows = []
    for scale in bias_scales:
        if not 0 <= scale < math.inf:
            raise refuse("bias_scale", scale, "a finite number from 0 up")
        point = critical(phi, scale**2)
        rows.append(
            {
                "bias_scale": float(scale),
                "bias_variance": float(scale**2),
                "q": point and point.q,
                "weight_variance": point and point.sw2,
                "gain": point and math.sqrt(point.sw2),
                "stays": point and _stays(activation, point),
            }
        )
    document = {"activation": activation, "any_q": phi.homogeneous, "critical": rows}
    if at is not None:
        document["at"] = _depths(activation, *at)
    return document


def _stays(activation: str, point: Critical) -> bool:
    """Whether q comes back to a critical point."""
    phi = find_activation(activation)
    slope = variance_slope(phi, point.sw2, point.q or _NEAR_ZERO)
    return bool(slope <= 1 + 1e-9)


def _depths(activation: str, sw2: float, sb2: float) -> dict[str, float | None]:
    """What is told of a point off the line."""
    if not 0 < sw2 < math.inf:
        raise refuse("weight variance", sw2, "a finite number above 0")
    if not 0 <= sb2 < math.inf:
        raise refuse("bias variance", sb2, "a finite number from 0 up")
    found = correlation_depths(find_activation(activation), sw2, sb2)
    numbers: dict[str, float | None] = {"weight_variance": sw2, "bias_variance": sb2}
    names = ("q", "chi", "variance_depth", "correlation", "chi_correlation", "correlation_depth")
    values = found or (None,) * len(names)
    numbers |= {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in zip(names, values, strict=True)
    }
    numbers["rate"] = math.log(found.chi) / 2 if found else None
    return numbers


def critical_table(
    activation: str, bias_scales: Sequence[float], at: tuple[float, float] | None = None
) -> str:
    """The same as text; no newline at the end. Raises InputError."""
    document = critical_document(activation, bias_scales, at)
    parts = [
        fill(f"{activation}: where the gradient of a wide plain stack neither grows nor fades")
    ]
    rows = document["critical"]
    if rows:
        parts.append(grid(_HEADERS, [_row(row) for row in rows]))
        if any(row["stays"] is False for row in rows):
            parts.append(_LEAVES)
        if any(row["weight_variance"] is None for row in rows):
            parts.append(fill(_why_none(activation, document["any_q"])))
        elif document["any_q"]:
            parts.append(
                fill(f"{activation} is homogeneous: at the edge q stays what it begins as")
            )
        parts.append(_LEGEND)
    if at is not None:
        parts += _off_the_line(document["at"])
    return "\n\n".join(parts)


def _row(row: dict[str, Any]) -> Row:
    numbers = [row[name] for name in ("q", "weight_variance", "gain")]
    mark = "*" if row["stays"] is False else ""
    cells = ["-" if x is None else f"{x:.6g}" for x in numbers]
    scale, variance = f"{row['bias_scale']:.6g}", f"{row['bias_variance']:.6g}"
    return mark, [scale, variance, *cells]


def _why_none(activation: str, homogeneous: bool) -> str:
    if not homogeneous:
        return f"-: {activation} has no edge with these biases"
    one = critical(find_activation(activation), 0.0)
    assert one is not None  # every homogeneous activation has one without biases
    return (
        f"-: {activation} is homogeneous: it has an edge without biases alone, at a weight "
        f"variance of {one.sw2:.6g}, where q stays what it begins as; with biases q grows there"
    )


def _off_the_line(numbers: dict[str, float | None]) -> list[str]:
    weight, bias = numbers["weight_variance"], numbers["bias_variance"]
    title = f"at weight variance {weight:.6g} and bias variance {bias:.6g}:"
    if numbers["q"] is None:
        return [f"{title}\n  {_NO_Q}"]
    names = ("q", "chi", "rate", "variance_depth", "correlation", "correlation_depth")
    headers = (
        ("", "", "", "variance", "", "correlation"),
        ("q*", "chi", "rate", "depth", "correlation", "depth"),
    )
    cells = ["inf" if (x := numbers[name]) is None else f"{x:.6g}" for name in names]
    return [f"{title}\n" + grid(headers, [("", cells)]), _OFF_LEGEND]
