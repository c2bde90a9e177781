"""The selective state-space layer of Mamba, without its gate and convolution.

    u = W_in x,   (dt, B, C) = W_x u,   Delta = softplus(W_dt dt + b_dt),   A = -exp(A_log)
    h_t[d,n] = exp(Delta_t[d] A[d,n]) h_{t-1}[d,n] + Delta_t[d] B_t[n] u_t[d]
    y_t[d] = sum_n C_t[n] h_t[d,n] + D[d] u_t[d]

Source: Gu & Dao 2023, Algorithm 2; names and layouts are those of mamba_ssm. Delta, B and C
depend on the input alone, so the state's Jacobian is diagonal.
"""

import math

import numpy as np
from numpy.typing import NDArray

from seqlab.cells.cell import Cell, Draw, Parameters, Sizes
from seqlab.cells.draws import scaled_input

# Range of Mamba's log-uniform step draw and its floor (mamba_ssm, modules/mamba_simple.py;
# the paper's section 3.6 says uniform).
DELTA_MIN, DELTA_MAX, DELTA_FLOOR = 0.001, 0.1, 1e-4


def rank(hidden: int) -> int:
    """R, the width of the low-rank step projection: ceil(H/16)."""
    return -(-hidden // 16)


def state(decay, h, drive, b):
    """h_t of one channel and state, `decay` = exp(Delta A), `drive` = Delta u."""
    return decay * h + drive * b


def adjoint(g, decay, h, b):
    """One state's step back from g = dL/dh_t; `h` is h_{t-1}.

    Returns dL/d(Delta A), the state's share of dL/d(Delta u), and dL/dh_{t-1}. Besides, dL/dB is
    the sum over channels of g Delta u.
    """
    carried = g * decay
    return carried * h, g * b, carried


def decay_adjoint(g, decay, h):
    """dL/d(Delta A) alone."""
    return g * decay * h


def shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    h, n, r = of.hidden, of.state, rank(of.hidden)
    return {
        "in_proj_weight": (h, of.inputs),
        "x_proj_weight": (r + 2 * n, h),
        "dt_proj_weight": (h, r),
        "dt_proj_bias": (h,),
        "A_log": (h, n),
        "D": (h,),
    }


def sizes(params: Parameters) -> Sizes:
    """H, I and N from one network's parameters."""
    hidden, inputs = params["in_proj_weight"].shape[-2:]
    return Sizes(hidden, inputs, params["A_log"].shape[-1])


def state_shape(of: Sizes) -> tuple[int, int]:
    """The state of one sequence, (N, H): channels innermost, as the kernels keep it."""
    return (of.state, of.hidden)


def pack(initial: NDArray) -> NDArray:
    """The public state (..., H, N) -> (..., N, H)."""
    return initial.swapaxes(-1, -2)


def draw(rng: np.random.Generator, of: Sizes, how: Draw) -> Parameters:
    """Draw one network as mamba_ssm does: A_n = -n, Delta log-uniform in [0.001, 0.1], D = 1.

    `input_scale` replaces the in-projection.
    """
    shape = shapes(of)

    def uniform(name: str, bound: float) -> np.ndarray:
        return rng.uniform(-bound, bound, shape[name])

    params = {
        "in_proj_weight": uniform("in_proj_weight", 1.0 / math.sqrt(of.inputs)),
        "x_proj_weight": uniform("x_proj_weight", 1.0 / math.sqrt(of.hidden)),
        "dt_proj_weight": uniform("dt_proj_weight", 1.0 / math.sqrt(rank(of.hidden))),
        "dt_proj_bias": _delta_bias(rng, of.hidden),
        "A_log": np.tile(np.log(np.arange(1.0, of.state + 1.0)), (of.hidden, 1)),
        "D": np.ones(of.hidden),
    }
    if how.input_scale is not None:
        params["in_proj_weight"] = scaled_input(rng, shape["in_proj_weight"], how.input_scale)
    return params


def _delta_bias(rng: np.random.Generator, hidden: int) -> np.ndarray:
    """softplus^-1 of a log-uniform Delta."""
    delta = np.exp(rng.uniform(math.log(DELTA_MIN), math.log(DELTA_MAX), hidden))
    delta = np.maximum(delta, DELTA_FLOOR)
    return delta + np.log(-np.expm1(-delta))


CELL = Cell(
    name="ssm",
    options=frozenset({"state"}),
    parts=("state",),
    shapes=shapes,
    sizes=sizes,
    state_shape=state_shape,
    pack=pack,
    unpack=pack,
    draw=draw,
    names_of="mamba_ssm",
    silent_drive=False,
)
