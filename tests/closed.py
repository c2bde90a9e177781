"""What is known in closed form of carries and of products, beyond what a run predicts.

A carry is the share of a memory cell's adjoint that is left after a number of steps.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import exp1, expn, polygamma, psi

MAMBA_DELTA = (0.001, 0.1)  # Mamba's log-uniform draw of Delta at initialisation


def chrono_carry(lag: ArrayLike, steps: int) -> NDArray[np.float64]:
    """Mean carry of an LSTM cell under chrono forget biases drawn for `steps` (from 3 up).

    b = ln U(1, M), M = steps - 1, makes the forget gate m/(m + 1), whose power `lag` is close to
    exp(-lag/m); the mean over m is (M E2(lag/M) - E2(lag))/(M - 1), within 0.005
    (Tallec & Ollivier 2018, section 2). The RMS carry is the root of the mean at twice the lag.
    """
    lags = np.asarray(lag, dtype=np.float64)
    longest = steps - 1
    return np.asarray((longest * expn(2, lags / longest) - expn(2, lags)) / (longest - 1))


def ssm_carry(lag: ArrayLike) -> NDArray[np.float64]:
    """Mean carry exp(-lag Delta) of the state n = 1 at Mamba's initialisation.

    Delta is log-uniform in [0.001, 0.1], as in the reference code of Gu & Dao 2023:
    [E1(0.001 lag) - E1(0.1 lag)] / ln 100, and 1 at lag 0.
    """
    lags = np.asarray(lag, dtype=np.float64)
    low, high = MAMBA_DELTA
    later = np.maximum(lags, 1e-300)  # at lag 0 both integrals are infinite
    return np.asarray((exp1(low * later) - exp1(high * later)) / math.log(high / low))


def untied_gaussian_rate(size: int, gain: float) -> tuple[float, float]:
    """Mean and variance per step of the log norm of a product of independent Gaussian matrices.

    Entries have variance gain^2/size (Newman 1986; a chi-squared of `size` degrees each step).
    It does not describe a recurrent network, whose matrix is the same at every step.
    """
    mean = math.log(gain) + (psi(size / 2) + math.log(2 / size)) / 2
    return float(mean), float(polygamma(1, size / 2) / 4)
