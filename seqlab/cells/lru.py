"""Linear recurrent unit: a diagonal linear recurrence of complex numbers.

    h_t = lambda h_{t-1} + exp(gamma_log) (B x_t),   lambda = exp(-exp(nu_log) + i exp(theta_log))
    y_t = Re(C h_t) + D x_t

with a mode h_j for each unit and B = B_re + i B_im, C = C_re + i C_im. Source: Orvieto et al. 2023,
'Resurrecting Recurrent Neural Networks for Long Sequences', section 3; names are those of their
appendix A and of the code that is used most, minimal-LRU. There inputs are as many as outputs and D
is a vector; here it is the matrix D (H, I) of their equation 1. What they put around it (norm, GLU,
skip connection) is left out.

Kernels keep the real parts of all modes, then the imaginary ones, and the adjoint likewise, as
dL/d(Re h) + i dL/d(Im h): a step back multiplies it by the conjugate of lambda, so that each mode's
norm falls by just |lambda|.
"""

import math
from typing import NamedTuple

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
    Theory,
)
from seqlab.numbers.modes import ar1_sensitivity, ring_square
from seqlab.numbers.theory import diagonal_rate


def state(h_re, h_im, l_re, l_im, v_re, v_im):
    """h_t of one mode from h_{t-1}, lambda and v = gamma B x_t."""
    return l_re * h_re - l_im * h_im + v_re, l_re * h_im + l_im * h_re + v_im


def adjoint(g_re, g_im, l_re, l_im):
    """One mode's step back from g = dL/dh_t: dL/dh_{t-1}, g times the conjugate of lambda."""
    return l_re * g_re + l_im * g_im, l_re * g_im - l_im * g_re


def eigenvalue_adjoint(g_re, g_im, h_re, h_im):
    """dL/d(lambda), g times the conjugate of h, which is h_{t-1}."""
    return g_re * h_re + g_im * h_im, g_im * h_re - g_re * h_im


class Effective(NamedTuple):
    """What the parameters (M, ...) make: `eigenvalue` (M, 2, H), the real parts, then the imaginary
    ones; what the input is multiplied with, `input` (M, 3 H, I), that is gamma B_re, gamma B_im and
    D; and what the output is read with, `readout` (M, H, 2 H), from real parts, then imaginary
    ones. All float64."""

    eigenvalue: NDArray
    input: NDArray
    readout: NDArray


class Given(NamedTuple):
    """The parameters that an Effective is no linear function of, (M, ...), float64."""

    nu_log: NDArray
    theta_log: NDArray
    gamma_log: NDArray
    B_re: NDArray
    B_im: NDArray


def given(params: Parameters) -> Given:
    """See Given; in memory of their own."""
    return Given._make(params[name].astype(float) for name in Given._fields)


@np.errstate(all="ignore")  # what leaves the range is zero, or infinite
def effective(params: Parameters) -> Effective:
    """See Effective."""
    p = given(params)
    size, phase = np.exp(-np.exp(p.nu_log)), np.exp(p.theta_log)
    gamma = np.exp(p.gamma_log)[..., np.newaxis]
    return Effective(
        np.stack([size * np.cos(phase), size * np.sin(phase)], axis=1),
        np.concatenate([gamma * p.B_re, gamma * p.B_im, params["D"]], axis=1),
        np.concatenate([params["C_re"], -params["C_im"]], axis=2, dtype=float),
    )


@np.errstate(all="ignore")
def add_gradients(p: Given, of: Effective, out: dict[str, NDArray]) -> None:
    """Add to the parameters' gradients `out` what the gradients `of` their Effective make."""
    size, phase = np.exp(-np.exp(p.nu_log)), np.exp(p.theta_log)
    gamma = np.exp(p.gamma_log)[..., np.newaxis]
    (d_re, d_im), (cos, sin) = of.eigenvalue.swapaxes(0, 1), (np.cos(phase), np.sin(phase))
    # exp(nu_log) |lambda|, which would be infinity times zero where |lambda| is all but zero.
    out["nu_log"] -= np.exp(p.nu_log - np.exp(p.nu_log)) * (d_re * cos + d_im * sin)
    out["theta_log"] += phase * size * (d_im * cos - d_re * sin)
    b_re, b_im, skip = np.split(of.input, 3, axis=1)
    out["gamma_log"] += (gamma * (b_re * p.B_re + b_im * p.B_im)).sum(axis=2)
    out["B_re"] += gamma * b_re
    out["B_im"] += gamma * b_im
    out["D"] += skip
    c_re, minus_c_im = np.split(of.readout, 2, axis=2)
    out["C_re"] += c_re
    out["C_im"] -= minus_c_im


def shapes(of: Sizes) -> dict[str, tuple[int, ...]]:
    """Parameter shapes of one network."""
    modes, into, out = (of.hidden,), (of.hidden, of.inputs), (of.hidden, of.hidden)
    return {
        **dict.fromkeys(("nu_log", "theta_log", "gamma_log"), modes),
        **dict.fromkeys(("B_re", "B_im"), into),
        **dict.fromkeys(("C_re", "C_im"), out),
        "D": into,
    }


def sizes(params: Parameters) -> Sizes:
    """H and I from one network's parameters."""
    return Sizes(*params["B_re"].shape[-2:])


def state_shape(of: Sizes) -> tuple[int, int]:
    """The state of one sequence, its real and its imaginary parts, (2, H)."""
    return (2, of.hidden)


def draw(rng: np.random.Generator, of: Sizes, how: Draw) -> Parameters:
    """Draw one network as minimal-LRU does.

    |lambda|^2 is uniform in [r_min^2, r_max^2], the phase in [0, max_phase], and gamma = sqrt(1 -
    |lambda|^2); B_re and B_im are N(0, 1/(2 I)), C_re and C_im N(0, 1/H). D is a vector of N(0, 1)
    there, which gives D x the variance of x; the matrix D is N(0, 1/I), which does so for white
    noise. `input_scale` S makes the variances S^2/(2 I) of B_re and B_im and S^2/I of D: B x, both
    parts together, and D x then have variance S^2. It leaves gamma as it is.
    """
    shape, least = shapes(of), float(np.finfo(float).tiny)  # whose logarithm is one
    # 1 - |lambda|^2, which keeps its digits near the unit circle.
    left = rng.uniform(least, 1.0, of.hidden) * (how.r_max**2 - how.r_min**2)
    left += 1 - how.r_max**2
    turned = rng.uniform(least, 1.0, of.hidden)
    scale = 1.0 if how.input_scale is None else how.input_scale

    def normal(name: str, variance: float) -> NDArray:
        return rng.standard_normal(shape[name]) * math.sqrt(variance)

    return {
        "nu_log": np.log(-np.log1p(-left) / 2),
        "theta_log": np.log(turned) + math.log(how.max_phase),
        "gamma_log": np.log(left) / 2,
        "B_re": scale * normal("B_re", 1 / (2 * of.inputs)),
        "B_im": scale * normal("B_im", 1 / (2 * of.inputs)),
        "C_re": normal("C_re", 1 / of.hidden),
        "C_im": normal("C_im", 1 / of.hidden),
        "D": scale * normal("D", 1 / of.inputs),
    }


def rate(seen: Observed) -> float:
    """The decay rate over just these T steps, exact: a mode's adjoint falls by |lambda| a step.

    dh_T/dh_0 = diag(lambda^T), ln |lambda| = -exp(nu_log), and the loss r . y_T begins with C^T r.
    As T grows the rate becomes that of the slowest mode; before, faster ones fade away too. nan
    where every mode's ln |lambda| is no number.
    """
    p, steps = {name: array.astype(float) for name, array in seen.params.items()}, len(seen.x)
    start = np.hypot(seen.readout @ p["C_re"], seen.readout @ p["C_im"])
    found = diagonal_rate(start, -steps * np.exp(p["nu_log"]), steps)
    return math.nan if found == -math.inf else found


# Closed forms. A mode is rounded a few times a step: its product, and |lambda| itself.
_A_STEP = 6 * 1.2e-16
_STEPS = 400


def _modes(size: NDArray, phase: NDArray) -> Parameters:
    """Modes of these |lambda| and phases that the output shows one by one, without input."""
    params = {name: np.zeros(shape) for name, shape in shapes(Sizes(len(size), 1)).items()}
    polar = {"nu_log": np.log(-np.log(size)), "theta_log": np.log(phase)}
    return params | polar | {"C_re": np.eye(len(size))}


def _each_mode(lab: Lab) -> float:
    """The first state's gradient, mode by mode."""
    size = np.array([0.2, 0.5, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-9])
    params = _modes(size, np.geomspace(1e-3, 6.0, len(size)))
    params["C_im"] = 2 * params["C_re"]
    loss = np.zeros((_STEPS, 1, len(size)))
    loss[-1] = np.linspace(1.0, 2.0, len(size))
    first = (np.ones((1, len(size))),) * 2
    re, im = lab.backward("lru", params, np.zeros((_STEPS, 1, 1)), first, loss).initial
    expected = np.log(np.sqrt(5.0) * loss[-1]) - _STEPS * np.exp(params["nu_log"])
    return float(np.abs(np.log(np.hypot(re, im)) - expected).max())


def _ring(lab: Lab) -> float:
    """All modes' norm, their |lambda|^2 at the places of a quadrature of the ring from 0.9 to
    0.999: 96 places integrate powers up to 4,000 to the last digit."""
    inner, outer, steps = 0.9, 0.999, 4000
    place, weight = np.polynomial.legendre.leggauss(96)
    square = (outer**2 + inner**2 + place * (outer**2 - inner**2)) / 2
    params = _modes(np.sqrt(square), np.linspace(0.1, 6.0, len(place)))
    params["C_re"] *= 0
    params["C_re"][0] = np.sqrt(weight)  # one output alone: its share of any readout is common
    found = lab.attenuation("lru", params, np.zeros((steps, 1, 1)), [steps]).log_norm[0, 0]
    expected = np.log(ring_square(inner, outer, np.arange(steps + 1))) / 2
    return float(np.abs(found - found[0] - expected).max())


def _sensitivity(lab: Lab) -> float:
    """dh/d lambda is linear in x: from its gradients for an impulse at each step the mean square
    for any stationary x is a sum, here with rho^|j - k|."""
    steps, worst = 300, 0.0
    lag = np.arange(steps)
    for size in (0.3, 0.7, 0.9):
        one = _modes(np.array([size]), np.array([1e-300]))  # a phase that is none
        one["B_re"][:] = 1
        params = {name: np.stack([value] * steps) for name, value in one.items()}
        x, loss = np.eye(steps)[:, :, None, None], np.zeros((steps, steps, 1, 1))
        loss[:, -1] = 1
        first = (np.zeros((steps, 1, 1)),) * 2
        by_nu = lab.backward("lru", params, x, first, loss).params["nu_log"][::-1, 0]
        slope = by_nu / (size * np.log(size))
        for rho in (-0.5, 0.0, 0.5, 0.99):
            square = slope @ rho ** np.abs(lag[:, None] - lag) @ slope
            worst = max(worst, abs(np.log(square / ar1_sensitivity(size, rho))))
    return float(worst)


CELL = Cell(
    name="lru",
    options=frozenset({"r_min", "r_max", "max_phase"}),
    parts=("real", "imag"),
    shapes=shapes,
    sizes=sizes,
    state_shape=state_shape,
    draw=draw,
    names_of="minimal-LRU",
    recurrent="nu_log",
    theory=Theory(rate),
    closed_forms=(
        ClosedForm("lru, tau ln |lambda| of each mode", 5e-13 + _STEPS * _A_STEP, _each_mode),
        ClosedForm("lru, the mean over a ring to lag 4,000", 4000 * _A_STEP, _ring),
        ClosedForm("lru, E (dh/d lambda)^2 of an AR(1) input", 1e-12, _sensitivity),
    ),
)
