"""An ensemble in training: one update after the other, each network under a clip rule of its own.

Loss, backpropagation, the rule, the optimiser, in this order: a rule that acts on finished
gradients stands behind the backward pass and before the update (Pascanu, Mikolov & Bengio 2013).
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from seqlab.engine.sums import Sums
from seqlab.kernels.layout import unscaled
from seqlab.learning.checkpoint import Arrays, under, within
from seqlab.learning.networks import Gradients, Loss
from seqlab.learning.optimisers import Optimiser
from seqlab.rules import UNCLIPPED, Acts, Rule
from seqlab.tasks.losses import LOSSES
from seqlab.tasks.task import Batch

Watch = Callable[[Sums], None]


class Trainable(Protocol):
    """What a trainer asks of networks: parameters (M, ...), to be changed in place; some of them;
    and one pass forward and back (see `seqlab.learning.networks.Networks.gradients`)."""

    @property
    def params(self) -> dict[str, NDArray]: ...

    def __len__(self) -> int: ...

    def subset(self, chosen: NDArray | slice) -> Self: ...

    def gradients(self, x: NDArray, at: NDArray, loss: Loss, rule: Rule) -> Gradients: ...


class Seen(NamedTuple):
    """What an update shows of M networks, nan for those that have ended.

    `loss` (M,) before it; `log_norm` (M,), ln of the norm of all parameters' gradients together
    before a rule that acts on them; `fired` (M,): of a rule inside the chain the share of steps x
    sequences at which it acted, of one on finished gradients 1 where it did.
    """

    loss: NDArray
    log_norm: NDArray
    fired: NDArray


class Trainer:
    """M networks with `rules`, one each; networks of one rule beside each other share a pass.

    A network ends when its loss or its gradient is not finite: its parameters are those before.
    """

    def __init__(
        self, networks: Trainable, loss: str, rules: Sequence[Rule], optimiser: Optimiser
    ) -> None:
        self._networks, self._loss, self._optimiser = networks, LOSSES[loss], optimiser
        self._rules = list(rules)
        self._places = np.arange(len(networks))  # of those that go on
        self._count = len(networks)
        self._ended: dict[int, dict[str, NDArray]] = {}  # parameters

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Which networks go on (M,)."""
        return np.isin(np.arange(self._count), self._places)

    def parameters(self) -> dict[str, NDArray]:
        """All parameters (M, ...), of those that have ended as they last were."""
        found = {}
        for name, array in self._networks.params.items():
            found[name] = np.empty((self._count, *array.shape[1:]), array.dtype)
            found[name][self._places] = array
            for place, params in self._ended.items():
                found[name][place] = params[name]
        return found

    def state(self) -> Arrays:
        """All that the next updates depend on but what it was made with: a copy."""
        return {
            "alive": self.alive,
            **under("parameters", self.parameters()),
            **under("optimiser", self._optimiser.state()),
        }

    def restore(self, state: Arrays) -> None:
        """Go on from a `state` of a trainer that was made alike, bit for bit; before any update."""
        for name, array in self._networks.params.items():
            array[:] = state[f"parameters/{name}"]
        if not state["alive"].all():
            self._keep(state["alive"])
        self._optimiser.restore(within("optimiser", state))

    def update(self, batch: Batch, watch: Watch = lambda gradients: None) -> Seen:
        """One update of all networks that go on, of a batch for each of the M.

        `watch` is shown their gradients, as a rule inside the chain leaves them and before one that
        acts on them.
        """
        x, targets = batch.x, batch.targets
        if len(self._places) < self._count:
            x, targets = x[self._places], targets[self._places]
        x = x.astype(self._dtype, copy=False)
        with np.errstate(all="ignore"):  # overflow and NaN are results
            found = self._gradients(x, targets, batch.at)
            watch(found.sums)
            log_norm = found.sums.log_norm()
            clipped, fired = self._clipped(found)
            seen = self._seen(found.loss, log_norm, fired)
            gradients = {
                name: unscaled(values, clipped.exponent).astype(self._dtype)
                for name, values in clipped.values.items()
            }
        goes_on = np.isfinite(found.loss) & ~np.isnan(log_norm) & ~np.isposinf(log_norm)
        if not goes_on.all():
            self._keep(goes_on)
            gradients = {name: array[goes_on] for name, array in gradients.items()}
        if len(self._places):
            self._optimiser.update(self._networks.params, gradients)
        return seen

    @property
    def _dtype(self) -> np.dtype:
        return next(iter(self._networks.params.values())).dtype

    def _gradients(self, x: NDArray, targets: NDArray, at: NDArray) -> Gradients:
        """Of all that go on: a pass for each rule inside the chain."""
        parts = []
        for part, rule in _runs(self._rules, lambda rule: rule if rule.in_chain else UNCLIPPED):
            own = targets[part]

            def loss(block: range, y: NDArray, own: NDArray = own) -> tuple[NDArray, NDArray]:
                return self._loss(y, own[block.start : block.stop])

            parts.append(self._networks.subset(part).gradients(x[part], at, loss, rule))
        losses, sums, fired = zip(*parts, strict=True)
        return Gradients(np.concatenate(losses), Sums.beside(sums), np.concatenate(fired))

    def _clipped(self, found: Gradients) -> tuple[Sums, NDArray]:
        """The gradients after the rules that act on them, and the share at which each rule did."""
        parts, fired = [], found.fired.astype(np.float64)
        for part, rule in _runs(self._rules, lambda rule: rule):
            sums, changed = found.sums.subset(part).clipped(rule)
            parts.append(sums)
            if rule.acts is Acts.AFTER:
                fired[part] = changed
        return Sums.beside(parts), fired

    def _seen(self, *found: NDArray) -> Seen:
        table = np.full((len(found), self._count), np.nan)
        table[:, self._places] = found
        return Seen(*table)

    def _keep(self, goes_on: NDArray) -> None:
        for i in np.flatnonzero(~goes_on):
            params = {name: array[i].copy() for name, array in self._networks.params.items()}
            self._ended[int(self._places[i])] = params
        self._networks = self._networks.subset(goes_on)
        self._optimiser.keep(goes_on)
        self._rules = [rule for rule, kept in zip(self._rules, goes_on, strict=True) if kept]
        self._places = self._places[goes_on]


def _runs(rules: Sequence[Rule], key: Callable[[Rule], Rule]) -> Iterator[tuple[slice, Rule]]:
    """Neighbours of one key, and the key."""
    first = 0
    for rule, group in groupby(rules, key):
        last = first + len(list(group))
        yield slice(first, last), rule
        first = last
