"""What a run takes, told from its spec alone: a backend, memory, time, room in its file.

A kind of run names this module as its cost; see `seqlab.spec.kinds.Cost`.
"""

import math

import numpy as np

from seqlab import rules
from seqlab.engine.ensemble import saved_width
from seqlab.engine.tape import SEGMENT_BYTES, TRAJECTORY_BYTES
from seqlab.kernels import backends
from seqlab.measure.progress import Weights
from seqlab.numbers.quantity import MOST_LAGS
from seqlab.spec.kinds import Spec
from seqlab.spec.run import RunSpec

# Fitted to runs of 10 to 10,000 steps and 2 to 256 units on two cores: within a factor of two.
_A_RUN = 2e-3  # seconds, whatever its size
_A_PRODUCT = 3e-10  # seconds for a multiplication and addition, on one thread
_A_STATE = 15  # products that the elementwise work on one entry of the state takes
_A_SHARE = 50  # products that a parameter takes where shares of the gradient are compared
_A_STEP = 2000  # products that any step takes
# What of a run takes how long beside its steps forward, in the same way.
WEIGHTS = Weights(step=1.0, row=1.0, alone=100.0, share=500.0)


def require_backend(spec: RunSpec, backend: str, elsewhere: bool) -> None:
    """Refuse a choice of backend that cannot measure it here, or `elsewhere` on no machine.

    Raises InputError.
    """
    if elsewhere and backend in backends.CHOICES:
        backends.require_cell(backend, spec.arch)
    else:
        backends.resolve(backend, arch=spec.arch)


def memory_bytes(spec: RunSpec) -> int:
    """Bytes that `measure` needs at its peak: the arrays of the blocks that are worked on at the
    same time, and what is kept of all."""
    cell, item = spec.cell, np.dtype(spec.dtype).itemsize
    backend = backends.having(spec.arch)[0]
    each = _trajectory_bytes(spec, backend)
    networks, lengths = backends.networks_at_once(backend, spec.networks, each), len(spec.lengths)
    weights = sum(math.prod(shape) for shape in cell.shapes(spec.sizes).values()) * item
    drive = spec.steps * spec.inputs * (item + 8)
    points = sum(spec.lengths) + lengths
    # The records, what is read of them, and gaps.
    trace = points * 8 * (2 * len(cell.parts) + 6) * cell.layers
    rows = (lengths + (spec.spectrum or 0)) * math.prod(cell.adjoint_shape(spec.sizes))
    block = networks * (8 * weights + drive + trace + 4 * rows * item)
    trajectory = networks * each
    segment = min(networks * SEGMENT_BYTES, trajectory)
    if cell.layers > 1:  # what each layer hands to the one below, of every loss
        handed = spec.hidden * lengths / saved_width(cell, spec.sizes, backend)
        segment = math.ceil(segment * (1 + handed))
    held = trajectory if trajectory <= TRAJECTORY_BYTES else 0  # else computed again
    kept = spec.networks * len(spec.clip) * (spec.steps + 1) * 8 * 3
    if spec.truncation is not None:
        block += 3 * networks * weights * (8 // item)  # a share, the sum up to it, and copies
    # Two in use, what is emitted of one, and free memory of other sizes.
    return block + held + 3 * segment + kept


def blocks_of(spec: RunSpec, backend: str) -> list[range]:
    """The networks in blocks, as the backend likes them."""
    return backends.blocks(backend, spec.networks, _trajectory_bytes(spec, backend))


def _trajectory_bytes(spec: RunSpec, backend: str) -> int:
    """Bytes that one network's whole forward pass saves."""
    width = saved_width(spec.cell, spec.sizes, backend)
    return spec.steps * width * np.dtype(spec.dtype).itemsize


def seconds(spec: RunSpec, threads: int) -> float:
    """About how long a run takes on a CPU, compilation apart.

    Networks x steps x passes x (parameters + elementwise work): a pass forward, one for the
    parameter gradients, one back for each in-chain rule and none of them, with as many losses as
    lengths are underway, and three for each Lyapunov exponent; two for the shares of lags, whose
    sums are compared at each kept one.
    """
    cell = spec.cell
    sweeps = 1 + sum(rules.parse(rule).in_chain for rule in spec.clip)
    passes = 2 + sweeps * (1 + sum(spec.lengths) / spec.steps) + 3 * (spec.spectrum or 0)
    parameters = sum(math.prod(shape) for shape in cell.shapes(spec.sizes).values())
    products = parameters + _A_STATE * math.prod(cell.state_shape(spec.sizes)) + _A_STEP
    if spec.truncation is not None:
        passes += 2 + _A_SHARE * parameters / products * curve_shape(spec)[3] / spec.steps
    return _A_RUN + spec.networks * spec.steps * passes * products * _A_PRODUCT / threads


def curve_shape(spec: Spec) -> tuple[int, int, int, int]:
    """One part's curves: every network, rule, length and kept lag."""
    lags = min(spec.steps + 1, len(spec.lengths) + MOST_LAGS + 2)  # lags 0 and 1 besides
    return spec.networks, len(spec.clip), len(spec.lengths), lags


def file_bytes(spec: RunSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    kinds = 2 + len(spec.cell.parts) * spec.layers  # state and input, and the state's parts
    return kinds * 8 * math.prod(curve_shape(spec))
