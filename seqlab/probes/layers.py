"""The adjoint at the outputs of a model's blocks, through depth, in log scale.

One forward pass of the whole model, in which hooks put a tap, an identity of its own in the graph,
behind every block; then one link of the graph at a time back from tap to tap. Between two links the
adjoint is rescaled by a power of two, which rounds nothing.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.probes.callables import modules_of, name_of
from seqlab.probes.graph import Reach, places_of, pulled_back
from seqlab.probes.quiet import quiet
from seqlab.probes.recognised import refusing
from seqlab.probes.states import (
    Layout,
    Part,
    State,
    Tensor,
    each,
    is_tensor,
    named_tensors,
    on_host,
    peak_of,
    rescaled,
)
from seqlab.probes.steps import Loss, Walk, finfo
from seqlab.wording import did_you_mean, refuse

_LOSS = "loss"


@dataclass(frozen=True)
class LayerWalk:
    """Norms of dL/ds at the outputs of blocks: one length, the number of links T, at lags 0..T.

    `names` has T + 1 names of states, from lag 0 on, the last block's output: the blocks' names,
    `fc call 2` for a block that is called again, and `input of fc` for what goes into the first.
    Parts of `walk` are the tensors of an output, named as Python spells their place, nan where a
    state has no such part.
    """

    walk: Walk
    names: list[str]


def layers(net: Any, x: Tensor, loss: Loss, names: Sequence[str] | None = None) -> LayerWalk:
    """The adjoint of `loss(y)`, y the first tensor of `net(x)`, at every block's output.

    Blocks are the submodules with these names, whatever their order; with None the children of an
    `nn.Sequential`, and of another module the entries of the longest `nn.ModuleList` or
    `nn.Sequential` within. States are in the order of calls, and a block that is called several
    times makes a state at each. A state is all tensors of floating point that a block returns, of
    any shapes; where the model hands on only some of them, the others' gradient is zero. The first
    state is the first block's first argument, if that is a tensor of floating point with a
    history in `x` or in a parameter, else the first block's output.

    -inf is an exact zero, nan an overflow. A link may change the adjoint by the whole range of the
    dtype, and all links together by any factor; a block that alone takes more than that from the
    adjoint makes a zero of it. Memory is that of one training step. Parameters
    and their gradients, PyTorch's threads, random state and modes are as before afterwards.

    Raises InputError for blocks that are not there or are not called, and wherever a gradient can
    go around a block or is cut before one.
    """
    if not modules_of(net) or modules_of(net)[0] is not net:
        raise refuse("net", name_of(net), "a module, within which blocks can be named")
    blocks = _named_blocks(net, names) if names is not None else _found_blocks(net)
    with ExitStack() as restored:
        restored.enter_context(quiet(tuple(net.modules()), x))
        if x.is_inference():
            x = x.clone()
        if x.is_floating_point():
            x = x.detach().requires_grad_()
        else:
            restored.enter_context(_with_history(net))
        chain = _Chain()
        with chain.hooked(blocks), refusing(name_of(net), x):
            y = net(x.clone())  # which it may change in place
        if uncalled := [name for name, module in blocks.items() if module not in chain.calls]:
            allowed = "each block must be called as a module, block(...), when the model is"
            raise refuse("wrt", uncalled[0], allowed)
        return chain.back(loss(_first_tensor(y)))


def _named_blocks(net: Any, names: Sequence[str]) -> dict[str, Any]:
    found = dict(net.named_modules(remove_duplicate=False))
    texts = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if not (texts and names) or len(set(names)) < len(names):
        raise refuse("wrt", names, "a list of names of submodules is needed, each once")
    for name in names:
        if name not in found:
            known = did_you_mean(name, found)
            raise refuse("wrt", name, f"a submodule of {type(net).__name__} is needed{known}")
    return {name: found[name] for name in names}


def _found_blocks(net: Any) -> dict[str, Any]:
    from torch import nn

    place, longest = "", net
    if not isinstance(net, nn.Sequential):
        lists = [
            (name, module)
            for name, module in net.named_modules()
            if isinstance(module, nn.ModuleList | nn.Sequential)
        ]
        place, longest = max(lists, key=lambda one: len(one[1]), default=("", ()))
    if not len(longest):
        allowed = "it has no nn.ModuleList or nn.Sequential; name its blocks, as in wrt=['fc1']"
        raise refuse("wrt", type(net).__name__, allowed)
    return {f"{place}.{i}".lstrip("."): block for i, block in longest._modules.items()}


class _State(NamedTuple):
    """A state on both sides of its tap.

    `kept` says for each tensor whether it has a history; those that have are at the places `above`,
    where a gradient leaves the tap for the block behind, and all are at the places `below`, where
    it arrives.
    """

    name: str
    layout: Layout
    kept: list[bool]
    above: list[Any]
    below: list[Any]
    like: Tensor


class _Chain:
    def __init__(self) -> None:
        self.calls: dict[Any, int] = {}
        self._states: list[_State] = []
        self._has_input = False  # whether the first of them is what goes into the first block
        self._reach = Reach()

    @contextmanager
    def hooked(self, blocks: dict[str, Any]) -> Iterator[None]:
        """In here every call of a block adds a state."""
        names = {module: name for name, module in reversed(blocks.items())}

        def enter(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if self._states or not args:
                return None
            return self._start(f"input of {names[block]}", args, kwargs)

        def record_output(block: Any, args: tuple[Any, ...], output: Any) -> Any:
            call = self.calls[block] = self.calls.get(block, 0) + 1
            return self._add(names[block] + (f" call {call}" if call > 1 else ""), output)

        with ExitStack() as hooks:
            for block in names:
                hook = block.register_forward_pre_hook(enter, with_kwargs=True)
                hooks.callback(hook.remove)
                hooks.callback(block.register_forward_hook(record_output).remove)
            yield

    def _start(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The first block's arguments with a tap at the first of them, wherever it is among them,
        as query, key and value may be one tensor."""
        first = args[0]
        if not (is_tensor(first) and first.is_floating_point() and first.requires_grad):
            return None
        tapped, self._has_input = self._add(name, first), True

        def given(value: Any) -> Any:
            return tapped if value is first else value

        return tuple(map(given, args)), {key: given(value) for key, value in kwargs.items()}

    def _add(self, name: str, output: State) -> State:
        """The output of a block, of the same form, behind a tap."""
        import torch

        if isinstance(output, dict) and type(output) is not dict:
            allowed = "a block must return tensors, or tuples, lists or dictionaries of tensors"
            raise refuse("wrt", f"{name} returns a {type(output).__name__}", allowed)
        if not torch.is_grad_enabled():
            raise refuse("wrt", name, "the model switches gradients off where this is made")
        # A tensor that is returned twice is one tensor.
        found = {id(t): (part, t) for part, t in reversed([*named_tensors(output)]) if t.numel()}
        if not found:
            allowed = "it returns no numbers of floating point; name blocks that do"
            raise refuse("wrt", name, allowed)
        parts, tensors = zip(*reversed(found.values()), strict=True)
        sizes = [Part(part, tensor.numel()) for part, tensor in zip(parts, tensors, strict=True)]
        layout = Layout(tensors, sizes)
        number = len(self._states)
        kept = [tensor.requires_grad for tensor in tensors]
        above = places_of(tensor for tensor in tensors if tensor.requires_grad)
        if number:
            self._check(name, tensors)
        else:
            self._reach.mark(above, -1)  # whoever comes here has gone around the first tap
        # What has no history begins one: its gradient is asked for like every other's.
        begun = [t if t.requires_grad else t.detach().requires_grad_() for t in tensors]
        tapped = {id(t): one.clone() for t, one in zip(tensors, begun, strict=True)}
        below = places_of(tapped.values())
        self._reach.mark(below, number)
        like = tensors[0].detach().new_empty(0)
        self._states.append(_State(name, layout, kept, above, below, like))
        return each(output, lambda tensor: tapped.get(id(tensor), tensor))

    def _check(self, name: str, tensors: Iterable[Tensor]) -> None:
        """Refuse a state that is not made of the one before, or not of that alone."""
        last = len(self._states) - 1
        first = self._reach.first(tensors)
        if first is None:
            before = self._states[last].name
            allowed = f"no gradient goes from it to {before}, called before; name blocks of a chain"
            raise refuse("wrt", name, allowed)
        if first < last:
            names = [*(state.name for state in self._states), name]
            allowed = (
                f"a gradient from {name} goes around it, as by a skip connection; name blocks that "
                "enclose the skip"
            )
            raise refuse("wrt", names[max(first + 1, 1)], allowed)

    def back(self, value: Any) -> LayerWalk:
        """The curve of a loss's value."""
        if not (is_tensor(value) and value.numel() == 1 and value.is_floating_point()):
            raise refuse("loss", value, "it must return one number, a tensor")
        self._check(_LOSS, [value])
        states = self._states[::-1]
        parts = [state.layout.parts for state in states]
        if self._has_input:
            parts[-1] = parts[-2][:1]  # it becomes the first tensor that is returned
        names = list(dict.fromkeys(part for of in parts for part in of))
        table = np.full((1 + len(names), 1, len(states)), np.nan)
        sent, places = [value.detach().new_ones(value.shape)], places_of([value])
        exponent, joint = 0, 0.0
        for lag, state in enumerate(states):
            norms = np.full(1 + len(parts[lag]), joint)  # a zero or nan stays one
            if math.isfinite(joint):
                vector, host, shift = _through(sent, places, state)
                exponent += shift
                joint, of_parts = state.layout.log_norms(host)
                norms = np.array([joint, *of_parts]) + exponent * math.log(2)
                pieces = zip(state.layout.apart(vector), state.kept, strict=True)
                sent, places = [piece for piece, kept in pieces if kept], state.above
            table[[0, *(1 + names.index(part) for part in parts[lag])], 0, lag] = norms
        log_norm, *found = table
        steps = len(states) - 1
        walk = Walk(
            np.array([steps]),
            np.arange(steps + 1),
            log_norm,
            dict(zip(names, found, strict=True)),
            np.zeros(1, np.int64),
        )
        return LayerWalk(walk, [state.name for state in states])


def _through(
    sent: Sequence[Tensor], places: Sequence[Any], state: _State
) -> tuple[Tensor, NDArray, int]:
    """The gradient at a state of what is sent into places above it: a vector, the same as float64
    on the host, and the power of two that both have lost.

    What comes back too small or too great for the dtype is asked for once more, of what is sent in
    another scale. A zero of both is a zero; nan stands for what is in neither's range.
    """
    limits = finfo(state.like)
    least = limits.tiny / limits.eps  # below, entries that matter are subnormal
    room = math.frexp(limits.max)[1] * 3 // 4

    def pull(lift: int) -> tuple[Tensor, NDArray, float]:
        lifted = [one * 2.0**lift for one in sent] if lift else sent
        vector = state.layout.joined(pulled_back(lifted, places, state.below), state.like)
        host = on_host(vector)
        return vector, host, peak_of(host)

    lift = 0
    vector, host, peak = pull(lift)
    if not least <= peak < math.inf:
        small, lift = peak == 0, room if peak < least else -room
        vector, host, peak = pull(lift)
        if not least <= peak < math.inf:
            rest = 0.0 if small and peak == 0 else math.nan
            return vector, np.full_like(host, rest), 0
    vector, shift = rescaled(vector, peak)
    return vector, np.ldexp(host, -shift), shift - lift


def _first_tensor(y: Any) -> Tensor:
    first = next((tensor for _, tensor in named_tensors(y)), None)
    if first is None:
        raise refuse("net", type(y).__name__, "it must return a tensor, or several")
    return first


@contextmanager
def _with_history(net: Any) -> Iterator[None]:
    """In here all parameters require gradients, so that what they make of whole numbers has a
    history, by which its ways can be told."""
    frozen = [p for p in net.parameters() if p.is_floating_point() and not p.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
