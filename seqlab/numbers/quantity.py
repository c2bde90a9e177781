"""One measured quantity: how a result file has it, how people read it, and the constants behind."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.numbers.variables import Variable
from seqlab.wording import in_links

LN10 = math.log(10)
# The smallest subnormals are 2 to these powers: below, a plain number is zero.
SMALLEST = {"float32": -149, "float64": -1074}
LN_SMALLEST = {dtype: power * math.log(2) for dtype, power in SMALLEST.items()}
LOG10_SMALLEST = {dtype: power * math.log10(2) for dtype, power in SMALLEST.items()}
# Attenuations that a horizon is asked for, as they are spelled.
THRESHOLDS = {"1e-1": 1e-1, "1e-3": 1e-3, "1e-6": 1e-6}
HORIZON = "1e-3"  # the one that tables and figures show
MOST_LAGS = 256  # that a file keeps, evenly spaced in log, besides 0, 1 and every length

# log_norm, lost, lag -> what there is at these points of curves; see `Quantity.at_points`.
AtPoints = Callable[[NDArray, NDArray, NDArray], NDArray]
# What an axis that people see in columns has a column for, and how each is called.
_COLUMNS_ALONG = {"threshold": tuple(THRESHOLDS), "exponent": ("1",)}


@dataclass(frozen=True)
class Quantity:
    """One measured quantity.

    In a file: `name`, `dims`, `units`, `long_name`; `stored` is False for what follows from other
    variables, by `derived` (from all data by name) or by `points`; `optional` is True for what only
    some specs ask for; `learned` for what only training has, which then is in no other's documents
    and tables either; `never` where -1 says that there is none.

    As people read it: `read` is its name in the JSON document and the tidy table, `label` that of
    its axis in figures, which call it `value` where that is another name; without `read` (without
    `label`) it is not there. `key` is its place where several quantities are one JSON object,
    whose name is then what stands before the key in `read`. With `spread` an interval stands
    beside the mean over networks, the quartiles beside the median.

    `kind` says what it is a scale of: "decades" (a natural log in the file) and "rate" have a
    sign, a "lag" is counted in steps and stored as -1 where it is never reached, "updates" are inf
    for never, a "share" lies between 0 and 1, an "amount" is above 0, a "word" is none. `over` says
    what becomes of the networks: of a "proportion" that have something (1, others 0) figures show
    Wilson's interval, of a "survival" (inf for what never happens) Kaplan-Meier quartiles.

    Of curves, `points` turns the log norm at some points into the quantity there (in place of
    only another unit); `lost` says where a zero is none, because one step's factor left the number
    format's range. `to_start` is False where the lag of the initial state has no entry. With `each`
    a file has it of each parameter too, which `of_each` is.
    """

    name: str
    dims: tuple[str, ...]
    units: str
    long_name: str
    stored: bool = True
    derived: Callable[[Mapping[str, NDArray]], NDArray] | None = None
    optional: bool = False
    learned: bool = False
    never: bool = False
    read: str = ""
    key: str = ""
    value: str = ""
    label: str = ""
    kind: Literal["decades", "rate", "lag", "updates", "share", "amount", "word"] = "rate"
    over: Literal["mean", "median", "count", "proportion", "survival"] = "median"
    spread: bool = False
    points: AtPoints | None = None
    to_start: bool = True
    each: bool = False

    def __post_init__(self) -> None:
        if self.kind == "lag" and "network" in self.dims:
            raise ValueError(f"{self.name}: a lag that may be never has no middle over networks")

    @cached_property
    def of_curve(self) -> bool:
        """Whether figures have it at every lag of every length, not once a run."""
        return "lag" in self.dims or self.points is not None

    @cached_property
    def source(self) -> str:
        """The variable that figures read: the state's curve for what is derived from it."""
        return "log_norm" if self.points else self.name

    @property
    def of_each(self) -> "Quantity":
        """It of each of the cell's parameters, (network, parameter, ...); files alone have it."""
        network, *others = self.dims
        return Quantity(
            f"{self.name}_parameter",
            (network, "parameter", *others),
            self.units,
            f"{self.long_name}, of each parameter",
            optional=self.optional,
        )

    @cached_property
    def by_length(self) -> bool:
        """Whether tables have it for each length, at that length's last lag."""
        return "length" in self.dims

    @cached_property
    def names(self) -> dict[str, str]:
        """Names and labels of the single numbers that it is, one a rule."""
        keys = _COLUMNS_ALONG.get(self.dims[-1] if self.dims else "")
        if keys is None:
            return {self.value or self.read: self.label}
        return {f"{self.read}_{key}": self.label.format(key) for key in keys}

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Its columns in the tidy table."""
        ends = {"mean": ("low", "high"), "median": ("q25", "q75")}[self.over] if self.spread else ()
        first = (self.read,) if self.over == "count" else tuple(self.names)
        return *first, *(f"{self.read}_{end}" for end in ends)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Its fields in an entry of the JSON document."""
        found = [self.read.removesuffix(f"_{self.key}") if self.key else self.read]
        if self.spread:
            found.append(f"{self.read}_{'ci95' if self.over == 'mean' else 'iqr'}")
        if self.by_length and self.over != "count":
            found += ["lengths", f"{self.read}_by_length"]
        if "exponent" in self.dims:
            found.append(f"{self.read}_dead")
        return tuple(found)

    def variable(self, data: ArrayLike, link: str = "step") -> Variable:
        """It as a file has it, counted in steps or in another link. Raises ValueError where data
        has another number of axes."""
        array, never = np.asarray(data), self.never or self.kind == "lag"
        units, long_name = (in_links(text, [link]) for text in (self.units, self.long_name))
        return Variable(self.dims, array, units, long_name, never)

    def in_units(self, stored: NDArray) -> NDArray:
        """Stored values in the unit that people read."""
        return stored / LN10 if self.kind == "decades" else stored

    def at_points(self, log_norm: NDArray, lost: NDArray, lag: NDArray) -> NDArray:
        """It at points of its source's curves: (networks, rules, points) each, `lag` (points,)."""
        if self.points is None:
            return self.in_units(log_norm)
        return self.points(log_norm, lost, lag).astype(np.float64)
