"""What a measurement is made of: named arrays with dimensions and units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEVER = -1  # in place of a lag that is not reached


@dataclass(frozen=True)
class Variable:
    """One named array of a result, as netCDF would hold it.

    `dims` names each axis of `data` (network, rule, part, length, lag, threshold, exponent);
    `units` are UDUNITS-style ("1", "step", "nat", "nat/step"). `never` says whether NEVER, in place
    of a lag, means that there is none.
    """

    dims: tuple[str, ...]
    data: NDArray
    units: str
    long_name: str
    never: bool = False

    def __post_init__(self) -> None:
        if np.ndim(self.data) != len(self.dims):
            raise ValueError(f"{self.long_name}: {np.ndim(self.data)} axes, dims {self.dims}")


@dataclass(frozen=True)
class Measurement:
    """All numbers of one measured spec, and the backend that ran."""

    backend: str
    variables: dict[str, Variable]
