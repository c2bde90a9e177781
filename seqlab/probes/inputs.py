"""The gradient of a loss of the last output with respect to every input, for nets without a state:
bidirectional ones, Transformers, convolutions.

There is no chain here whose adjoint could be carried in log scale: it is autograd's own gradient,
in the dtype of x, and what lies below that dtype's smallest number is zero.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from seqlab.probes.callables import describe_answer, modules_of, name_of
from seqlab.probes.quiet import quiet
from seqlab.probes.recognised import refusing
from seqlab.probes.repeats import compare
from seqlab.probes.states import Layout, Part, Tensor, is_tensor, on_host
from seqlab.probes.steps import (
    Loss,
    Walk,
    gradient_of,
    gradients,
)
from seqlab.spec.fields import check_lengths
from seqlab.spec.kinds import Progress
from seqlab.wording import refuse

_BACK = 3  # an output and its way back cost about three outputs


def inputs(
    net: Callable,
    x: Tensor,
    time: int,
    loss: Loss,
    lengths: Sequence[int],
    progress: Progress | None = None,
) -> Walk:
    """Norms of dL/dx_t, over all sequences and features, of the losses `loss(y_n)`, n in `lengths`.

    `net(x)` returns the output, or a tuple or list of which it is the first tensor; of it y_n is
    the last step, for an input of the first n steps alone. Lag 0 is x_{n-1}, lag n-1 is x_0; there
    is one part, `input`. -inf is a zero: less than the dtype's smallest number, or nothing at all;
    nan stands past a length and for an overflow. PyTorch's threads, random state and modes are as
    before afterwards.

    The output has an axis of time where its axis `time` has an entry a step at the longest and at
    the shortest of the lengths (of one length alone: if it has fewer axes than x, at a step less
    too); else the output has none, and is y_n itself.

    Raises InputError for wrong lengths, for a net whose output is no tensor or no function of x,
    or has another number of steps than x, and for one whose second call gives another answer.
    """
    check_lengths(lengths, x.shape[time])
    with quiet(modules_of(net), x):
        if x.is_inference():
            x = x.clone()
        return _run(net, x.detach(), time, loss, lengths, progress)


def _run(
    net: Callable,
    x: Tensor,
    time: int,
    loss: Loss,
    lengths: Sequence[int],
    progress: Progress | None,
) -> Walk:
    import torch

    longest = max(lengths)
    with torch.no_grad():
        with refusing(name_of(net), x):
            before = _output(net, x.narrow(time, 0, longest))
        timed = _has_time(net, x, time, lengths, before)
    table = np.full((len(lengths), longest), np.nan)
    work, done = longest + _BACK * sum(lengths), longest
    for row, n in enumerate(lengths):
        leaf = x.narrow(time, 0, n).requires_grad_()
        output = _output(net, leaf)
        if n == longest:
            compare([output], [before], "output")
        y = output.select(time, -1) if timed else output
        table[row, :n] = _log_norms(_gradient(y, loss, leaf, torch), time)[::-1]
        done += _BACK * n
        if progress is not None:
            progress(done / work, "inputs")
    return Walk(
        np.array(lengths, np.int64),
        np.arange(longest),
        table,
        {"input": table.copy()},
        np.zeros(len(lengths), np.int64),
    )


def _output(net: Callable, x: Tensor) -> Tensor:
    answer = net(x.clone())  # which may be changed in place, and has no gaps
    if isinstance(answer, tuple | list):
        answer = next(filter(is_tensor, answer), answer)
    if not is_tensor(answer):
        raise refuse(
            "module",
            describe_answer(answer),
            "it must return a tensor, or a tuple of which one is the output",
        )
    return answer


def _has_time(net: Callable, x: Tensor, time: int, lengths: Sequence[int], output: Tensor) -> bool:
    """Whether the output, of the longest length, has an axis of time."""
    longest, shortest = max(lengths), min(lengths)
    timed = output.dim() > time and output.shape[time] == longest
    if len(lengths) == 1:
        # As many classes, or sequences, as steps look the same.
        if not timed or output.dim() >= x.dim():
            return timed
        if longest == 1:
            return False
        shortest = longest - 1
    other = _output(net, x.narrow(time, 0, shortest))
    steady = other.shape == output.shape
    if not steady and not (timed and other.dim() > time and other.shape[time] == shortest):
        raise refuse(
            "module",
            f"an output of shape {tuple(output.shape)} for {longest} steps",
            f"axis {time} of its output must have one entry a step; or it may return the last step",
        )
    return not steady


def _gradient(y: Tensor, loss: Loss, leaf: Tensor, torch: object) -> Tensor:
    if y.requires_grad:
        seed = gradient_of(loss, y)
        # A loss that is no function of y sends nothing back.
        seed = y.detach().new_zeros(y.shape) if seed is None else seed
        (found,) = gradients([(y, seed)], [leaf], torch)
        if found is not None:
            return found
    raise refuse(
        "module",
        "an output that is no function of x",
        "a gradient must come back to x: no detach(), no_grad() or rounding between",
    )


def _log_norms(gradient: Tensor, time: int) -> NDArray:
    """Natural log of the norm of every step, (steps,) in their order."""
    steps = gradient.shape[time]
    size = gradient.numel() // steps
    parts = [Part(f"step {t}", size) for t in range(steps)]
    layout = Layout([gradient], parts)
    norms = layout.log_norms(on_host(gradient.movedim(time, 0).reshape(-1)))[1]
    return np.where(norms == np.inf, np.nan, norms)
