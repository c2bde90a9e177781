"""Where a run's random numbers come from: one stream for each network and purpose.

A network is the same however many others there are, and a longer drive begins like a shorter one.
"""

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

ONE_THREAD = 4096  # numbers that no BLAS shares among threads, whose sums then have other bits


class Purpose(IntEnum):
    """What a stream is for: the word of its spawn key after the network."""

    PARAMETERS = 0
    DRIVE = 1
    READOUT = 2
    FRAME = 3  # the first vectors of a Lyapunov spectrum
    IN_LAW = 4  # what stands for the weights where none are drawn
    TASK = 5  # what a network is trained on, and the head that it is trained with
    HELD_OUT = 6  # sequences of its task that it is never trained on
    TEACHER = 7  # what its task keeps from the first update to the last
    RATES = 8  # the seed of networks on which a learning rate is chosen


def stream(seed: int, network: int, purpose: Purpose, *within: int) -> np.random.Generator:
    """The generator of one network for one purpose, or for a numbered piece of it."""
    key = (network, int(purpose), *within)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def layer_stream(seed: int, network: int, layer: int) -> np.random.Generator:
    """The generator of one layer of a deep stack: a deeper one begins like a shorter one."""
    key = (network, int(Purpose.PARAMETERS), layer)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def unit_readout(seed: int, network: int, units: int) -> NDArray:
    """A random unit vector (H,), uniform on the sphere."""
    vector = stream(seed, network, Purpose.READOUT).standard_normal(units)
    return vector / norm_of(vector)


def norm_of(vector: NDArray) -> float:
    """The norm of a drawn vector, whatever its length the same for any number of BLAS's threads."""
    if vector.size <= ONE_THREAD:
        return float(np.linalg.norm(vector))
    return math.sqrt(np.square(vector).sum())
