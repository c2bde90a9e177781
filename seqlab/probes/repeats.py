"""Whether a model is a function of its input and state alone, and of its state through autograd."""

import math
from collections.abc import Sequence
from typing import Any

from seqlab.errors import InputError
from seqlab.probes.callables import Steps
from seqlab.probes.states import State, Tensor, each, kept, tensors_of, with_leaves
from seqlab.wording import refuse


def check_repeats(step: Steps, x: Tensor, state: State) -> None:
    """Try one step twice, and in between with another input from another state.

    What a module keeps in itself is then another. A tensor that it only writes down, such as its
    last attention, changes no answer and is no fault.
    Raises InputError where equal calls answer differently, where a buffer changes, where two steps
    at once are not two steps, and where the state changes the answer while no gradient comes back
    to it.
    """
    import torch

    piece = step.piece(x, 0, 1)
    with torch.no_grad():
        # The first call may make what the module then keeps, such as a table of positions.
        before = kept(step.run(piece.clone(), kept(state))[1])
        if not tensors_of(before):  # nothing to measure, which is refused as such
            return
        buffers = _buffers(step.modules)
        once = _answer(step, piece, kept(before))
        _answer(step, piece + 1 / 8 if piece.is_floating_point() else piece, each(before, _moved))
        again = _answer(step, piece, kept(before))
    compare(once[1:], again[1:], "state")
    compare(once[:1], again[:1], "output")
    for name, version in _buffers(step.modules).items():
        if buffers.get(name) != version:
            raise refuse(
                "module",
                f"a buffer {name[1]} that changes at every call",
                "a state must go in and come back; .eval() keeps running statistics as they are",
            )
    fresh, leaves = with_leaves(before)
    sent = [tensor for tensor in _answer(step, piece, fresh) if tensor.requires_grad]
    ones = [torch.ones_like(tensor) for tensor in sent]
    found = torch.autograd.grad(sent, leaves, ones, allow_unused=True) if sent else ()
    with torch.no_grad():
        _check_splits(step, x, state)
        if any(gradient is not None for gradient in found):
            return
        other = _answer(step, piece, each(before, _moved))
    if not all(map(torch.equal, once, other)):  # it has a memory
        raise refuse(
            "module",
            "an answer without a gradient of its state",
            "the state must reach it through autograd, without torch.no_grad(), detach() or .data",
        )


def _check_splits(step: Steps, x: Tensor, state: State) -> None:
    """Refuse a module whose output looks at other steps than its own, past the state, and one that
    takes its sequences for steps: in longer chunks it would have another curve."""
    if x.shape[step.time] < 2:
        return
    after = step.run(step.piece(x, 0, 1), kept(state))[1]
    apart = _answer(step, step.piece(x, 1, 2), kept(after))
    try:
        at_once = _answer(step, step.piece(x, 0, 2), kept(state))
    except InputError:
        raise
    except Exception:  # a state of so many sequences as there are steps
        at_once = []
    if len(at_once) != len(apart) or not all(map(_alike, at_once, apart)):
        raise refuse(
            "module",
            "another answer to two steps at once than to one by one",
            f"of a step it may see its input and the state alone, and axis {step.time} must be "
            "that of time (time=...); wrt='input' takes whole sequences",
        )


def compare(tensors: Sequence[Tensor], others: Sequence[Tensor], what: str) -> None:
    """Refuse a module whose second call gave others: more than about half of the digits apart."""
    if len(tensors) != len(others) or not all(map(_alike, tensors, others)):
        raise _differs(what)


def _alike(one: Tensor, other: Tensor) -> bool:
    import torch

    if one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    finite = other[other.isfinite()].abs()  # a state may have overflowed
    peak = float(finite.max()) if finite.numel() else 0.0
    near = math.sqrt(torch.finfo(one.dtype).eps) * peak
    return torch.allclose(one, other, rtol=0, atol=near, equal_nan=True)


def _differs(what: str) -> InputError:
    return refuse(
        "module",
        f"another {what} at its second call",
        "equal calls must answer alike; .eval() switches dropout off, and what a module keeps in "
        "itself must be in its state",
    )


def _answer(step: Steps, piece: Tensor, state: State) -> list[Tensor]:
    """The output and the state's tensors; copies, since a later call may change them in place."""
    y, after = step.run(piece.clone(), state)
    return [tensor.clone() for tensor in (y, *tensors_of(after))]


def _moved(tensor: Tensor) -> Tensor:
    """Far from what it was, also where it was zero; whole numbers may be places and stay."""
    return tensor + (tensor.abs() + 1) / 8 if tensor.is_floating_point() else tensor.clone()


def _buffers(modules: Sequence[Any]) -> dict[tuple[int, str], tuple[int, int]]:
    return {
        (id(module), name): (id(buffer), buffer._version)
        for module in modules
        for name, buffer in module.named_buffers(recurse=False)
    }
