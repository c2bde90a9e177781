"""The adjoint of a state at every lag, step by step or chunk by chunk, in log scale.

Forward without gradients, keeping states at the chunks' borders; backward one chunk at a time,
computed again with gradients, from the adjoint of the state at its end to the one at its start
(backpropagation with checkpoints; Griewank & Walther 2000). Between two chunks all tensors of the
state are rescaled together by one power of two, which rounds nothing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqlab.probes.callables import Steps, outputs_from_states
from seqlab.probes.in_chain import InChain, sequences_of
from seqlab.probes.quiet import quiet
from seqlab.probes.repeats import check_repeats, compare
from seqlab.probes.states import (
    Layout,
    State,
    Tensor,
    is_tensor,
    kept,
    log_norm_of,
    on_host,
    peak_of,
    rescaled,
    tensors_of,
    with_leaves,
)
from seqlab.probes.trail import Trail, borders_of
from seqlab.rules import UNCLIPPED, Rule
from seqlab.spec.fields import check_lengths
from seqlab.spec.kinds import Progress
from seqlab.wording import refuse

Loss = Callable[[Tensor], Tensor]
_BACK = 2  # a row's step back costs about two forward


@dataclass(frozen=True)
class Walk:
    """Natural logs of norms of dL/ds_t, (lengths, lags), nan past a length.

    `log_norm` is of the whole state, summed in squares over all its tensors, layers and sequences;
    `parts` of each named part, (lengths, lags) each. -inf is an exact zero, nan an overflow. Where
    the output is no function of the state that is returned with it, lag 0 has the norm of dL/dy and
    its parts are nan. `fired` (lengths,) counts the steps x sequences at which a rule inside the
    chain acted.
    """

    lengths: NDArray[np.int64]
    lags: NDArray[np.int64]
    log_norm: NDArray
    parts: dict[str, NDArray]
    fired: NDArray[np.int64]

    def without(self, lags: int) -> "Walk":
        """The same without so many lags at the end of the sequence, as if it ended there."""
        return replace(
            self,
            lengths=self.lengths - lags,
            lags=self.lags[: len(self.lags) - lags],
            log_norm=self.log_norm[:, lags:],
            parts={name: norms[:, lags:] for name, norms in self.parts.items()},
        )


def walk(
    step: Steps,
    x: Tensor,
    state: State,
    loss: Loss,
    lengths: Sequence[int],
    every: int = 1,
    rule: Rule = UNCLIPPED,
    progress: Progress | None = None,
) -> Walk:
    """Norms of the adjoint of the losses `loss(y_T)`, T in `lengths`, at lags 0, every, 2 every...

    One forward pass serves all lengths, and their adjoints go back together, each with an exponent
    of its own. A chunk in which one would leave the dtype's range is halved until it stays.
    Memory: see `Trail`. PyTorch's threads, random state and modes are as before afterwards.

    Raises InputError for wrong lengths, for `every` beside a rule that acts at every step, for a
    state of a form that is not known, and for a module that is no function of its input and state
    (see `check_repeats`).
    """
    check_lengths(lengths, x.shape[step.time])
    _check_every(every, rule)
    with quiet(step.modules, x):
        if x.is_inference():
            x = x.clone()
        return _Walker(step, x.detach(), state, loss, lengths, every, rule, progress).run()


def _check_every(every: int, rule: Rule) -> None:
    if isinstance(every, bool) or not isinstance(every, int | np.integer) or every < 1:
        raise refuse("every", every, "a whole number of steps from 1 up")
    if every > 1 and rule.in_chain:
        raise refuse("every", every, f"1 beside clip {rule}, which acts at every step")


class _Row:
    """One loss on its way back: its gradient of the last output until the first chunk has used it,
    then the state's adjoint, direction x 2^exponent; no direction where nothing is left."""

    def __init__(self, place: int, length: int) -> None:
        self.place, self.length = place, length
        self.waiting = True  # until its length is reached
        self.seed: Tensor | None = None
        self.direction: Tensor | None = None
        self.host = np.empty(0)  # the direction as float64
        self.exponent = 0
        self.rest = math.nan  # what stands at all lags that are not reached
        self.live = True

    def stop(self, rest: float) -> None:
        self.live, self.rest, self.seed, self.direction = False, rest, None, None


class _Walker:
    def __init__(
        self,
        step: Steps,
        x: Tensor,
        state: State,
        loss: Loss,
        lengths: Sequence[int],
        every: int,
        rule: Rule,
        progress: Progress | None,
    ) -> None:
        self._step, self._x, self._loss, self._every = step, x, loss, every
        self._rule, self._progress = rule, progress
        self._rows = [_Row(k, int(length)) for k, length in enumerate(lengths)]
        self._longest = int(max(lengths))
        self._first = step.first(x) if state is None else step.apart(state)
        check_repeats(step, x, self._first)
        # Forward, and again with a graph on the way back, which each row goes through.
        self._work = 2 * self._longest + _BACK * sum(row.length for row in self._rows)
        self._done = 0

    def run(self) -> Walk:
        import torch

        borders = borders_of([row.length for row in self._rows], self._every)
        with torch.no_grad():
            trail = Trail(self._forward, borders, self._first)
            after = trail.run()
        self._prepare(after)
        for i in range(len(borders) - 1, 0, -1):
            begin, end = borders[i - 1], borders[i]
            underway = [row for row in self._rows if row.length >= end]
            rows = [row for row in underway if row.live]
            with torch.no_grad():
                before = trail.at(i - 1)
            if rows and tensors_of(before):  # a state of None has no gradient
                self._through(begin, end, before, rows, after)
                self._record(begin, rows)
            after = before
            self._tick((end - begin) * (1 + _BACK * len(underway)), "backward")
        log_norm, *parts = self._table
        named = dict(zip(self._layout.parts, parts, strict=True))
        lengths = np.array([row.length for row in self._rows])
        lags = np.arange(0, lengths.max() + 1, self._every)
        return Walk(lengths, lags, log_norm, named, self._fired)

    def _prepare(self, state: State) -> None:
        tensors = tensors_of(state)
        self._layout, self._like = Layout(tensors, self._step.parts(state)), tensors[0]
        limits = finfo(tensors[0])
        self._least, self._most = math.sqrt(limits.tiny), math.sqrt(limits.max)
        columns = self._longest // self._every + 1
        self._table = np.full((1 + len(self._layout.parts), len(self._rows), columns), np.nan)
        self._fired = np.zeros(len(self._rows), np.int64)
        self._clip = None
        if self._rule.in_chain:
            count = self._step.sequences_in(self._x)
            of = sequences_of(tensors, self._step.sequences, count, self._rule)
            self._clip = InChain(self._rule, of)

    def _forward(self, begin: int, end: int, state: State, first_time: bool = True) -> State:
        after = self._step.run(self._step.piece(self._x, begin, end), state)[1]
        if first_time:
            self._tick(end - begin, "forward")
        return after

    def _tick(self, work: int, what: str) -> None:
        self._done += work
        if self._progress is not None:
            self._progress(min(1.0, self._done / self._work), what)

    def _through(
        self, begin: int, end: int, before: State, rows: list[_Row], after: State | None
    ) -> None:
        """Take the rows' adjoints from `end` back to `begin`, where the state was `before`."""
        import torch

        pulled = self._pull(begin, end, before, rows, after)
        hosts = [on_host(vector) for _, vector in pulled]
        peaks = [peak_of(host) for host in hosts]
        if end - begin > 1 and not all(self._least < peak < self._most for peak in peaks):
            middle = (begin + end) // 2
            with torch.no_grad():
                between = self._forward(begin, middle, kept(before), first_time=False)
            self._through(middle, end, between, rows, None)
            self._through(begin, middle, before, rows, None)
            return
        for (row, vector), host, peak in zip(pulled, hosts, peaks, strict=True):
            if not (0 < peak < math.inf):
                row.stop(-math.inf if peak == 0 else math.nan)
                continue
            row.direction, shift = rescaled(vector, peak)
            row.host, row.seed = np.ldexp(host, -shift), None
            row.exponent += shift
            if self._clip is not None:
                self._act(row, row.length - begin)

    def _pull(
        self, begin: int, end: int, before: State, rows: list[_Row], after: State | None
    ) -> list[tuple[_Row, Tensor]]:
        """The vector of dL/d(before) of each row that is live, at the row's exponent."""
        import torch

        fresh, leaves = with_leaves(before)
        joining = [row for row in rows if row.live and row.waiting and row.length == end]
        with outputs_from_states(self._step.modules if joining else ()):
            y, state = self._step.run(self._step.piece(self._x, begin, end), fresh)
        tensors = tensors_of(state)
        if after is not None:
            compare(tensors, tensors_of(after), "state")
        for row in joining:
            self._join(row, y, tensors)
        pulled = []
        for row in rows:
            if not row.live:
                continue
            if row.seed is not None:
                sent = [(y, row.seed)]
            else:
                sent = list(zip(tensors, self._layout.apart(row.direction), strict=True))
            found = gradients(sent, leaves, torch)
            pulled.append((row, self._layout.joined(found, leaves[0])))
        return pulled

    def _join(self, row: _Row, y: Tensor, tensors: list[Tensor]) -> None:
        """A row's loss of the output y, and lag 0 of its curve."""
        row.waiting = False
        seed = gradient_of(self._loss, y)
        peak = 0.0 if seed is None else peak_of(on_host(seed))
        if not 0 < peak < math.inf:
            row.stop(-math.inf if peak == 0 else math.nan)
            self._table[:, row.place, 0] = row.rest
            return
        row.seed, row.exponent = rescaled(seed, peak)
        found = cut_apart(y, row.seed, tensors)
        if all(gradient is None for gradient in found):
            found = by_value(y, row.seed, tensors)
        if found:
            vector = self._layout.joined(found, tensors[0])
            self._write(row, 0, on_host(vector))
        else:
            log_norm = log_norm_of(on_host(row.seed).ravel())
            self._table[0, row.place, 0] = log_norm + row.exponent * math.log(2)
        if not all(bool(tensor.isfinite().all()) for tensor in (y, *tensors)):
            row.stop(math.nan)  # slopes at what has overflowed are anything

    def _act(self, row: _Row, lag: int) -> None:
        assert self._clip is not None
        host, row.exponent, fired = self._clip.act(row.host, row.exponent, lag)
        if not fired:
            return
        self._fired[row.place] += fired
        if not host.any():
            row.stop(-math.inf)
            return
        row.host, row.direction = host, self._like.new_tensor(host)

    def _record(self, border: int, rows: list[_Row]) -> None:
        for row in rows:
            column, between = divmod(row.length - border, self._every)
            if row.live and not between:
                self._write(row, column, row.host)
            elif not row.live:
                first = column + (between > 0)
                self._table[:, row.place, first : row.length // self._every + 1] = row.rest

    def _write(self, row: _Row, column: int, host: NDArray) -> None:
        joint, parts = self._layout.log_norms(host)
        self._table[:, row.place, column] = joint, *parts
        self._table[:, row.place, column] += row.exponent * math.log(2)


def gradient_of(loss: Loss, y: Tensor) -> Tensor | None:
    """dL/dy in y's shape; None where the loss is no function of y.

    Raises InputError for a loss that is not one number.
    """
    import torch

    leaf = y.detach().requires_grad_()
    value = loss(leaf.clone())  # which it may change in place
    if not is_tensor(value) or value.numel() != 1 or value.is_complex():
        raise refuse("loss", value, "it must return one number, a tensor")
    return gradients([(value, None)], [leaf], torch)[0]


def finfo(tensor: Tensor) -> Any:
    import torch

    return torch.finfo(tensor.dtype)


def gradients(
    sent: list[tuple[Tensor, Tensor | None]], inputs: list[Tensor], torch: Any
) -> list[Tensor | None]:
    """What comes back to the inputs from the outputs that have a history; None where nothing."""
    sent = [pair for pair in sent if pair[0].requires_grad]
    asked = [tensor for tensor in inputs if tensor.requires_grad]
    if not (sent and asked):
        return [None] * len(inputs)
    outputs, given = zip(*sent, strict=True)
    found = iter(torch.autograd.grad(outputs, asked, given, retain_graph=True, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def cut_apart(y: Tensor, gradient: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    """What y sends to a state's tensors as if none were made of another, as a hidden state is made
    of a cell state; None where nothing."""
    import torch

    seen: list[Tensor | None] = [None] * len(tensors)

    def stop_at(i: int) -> Callable[[Tensor | None], Tensor | None]:
        def stop(gradient: Tensor | None) -> Tensor | None:
            seen[i] = gradient  # None behind a module's own backward hook that nothing came to
            return None if gradient is None else torch.zeros_like(gradient)

        return stop

    hooks = [t.register_hook(stop_at(i)) for i, t in enumerate(tensors) if t.requires_grad]
    gradients([(y, gradient)], tensors, torch)
    for hook in hooks:
        hook.remove()
    return seen


def by_value(y: Tensor, gradient: Tensor, tensors: list[Tensor]) -> list[Tensor | None]:
    """The gradient where y is one of the state's tensors, or its last layer, copied; [] if none.

    A module may stack its layers' states and return the last one as output: the same numbers, and
    two tensors to autograd.
    """
    import torch

    for i, tensor in enumerate(tensors):
        last = tensor if tensor.shape == y.shape else tensor[-1] if tensor.dim() else tensor
        if last.shape == y.shape and torch.equal(last, y):
            found: list[Tensor | None] = [None] * len(tensors)
            found[i] = placed = torch.zeros_like(tensor)
            (placed if last is tensor else placed[-1]).copy_(gradient)
            return found
    return []
