"""Random networks with their runs, drawn alike for every test of kernels and measures."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import naive
import numpy as np
import numpy.typing as npt
import pytest
from reference.cases import named

import seqlab
from seqlab.cells import ACTIVATIONS, CELLS, Sizes

Array = npt.NDArray[Any]
State = tuple[Array, ...]

PARITY = 1e-9  # what is promised against PyTorch and the naive loops; seen: 7e-13 and 6e-14

# Every kernel's every branch: a cell with an activation.
KINDS = [
    (arch, name)
    for arch, cell in CELLS.items()
    for name in (ACTIVATIONS if "activation" in cell.options else ("tanh",))
]
ARCHS = list(CELLS)
# Those whose output is a part of their state.
SHOWN = [arch for arch, cell in CELLS.items() if "hidden" in cell.parts]
# Those with recurrent weights, and those with PyTorch's four parameters.
MIXED = [arch for arch, cell in CELLS.items() if "weight_hh" in cell.shapes(Sizes(1, 1, 1))]
GATED = [arch for arch in MIXED if CELLS[arch].names_of == "PyTorch"]


def cases(*everyday: Any, slow: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Arguments of a test, and those that repeat what the everyday ones show in a minute more."""
    return [*everyday, *(pytest.param(*values, marks=pytest.mark.slow) for values in slow)]


class Run(NamedTuple):
    """Arrays of one network, or with a leading M of an ensemble, in the public layouts; the first
    state as the tuple of its parts that have an adjoint."""

    arch: str
    params: dict[str, Array]
    x: Array
    state: State
    grad: Array

    @property
    def initial(self) -> Any:
        """The first state as seqlab takes it."""
        return public(self.all_parts)

    @property
    def all_parts(self) -> State:
        """All parts of the first state: those without an adjoint are zero."""
        first, rest = self.state[0], CELLS[self.arch].without_adjoint
        dtype = str(getattr(first, "dtype", "float64")).removeprefix("torch.")
        return (*self.state, *(np.zeros(np.shape(first), dtype) for _ in rest))

    def network(self, m: int) -> "Run":
        """One network of an ensemble."""
        return self.each(lambda array: array[m])

    def cast(self, dtype: npt.DTypeLike) -> "Run":
        """The same numbers in another dtype."""
        return self.each(lambda array: array.astype(dtype))

    def each(self, change: Callable[[Array], Any]) -> "Run":
        """The same with every array changed alike."""
        params = {name: change(value) for name, value in self.params.items()}
        state = tuple(map(change, self.state))
        return Run(self.arch, params, change(self.x), state, change(self.grad))


def public(parts: State) -> Any:
    """A state as seqlab takes and gives it: a tuple of one is unwrapped."""
    return parts if len(parts) > 1 else parts[0]


def parts(state: Any) -> State:
    """The parts of a state that seqlab gave."""
    return state if isinstance(state, tuple) else (state,)


def numbers(*shape: int) -> Array:
    return np.random.default_rng(shape).normal(size=shape) / 2


def draw(
    arch: str,
    hidden: int = 3,
    inputs: int = 2,
    state: int = 2,
    steps: int = 6,
    batch: int = 2,
    networks: int = 0,
    seed: int = 1,
) -> Run:
    """Parameters with nothing special about any entry, scaled so that chains neither die nor burst.

    With `networks` from 1 up an ensemble, else one network without the leading axis.
    """
    rng = np.random.default_rng([seed, ARCHS.index(arch), hidden, inputs, state, steps, batch])
    lead = (networks,) if networks else ()
    params = {}
    cell, sizes = CELLS[arch], Sizes(hidden, inputs, state)
    for name, shape in cell.shapes(sizes).items():
        fan = math.sqrt(shape[-1]) if len(shape) > 1 and name != "A_log" else 1.0
        params[name] = rng.normal(size=(*lead, *shape)) * (0.9 / fan)
    naive.CELLS[arch].hold(params)
    x = rng.normal(size=(*lead, steps, batch, inputs))
    zeros = np.zeros((*lead, batch, *cell.adjoint_shape(sizes)))
    start = tuple(rng.normal(size=part.shape) for part in cell.unpack(zeros))
    start = naive.CELLS[arch].start(start)
    return Run(arch, params, x, start, rng.normal(size=(*lead, steps, batch, hidden)))


def draw_layered(arch: str, layers: int, hidden: int = 3, **sizes: int) -> Run:
    """`draw` of several layers, each with numbers of its own; states (layers, B, H)."""
    first = draw(arch, hidden=hidden, **sizes)
    upper = [
        draw(arch, hidden=hidden, **{**sizes, "inputs": hidden}, seed=10 + layer)
        for layer in range(1, layers)
    ]
    runs, axis = [first, *upper], int("networks" in sizes)
    params = {f"{n}_l{k}": a for k, run in enumerate(runs) for n, a in run.params.items()}
    state = tuple(
        np.stack([run.state[i] for run in runs], axis=axis) for i in range(len(first.state))
    )
    return first._replace(params=params, state=state)


def bias_of(run: Run) -> Array:
    """The bias that moves every gate, or the step of a scan."""
    return run.params[naive.CELLS[run.arch].gate_bias]


def answers(
    run: Run, activation: str = "tanh", clip: str = "none", backend: str = "auto"
) -> dict[str, Array]:
    """seqlab's output and every gradient by name; a gradient is called as what it belongs to."""
    trajectory = seqlab.forward(run.arch, run.params, run.x, run.initial, activation, backend)
    g = seqlab.backward(trajectory, run.grad, clip)
    return named(trajectory.output, g.params, g.x, parts(g.initial))


def truth(run: Run, activation: str = "tanh", clip: str = "none") -> dict[str, Array]:
    """The same from the naive reference, one network."""
    output = naive.forward(run.arch, run.params, run.x, run.state, activation)["output"]
    g = naive.backward(
        run.arch, run.params, run.x, run.grad, run.state, activation=activation, clip=clip
    )
    return named(output, g["params"], g["x"], g["initial"])


def relative_errors(have: dict[str, Array], want: dict[str, Array]) -> dict[str, float]:
    """Each array's largest difference over its largest size; zeros must be zeros."""
    assert have.keys() == want.keys()
    errors = {}
    for name, value in want.items():
        assert have[name].shape == value.shape, name
        difference, size = np.abs(have[name] - value).max(), np.abs(value).max()
        errors[name] = 0.0 if difference == 0 else float(difference / size) if size else math.inf
    return errors


def same_bits(have: dict[str, Array], want: dict[str, Array]) -> bool:
    """Whether all arrays are equal bit for bit (NaN where NaN is)."""
    return have.keys() == want.keys() and all(
        np.array_equal(have[name], value, equal_nan=True) for name, value in want.items()
    )
