"""What training deep stacks takes, told from its spec alone; see `seqlab.spec.kinds.Cost`."""

import numpy as np

from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.learning.cost import BACKENDS, HEADER, MOST_LOSSES, courses, curve_shape, looks
from seqlab.measure import cost
from seqlab.measure.stack_networks import KEPT_BYTES
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
_A_SCORE = 20  # and on one score of attention


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
    their moments and gradients, what a pass saves, and what is kept."""
    stack, most = spec.stack_of(spec.steps), max(courses(spec))
    dtype = np.dtype(spec.dtype)
    numbers = stack.depth * stack.most_numbers + CLASSES * stack.units
    # With the moments, the change and a pass's copy; gradients in float64, before and after a rule.
    weights = numbers * (7 * dtype.itemsize + 7 * 8)
    kernels = backends.stack_kernels(BACKENDS[0], stack, entries=True)
    layer = kernels.saved_width(stack.sizes(kernels.columns(dtype))) * dtype.itemsize
    saved = min(most * stack.depth * layer, KEPT_BYTES) + 2 * most * layer
    batch = stack.rows * spec.hidden * (2 * 8 + 2 * dtype.itemsize)
    losses = spec.updates * 8 * 2
    return most * (weights + batch + losses) + 2 * saved + 2 * file_bytes(spec)


def seconds_of_course(spec: TrainSpec, depth: int, networks: int) -> float:
    """About how long all updates of so many networks take."""
    stack = spec.stack_of(depth)
    numbers = stack.depth * stack.numbers(stack.depth // 2)
    products = stack.rows * (numbers + _A_STATE * stack.depth * stack.width)
    if spec.heads is not None:
        scores = stack.rows**2 * (2 * stack.width + _A_SCORE * spec.heads)
        products += stack.depth * (scores + 10 * _A_STATE * stack.rows * stack.width)
    each = 3 * products * _A_PRODUCT + numbers * _A_NUMBER
    return spec.updates * (_AN_UPDATE + depth * _A_LAYER + networks * each)


def seconds(spec: TrainSpec, threads: int) -> float:
    """About how long training takes on a CPU if no depth is solved, compilation apart."""
    del threads  # which share large layers alone
    whole = sum(seconds_of_course(spec, n, m) for n in spec.lengths for m in courses(spec))
    # Batches that are held out take a third of an update's work.
    return _A_RUN + whole * (1 + TESTED_BY / spec.samples / 3 / spec.updates)


def file_bytes(spec: TrainSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    networks, ruled, lengths, lags = cost.curve_shape(spec)
    losses = min(spec.updates, MOST_LOSSES)
    return HEADER + 8 * networks * ruled * lengths * ((4 + looks(spec)) * lags + losses + 16)
