"""What somebody's network is: one of PyTorch's, one with an adapter, a module or a cell."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from seqlab.errors import InputError
from seqlab.probes.adapters import adapted
from seqlab.probes.callables import (
    Steps,
    form_of,
    is_of_cell,
    is_of_module,
    name_of,
    of_cell,
    of_module,
    of_pytorch,
    said,
)
from seqlab.probes.states import State, Tensor, each, kept, tensors_of
from seqlab.values import named
from seqlab.wording import refuse, short_repr


def first_state(step: Steps, x: Tensor, name: str) -> State:
    """The state that a network starts from where none is given: PyTorch's zeros, or zeros that do
    as well as none. Raises InputError where they do not, and for a first step that fails."""
    import torch

    with torch.no_grad(), refusing(name, x):
        first = step.first(x)
        if tensors_of(first):
            return first
        piece = step.piece(x, 0, 1)
        y, after = step.run(piece, first)
        zeros = each(after, torch.zeros_like)
        again, other = step.run(piece, kept(zeros))
    same = [(y, again), *zip(tensors_of(after), tensors_of(other), strict=True)]
    if not all(torch.equal(*pair) for pair in same):
        raise refuse("state", None, f"{name} does not start from zeros: its first state is needed")
    return zeros


@contextmanager
def refusing(name: str, x: Tensor) -> Iterator[None]:
    """What a network raises in here at its first step, as one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # whatever a stranger's class raises
        what = f"{tuple(x.shape)} of {named(x.dtype)}"
        raise refuse("x", what, f"{name} fails at its first step: {_told(error)}") from error


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
            answer = net(x.narrow(time, 0, steps), of_steps)
            if is_of_module(answer, time, steps) and form in (None, form_of(answer[1])):
                return of_module(net, time)
            failures.append(said(answer))
        except Exception as error:  # whatever a stranger's class raises
            failures.append(_told(error))
        if state is not None:
            try:
                answer = net(x.select(time, 0), of_one)
                if is_of_cell(answer, form):
                    return of_cell(net, time)
                failures.append(said(answer))
            except Exception as error:
                failures.append(_told(error))
    first = "" if state is not None else ", whose first state is given"
    raise refuse(
        "net",
        name_of(net),
        f"a module, (x, state) -> (y, state), or a cell{first}, (x_t, state) -> state or (y, "
        f"state), is needed, and its answer was {' and '.join(failures)}; wrt='input' needs none",
    )


def _told(error: Exception) -> str:
    return f"{type(error).__name__} ({short_repr(str(error))})"
