"""What is probed as one face: so many steps of a recurrence, from a state to an output and a state.

PyTorch's own modules are known by their class; of anything else the caller says whether it is a
module, called with many steps at once, or a cell, called with one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from seqlab.probes.states import Part, State, Tensor, is_tensor, named_tensors, tensors_of
from seqlab.wording import refuse


@dataclass(frozen=True)
class Steps:
    """`run(x, state) -> (y, state)`: x with its time axis, y the last step's output without one.

    `time` is x's axis of time, `modules` all PyTorch modules within, `parts` names what a state
    holds, and `first(x)` is the state that None stands for. `sequences` is the axis of sequences
    in every tensor of the state, None where there is no such axis or where it is told by its size.
    `apart` makes the nest of tensors that `run` takes of a state as its library has it.
    """

    run: Callable[[Tensor, State], tuple[Tensor, State]]
    time: int
    modules: tuple[Any, ...]
    parts: Callable[[State], list[Part]]
    first: Callable[[Tensor], State]
    sequences: int | None = None
    apart: Callable[[State], State] = lambda state: state

    def sequences_in(self, x: Tensor) -> int:
        return sequences_in(x, self.time)

    def piece(self, x: Tensor, begin: int, end: int) -> Tensor:
        """Some steps of x; a copy, which a module may change in place."""
        return x.narrow(self.time, begin, end - begin).clone()


def of_pytorch(net: Any, x: Tensor) -> Steps | None:
    """`nn.RNN`, `nn.LSTM`, `nn.GRU` of any number of layers and their cells; None for others.

    Parts are `hidden` and `cell`, and with several layers `layer 0 hidden` and so on, counted as
    PyTorch counts them in `weight_hh_l0`.
    """
    from torch import nn

    if isinstance(net, nn.RNNBase):
        many = x.dim() == 3
        time = 1 if net.batch_first and many else 0
        return Steps(
            _run_module(net, time),
            time,
            tuple(net.modules()),
            lambda state: _by_layer(state, net.num_layers),
            lambda x: _zeros(net, x, net.num_layers, x.shape[1 - time : 2 - time] if many else ()),
            1 if many else None,
        )
    if isinstance(net, nn.RNNCellBase):
        many = x.dim() == 3
        return Steps(
            _run_cell(net, 0),
            0,
            tuple(net.modules()),
            lambda state: _by_layer(state, 1),
            lambda x: _zeros(net, x, None, x.shape[1:2] if many else ()),
            0 if many else None,
        )
    return None


def sequences_in(x: Tensor, time: int) -> int:
    """How many x has; whole numbers (tokens) have no axis of features."""
    return x.shape[int(time == 0)] if x.dim() > 1 + x.is_floating_point() else 1


def name_of(net: Any) -> str:
    """What a module or a function is called."""
    return getattr(net, "__name__", None) or type(net).__name__


def of_module(net: Callable, time: int = 0) -> Steps:
    """A callable `(x, state) -> (y, state)` over many steps, x and y with `time` as time axis.

    Parts are the state's tensors, named as Python spells their place, or as `of_pytorch` does where
    the state is that of the only nn.RNN, nn.LSTM or nn.GRU within.
    """
    return Steps(_run_module(net, time), time, modules_of(net), _as_within(net), _none)


def of_cell(net: Callable, time: int = 0) -> Steps:
    """A callable `(x_t, state) -> state` or `(y, state)` over one step; x has `time` as time axis.

    Without a y the output is the state's first tensor. Raises InputError, when run, where neither
    answer has the form of the state that went in.
    """
    return Steps(_run_cell(net, time), time, modules_of(net), _as_spelled, _none)


def modules_of(net: Callable) -> tuple[Any, ...]:
    """All PyTorch modules in a module, or in the one whose method is called; none in others."""
    owner: Any = getattr(net, "__self__", net)
    known = hasattr(owner, "named_modules") and not isinstance(owner, type)
    return tuple(owner.modules()) if known else ()


@contextmanager
def outputs_from_states(modules: tuple[Any, ...]) -> Iterator[None]:
    """In here the last output of PyTorch's recurrent modules is a function of the state that they
    return, as it is in their equations; by itself autograd sees two tensors of the same numbers.
    """
    import torch
    from torch import nn

    def relate(module: Any, given: object, result: Any) -> Any:
        if not is_tensor(result[0]):  # a packed sequence
            return None
        y, state = result
        last = (state[0] if isinstance(state, tuple) else state)[-1]
        time = 1 if module.batch_first and y.dim() == 3 else 0
        if not torch.equal(y.select(time, -1), last):  # another's forward makes something of it
            return None
        before = y.narrow(time, 0, y.shape[time] - 1)
        return torch.cat([before, last.unsqueeze(time)], dim=time), state

    found = [m for m in modules if isinstance(m, nn.RNNBase) and not m.bidirectional]
    # Before the hooks of others, which may change the output.
    hooks = [module.register_forward_hook(relate, prepend=True) for module in found]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _run_module(net: Callable, time: int) -> Callable[[Tensor, State], tuple[Tensor, State]]:
    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        answer = net(x, state)
        if not _is_pair(answer):
            raise refuse("module", describe_answer(answer), "it must return (y, state)")
        y, after = _by_step(answer[0], x, time), answer[1]
        if y.dim() <= time or y.shape[time] != x.shape[time]:
            raise refuse(
                "module",
                f"an output of shape {tuple(y.shape)} for {x.shape[time]} steps",
                f"axis {time} of its output must have one entry a step",
            )
        return y.select(time, -1), after

    return run


def _run_cell(net: Callable, time: int) -> Callable[[Tensor, State], tuple[Tensor, State]]:
    def one(x: Tensor, state: State) -> tuple[Tensor | None, State]:
        answer = net(x, state)
        if state is None:
            raise refuse("state", None, "a cell of one's own needs its first state")
        form = form_of(state)
        if not is_of_cell(answer, form):
            needed = "it must return a state like its own, or (y, state)"
            raise refuse("cell", describe_answer(answer), needed)
        return (None, answer) if form_of(answer) == form else (answer[0], answer[1])

    def run(x: Tensor, state: State) -> tuple[Tensor, State]:
        y = None
        for x_t in x.unbind(time):
            y, state = one(x_t, state)
        return next(iter(tensors_of(state)), None) if y is None else y, state

    return run


def _is_pair(answer: object) -> bool:
    return isinstance(answer, tuple | list) and len(answer) == 2 and is_tensor(answer[0])


def _by_step(y: Tensor, x: Tensor, time: int) -> Tensor:
    """An output with its axis of time: language models return (steps x sequences, F) for their
    loss."""
    steps, sequences = x.shape[time], sequences_in(x, time)
    flat = y.dim() == 2 and sequences > 1 and len(y) == steps * sequences
    if not flat or (steps == 1 and y.shape[time] == 1):
        return y
    return y.unflatten(0, (sequences, steps) if time else (steps, sequences))


def is_of_module(answer: Any, x: Tensor, time: int) -> bool:
    """Whether an answer is (y, state), y with an entry for each step of x."""
    if not _is_pair(answer):
        return False
    y = _by_step(answer[0], x, time)
    return y.dim() > time and y.shape[time] == x.shape[time]


def is_of_cell(answer: Any, form: object) -> bool:
    """Whether an answer is a state of this form, or (y, state)."""
    return form_of(answer) == form or (_is_pair(answer) and form_of(answer[1]) == form)


def form_of(state: State) -> object:
    """Nest and shapes; equal for states of one kind."""
    if is_tensor(state):
        return tuple(state.shape), "tensor"
    if isinstance(state, dict):
        return {key: form_of(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [form_of(value) for value in state]
    return type(state)


def describe_answer(answer: object) -> str:
    return f"an answer of type {type(answer).__name__}"


def _none(x: Tensor) -> State:
    return None


def _as_spelled(state: State) -> list[Part]:
    return [Part(name, tensor.numel()) for name, tensor in named_tensors(state)]


def _as_within(net: Callable) -> Callable[[State], list[Part]]:
    """The parts of a state that a module has from its one recurrent module, or as spelled."""

    def parts(state: State) -> list[Part]:
        from torch import nn

        inner = [module for module in modules_of(net) if isinstance(module, nn.RNNBase)]
        if len(inner) == 1 and not inner[0].bidirectional and not isinstance(state, dict):
            layers, tensors = inner[0].num_layers, tensors_of(state)
            count = 2 if inner[0].mode == "LSTM" else 1
            if [tensor.shape[:1] for tensor in tensors] == [(layers,)] * count:
                return _by_layer(state, layers)
        return _as_spelled(state)

    return parts


def _by_layer(state: State, layers: int) -> list[Part]:
    tensors = tensors_of(state)
    return [
        Part(f"layer {layer} {kind}" if layers > 1 else kind, tensor.numel() // layers)
        for kind, tensor in zip(("hidden", "cell"), tensors, strict=False)
        for layer in range(layers)
    ]


def _zeros(net: Any, x: Tensor, layers: int | None, sequences: tuple[int, ...]) -> State:
    """The state that PyTorch starts from where none is given."""
    from torch import nn

    weight = net.weight_hh if layers is None else net.weight_hh_l0
    before = (*(() if layers is None else (layers,)), *sequences)
    # Of an LSTM that projects its output, h is smaller than c.
    hidden = weight.new_zeros((*before, getattr(net, "proj_size", 0) or net.hidden_size))
    if not isinstance(net, nn.LSTM | nn.LSTMCell):
        return hidden
    return hidden, weight.new_zeros((*before, net.hidden_size))
