"""The slow, obvious truth: every cell and its gradients, written from the equations.

Nothing here, nor in the other files named naive, comes from seqlab: naive_cells has a file for each
cell, naive_functions.py and naive_rules.py what they need, naive_adjoint.py norms at every lag,
naive_spectrum.py Jacobians and exponents, naive_scan.py the bare selective scan.

One network at a time, plain loops over time, float64; `forward` keeps the dtype it is given, so
complex numbers pass through it and a complex step can check the gradients. x is (T, B, I); names,
layouts and gate orders are those of each cell's reference.

A state is a tuple of arrays with the batch first. The adjoint of a state has the same form.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from naive_cell import Cell
from naive_functions import Array, Params, State
from naive_rules import clip_after, clip_handed

CELLS: dict[str, Cell] = {
    path.stem: import_module(f"naive_cells.{path.stem}").CELL
    for path in sorted(Path(__file__).with_name("naive_cells").glob("*.py"))
}


def zero_state(arch: str, params: Params, batch: int, dtype: npt.DTypeLike = float) -> State:
    return tuple(np.zeros((batch, *shape), dtype) for shape in CELLS[arch].parts(params).values())


def forward(
    arch: str, params: Params, x: Array, initial: State | None = None, activation: str = "tanh"
) -> dict[str, Any]:
    """Run x (T, B, I).

    Gives "output" (T, B, H); "states", a tuple of (T+1, B, ...) arrays in the order of the state,
    entry 0 the initial one; "saved", what each step needs on the way back. `initial` is zero when
    left out.
    """
    state = initial
    if state is None:
        state = zero_state(arch, params, x.shape[1], np.result_type(x, *params.values()))
    states, outputs, saved = [state], [], []
    for x_t in x:
        state, y, kept = CELLS[arch].step(params, x_t, state, activation)
        states.append(state)
        outputs.append(y)
        saved.append(kept)
    parts = tuple(np.stack(part) for part in zip(*states, strict=True))
    return {"output": np.stack(outputs), "states": parts, "saved": saved}


def backward(
    arch: str,
    params: Params,
    x: Array,
    grad_output: Array,
    initial: State | None = None,
    activation: str = "tanh",
    clip: str = "none",
    grad_final: State | None = None,
) -> dict[str, Any]:
    """Full backpropagation through time of sum(output * grad_output), both (T, B, H).

    `grad_final` is the gradient of the last state besides. Gives "params" by name, "x" and
    "initial", each shaped as what went in.
    """
    run = forward(arch, params, x, initial, activation)
    handed = grad_final
    if handed is None:
        handed = tuple(np.zeros_like(part[0]) for part in run["states"])
    total = {name: np.zeros_like(value) for name, value in params.items()}
    g_x = np.zeros_like(x)
    for t in reversed(range(len(x))):
        handed, g_x[t], grads = CELLS[arch].pull(params, run["saved"][t], handed, grad_output[t])
        for name, value in grads.items():
            total[name] = total[name] + value
        handed = clip_handed(clip, handed, len(x) - t, [0] * x.shape[1])
    return {"params": clip_after(clip, total), "x": g_x, "initial": handed}
