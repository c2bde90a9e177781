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
from seqlab.engine.backward import Sweep
from seqlab.engine.ensemble import (
    Ensemble,
    arrays_of,
    check_array,
    check_gpu_array,
    find_cell,
    gather,
)
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.kernels.contract import Array, Saved
from seqlab.kernels.layout import Emitted, unscaled
from seqlab.wording import describe_array


@dataclass(frozen=True, repr=False)
class Trajectory:
    """A finished forward pass: `output` (T, B, H), or (M, T, B, H) for an ensemble, and the state
    after the last step, shaped as `initial` (lstm: a tuple (h, c)), to go on from."""

    output: NDArray
    final: Any
    backend: str
    ensemble: Ensemble
    tape: Tape

    def __repr__(self) -> str:
        shapes = describe_array({"output": self.output, "final": self.final})
        return f"Trajectory: {shapes}, {self.output.dtype} on {self.backend}"


@dataclass(frozen=True, repr=False)
class Gradients:
    """Gradients of the loss, with the names and shapes of what went in.

    `initial` has the parts of the state that have an adjoint: those that curves have.
    """

    params: dict[str, NDArray]
    x: NDArray
    initial: Any

    def __repr__(self) -> str:
        shapes = describe_array({"x": self.x, "initial": self.initial})
        return f"Gradients: {len(self.params)} params, {shapes}, {self.x.dtype}"


def forward(
    arch: str,
    params: Mapping[str, ArrayLike],
    x: ArrayLike,
    initial: Any = None,
    activation: str = "tanh",
    backend: str = "auto",
) -> Trajectory:
    """Run a network, or an ensemble, over its input.

    params are arrays or tensors under the cell's names, or those of one direction in a module's
    `state_dict` (`weight_ih_l0`, `encoder.rnn.weight_ih_l0`); gradients get the same names. Biases
    may be left out, and are zero then. Of several layers (`_l0`, `_l1`, ...) each is fed by the
    outputs of the one below; their states have a leading axis of layers, before B.
    x is (T, B, I), or (M, T, B, I) with M leading on every parameter and on `initial` too;
    `initial` is zero when left out (lstm: a tuple (h, c); `Cell.state_parts` names any cell's).
    `activation` is the rnn's.
    Arrays that live on a GPU (`__cuda_array_interface__` or DLPack) mean backend cuda for `auto`.
    Answers are a GPU's arrays if x is one; parameters, `initial` and their gradients go over the
    host, where they are laid out for the kernels. All arrays are copied: to change them afterwards
    changes no gradient.
    Raises InputError for an unknown name and for arrays of the wrong shape, dtype, or with NaN.
    """
    chosen = backends.resolve(backend, x, *arrays_of(params), arch=find_cell(arch).name)
    ensemble = gather(arch, params, x, initial, activation).with_own_drive(chosen)
    tape = ensemble.tape(chosen)
    shape = (*ensemble.x.shape[:3], ensemble.sizes.hidden)
    output = tape.arrays.empty_like(shape, ensemble.x.dtype, ensemble.x)
    starts = iter(tape.starts)

    def keep_output(saved: Saved) -> None:
        first = next(starts)
        count = min(tape.segment_steps, tape.steps - first)
        tape.arrays.put(output, first, count, saved.outputs)

    tape.run(keep_output)
    return Trajectory(
        ensemble.answer(output), ensemble.answer_state(tape.state.copy()), chosen, ensemble, tape
    )


def backward(
    trajectory: Trajectory,
    grad_output: ArrayLike,
    clip: str = "none",
    grad_final: Any = None,
) -> Gradients:
    """Carry dL/d(output), of the output's shape, back to parameters, input and initial state.

    `grad_final` is dL/d(final) besides, zero when left out: `initial` of the gradients of what went
    on from there. `clip` is any clip rule: `step-norm`, `step-value` and `truncate` act inside the
    chain, on what each step hands to the step before it; `norm` and `value` on the finished
    parameter gradients of each network. Raises InputError for an unknown rule and for gradients of
    the wrong shape, dtype, or with NaN.
    """
    ensemble, tape = trajectory.ensemble, trajectory.tape
    dtype = ensemble.x.dtype
    rule = rules.parse(clip)
    check = check_gpu_array if trajectory.backend == "cuda" else check_array
    grad = check("grad_output", grad_output, trajectory.output.shape, ensemble.x.dtype)
    arrays, (networks, _, sequences, inputs) = tape.arrays, ensemble.x.shape
    losses = grad.reshape((networks, tape.steps, sequences, ensemble.sizes.hidden))
    sweep = Sweep(tape, [tape.steps], rule, record=False, gradients=True)
    if grad_final is not None:
        sweep.put(ensemble.packed_adjoint("grad_final", grad_final)[:, :, np.newaxis])
    dx = arrays.empty_like(ensemble.x.shape, ensemble.x.dtype, ensemble.x)

    def loss(first: int, last: int) -> Array:
        of_bundle = (networks, last - first, sequences, 1, ensemble.sizes.hidden)
        return arrays.cut(losses, first, last).reshape(of_bundle)

    def keep_input(first: int, emitted: Emitted) -> None:
        steps = emitted.exponent.shape[1]
        part = arrays.room((networks, steps * sequences, inputs), ensemble.x.dtype)
        level = tape.levels[0]
        level.kernels.input_gradient(level.weights, emitted, part)
        arrays.scale(part, emitted.exponent.reshape(networks, -1))
        arrays.put(dx, first, steps, part.reshape((networks, steps, sequences, inputs)))

    sweep.run(loss, on_gradient=keep_input)
    sums, _ = ensemble.of_given(sweep.sums).clipped(rule)
    rows, exponent = sweep.rows()
    state = unscaled(rows[:, :, 0], exponent[:, :, 0])
    answer = ensemble.answer
    return Gradients(
        {
            ensemble.names[n]: answer(_cast(unscaled(v, sums.exponent), dtype))
            for n, v in sums.values.items()
        },
        answer(dx),
        ensemble.answer_state(state),
    )


def _cast(sums: NDArray, dtype: np.dtype) -> NDArray:
    """Sums in the user's dtype; beyond its range 0 or inf."""
    with np.errstate(over="ignore", under="ignore"):
        return sums.astype(dtype)
