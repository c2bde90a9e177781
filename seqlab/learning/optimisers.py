"""What turns gradients into changes of the parameters that they are of, for M networks at once.

Parameters are a dictionary of arrays (M, ...), all of them float32 or all float64. The update rules
are PyTorch's, whose eps stands outside the root.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab.wording import refuse

SGD_RATE = 0.01
RMSPROP_RATE, ALPHA = 0.01, 0.99  # PyTorch's
ADAM_RATE, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8  # what its authors recommend

Arrays = Mapping[str, NDArray]


def cosine(update: int, updates: int) -> float:
    """The share of its first value that a rate has after so many of `updates` updates:
    (1 + cos(pi update/updates))/2, and none from the last one on.

    Loshchilov & Hutter 2017, eq. 5, without restarts and down to zero; CosineAnnealingLR of PyTorch
    with T_max = updates.
    """
    return (1 + math.cos(math.pi * min(update / updates, 1))) / 2


class Optimiser(ABC):
    """The optimiser of M networks, all of which have made the same number of updates.

    `rate` is one number or (M,), above zero; `anneal_over` the updates of a `cosine` schedule, None
    for a rate that stays. Raises InputError for a rate or schedule that cannot be.
    """

    def __init__(
        self,
        parameters: Arrays,
        rate: ArrayLike,
        anneal_over: int | None = None,
        *,
        moments: tuple[str, ...],
    ) -> None:
        networks = {len(x) for x in parameters.values()}
        dtypes = {x.dtype for x in parameters.values()}
        if len(networks) != 1 or not dtypes < {np.dtype("float32"), np.dtype("float64")}:
            shapes = {name: f"{x.dtype} {x.shape}" for name, x in parameters.items()}
            raise refuse("parameters", shapes, "arrays (M, ...) of one M, all float32 or float64")
        rates = np.asarray(rate, dtype=np.float64)
        if rates.shape not in ((), tuple(networks)) or not (
            np.isfinite(rates).all() and (rates > 0).all()
        ):
            raise refuse("rate", rate, "a number above 0, or one a network")
        if anneal_over is not None and anneal_over < 1:
            raise refuse("anneal_over", anneal_over, "a number of updates from 1 up, or none")
        self._rate = np.broadcast_to(rates, tuple(networks)).copy()
        self._anneal_over = anneal_over
        self._update = 0
        self._moments: dict[str, dict[str, NDArray]] = {
            moment: {name: np.zeros(x.shape, x.dtype) for name, x in parameters.items()}
            for moment in moments
        }
        self._room(parameters)

    def update(self, parameters: Arrays, gradients: Arrays) -> dict[str, NDArray]:
        """Make one update of the parameters in place; what has been added to each is returned, in
        arrays that the next update overwrites.

        What is not finite is a result, and stays within its network.
        """
        factor = 1.0 if self._anneal_over is None else cosine(self._update, self._anneal_over)
        self._update += 1
        with np.errstate(all="ignore"):
            for name, change in self._changes.items():
                rate = (-factor * self._rate).astype(change.dtype)
                rate = rate.reshape(-1, *(1,) * (change.ndim - 1))
                self._write(name, gradients[name], rate, change)
                np.add(parameters[name], change, out=parameters[name])
        return self._changes

    def keep(self, kept: ArrayLike) -> None:
        """Go on with some of the networks alone, by a mask (M,); their numbers do not change."""
        chosen = np.asarray(kept, dtype=bool)
        if chosen.shape != self._rate.shape:
            raise refuse("kept", chosen.shape, f"a mask {self._rate.shape}")
        self._rate = self._rate[chosen]
        self._moments = {
            moment: {name: x[chosen] for name, x in arrays.items()}
            for moment, arrays in self._moments.items()
        }
        self._room({name: x[chosen] for name, x in self._changes.items()})

    def state(self) -> dict[str, NDArray]:
        """All that the next updates depend on but the options: a copy, for a checkpoint."""
        moments = {
            f"{moment}/{name}": x.copy()
            for moment, arrays in self._moments.items()
            for name, x in arrays.items()
        }
        return {"update": np.array(self._update), "rate": self._rate.copy(), **moments}

    def restore(self, state: Arrays) -> None:
        """Go on from a `state` of an optimiser of the same options and networks, bit for bit.

        Raises InputError where names, shapes or dtypes are not this one's.
        """
        own = self.state()
        if {k: (x.shape, x.dtype) for k, x in own.items()} != {
            k: (x.shape, x.dtype) for k, x in state.items()
        }:
            raise refuse("state", sorted(state), f"this optimiser's own, {sorted(own)}")
        self._update, self._rate = int(state["update"]), state["rate"].copy()
        for moment, arrays in self._moments.items():
            for name, x in arrays.items():
                x[:] = state[f"{moment}/{name}"]

    def _room(self, parameters: Arrays) -> None:
        """Room for the changes of parameters like these, and to work in for the largest of them."""
        self._changes = {name: np.empty(x.shape, x.dtype) for name, x in parameters.items()}
        largest = max(self._changes.values(), key=lambda x: x.size)
        self._work = np.empty(largest.size, largest.dtype)

    def _work_like(self, array: NDArray) -> NDArray:
        return self._work[: array.size].reshape(array.shape)

    @abstractmethod
    def _write(self, name: str, gradient: NDArray, rate: NDArray, change: NDArray) -> None:
        """Take a gradient into the moments, and write the change, for a rate with its sign."""


def _mix(moment: NDArray, beta: float, new: NDArray, work: NDArray) -> None:
    """moment <- beta moment + (1 - beta) new; `work` is to work in, and may be `new` itself."""
    np.multiply(new, 1 - beta, out=work)
    moment *= beta
    moment += work


class Sgd(Optimiser):
    """Gradient descent: velocity <- momentum velocity + g, without dampening, and the change is
    -rate velocity (Sutskever et al. 2013, eq. 1, with PyTorch's rate outside the velocity).

    Raises InputError for a momentum out of [0, 1).
    """

    def __init__(
        self,
        parameters: Arrays,
        rate: ArrayLike = SGD_RATE,
        anneal_over: int | None = None,
        *,
        momentum: float = 0.0,
    ) -> None:
        if not 0 <= momentum < 1:
            raise refuse("momentum", momentum, "from 0 to under 1")
        self._momentum = momentum
        moments = ("velocity",) if momentum else ()
        super().__init__(parameters, rate, anneal_over, moments=moments)

    def _write(self, name: str, gradient: NDArray, rate: NDArray, change: NDArray) -> None:
        if self._momentum:
            velocity = self._moments["velocity"][name]
            velocity *= self._momentum
            velocity += gradient
            gradient = velocity
        np.multiply(gradient, rate, out=change)


class RmsProp(Optimiser):
    """v <- alpha v + (1 - alpha) g^2, and the change is -rate g/(sqrt(v) + eps) (Tieleman & Hinton
    2012, not centred, without momentum)."""

    def __init__(
        self,
        parameters: Arrays,
        rate: ArrayLike = RMSPROP_RATE,
        anneal_over: int | None = None,
        *,
        eps: float = EPS,
    ) -> None:
        self._eps = eps
        super().__init__(parameters, rate, anneal_over, moments=("square",))

    def _write(self, name: str, gradient: NDArray, rate: NDArray, change: NDArray) -> None:
        square, work = self._moments["square"][name], self._work_like(change)
        np.square(gradient, out=work)
        _mix(square, ALPHA, work, work)
        np.sqrt(square, out=work)
        work += self._eps
        np.multiply(gradient, rate, out=change)
        change /= work


class Adam(Optimiser):
    """Kingma & Ba 2015, Algorithm 1."""

    def __init__(
        self,
        parameters: Arrays,
        rate: ArrayLike = ADAM_RATE,
        anneal_over: int | None = None,
        *,
        eps: float = EPS,
    ) -> None:
        self._eps = eps
        super().__init__(parameters, rate, anneal_over, moments=("mean", "square"))

    def _write(self, name: str, gradient: NDArray, rate: NDArray, change: NDArray) -> None:
        mean, square = (self._moments[moment][name] for moment in ("mean", "square"))
        work = self._work_like(change)
        _mix(mean, BETAS[0], gradient, work)
        np.square(gradient, out=work)
        _mix(square, BETAS[1], work, work)
        np.divide(mean, 1 - BETAS[0] ** self._update, out=change)
        change *= rate
        np.divide(square, 1 - BETAS[1] ** self._update, out=work)
        np.sqrt(work, out=work)
        work += self._eps
        change /= work


OPTIMISERS: dict[str, Callable[..., Optimiser]] = {"sgd": Sgd, "rmsprop": RmsProp, "adam": Adam}
