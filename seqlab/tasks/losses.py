"""What an ensemble's answers cost, and the gradient by them: one row a kind of loss.

Answers y are (M, n, B, K), of M networks at the n steps that count. A loss is a mean over steps and
sequences, (M,) float64, summed in float64 whatever the answers' dtype; its gradient (M, n, B, K) is
in that dtype. A network's numbers do not depend on how many others there are. Answers that are not
finite give a loss that is not, of that network alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Loss = Callable[[NDArray, NDArray], tuple[NDArray, NDArray]]


@np.errstate(all="ignore")  # overflow and NaN are results
def squared(y: NDArray, targets: NDArray) -> tuple[NDArray, NDArray]:
    """The mean of |y - target|^2 for targets (M, n, B, K), and its gradient."""
    errors = y - targets.astype(y.dtype, copy=False)
    scale = y.shape[-1] / errors[0].size
    return _sums(np.square(errors, dtype=np.float64)) * scale, errors * y.dtype.type(2 * scale)


@np.errstate(all="ignore")
def cross_entropy(y: NDArray, classes: NDArray) -> tuple[NDArray, NDArray]:
    """The mean of -ln softmax(y)_class for classes (M, n, B), nat, and its gradient."""
    shifted = y - y.max(axis=-1, keepdims=True)
    gradient = np.exp(shifted)
    totals = gradient.sum(axis=-1, keepdims=True, dtype=np.float64)
    true = classes[..., np.newaxis]
    costs = np.log(totals) - np.take_along_axis(shifted, true, axis=-1)
    gradient /= totals.astype(y.dtype)
    at_true = np.take_along_axis(gradient, true, axis=-1)
    np.put_along_axis(gradient, true, at_true - 1, axis=-1)
    gradient /= classes[0].size
    return _sums(costs) / classes[0].size, gradient


def accuracy(y: NDArray, classes: NDArray) -> NDArray:
    """The share (M,) of answers whose largest entry is the class; a tie, or a NaN, is wrong."""
    at_true = np.take_along_axis(y, classes[..., np.newaxis], axis=-1)
    rivals = (~(y < at_true)).sum(axis=-1)  # the class itself is one
    return (rivals == 1).reshape(len(y), -1).mean(axis=1)


def _sums(values: NDArray) -> NDArray:
    """Sums (M,) over all but the first axis, of each network alone."""
    return np.ascontiguousarray(values).reshape(len(values), -1).sum(axis=1)


LOSSES: dict[str, Loss] = {"squared": squared, "cross-entropy": cross_entropy}
