"""What is known in closed form of modes h_t = lambda h_{t-1} + x_t, which do not mix."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ring_square(r_min: float, r_max: float, lag: ArrayLike) -> NDArray:
    """The mean of |lambda|^(2 lag) over a ring r_min <= |lambda| <= r_max in which |lambda|^2 is
    uniform, as it is of points spread evenly over the ring.

    The mean square of an adjoint's entries after so many steps, over that at lag 0: in a mode of
    the ring it falls by |lambda| a step. Source: Orvieto et al. 2023, Lemma 3.2, of the draw.
    """
    power = 2 * np.asarray(lag, float) + 2
    raised: NDArray = (r_max**power - r_min**power) / (power / 2 * (r_max**2 - r_min**2))
    return raised


def ar1_sensitivity(eigenvalue: float, rho: float) -> float:
    """E (dh_t/d lambda)^2 of a real lambda, |lambda| < 1, long after the start.

    x is stationary, E x_t^2 = 1 and E x_t x_{t-k} = rho^k, and enters with weight 1. It is the sum
    over j and k of j k lambda^(j+k-2) rho^|j-k|, both from 1 up. Source: Zucchet & Orvieto 2024,
    'Recurrent neural networks: vanishing and exploding gradients are not the end of the story',
    section 3 and figure 1A.
    """
    square, both = eigenvalue**2, eigenvalue * rho
    above = (1 + square) * (1 - both**2) + 2 * (1 - square) * both
    return float(above / ((1 - square) ** 3 * (1 - both) ** 2))
