"""Random networks with their runs, drawn alike for every test of kernels and measures."""

import math
from typing import Any, NamedTuple

import naive
import numpy as np
import numpy.typing as npt
from reference.cases import named

import seqlab
from seqlab.cells import ACTIVATIONS, CELLS, Sizes

Array = npt.NDArray[Any]

# Every kernel's every branch: a cell with an activation.
KINDS = [
    (arch, name)
    for arch, cell in CELLS.items()
    for name in (ACTIVATIONS if "activation" in cell.options else ("tanh",))
]
ARCHS = list(CELLS)
# Those with PyTorch's four parameters.
GATED = [arch for arch, cell in CELLS.items() if "weight_hh" in cell.shapes(Sizes(1, 1, 1))]


class Run(NamedTuple):
    """Arrays of one network, or with a leading M of an ensemble, in the public layouts."""

    arch: str
    params: dict[str, Array]
    x: Array
    initial: Any
    grad: Array

    def network(self, m: int) -> "Run":
        """One network of an ensemble."""
        start = tuple(s[m] for s in self.initial) if self.arch == "lstm" else self.initial[m]
        params = {name: value[m] for name, value in self.params.items()}
        return Run(self.arch, params, self.x[m], start, self.grad[m])

    def cast(self, dtype: npt.DTypeLike) -> "Run":
        """The same numbers in another dtype."""
        lstm = self.arch == "lstm"
        start = tuple(s.astype(dtype) for s in self.initial) if lstm else self.initial.astype(dtype)
        params = {name: value.astype(dtype) for name, value in self.params.items()}
        return Run(self.arch, params, self.x.astype(dtype), start, self.grad.astype(dtype))


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
    for name, shape in CELLS[arch].shapes(Sizes(hidden, inputs, state)).items():
        fan = math.sqrt(shape[-1]) if len(shape) > 1 and name != "A_log" else 1.0
        params[name] = rng.normal(size=(*lead, *shape)) * (0.9 / fan)
    x = rng.normal(size=(*lead, steps, batch, inputs))
    shape = (*lead, batch, hidden, state) if arch == "ssm" else (*lead, batch, hidden)
    start = [rng.normal(size=shape) for _ in range(2 if arch == "lstm" else 1)]
    initial = tuple(start) if arch == "lstm" else start[0]
    return Run(arch, params, x, initial, rng.normal(size=(*lead, steps, batch, hidden)))


def bias_of(run: Run) -> Array:
    """The bias that moves every gate, or the step of a scan."""
    return run.params["bias_ih" if run.arch in GATED else "dt_proj_bias"]


def answers(
    run: Run, activation: str = "tanh", clip: str = "none", backend: str = "auto"
) -> dict[str, Array]:
    """seqlab's output and every gradient by name; a gradient is called as what it belongs to."""
    trajectory = seqlab.forward(run.arch, run.params, run.x, run.initial, activation, backend)
    g = seqlab.backward(trajectory, run.grad, clip)
    return named(trajectory.output, g.params, g.x, g.initial)


def truth(run: Run, activation: str = "tanh", clip: str = "none") -> dict[str, Array]:
    """The same from the naive reference, one network."""
    output = naive.forward(run.arch, run.params, run.x, run.initial, activation)["output"]
    g = naive.backward(
        run.arch, run.params, run.x, run.grad, run.initial, activation=activation, clip=clip
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
