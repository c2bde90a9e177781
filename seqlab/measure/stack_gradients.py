"""Gradients of deep stacks whose weights somebody gives: what checks and the benchmark compare."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import Sizes
from seqlab.engine.backward import Sweep
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import backends
from seqlab.kernels.contract import StackKernels
from seqlab.kernels.layout import Emitted, unscaled
from seqlab.layers.stack import Stack
from seqlab.measure.curves import read_curves
from seqlab.measure.stack_networks import KEPT_BYTES
from seqlab.rules import UNCLIPPED


class StackGradients(NamedTuple):
    """Of a loss <readout, h_L>, for M stacks of L layers with P rows.

    `output` (M, P, F) is h_L, whose F are all features that a growing stack has then; `layers`
    (M, L, E) the gradients of each layer's numbers, where those lie; `x` (M, P, n) dL/dh_0. Beyond
    the dtype's range they are 0, inf or nan. `log_norm` (M, L + 1) is ln of the adjoint's norm at
    each lag, as results have it.
    """

    output: NDArray
    layers: NDArray
    x: NDArray
    log_norm: NDArray


def drive_of(numbers: NDArray) -> NDArray:
    """Numbers of layers (M, L, E), each layer's maps in order and zeros up to the largest's, as the
    engine is driven with: (M, L, 1, E + 1)."""
    networks, layers, size = numbers.shape
    drive = np.empty((networks, layers, 1, size + 1), numbers.dtype)
    drive[:, :, 0, :-1] = numbers
    drive[:, :, 0, -1] = np.arange(layers)
    return drive


def backpropagate(
    stack: Stack,
    drive: NDArray,
    x: NDArray,
    readout: NDArray,
    backend: str = "auto",
    into: NDArray | None = None,
) -> StackGradients:
    """Forward and back through stacks with the weights of a drive, see `drive_of`.

    x is (M, P, n), readout (M, P, F), both of the drive's dtype. `into` may be memory for the
    gradients of the layers, (M, L, E). Raises InputError for a backend that has no stacks.
    """
    chosen = backends.resolve_stack(backend)
    networks, layers = drive.shape[:2]
    found = StackGradients(
        np.empty_like(readout),
        np.empty((networks, layers, stack.most_numbers), x.dtype) if into is None else into,
        np.empty_like(x),
        np.empty((networks, layers + 1)),
    )
    run = _Pass(stack, chosen, backends.stack_kernels(chosen, stack, entries=True), drive.dtype)
    blocks = backends.blocks(chosen, networks, run.bytes_each)
    sharers = backends.at_once(chosen, blocks)

    def one(block: range) -> None:
        part = slice(block.start, block.stop)
        tape = run.tape(drive[part], x[part], sharers)
        with np.errstate(over="ignore", invalid="ignore"):  # overflow and NaN are results
            run.there_and_back(tape, readout[part], StackGradients(*(a[part] for a in found)))

    backends.over_blocks(chosen, blocks, one)
    return found


class _Pass(NamedTuple):
    """One pass over some networks of a stack."""

    stack: Stack
    backend: str
    kernels: StackKernels
    dtype: np.dtype

    @property
    def sizes(self) -> Sizes:
        return self.stack.sizes(self.kernels.columns(self.dtype))

    @property
    def bytes_each(self) -> int:
        """Of what one network saves besides its numbers, which are there already."""
        width = self.kernels.saved_width(self.sizes) - self.stack.most_numbers
        return self.stack.depth * width * self.dtype.itemsize

    def tape(self, drive: NDArray, x: NDArray, sharers: int) -> Tape:
        level = Level(self.stack, self.kernels, self.kernels.prepare({}, None), self.sizes)
        return Tape(self.backend, [level], drive, self._state(x), sharers, KEPT_BYTES)

    def there_and_back(self, tape: Tape, readout: NDArray, found: StackGradients) -> None:
        """Fill `found`."""
        tape.run(lambda saved: None)
        sweep = Sweep(tape, [tape.steps], UNCLIPPED, record=True, gradients=True)
        loss = self._state(readout)[:, None]

        def keep(first: int, emitted: Emitted) -> None:
            exponent = emitted.exponent[:, :, 0]
            power = unscaled(np.ones(exponent.shape, self.dtype), exponent)
            layers = found.layers[:, first : first + exponent.shape[1]]
            np.multiply(emitted.values[:, :, 0], power[..., None], out=layers)

        sweep.run(lambda _, last: loss if last == tape.steps else loss[:, :0], on_gradient=keep)
        self._copy_rows(tape.state, found.output)
        rows, exponent = sweep.rows()
        self._copy_rows(unscaled(rows[:, :, 0], exponent[:, :, 0]), found.x)
        found.log_norm[:] = read_curves(sweep).state[0]

    def _state(self, rows: NDArray) -> NDArray:
        """Rows (M, P, F) as the engine has a state: unit by unit, (M, 1, 1, units C)."""
        networks, count, features = rows.shape
        state = np.zeros((networks, self.stack.units, self.kernels.columns(self.dtype)), self.dtype)
        state[:, :features, :count] = rows.swapaxes(1, 2)
        return state.reshape(networks, 1, 1, -1)

    def _copy_rows(self, state: NDArray, rows: NDArray) -> None:
        """The other way round, as many features as there is room for."""
        networks, count, features = rows.shape
        units = state.reshape(networks, self.stack.units, -1)
        rows[:] = units[:, :features, :count].swapaxes(1, 2)
