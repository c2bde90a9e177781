"""Random runs for tests of the naive reference, and their gradients by complex steps."""

from collections.abc import Callable
from typing import Any

import clips
import naive
import naive_rules
import numpy as np
from naive import Array, Params, State

# Complex steps and hand-written gradients differ by rounding alone (seen: 1e-14); the room is for
# other linear algebra and mathematics libraries.
ROUNDING = 1e-12

CELLS = [(arch, name) for arch, cell in naive.CELLS.items() for name in cell.activations]
TINY = 1e-30  # a complex step has no cancellation, so it may be as small as it likes
THRESHOLDS = {"step-norm": 0.1, "step-value": 0.02, "truncate": 3}
CHAIN_RULES = [*clips.spelled(THRESHOLDS, naive_rules.IN_CHAIN), "truncate:1"]


def draw(
    arch: str, hidden: int = 3, inputs: int = 2, state: int = 2, seed: int = 1
) -> tuple[Params, np.random.Generator]:
    """Parameters of order 1, far from any special value."""
    rng = np.random.default_rng(seed)
    shapes = naive.CELLS[arch].shapes(hidden, inputs, state)
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    naive.CELLS[arch].hold(params)
    return params, rng


def draw_run(arch: str, steps: int, batch: int, **sizes: int) -> tuple[Params, Array, State, Array]:
    """Parameters, x, the initial state as a tuple of parts, dL/d(output)."""
    params, rng = draw(arch, **sizes)
    x = rng.normal(size=(steps, batch, sizes.get("inputs", 2)))
    zero = naive.zero_state(arch, params, batch, float)
    initial = naive.CELLS[arch].start(tuple(rng.normal(size=part.shape) for part in zero))
    return params, x, initial, rng.normal(size=(steps, batch, sizes.get("hidden", 3)))


def complex_step(f: Callable[[Params], Any], at: Params) -> Params:
    """The gradients of a real-valued f of named arrays, each entry of each moved in turn."""
    gradients = {}
    for name, value in at.items():
        gradients[name] = np.empty_like(value)
        for index in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[index] += 1j * TINY
            gradients[name][index] = f(at | {name: moved}).imag / TINY
    return gradients


def named_parts(state: State) -> Params:
    return {f"state_{k}": part for k, part in enumerate(state)}


def parts_of(arrays: Params) -> State:
    return tuple(value for name, value in arrays.items() if name.startswith("state_"))


def assert_close(have: Any, want: Array, tolerance: float = ROUNDING) -> None:
    """The same shape, and close relative to the norm of what is wanted."""
    assert np.shape(have) == want.shape
    assert np.linalg.norm(want) > 0
    assert np.linalg.norm(have - want) <= tolerance * np.linalg.norm(want)


# Closed forms.


def linear(weight: Array) -> Params:
    hidden = len(weight)
    zero = np.zeros(hidden)
    return {
        "weight_ih": np.zeros((hidden, 1)),
        "weight_hh": weight,
        "bias_ih": zero,
        "bias_hh": zero,
    }


def orthogonal(size: int) -> Array:
    return np.linalg.qr(np.random.default_rng(4).normal(size=(size, size)))[0]
