"""forward() and backward(): arrays in, arrays out, in PyTorch's layouts.

Backpropagation through time (Werbos 1990; Rumelhart, Hinton & Williams 1986), written by hand
for each cell, for one network or an ensemble with one more leading axis on everything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqlab import rules
from seqlab.ensemble import Ensemble, check_array, gather
from seqlab.kernels import backends
from seqlab.kernels.layout import Emitted
from seqlab.sums import plain
from seqlab.tape import Sweep, Tape


@dataclass(frozen=True)
class Trajectory:
    """A finished forward pass: `output` (T, B, H), or (M, T, B, H) for an ensemble."""

    output: NDArray
    backend: str
    ensemble: Ensemble
    tape: Tape


@dataclass(frozen=True)
class Gradients:
    """Gradients of the loss, with the names and shapes of what went in."""

    params: dict[str, NDArray]
    x: NDArray
    initial: Any


def forward(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    initial: Any = None,
    activation: str = "tanh",
    backend: str = "auto",
) -> Trajectory:
    """Run a network, or an ensemble, over its input.

    x is (T, B, I), or (M, T, B, I) with M leading on every parameter and on `initial` too;
    `initial` is zero when left out (lstm: a tuple (h, c)). `activation` is the rnn's.
    Arrays that live on a GPU go over the host to backend cuda, which `auto` then means; answers are
    a GPU's arrays if x is one.
    Raises InputError for an unknown name and for arrays of the wrong shape, dtype, or with NaN.
    """
    chosen = backends.resolve(backend, x, *params.values())
    ensemble = gather(arch, params, x, initial, activation)
    tape = ensemble.tape(chosen)
    output = np.empty((*ensemble.x.shape[:3], ensemble.sizes.hidden), ensemble.x.dtype)
    starts = iter(tape.starts)

    def keep_output(saved: Any) -> None:
        first = next(starts)
        output[:, first : first + saved.lead[1]] = saved.output

    tape.run(keep_output)
    return Trajectory(ensemble.answer(output), chosen, ensemble, tape)


def backward(trajectory: Trajectory, grad_output: ArrayLike, clip: str = "none") -> Gradients:
    """Carry dL/d(output), of the output's shape, back to parameters, input and initial state.

    `clip` is any clip rule: `step-norm`, `step-value` and `truncate` act inside the chain, on
    what each step hands to the step before it; `norm` and `value` on the finished parameter
    gradients of each network. Raises InputError for an unknown rule and for a grad_output of the
    wrong shape, dtype, or with NaN.
    """
    ensemble, tape = trajectory.ensemble, trajectory.tape
    rule = rules.parse(clip)
    grad = check_array("grad_output", grad_output, trajectory.output.shape, ensemble.x.dtype)
    losses = grad.reshape(tape.networks, tape.steps, tape.sequences, 1, -1)
    sweep = Sweep(tape, [tape.steps], rule, record=False, gradients=True)
    dx = np.empty_like(ensemble.x)

    def keep_input(first: int, emitted: Emitted) -> None:
        networks, steps, sequences = emitted.exponent.shape
        part = np.empty((networks, steps * sequences, dx.shape[-1]), dx.dtype)
        tape.kernels.input_gradient(tape.weights, emitted, part)
        scaled = np.nonzero(emitted.exponent.reshape(networks, -1))
        part[scaled] = plain(part[scaled], emitted.exponent.reshape(networks, -1)[scaled])
        dx[:, first : first + steps] = part.reshape(networks, steps, sequences, -1)

    sweep.run(
        lambda first, last: np.ascontiguousarray(losses[:, first:last]), on_gradient=keep_input
    )
    sums, _ = sweep.sums.clipped(rule)
    state = plain(sweep.adjoint[:, :, 0], sweep.exponent[:, :, 0])
    initial = ensemble.cell.unpack(state)
    answer = ensemble.answer
    return Gradients(
        {name: answer(plain(v, sums.exponent)) for name, v in sums.values.items()},
        answer(dx),
        tuple(map(answer, initial)) if isinstance(initial, tuple) else answer(initial),
    )
