"""The arrays that drivers and kernels hand each other, the same for every cell and backend.

Axes: M networks, B sequences, S steps of one time segment, L losses (rows of the bundle),
P parts of the state, H units. Rows are sorted by falling length; the first `live` of them take
part in a call.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.rules import Rule
from seqlab.values import without_history

# A vector is kept as `direction * 2^exponent`. Powers of two make rescaling exact, so that a
# result does not depend on when it happened. The zero vector has an exponent below all others.
EMPTY = -(1 << 40)
_LIMIT = 5000  # 2^5000 is beyond every dtype: nothing is lost by stopping there


def power_of_two(exponent: NDArray) -> NDArray:
    """2^exponent as float64, 0 and inf beyond its range."""
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(1.0, np.clip(exponent, -_LIMIT, _LIMIT))


def unscaled(direction: NDArray, exponent: NDArray) -> NDArray:
    """direction * 2^exponent in the direction's dtype; beyond its range 0 or inf.

    `exponent` has the leading axes of `direction`, which is given back where that is all zero.
    """
    if not exponent.any():
        return direction
    shift = np.clip(exponent, -_LIMIT, _LIMIT).astype(np.int32)
    shift = shift.reshape(shift.shape + (1,) * (direction.ndim - shift.ndim))
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(direction, shift)


# What kernels know the rules inside the chain by: a number is all that they can compare.
NONE, STEP_NORM, STEP_VALUE, TRUNCATE = range(4)
_CODES = {"step-norm": STEP_NORM, "step-value": STEP_VALUE, "truncate": TRUNCATE}


class Bundle(NamedTuple):
    """The adjoints on their way back: `adjoint` (M, B, L, P, H), `exponent` (M, B, L) int64,
    `lag` (L,) int64 at the call's start."""

    adjoint: NDArray
    exponent: NDArray
    lag: NDArray


class Losses(NamedTuple):
    """What the losses give at the last n steps before span.hi, which may be none: `gradient`
    (M, n, B, L, H) of the outputs, times 2^`exponent` (M, n, B, L) int64."""

    gradient: Any  # an Array, where it lives
    exponent: NDArray


class Clip(NamedTuple):
    """What acts inside the chain, for a kernel: rules.Rule in numbers, since compiled code takes no
    words. The threshold is `mantissa` * 2^`exponent`; `steps` are whole, from 1 up, and 1 for a
    rule without."""

    code: int
    mantissa: float
    exponent: int
    steps: int

    @classmethod
    def of(cls, rule: Rule) -> "Clip":
        """The numbers of a rule; code NONE for one that does not act inside the chain.

        Raises NotImplementedError for one that does and that kernels do not know.
        """
        if rule.in_chain and rule.kind not in _CODES:
            raise NotImplementedError(f"clip: no kernel knows {rule.kind}")
        mantissa, exponent = math.frexp(rule.threshold)
        steps = int(rule.threshold) if rule.whole_steps else 1
        return cls(_CODES.get(rule.kind, NONE), mantissa, exponent, steps)


class Trace(NamedTuple):
    """What is written down at each lag.

    `squares` (M, B, named parts, points) and `inputs` (M, B, points) are float64 sums of squares of
    the direction, `exponent` (M, B, points) int64; loss l at lag tau has point offset[l] + tau.
    `fired` (M, B, L) int64 counts the steps at which the rule acted. Without points only `fired`
    is written. Where somebody wants it, dx (M, n, B, L, I) is dL/dx at each of the call's n steps,
    times 2^`dx_exponent` (M, n, B, L) int64; where nobody does, n is 0.
    """

    squares: NDArray
    inputs: NDArray
    exponent: NDArray
    offset: NDArray
    fired: NDArray
    dx: NDArray
    dx_exponent: NDArray


class Emitted(NamedTuple):
    """Row 0's gradient, for the sums over time.

    `values` (M, S, B, E) with `exponent` (M, S, B) int64 is what each step leaves behind;
    `carried` (M, B, P, H), float64, with `carried_exponent` (M, B) int64 is what the kernel has
    summed itself (a cell without such a sum ignores it). With E = 0 nothing is written.
    """

    values: NDArray
    exponent: NDArray
    carried: NDArray
    carried_exponent: NDArray


class Span(NamedTuple):
    """Steps lo to hi (exclusive) of a segment that starts at absolute step `start`."""

    start: int
    lo: int
    hi: int


DLPACK_CUDA = 2  # DLPack's number for memory of a CUDA device


def on_gpu(value: Any) -> bool:
    """Whether an array lives on a GPU: it says so by `__cuda_array_interface__` or by DLPack.

    What cannot say where it lives is not there.
    """
    if type(value) is np.ndarray:  # the usual case, before all that others may say
        return False
    try:
        value = without_history(value)  # PyTorch's do not say it of tensors that have one
        if hasattr(value, "__cuda_array_interface__"):
            return True
        where = getattr(value, "__dlpack_device__", None)
        return where is not None and where()[0] == DLPACK_CUDA
    except Exception:  # whatever a stranger's class raises
        return False
