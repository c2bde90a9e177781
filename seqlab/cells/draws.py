"""Initial draws shared by the recurrent cells.

Every draw takes its numbers from the generator in the same order whatever the options, so that
two networks of one seed differ only by what the option changes.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Draw, Parameters, Sizes


def _normal(rng: np.random.Generator, n: int, scale: float) -> NDArray:
    return rng.normal(0.0, scale / math.sqrt(n), (n, n))


def haar(rng: np.random.Generator, rows: int, columns: int) -> NDArray:
    """Orthonormal rows, or columns where there are more rows (Mezzadri 2007, section 5)."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= np.copysign(1.0, np.diag(r))
    return q if rows >= columns else q.T


def _glorot(rng: np.random.Generator, n: int, gain: float) -> NDArray:
    return gain * rng.uniform(-1.0, 1.0, (n, n)) * math.sqrt(3.0 / n)


# One H x H recurrent block of gain g, whose square may leave the range of floats. `xavier` is
# Glorot & Bengio 2010, eq. 16 (uniform); `he` is He et al. 2015, eq. 10 (normal).
_BLOCKS = {
    "normal": _normal,
    "orthogonal": lambda rng, n, g: g * haar(rng, n, n),
    "xavier": _glorot,
    "he": lambda rng, n, g: _normal(rng, n, math.sqrt(2.0) * g),
}
SCALED = tuple(_BLOCKS)  # the inits that have a gain
# Those of cells with PyTorch's parameters: the others are a library's whole draw, of its own scale.
GATED_INITS = ("pytorch", "keras", *SCALED)
ZEROS = "zeros"
INITS = (*GATED_INITS, ZEROS)


def recurrent_blocks(rng: np.random.Generator, size: int, how: Draw, gates: int) -> NDArray:
    """Recurrent weights (gates * H, H) of one of SCALED, gate by gate."""
    block = _BLOCKS[how.init or ""]
    gain = 1.0 if how.gain is None else how.gain
    return np.concatenate([block(rng, size, gain) for _ in range(gates)], axis=0)


DECAYS = ("gated", "none")  # what a matrix of keys forgets of all keys at each step


def gated_shapes(gates: int, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Shapes of PyTorch's four recurrent parameters for a cell of so many gates."""
    rows = gates * sizes.hidden
    return {
        "weight_ih": (rows, sizes.inputs),
        "weight_hh": (rows, sizes.hidden),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
    }


def gated_sizes(params: Parameters) -> Sizes:
    """H and I of PyTorch's recurrent parameters."""
    return Sizes(params["weight_hh"].shape[-1], params["weight_ih"].shape[-1])


def draw_gated(rng: np.random.Generator, sizes: Sizes, how: Draw, gates: int) -> Parameters:
    """Draw one network's recurrent parameters, gates stacked in PyTorch's order.

    PyTorch's own rule is U(-1/sqrt H, 1/sqrt H) for everything. `keras` replaces all of it;
    another `init` the recurrent blocks; `input_scale` the input weights, and zeroes the biases.
    """
    bound = 1.0 / math.sqrt(sizes.hidden)
    shapes = gated_shapes(gates, sizes)
    params = {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}
    if how.init == "keras":
        _as_keras(rng, params, bound)
    elif how.init not in (None, "pytorch"):
        params["weight_hh"] = recurrent_blocks(rng, sizes.hidden, how, gates)
    if how.input_scale is not None:
        params["weight_ih"] = scaled_input(rng, shapes["weight_ih"], how.input_scale)
        params["bias_ih"][:] = 0.0
        params["bias_hh"][:] = 0.0
    return params


def _as_keras(rng: np.random.Generator, params: Parameters, bound: float) -> None:
    """The defaults of keras.layers.SimpleRNN, LSTM and GRU (Keras 3.15), in place of U(+-bound).

    GlorotUniform counts the fan-out of all gates together: U(+-sqrt(6/(I + rows))). Orthogonal
    draws one matrix of all gates with W_hh^T W_hh = 1, so that a block of G gates has entries of
    variance 1/(G H) and is not orthogonal itself. Biases are zero; the cell sets LSTM's one.
    """
    rows, inputs = params["weight_ih"].shape
    params["weight_ih"] *= math.sqrt(6.0 / (inputs + rows)) / bound
    params["weight_hh"] = haar(rng, *params["weight_hh"].shape)
    params["bias_ih"][:] = 0.0
    params["bias_hh"][:] = 0.0


def scaled_input(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> NDArray:
    """Input weights (rows, I) of variance scale^2/I: white noise then adds variance scale^2."""
    return rng.normal(size=shape) * (scale / math.sqrt(shape[1]))


def set_gate_bias(params: Parameters, gate: int, hidden: int, value: float | NDArray) -> None:
    """Make the sum of one gate's two biases `value`, in place."""
    rows = slice(gate * hidden, (gate + 1) * hidden)
    params["bias_ih"][rows] = value
    params["bias_hh"][rows] = 0.0


# Range of Mamba's log-uniform step draw and its floor (mamba_ssm, modules/mamba_simple.py;
# the paper's section 3.6 says uniform).
DELTA_MIN, DELTA_MAX, DELTA_FLOOR = 0.001, 0.1, 1e-4


def delta_bias(rng: np.random.Generator, hidden: int) -> NDArray:
    """softplus^-1 of a log-uniform Delta."""
    delta = np.exp(rng.uniform(math.log(DELTA_MIN), math.log(DELTA_MAX), hidden))
    delta = np.maximum(delta, DELTA_FLOOR)
    return delta + np.log(-np.expm1(-delta))
