"""Taps in somebody's own loop: one ordinary `loss.backward()` gives the gradient's curve.

    with taps() as tapped:
        for x_t in x:
            y, state = cell(x_t, state)
            state = tap(*state)
        loss(y).backward()
    tapped.attenuation

The gradients that `backward` leaves in parameters are exactly those without taps: what is scaled
goes back beside the ordinary gradient, from tap to tap, by an `autograd.grad` of its own. Scaling
the ordinary gradient could not be undone, since autograd adds up what every step sends to a
parameter before anyone sees it, and would weigh losses of several steps against each other.
Hooks of one's own on tensors within a step are called once more, with that scaled gradient, where
the ordinary one comes near the dtype's limits.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.probes.attenuated import Begun, Found, of_walks
from seqlab.probes.graph import Reach, places_of, pulled_back
from seqlab.probes.states import Layout, Part, Tensor, is_tensor, on_host, peak_of, rescaled
from seqlab.probes.steps import Walk
from seqlab.rules import UNCLIPPED
from seqlab.study.attenuation import Attenuation
from seqlab.wording import refuse


def tap(*state: Tensor) -> Any:
    """The same state, of one tensor or a tuple of all of them, with its gradient observed.

    To be called once a step with the whole state: every tensor that one step hands to the next, of
    all layers. Outside `taps()`, and under `torch.no_grad()`, it does nothing.

    Raises InputError where a gradient can go by a tap, through a tensor that was left out, and for
    what is no tensor.
    """
    for tensor in state:
        if not (is_tensor(tensor) and tensor.is_floating_point()):
            allowed = "each must be a tensor of floating-point numbers: tap(*state)"
            raise refuse("tap", type(tensor).__name__, allowed)
    if not state:
        raise refuse("tap", (), "all tensors of a state are needed: tap(*state)")
    observed = _open.get()
    if observed is not None:
        import torch

        if torch.is_grad_enabled():
            state = observed.add(state)
    return state[0] if len(state) == 1 else state


@contextmanager
def taps(name: str = "taps") -> Iterator["Taps"]:
    """In here taps observe; afterwards `attenuation` of what this gives has the curve of the last
    backward pass, of a network of that name."""
    observed = Taps(name)
    token = _open.set(observed)
    try:
        yield observed
    finally:
        _open.reset(token)
        observed.forget()


_open: ContextVar["Taps | None"] = ContextVar("taps", default=None)


class Taps:
    """What the taps of one chain saw in its last backward pass.

    A chain ends where a state has no history in the one before it, as between two batches.
    """

    def __init__(self, name: str) -> None:
        self._chain = self._seen = _Chain()
        self._begun = Begun(name)

    def add(self, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        chain = self._chain
        behind = chain.behind(state)
        if chain.taps and behind is None:
            chain.forget()
            self._chain = chain = _Chain()
        elif behind is not None and behind < chain.taps - 1:
            raise refuse(
                "tap",
                f"{len(state)} tensors",
                "a gradient goes by them to an earlier tap; give one tap the whole state, the "
                "tensors of all layers",
            )
        return chain.add(state, self._began)

    def forget(self) -> None:
        """Let go of the graphs."""
        self._chain.forget()

    @property
    def attenuation(self) -> Attenuation:
        """The same as `seqlab.probe` gives it, lags counted back from the last tap that the
        gradient reached."""
        walk, like = self.walk(), self._seen.like
        reached = int(np.argmin(np.isnan(walk.log_norm[0])))
        return of_walks(Found([walk.without(reached)], "autograd", UNCLIPPED, like), self._begun)

    def walk(self) -> Walk:
        """The curve, one length, lags counted back from the last tap.

        The losses are all that `backward` was called for, and -inf is an exact zero; nan stands
        where no gradient came, as at the last tap if the output was taken before it. Parts are the
        tensors, `state[0]` and so on. Raises InputError where no backward pass came by.
        """
        return self._seen.walk()

    def _began(self, chain: "_Chain") -> None:
        self._seen = chain


class _End(NamedTuple):
    """Tensors at one side of a tap and their places in the graph, which stay where they are when a
    cell changes the tensors in place."""

    tensors: tuple[Tensor, ...]
    places: list[Any]


class _Chain:
    def __init__(self) -> None:
        self.taps = 0
        self.like: Tensor = None  # an empty tensor as those of the state
        self._layout: Layout | None = None
        self._before = _End((), [])  # what the last tap gave out
        self._found: dict[int, NDArray] = {}  # by tap: log norms, the state's and its parts'
        self._last = -1  # the tap that was seen last
        # On its way: the tap that it goes to, the gradient and its exponent.
        self._scaled: tuple[int, Tensor, int] | None = None
        self._reach = Reach()

    def behind(self, state: tuple[Tensor, ...]) -> int | None:
        """The earliest tap that a gradient from the state comes to first, or None."""
        return self._reach.first(state)

    def add(
        self, state: tuple[Tensor, ...], began: Callable[["_Chain"], None]
    ) -> tuple[Tensor, ...]:
        parts = [Part(f"state[{i}]", tensor.numel()) for i, tensor in enumerate(state)]
        layout = Layout(state, parts)
        if self._layout is None:
            self._layout, self.like = layout, state[0].detach().new_empty(0)
        elif layout.shapes != self._layout.shapes:
            allowed = f"the same shapes as at the taps before are needed: {self._layout.shapes}"
            raise refuse("tap", layout.shapes, allowed)
        # A state without a history starts one: its gradient is asked for like every other's.
        state = tuple(t if t.requires_grad else t.detach().requires_grad_() for t in state)
        number, end, before = self.taps, _End(state, places_of(state)), self._before

        def observe(given: tuple[Tensor | None, ...]) -> None:
            began(self)
            self._observe(number, end, before, given)

        given: tuple[Tensor, ...] = _identity().apply(observe, *state)
        self.taps, self._before = number + 1, _End(given, places_of(given))
        self._reach.mark(self._before.places, number)
        return given

    def _observe(
        self,
        number: int,
        end: "_End",
        before: "_End",
        given: tuple[Tensor | None, ...],
    ) -> None:
        """See the gradient at a tap, and take it to the tap before in log scale."""
        import torch

        assert self._layout is not None
        like = end.tensors[0]
        if number >= self._last:
            self._found, self._scaled = {}, None  # a backward pass begins
        self._last = number
        limits = torch.finfo(like.dtype)
        vector, exponent = self._layout.joined(given, like), 0
        peak = peak_of(on_host(vector))
        # Well inside the dtype's range the ordinary gradient is exact, and knows of all losses.
        inside = limits.tiny**0.75 < peak < limits.max**0.75
        if not inside and self._scaled is not None and self._scaled[0] == number:
            _, vector, exponent = self._scaled
            peak = peak_of(on_host(vector))
        self._scaled = None
        if not 0 < peak < math.inf:
            self._found[number] = np.full(
                1 + len(self._layout.parts), -math.inf if peak == 0 else math.nan
            )
            return
        vector, shift = rescaled(vector, peak)
        exponent += shift
        joint, parts = self._layout.log_norms(on_host(vector))
        self._found[number] = np.array([joint, *parts]) + exponent * math.log(2)
        if number and abs(exponent) > math.log2(limits.max) / 4:
            sent = self._layout.apart(vector)
            with grads_kept((*end.tensors, *before.tensors)):
                back = self._layout.joined(pulled_back(sent, end.places, before.places), like)
            self._scaled = number - 1, back, exponent

    def walk(self) -> Walk:
        if self._layout is None or not self._found:
            raise refuse("taps", "no backward pass", "loss.backward() must come by a tap")
        names = self._layout.parts
        table = np.full((1 + len(names), 1, self.taps), np.nan)
        for number, norms in self._found.items():
            table[:, 0, self.taps - 1 - number] = norms
        log_norm, *parts = table
        return Walk(
            np.array([self.taps - 1]),
            np.arange(self.taps),
            log_norm,
            dict(zip(names, parts, strict=True)),
            np.zeros(1, np.int64),
        )

    def forget(self) -> None:
        self._before, self._reach = _End((), []), Reach()


@contextmanager
def grads_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Tensors that retain their gradient have the same one afterwards."""
    before = [(tensor, tensor.grad) for tensor in tensors if tensor.retains_grad]
    for tensor, _ in before:
        tensor.grad = None  # or the one that comes would be added to it, in place
    yield
    for tensor, grad in before:
        tensor.grad = grad


@cache
def _identity() -> Any:
    """The autograd function of a tap, made when PyTorch is there."""
    import torch

    class Tap(torch.autograd.Function):  # type: ignore[misc]  # a base of type Any
        @staticmethod
        def forward(ctx: Any, observe: Any, *state: Tensor) -> tuple[Tensor, ...]:
            ctx.set_materialize_grads(False)
            ctx.observe = observe
            return tuple(tensor.clone() for tensor in state)  # which may be changed in place

        @staticmethod
        def backward(ctx: Any, *given: Tensor | None) -> tuple[Any, ...]:
            ctx.observe(given)
            return None, *given

    return Tap
