"""What is measured, one row a quantity.

The file's variables, the JSON document, the tidy table and what figures show are made from these
rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from seqlab.numbers.learned import COORDINATES, LEARNED
from seqlab.numbers.quantity import SMALLEST, Quantity

_CURVE = ("network", "rule", "length", "lag")


def _rate(log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
    return np.divide(log_norm, lag, out=np.full_like(log_norm, np.nan), where=lag > 0)


def _zero(log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
    return np.isneginf(log_norm) & ~lost


def _underflow(log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
    return np.isneginf(log_norm) & lost


def _overflow(log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
    return np.isnan(log_norm) | np.isposinf(log_norm)


def _smaller_misfit(data: Mapping[str, NDArray]) -> NDArray:
    """(rules,) names of laws, None where none was fitted."""
    exponential, power = data["fit_exponential_rms"], data["fit_power_rms"]
    law = np.where(exponential <= power, "exponential", "power").astype(object)
    law[np.isnan(exponential) | np.isnan(power)] = None
    return law


def _norm_of(what: str) -> str:
    return f"ln norm of the {what}, relative to the state's at lag 0"


def _made_of() -> Iterator[Quantity]:
    """What the parameters' gradient of the longest length is made of, of all and of each."""
    for name, what, value, label in (
        (
            "log_gradient_by_lag",
            "ln norm of a lag's share of the gradient, over that of the whole",
            "gradient_by_lag",
            "log10 share of the parameters' gradient (decades)",
        ),
        (
            "log_gradient_to_lag",
            "ln norm of the sum of the shares of the gradient up to a lag, over that of the whole",
            "gradient_to_lag",
            "log10 gradient up to the lag (decades)",
        ),
        (
            "cosine_to_lag",
            "cosine of the sum of the shares of the gradient up to a lag with the whole",
            "cosine_to_lag",
            "cosine of the gradient up to the lag",
        ),
    ):
        log = name.startswith("log")
        made_of = Quantity(
            name,
            ("network", "lag"),
            "nat" if log else "1",
            what,
            optional=True,
            value=value,
            label=label,
            kind="decades" if log else "rate",
            to_start=False,
            each=True,
        )
        yield from (made_of, made_of.of_each)


_COORDINATES = (
    Quantity("lag", ("lag",), "step", "steps between loss and state"),
    Quantity("length", ("length",), "step", "steps from start to loss"),
    Quantity("rule", ("rule",), "1", "clip rule"),
    Quantity("part", ("part",), "1", "part of the state", optional=True),
    Quantity("parameter", ("parameter",), "1", "parameter of the cell", optional=True),
    Quantity("threshold", ("threshold",), "1", "attenuation that a horizon is asked for"),
)
# Of a stack's layers, shares: name, of what it is one, its label.
_SHARES = (
    ("zero_units", "activations whose slope is exactly zero", "zero activations"),
    ("dead_units", "units whose slope is zero for every input of the batch", "dead units"),
    ("always_on_units", "units whose slope is zero for no input of it", "units always on"),
    ("saturated_units", "slopes under 5% of the steepest", "saturated activations"),
)
# In the order of an entry of the JSON document.
_MEASURED = (
    Quantity(
        "decay_rate",
        ("network", "rule"),
        "nat/step",
        "(ln norm at lag T - at lag 0)/T for the longest length",
        read="decay_rate",
        label="decay rate (nat/step)",
        over="mean",
        spread=True,
        points=_rate,
    ),
    Quantity(
        "log_norm",
        _CURVE,
        "nat",
        _norm_of("adjoint of the state"),
        read="log10_attenuation",
        label="log10 attenuation (decades)",
        kind="decades",
        spread=True,
    ),
    Quantity(
        "log_norm_input",
        _CURVE,
        "nat",
        _norm_of("gradient of the input"),
        value="log10_attenuation_input",
        label="log10 gradient of the input (decades)",
        kind="decades",
        to_start=False,
    ),
    Quantity(  # of each named part where a state has several
        "log_norm_{part}",
        _CURVE,
        "nat",
        _norm_of("{part} part of the adjoint"),
        value="log10_attenuation_{part}",
        label="log10 gradient of the {part} part (decades)",
        kind="decades",
    ),
    Quantity(  # of the parts of somebody's own state, which `part` names
        "log_norm_part",
        ("network", "rule", "part", "length", "lag"),
        "nat",
        _norm_of("adjoint's part"),
        optional=True,
    ),
    Quantity(
        "fit",
        ("rule",),
        "1",
        "the law that misses the median curve by less",
        stored=False,
        derived=_smaller_misfit,
        read="fit",
        kind="word",
    ),
    Quantity(
        "horizon",
        ("rule", "threshold"),
        "step",
        "first lag at which the median is below the threshold, -1 if it never is",
        read="horizon",
        label="horizon at {} (steps)",
        kind="lag",
    ),
    *(
        Quantity(
            f"{dtype}_zero_lag",
            ("rule",),
            "step",
            f"first lag at which the median is zero in {dtype}, -1 if it never is",
            read=f"{dtype}_zero_lag",
            label=f"{dtype} zero from lag (steps)",
            kind="lag",
        )
        for dtype in SMALLEST
    ),
    *(
        Quantity(
            name,
            ("network", "rule", "length"),
            "1",
            f"1 where the gradient is {what}",
            stored=False,
            read=name,
            value=value,
            label=f"share of networks {what}",
            kind="share",
            over="count",
            points=points,
        )
        for name, value, what, points in (
            ("zeros", "zero_share", "exactly zero", _zero),
            ("underflows", "underflow_share", "under the range", _underflow),
            ("overflows", "overflow_share", "not finite", _overflow),
        )
    ),
    Quantity("fit_exponential_rms", ("rule",), "nat", "rms residual of the exponential"),
    Quantity("fit_power_rms", ("rule",), "nat", "rms residual of the power law"),
    Quantity(
        "fit_rate",
        ("rule",),
        "nat/step",
        "rate of the exponential",
        value="fit_rate",
        label="rate of the exponential fit (nat/step)",
    ),
    Quantity(
        "fit_exponent",
        ("rule",),
        "1",
        "exponent of the power law",
        value="fit_exponent",
        label="exponent of the power-law fit",
    ),
    Quantity(
        "clipped_fraction",
        ("network", "rule"),
        "1",
        "share of steps at which the rule acted",
        read="clipped_fraction",
        label="share clipped",
        kind="share",
        over="mean",
    ),
    Quantity(
        "underflow",
        ("network", "rule", "length"),
        "1",
        "1 where the gradient is zero because one step's factor left the number format's range",
    ),
    *(
        Quantity(
            f"log_param_grad_norm_{side}",
            ("network", "rule"),
            "nat",
            f"ln norm of all parameter gradients {side} the rule, longest length",
            read=f"log10_param_grad_norm_{side}",
            key=side,
            label=f"log10 gradient norm {side} clipping (decades)",
            kind="decades",
        )
        for side in ("before", "after")
    ),
    Quantity(
        "gradient_cosine",
        ("network", "rule"),
        "1",
        "cosine of all parameter gradients under the rule and without, longest length",
        optional=True,
        read="gradient_cosine",
        label="cosine with the unclipped gradient",
        over="mean",
    ),
    *_made_of(),
    Quantity(
        "truncation_lag",
        (),
        "step",
        "smallest kept lag, from 1 on, from which on the median of cosine_to_lag is above what was "
        "asked for, -1 if it never is",
        optional=True,
        read="truncation_lag",
        label="lags that keep the gradient's direction (steps)",
        kind="lag",
    ),
    Quantity(
        "lyapunov",
        ("network", "exponent"),
        "nat/step",
        "Lyapunov exponents, unclipped",
        optional=True,
        read="lyapunov",
        label="largest Lyapunov exponent (nat/step)",
        over="mean",
    ),
    Quantity(
        "log_mean_square",
        ("network", "lag"),
        "1",
        "ln of the mean square of a layer's activations, longest length",
        optional=True,
        value="log10_mean_square",
        label="log10 mean square of activations (decades)",
        kind="decades",
    ),
    Quantity(
        "cosine",
        ("network", "lag"),
        "1",
        "mean cosine of a layer's activations for two inputs, or tokens, longest length",
        optional=True,
        value="cosine",
        label="cosine of two inputs' activations",
        over="mean",
    ),
    *(
        Quantity(
            name,
            ("network", "lag"),
            "1",
            f"share of {what}, longest length",
            optional=True,
            value=name,
            label=f"share of {label}",
            kind="share",
            over="mean",
            to_start=False,
        )
        for name, what, label in _SHARES
    ),
    *(
        Quantity(
            f"log_{what}_grad_norm",
            ("network", "rule", "lag"),
            "nat",
            f"ln norm of the gradient of a layer's {plural}, longest length",
            optional=True,
            value=f"log10_{what}_grad_norm",
            label=f"log10 gradient norm of the {plural} (decades)",
            kind="decades",
            to_start=False,
        )
        for what, plural in (("weight", "weights"), ("bias", "biases"))
    ),
    Quantity(
        "theory",
        (),
        "nat/step",
        "decay rate that theory predicts",
        read="theory",
        label="predicted rate (nat/step)",
        over="mean",
    ),
    *LEARNED,
)


def quantities(parts: Iterable[str] = ()) -> list[Quantity]:
    """All that is measured, in the JSON document's order; `parts` are those of a cell's state."""
    found: list[Quantity] = []
    for row in _MEASURED:
        each = parts if "{part}" in row.name else [""]
        found += (_of_part(row, part) if part else row for part in each)
    return found


def _of_part(row: Quantity, part: str) -> Quantity:
    texts = {name: getattr(row, name) for name in ("name", "long_name", "value", "label")}
    return replace(row, **{name: text.format(part=part) for name, text in texts.items()})


def in_files(parts: Iterable[str] = ()) -> dict[str, Quantity]:
    """A file's variables in order: coordinates, curves, and what a run has one of."""
    stored = [row for row in quantities(parts) if row.stored]
    ordered = sorted(stored, key=lambda row: "lag" not in row.dims)
    return {row.name: row for row in (*_COORDINATES, *COORDINATES, *ordered)}


# What the JSON document and the tidy table have, in the document's order.
IN_TABLES = tuple(row for row in quantities() if row.read and not row.learned)
IN_TABLES_OF_TRAINING = tuple(row for row in quantities() if row.read)


def is_training(names: Iterable[str]) -> bool:
    """Whether variables of these names are those of training."""
    return "solved_at" in names


def in_figures(parts: Iterable[str]) -> list[Quantity]:
    """What figures may show: the state's curve and its parts', the input's, what else there is
    along curves, what a run has one of, what only some runs have, and last what training has."""
    shown = [row for row in quantities(parts) if row.label]
    return sorted(shown, key=_place)


def _place(row: Quantity) -> tuple[bool, ...]:
    return row.optional, row.learned, not row.of_curve, row.points is not None, not row.to_start
