"""What training deep stacks takes, told from its spec alone; see `seqlab.spec.kinds.Cost`."""

import numpy as np

from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.learning.cost import BACKENDS, HEADER, MOST_LOSSES, courses, curve_shape, looks
from seqlab.measure import cost, stack_cost
from seqlab.spec.train import TrainSpec
from seqlab.tasks import CLASSES, TESTED_BY

__all__ = ["curve_shape", "file_bytes", "memory_bytes", "require_backend", "seconds"]

# Fitted to updates of 2 to 50 layers of 16 to 128 units, batches of 16 to 256 and 2 to 40 networks
# on two cores: within a factor of two.
_A_RUN = 0.1  # seconds, whatever its size
_AN_UPDATE = 1.5e-3  # seconds that an update takes at least
_A_LAYER = 1.2e-4  # and for each layer of a block of networks
_A_NUMBER = 1.2e-8  # seconds for an optimiser's work on a weight, on one thread
_A_PRODUCT = 4e-11  # seconds for a multiplication and addition
_A_STATE = 60  # products that the elementwise work on one activation takes


def resolve(backend: str) -> str:
    """The backend that a choice means. Raises InputError where it does not train."""
    if backend in backends.BACKENDS and backend not in BACKENDS:
        raise InputError(f"backend: {backend} does not train; allowed: {', '.join(BACKENDS)}")
    return backends.resolve_stack(BACKENDS[0] if backend == "auto" else backend)


def require_backend(spec: TrainSpec, backend: str, elsewhere: bool) -> None:
    """Refuse a choice of backend that cannot train it. Raises InputError."""
    del spec, elsewhere
    resolve(backend)


def memory_bytes(spec: TrainSpec) -> int:
    """Bytes that `measure` needs at its peak: the numbers of all networks that train together with
    their moments and gradients, what passes save, and what is kept."""
    stack, most = spec.of_depth(spec.steps).stack, max(courses(spec))
    item = np.dtype(spec.dtype).itemsize
    numbers = stack.depth * stack.most_numbers + CLASSES * stack.units
    # With the moments, the change and a pass's copy; gradients in float64, before and after a rule.
    weights = numbers * (7 * item + 7 * 8)
    batch = spec.samples * (spec.tokens or 1) * spec.hidden * (2 * 8 + 2 * item)
    of_passes = stack_cost.memory_bytes(spec.of_depth(spec.steps)) * (spec.sequences or 1)
    losses = spec.updates * 8 * 2
    return most * (weights + batch + losses) + 2 * of_passes + 2 * file_bytes(spec)


def seconds_of_course(spec: TrainSpec, depth: int, networks: int) -> float:
    """About how long all updates of so many networks take on one thread."""
    stack = spec.of_depth(depth).stack
    numbers = stack.depth * stack.numbers(stack.depth // 2)
    passes = spec.sequences or 1
    products = 3 * passes * stack.rows * (numbers + _A_STATE * stack.depth * stack.width)
    each = products * _A_PRODUCT + numbers * _A_NUMBER
    return spec.updates * (_AN_UPDATE + passes * depth * _A_LAYER + networks * each)


def seconds(spec: TrainSpec, threads: int) -> float:
    """About how long training takes on a CPU if no depth is solved, compilation apart."""
    together = courses(spec)
    whole = sum(seconds_of_course(spec, n, m) for n in spec.lengths for m in together)
    # Batches that are held out take a third of an update's work.
    tests = whole / spec.updates * TESTED_BY / spec.samples / 3
    return _A_RUN + (whole + tests) / threads


def file_bytes(spec: TrainSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    networks, ruled, lengths, lags = cost.curve_shape(spec)
    losses = min(spec.updates, MOST_LOSSES)
    return HEADER + 8 * networks * ruled * lengths * ((4 + looks(spec)) * lags + losses + 16)
