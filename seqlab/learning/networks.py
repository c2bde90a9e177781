"""Recurrent networks in training: a cell with a linear readout, its outputs, loss and gradients."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqlab.cells import CELLS, Cell, Parameters, Sizes
from seqlab.engine.backward import Sweep
from seqlab.engine.sums import Sums
from seqlab.engine.tape import Level, Tape
from seqlab.kernels import backends
from seqlab.kernels.contract import Saved
from seqlab.kernels.layout import power_of_two
from seqlab.rules import Rule

Result = TypeVar("Result")

WEIGHT, BIAS = "readout_weight", "readout_bias"
# From outputs (m, n, B, K) of the networks in a block to their losses (m,) and dL/dy.
Loss = Callable[[range, NDArray], tuple[NDArray, NDArray]]


class Gradients(NamedTuple):
    """What one pass forward and back gives: `loss` (M,), the gradients of all parameters, and
    `fired` (M,), the share of steps x sequences at which a rule inside the chain acted."""

    loss: NDArray
    sums: Sums
    fired: NDArray


@dataclass(frozen=True)
class Networks:
    """M networks of one cell, each with a readout y_t = W h_t + b of its output h_t.

    `params` has the cell's parameters (M, ...) and `readout_weight` (M, K, H), `readout_bias`
    (M, K); they may be changed in place. The first state is zero.
    """

    cell: Cell
    sizes: Sizes
    activation: str | None
    params: Parameters
    backend: str

    @classmethod
    def of(
        cls, arch: str, params: Parameters, activation: str | None = None, backend: str = "cpu"
    ) -> "Networks":
        """Networks with these parameters, whose shapes say the sizes."""
        cell = CELLS[arch]
        own = {name: array for name, array in params.items() if name not in (WEIGHT, BIAS)}
        return cls(cell, cell.sizes(own), activation, params, backend)

    def __len__(self) -> int:
        return len(self.params[WEIGHT])

    def subset(self, chosen: NDArray | slice) -> "Networks":
        """Some of the networks; of a slice in the same memory."""
        return replace(self, params={name: array[chosen] for name, array in self.params.items()})

    def outputs(self, x: NDArray, at: NDArray) -> NDArray:
        """y (M, n, B, K) of x (M, T, B, I) at the steps `at` (n,), which rise."""
        found = self.over_blocks(x, lambda networks, one: one.outputs(one.forward(at)))
        return np.concatenate(found)

    def gradients(self, x: NDArray, at: NDArray, loss: Loss, rule: Rule) -> Gradients:
        """One pass forward and back, of losses of the outputs at the steps `at` (n,), which rise.

        A rule inside the chain acts; what others do to finished gradients is the caller's
        (`Sums.clipped`).
        """

        def one(networks: range, run: Pass) -> Gradients:
            hidden = run.forward(at)
            value, errors = loss(networks, run.outputs(hidden))
            sums, fired = run.back(hidden, errors, at, rule)
            return Gradients(value, sums, fired)

        losses, sums, fired = zip(*self.over_blocks(x, one), strict=True)
        return Gradients(np.concatenate(losses), Sums.beside(sums), np.concatenate(fired))

    def over_blocks(self, x: NDArray, work: "Callable[[range, Pass], Result]") -> list[Result]:
        """[work(networks, pass)] over blocks of networks, side by side on threads."""
        kernels = backends.kernels(self.backend, self.cell.name)
        width = kernels.saved_width(self.sizes)
        each = x.shape[1] * x.shape[2] * width * x.dtype.itemsize
        blocks = backends.blocks(self.backend, len(self), each)
        sharers = backends.at_once(self.backend, blocks)

        def one(networks: range) -> Result:
            part = slice(networks.start, networks.stop)
            with np.errstate(all="ignore"):  # overflow and NaN are results; threads begin without
                return work(networks, Pass(self.subset(part), x[part], sharers))

        return backends.over_blocks(self.backend, blocks, one)


class Pass:
    """One pass of some networks over their drive x (m, T, B, I)."""

    def __init__(self, networks: Networks, x: NDArray, sharers: int) -> None:
        self._cell, self._params = networks.cell, networks.params
        kernels = backends.kernels(networks.backend, networks.cell.name)
        own = {name: a for name, a in networks.params.items() if name not in (WEIGHT, BIAS)}
        lead = (len(x), x.shape[2])
        state = np.zeros((*lead, *networks.cell.state_shape(networks.sizes)), x.dtype)
        weights = kernels.prepare(own, networks.activation)
        level = Level(networks.cell, kernels, weights, networks.sizes)
        self.tape = Tape(networks.backend, [level], x, state, sharers)

    def forward(self, at: NDArray) -> NDArray:
        """The cell's outputs h (m, n, B, H) at some steps."""
        tape = self.tape
        shape = (tape.networks, len(at), tape.sequences, tape.levels[-1].sizes.hidden)
        hidden = np.empty(shape, tape.x.dtype)
        starts = iter(tape.starts)

        def keep(saved: Saved) -> None:
            first = next(starts)
            count = min(tape.segment_steps, tape.steps - first)
            begin, end = np.searchsorted(at, [first, first + count])
            outputs = saved.outputs[:, saved.outputs.shape[1] - count :]
            hidden[:, begin:end] = outputs[:, at[begin:end] - first]

        tape.run(keep)
        return hidden

    def outputs(self, hidden: NDArray) -> NDArray:
        """y (m, n, B, K)."""
        weight, bias = self._params[WEIGHT], self._params[BIAS]
        return _products("mnbh,mkh->mnbk", hidden, weight) + bias[:, None, None]

    def sweep(
        self, errors: NDArray, at: NDArray, rule: Rule
    ) -> tuple[Sweep, Callable[[int, int], NDArray]]:
        """The way back of dL/dy (m, n, B, K) at the steps `at`, not yet gone, and the losses'
        gradients of the outputs that join it, as `Sweep.run` takes them."""
        tape = self.tape
        pulled = _products("mnbk,mkh->mnbh", errors, self._params[WEIGHT])
        sweep = Sweep(tape, [tape.steps], rule, record=False, gradients=True)

        def joins(first: int, last: int) -> NDArray:
            begin, end = np.searchsorted(at, [first, last])
            count = last - int(at[begin]) if begin < end else 0
            losses = np.zeros((tape.networks, count, *pulled.shape[2:]), pulled.dtype)
            losses[:, at[begin:end] - (last - count)] = pulled[:, begin:end]
            return losses[:, :, :, np.newaxis]

        return sweep, joins

    def back(
        self, hidden: NDArray, errors: NDArray, at: NDArray, rule: Rule
    ) -> tuple[Sums, NDArray]:
        """The gradients of all parameters, of dL/dy (m, n, B, K) at the steps `at`, and the share
        of steps x sequences at which a rule inside the chain acted (m,)."""
        sweep, joins = self.sweep(errors, at, rule)
        sweep.run(joins)
        own = {
            WEIGHT: _products("mnbk,mnbh->mkh", errors, hidden),
            BIAS: errors.sum(axis=(1, 2), dtype=np.float64),
        }
        fired = sweep.fired.sum(axis=(1, 2)) / (self.tape.steps * self.tape.sequences)
        return joined(sweep.sums, own), fired


def joined(sums: Sums, plain: Parameters) -> Sums:
    """Sums in log scale and plain ones (m, ...) as one: below all that float64 holds is zero."""
    exponent = np.maximum(sums.exponent, 0)
    values = {}
    for shift, arrays in ((sums.exponent - exponent, sums.values), (-exponent, plain)):
        factor = power_of_two(shift)
        for name, array in arrays.items():
            values[name] = array * factor.reshape(-1, *(1,) * (array.ndim - 1))
    return Sums(values, exponent)


def _products(indices: str, a: NDArray, b: NDArray) -> NDArray:
    """Sums of products, not by BLAS: the same bits whatever its threads."""
    return np.einsum(indices, a, b)
