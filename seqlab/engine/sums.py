"""Gradients summed over time in log scale, and the clip rules that act on them."""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from seqlab.kernels.layout import EMPTY, power_of_two, unscaled
from seqlab.kernels.memory import cleared
from seqlab.rules import Acts, Rule

LEAST = 1e-200  # a sum of squares above it has lost no digit to underflow


class Sums:
    """The parameter gradients of M networks, (M, ...) each, as values * 2^exponent.

    One exponent (M,) serves all gradients of a network. Values are float64 whatever the kernels'
    dtype: a million steps added in float32 would lose half of its digits.
    """

    def __init__(self, values: dict[str, NDArray], exponent: NDArray) -> None:
        self.values, self.exponent = values, exponent

    @classmethod
    def zeros(cls, shapes: dict[str, tuple[int, ...]], networks: int) -> "Sums":
        """Empty sums for parameters of these shapes."""
        values = {n: cleared((networks, *shape), np.float64) for n, shape in shapes.items()}
        return cls(values, np.full(networks, EMPTY))

    @classmethod
    def beside(cls, parts: Sequence["Sums"]) -> "Sums":
        """Several networks' sums as one, in their order."""
        if len(parts) == 1:
            return parts[0]
        values = {n: np.concatenate([p.values[n] for p in parts]) for n in parts[0].values}
        return cls(values, np.concatenate([part.exponent for part in parts]))

    def subset(self, part: slice) -> "Sums":
        """Those of some networks."""
        return Sums({name: value[part] for name, value in self.values.items()}, self.exponent[part])

    def of(self, names: Sequence[str]) -> "Sums":
        """Those of some parameters."""
        return Sums({name: self.values[name] for name in names}, self.exponent)

    def add(self, other: "Sums") -> None:
        """Add another one of the same parameters, in place."""
        factor = self.share(other.exponent[:, np.newaxis])[:, 0]
        for name, value in other._times(factor).items():
            self.values[name] += value

    def cosine(self, other: "Sums") -> NDArray:
        """The cosine (M,) between a network's gradients, all together, and the other's; nan where
        one of them is zero or not finite."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            own, others = (sums._times(1 / sums._direction_norm()) for sums in (self, other))
            flat = [(own[n].reshape(len(v), -1), v.reshape(len(v), -1)) for n, v in others.items()]
            return np.clip(_total(np.einsum("mi,mi->m", a, b) for a, b in flat), -1, 1)

    def share(self, exponent: NDArray) -> NDArray:
        """Raise the sums' exponent to the largest of (M, n) ones; return 2^(theirs - ours)."""
        raised = np.maximum(self.exponent, exponent.max(axis=1))
        if np.any((self.exponent < raised) & (self.exponent > EMPTY)):  # else nothing changes
            with np.errstate(invalid="ignore"):  # infinite sums
                for value in self.values.values():
                    value *= _by_network(power_of_two(self.exponent - raised), value)
        self.exponent = raised
        return power_of_two(exponent - raised[:, None])

    def scaled(self, log_factor: NDArray) -> "Sums":
        """Every gradient of a network times e^log_factor (M,), however large or small that is."""
        powers = np.rint(np.nan_to_num(log_factor / np.log(2.0), posinf=0, neginf=0))
        factor = np.exp(log_factor - powers * np.log(2.0))
        return Sums(self._times(factor), self.exponent + powers.astype(np.int64))

    def _times(self, factor: NDArray) -> dict[str, NDArray]:
        """Every gradient of a network times its factor (M,); overflow is a result."""
        with np.errstate(over="ignore", invalid="ignore"):
            return {n: v * _by_network(factor, v) for n, v in self.values.items()}

    def log_norm(self) -> NDArray:
        """Natural log of the norm of all of a network's gradients together, (M,)."""
        with np.errstate(divide="ignore", over="ignore"):
            return np.log(self._direction_norm()) + self.exponent * np.log(2.0)

    def clipped(self, rule: Rule) -> tuple["Sums", NDArray]:
        """The sums after `norm:c` or `value:c`, and which networks it changed (M,) bool.

        `norm` scales all of a network's gradients together, g min(1, c/||g||) (Pascanu, Mikolov &
        Bengio 2013, Algorithm 1); `value` clamps each entry. A rule that acts elsewhere changes
        nothing. Raises NotImplementedError for one that acts here and has no action.
        """
        if rule.acts is not Acts.AFTER:
            return self, np.zeros(len(self.exponent), bool)
        if rule.kind not in _ACTIONS:
            raise NotImplementedError(f"clip: {rule.kind} has no action on finished gradients")
        return _ACTIONS[rule.kind](self, rule.threshold)

    def _direction_norm(self) -> NDArray:
        """Norm of all of a network's values (M,); states that explode make them large."""
        flat = [v.reshape(len(v), -1) for v in self.values.values()]
        with np.errstate(all="ignore"):  # what leaves the range is seen below
            plain = _total(np.einsum("mi,mi->m", v, v) for v in flat)
        safe = (plain > LEAST) & (plain < 1 / LEAST)
        return np.sqrt(plain) if safe.all() else np.where(safe, np.sqrt(plain), _norm_apart(flat))

    def _clip_norm(self, threshold: float) -> tuple["Sums", NDArray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            norm = self._direction_norm()
            above = np.log(norm) + self.exponent * np.log(2.0) > np.log(threshold)
            factor = np.where(above, threshold / norm, 1.0)
        return Sums(self._times(factor), np.where(above, 0, self.exponent)), above

    def _clip_value(self, threshold: float) -> tuple["Sums", NDArray]:
        # At an exponent above 0 the limit would lose its digits, and clamped values fit exponent 0.
        exponent = np.minimum(self.exponent, 0)
        values = {n: unscaled(v, self.exponent - exponent) for n, v in self.values.items()}
        limit = threshold * power_of_two(-exponent)
        changed = np.zeros(len(exponent), bool)
        for name, value in values.items():
            bound = _by_network(limit, value)
            changed |= (np.abs(value) > bound).reshape(len(value), -1).any(axis=1)
            values[name] = np.clip(value, -bound, bound)
        return Sums(values, exponent), changed


_ACTIONS = {"norm": Sums._clip_norm, "value": Sums._clip_value}


def _norm_apart(flat: Sequence[NDArray]) -> NDArray:
    """Norms (M,) over arrays (M, n) whose squares may leave float64's range."""
    largest = np.max([np.abs(v).max(axis=1) for v in flat], axis=0)
    scale = np.where(np.isfinite(largest) & (largest > 0), largest, 1.0)
    squares = [np.square(v / scale[:, None]).sum(axis=1) for v in flat]
    return scale * np.sqrt(_total(squares))


def _total(parts: Iterable[NDArray]) -> NDArray:
    """The sum of arrays (M,), one after the other whatever M: NumPy's own sum of eight or more
    takes those of one network in another order."""
    return reduce(np.add, parts)


def _by_network(factor: NDArray, value: NDArray) -> NDArray:
    """One number a network (M,) beside values (M, ...)."""
    return factor.reshape(-1, *(1,) * (value.ndim - 1))
