"""A cell's kernels compiled before they are needed, on two cores.

They are compiled where they are first called, so they are called on one step of one network, as
the engine calls them: those for the way back in a second process, which leaves them in the cache,
while this one compiles the others.
"""

from functools import cache

import numpy as np

from seqlab.cells import CELLS, Sizes
from seqlab.engine.backward import Sweep
from seqlab.engine.ensemble import Ensemble
from seqlab.engine.tape import Tape
from seqlab.kernels import backends
from seqlab.kernels._beside import beside
from seqlab.kernels._jit import DISABLED
from seqlab.kernels.layout import Span
from seqlab.rules import UNCLIPPED

_STEP = Span(start=0, lo=0, hi=1)


@cache
def compile_kernels(backend: str, arch: str, dtype: str, gradients: bool = False) -> None:
    """Compile a cell's kernels for the way there and back, with `gradients` also those for sums
    over time. Kernels of CUDA are left to their first call."""
    if DISABLED or backend != "cpu" or backends.workers(backend) == 1:
        return
    tape = _tape(arch, dtype)
    with beside(__name__, _go_back.__name__, arch, dtype):
        tape.run(lambda saved: None)
        if gradients:
            sweep = _sweep(tape, gradients)
            (lane,), (saved,) = sweep.lanes, tape.segment(0)
            lane.add(saved, tape.x, _STEP, lane.room_for_emitted(_STEP), sweep.sums)
    _go_back(arch, dtype)


def _go_back(arch: str, dtype: str) -> None:
    tape = _tape(arch, dtype)
    (level,) = tape.levels
    saved = level.kernels.save((1, 1, 1), level.sizes, tape.x.dtype)
    _sweep(tape).back((saved,), _STEP, np.zeros((1, 1, 1, 1, 1), dtype))


def _tape(arch: str, dtype: str) -> Tape:
    cell, sizes = CELLS[arch], Sizes(1, 1, 1)
    params = {name: np.zeros((1, *shape), dtype) for name, shape in cell.shapes(sizes).items()}
    x, state = np.zeros((1, 1, 1, 1), dtype), np.zeros((1, 1, *cell.state_shape(sizes)), dtype)
    activation = "tanh" if "activation" in cell.options else None
    return Ensemble(cell, sizes, params, x, state, activation, False, {}).tape("cpu")


def _sweep(tape: Tape, gradients: bool = False) -> Sweep:
    return Sweep(tape, [1], UNCLIPPED, record=False, gradients=gradients)
