"""What somebody's network is: one of PyTorch's, one with an adapter, a module or a cell."""

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import Any

from seqlab.errors import InputError
from seqlab.probes.adapters import adapted
from seqlab.probes.callables import (
    Steps,
    describe_answer,
    form_of,
    is_of_cell,
    is_of_module,
    modules_of,
    name_of,
    of_cell,
    of_module,
    of_pytorch,
)
from seqlab.probes.states import State, Tensor, each, kept, tensors_of
from seqlab.values import named
from seqlab.wording import refuse

LONGEST = 160  # letters of a stranger's error


def first_state(step: Steps, x: Tensor, name: str) -> State:
    """The state that a network starts from where none is given: PyTorch's zeros, or zeros that do
    as well as none. Raises InputError where they do not, and for a first step that fails."""
    import torch

    with torch.no_grad(), refusing(name, x):
        first = step.first(x)
        if tensors_of(first):
            return first
        y, after = step.run(step.piece(x, 0, 1), first)
        zeros = each(after, torch.zeros_like)
        again, other = step.run(step.piece(x, 0, 1), kept(zeros))
    same = [(y, again), *zip(tensors_of(after), tensors_of(other), strict=True)]
    if not all(torch.equal(*pair) for pair in same):
        raise refuse("state", None, f"{name} does not start from zeros: its first state is needed")
    return zeros


@contextmanager
def refusing(name: str, x: Tensor) -> Iterator[None]:
    """What a network raises in here at its first call, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's class raises
        what = f"{tuple(x.shape)} of {named(x.dtype)}"
        raise refuse(
            "x", what, f"{name} fails at its first call: {_describe_error(error)}"
        ) from error


def time_axis(net: Any, x: Tensor, time: int | None) -> int:
    """x's axis of time: that of a known class, or the one that is given, or 1 where `batch_first`
    of the network, or of all modules within, says so.

    Raises InputError for another axis than a class has, and where modules within differ.
    """
    known = of_pytorch(net, x) or adapted(net, x)
    if known is not None:
        if time not in (None, known.time):
            raise refuse("time", time, f"{known.time}, as {name_of(net)} has it")
        return known.time
    if time is not None:
        return time
    said = [getattr(module, "batch_first", None) for module in modules_of(net)]
    firsts = {one for one in (said[:1] if said[:1] != [None] else said) if one is not None}
    if len(firsts) > 1:
        raise refuse("time", None, "0 or 1 is needed: modules within differ in batch_first")
    return int(True in firsts and x.dim() > 1 + x.is_floating_point())


def recognised(net: Any, x: Tensor, state: State, time: int) -> Steps:
    """What a network is: told by its class, or else by what it answers to its first steps.

    Raises InputError for what is neither a module nor a cell.
    """
    import torch

    if (known := of_pytorch(net, x) or adapted(net, x)) is not None:
        return known
    steps = min(2, x.shape[time])
    form = None if state is None else form_of(state)
    of_steps, of_one = kept(state), kept(state)
    failures = []
    with torch.no_grad():
        try:
            piece = x.narrow(time, 0, steps).clone()
            answer = net(piece, of_steps)
            if is_of_module(answer, piece, time) and form in (None, form_of(answer[1])):
                return of_module(net, time)
            failures.append(describe_answer(answer))
        except Exception as error:  # whatever a stranger's class raises
            failures.append(_describe_error(error))
        if state is not None:
            try:
                answer = net(x.select(time, 0).clone(), of_one)
                if is_of_cell(answer, form):
                    return of_cell(net, time)
                failures.append(describe_answer(answer))
            except Exception as error:
                failures.append(_describe_error(error))
    first = "" if state is not None else ", whose first state is given"
    raise refuse(
        "net",
        name_of(net),
        f"a module, (x, state) -> (y, state), or a cell{first}, (x_t, state) -> state or (y, "
        f"state), is needed, and its answer was {' and '.join(failures)}; a model (x) -> y is "
        "probed by the recurrent module in it, or by forward(self, x, state=None); wrt='input' "
        "needs none",
    )


def _describe_error(error: Exception) -> str:
    return f"{type(error).__name__} ({shorten(str(error), LONGEST)})"
