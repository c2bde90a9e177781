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

from seqlab.cells.cell import (
    Cell,
    ClosedForm,
    Draw,
    Lab,
    Observed,
    Parameters,
    Sizes,
    State,
    Theory,
)
from seqlab.cells.draws import delta_bias, scaled_input
from seqlab.numbers.theory import diagonal_rate

COEFFICIENTS = ("delta",)  # the decays are exp(Delta A)


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


def pack(parts: State) -> NDArray:
    """The state (..., H, N) -> (..., N, H)."""
    return parts[0].swapaxes(-1, -2)


def unpack(state: NDArray) -> State:
    """(..., N, H) -> the state (..., H, N)."""
    return (state.swapaxes(-1, -2),)


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
        "dt_proj_bias": delta_bias(rng, of.hidden),
        "A_log": np.tile(np.log(np.arange(1.0, of.state + 1.0)), (of.hidden, 1)),
        "D": np.ones(of.hidden),
    }
    if how.input_scale is not None:
        params["in_proj_weight"] = scaled_input(rng, shape["in_proj_weight"], how.input_scale)
    return params


def rate(seen: Observed) -> float:
    """The decay rate over just these T steps, exact: Delta's means over time say all.

    Gu & Dao 2023, Algorithm 2: dh_T/dh_0 = exp(A sum Delta) = exp(T A <Delta>), entry by entry,
    where <Delta> is a channel's mean over the steps of its sequence; the loss r . y_T begins with
    r_d C_T[n]. As T grows the rate becomes that of the slowest entry, the largest A <Delta>.
    Before, faster ones fade away too: at Mamba's initialisation a rate over 1000 steps is several
    times the slowest entry's.
    """
    p = {name: array.astype(float) for name, array in seen.params.items()}
    a, (delta,) = -np.exp(p["A_log"]), seen.means
    low = p["dt_proj_weight"].shape[1] + a.shape[1]
    c = seen.x[-1] @ p["in_proj_weight"].T @ p["x_proj_weight"][low:].T
    start = seen.readout[:, None] * c[:, None, :]
    return diagonal_rate(start, len(seen.x) * delta[:, :, None] * a, len(seen.x))


def _diagonal_scan(lab: Lab) -> float:
    steps, of = 400, Sizes(hidden=9, inputs=3, state=5)
    rng = np.random.default_rng(20)
    params, x = draw(rng, of, Draw()), rng.standard_normal((steps, 1, of.inputs))
    (first,) = unpack(rng.standard_normal((1, *state_shape(of))) / 2)
    loss = rng.standard_normal((steps, 1, of.hidden))
    loss[:-1] = 0
    got = lab.backward("ssm", params, x, first, loss).initial[0]
    mixed = x[:, 0] @ params["in_proj_weight"].T @ params["x_proj_weight"].T
    low = rank(of.hidden)
    raw = mixed[:, :low] @ params["dt_proj_weight"].T + params["dt_proj_bias"]
    total = np.logaddexp(0, raw).sum(axis=0)
    start = loss[-1, 0][:, None] * mixed[-1, low + of.state :]
    expected = np.log(np.abs(start)) - np.exp(params["A_log"]) * total[:, None]
    return float(np.abs(np.log(np.abs(got)) - expected).max())


CELL = Cell(
    name="ssm",
    options=frozenset({"state"}),
    parts=("state",),
    shapes=shapes,
    sizes=sizes,
    state_shape=state_shape,
    pack=pack,
    unpack=unpack,
    draw=draw,
    names_of="mamba_ssm",
    silent_drive=False,
    recurrent="A_log",
    slopes_kept="the states are linear and have no slope to lose, and Delta is drawn where "
    "softplus is flat",
    coefficients=COEFFICIENTS,
    theory=Theory(rate, means=("delta",), each=True),
    closed_forms=(ClosedForm("ssm, exp(A sum Delta)", 1e-12 + 2e-14 * 400, _diagonal_scan),),
)
