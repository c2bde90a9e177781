"""What training takes, told from its spec alone; see `seqlab.spec.kinds.Cost`."""

import math
from dataclasses import replace

import numpy as np

from seqlab.cells import CELLS
from seqlab.errors import InputError
from seqlab.kernels import backends
from seqlab.measure import cost
from seqlab.spec.learn import LearnSpec
from seqlab.spec.training import TrainingSpec
from seqlab.tasks import TESTED_BY

BACKENDS = ("cpu",)  # the backends that train
MOST_LOSSES = 256  # that a file keeps of a network's training, each a mean of some updates

# Fitted to updates of 10 to 100 steps, 8 to 128 units and 2 to 64 networks on two busy cores:
# within a factor of two.
HEADER = 16 << 10  # bytes of a file's names and attributes
_A_RUN = 0.05  # seconds, whatever its size
_AN_UPDATE = 1.5e-3  # seconds that an update takes at least
_A_NETWORK = 2e-4  # and for each network
_A_PRODUCT = 6e-11  # seconds for a multiplication and addition, on one thread
_AN_ANSWER = 6e-7  # seconds on one thread, whatever its size: loss, readout, and its way back
_A_STATE = 30  # products that the elementwise work on one entry of the state takes


def resolve(spec: LearnSpec, backend: str) -> str:
    """The backend that a choice means. Raises InputError where it does not train."""
    if backend in backends.BACKENDS and backend not in BACKENDS:
        raise InputError(f"backend: {backend} does not train; allowed: {', '.join(BACKENDS)}")
    return backends.resolve(BACKENDS[0] if backend == "auto" else backend, arch=spec.arch)


def require_backend(spec: LearnSpec, backend: str, elsewhere: bool) -> None:
    """Refuse a choice of backend that cannot train it. Raises InputError."""
    del elsewhere
    resolve(spec, backend)


def courses(spec: TrainingSpec) -> list[int]:
    """Networks that train together at each length: those on which rates are chosen, and those that
    are reported."""
    reported = len(spec.clip) * spec.networks
    return [*([reported * len(spec.lr)] if len(spec.lr) > 1 else []), reported]


def _parameters(spec: LearnSpec) -> int:
    shapes = CELLS[spec.arch].shapes(spec.sizes).values()
    return sum(map(math.prod, shapes)) + spec.trained_on.outputs * (spec.hidden + 1)


def memory_bytes(spec: LearnSpec) -> int:
    """Bytes that `measure` needs at its peak: the parameters of all networks that train together
    with their moments and gradients, an update's sequences, what a pass saves, and what is kept."""
    most, item = max(courses(spec)), np.dtype(spec.dtype).itemsize
    task = spec.trained_on
    steps = task.steps(max(spec.steps, spec.test_length or 0))
    each = steps * spec.sequences  # steps that a network sees in an update
    saved = each * backends.kernels(BACKENDS[0], spec.arch).saved_width(spec.sizes) * item
    at_once = backends.networks_at_once(BACKENDS[0], most, saved)
    # With the moments, the change and the gradients, in float64 before and after a rule.
    weights = _parameters(spec) * (6 * item + 7 * 8)
    batch = each * (task.inputs * (3 * 8 + 2 * item) + task.outputs * (2 * 8 + 4 * item))
    losses = spec.updates * 8 * 2
    curves = 8 * (sum(spec.lengths) + len(spec.lengths)) * 8
    # Saved, and as much again for what is emitted; outputs and their errors.
    passes = at_once * (2 * saved + each * (3 * spec.hidden + 8 * task.outputs) * item)
    return most * (weights + batch + losses + curves) + passes + 2 * file_bytes(spec)


def seconds_of_course(spec: LearnSpec, length: int, networks: int) -> float:
    """About how long all updates of so many networks take on one thread."""
    steps, answers = spec.trained_on.steps(length), spec.trained_on.answers(length)
    state = math.prod(CELLS[spec.arch].state_shape(spec.sizes))
    products = 3 * (_parameters(spec) + _A_STATE * state)
    each = _A_NETWORK + spec.sequences * (steps * products * _A_PRODUCT + answers * _AN_ANSWER)
    return spec.updates * (_AN_UPDATE + networks * each)


def seconds(spec: LearnSpec, threads: int) -> float:
    """About how long training takes on a CPU if no task is solved, compilation apart."""
    together = courses(spec)
    whole = sum(seconds_of_course(spec, n, m) for n in spec.lengths for m in together)
    return _A_RUN + (whole + _seconds_of_tests(spec)) / threads


def _seconds_of_tests(spec: LearnSpec) -> float:
    """Of a third of an update's work for as many steps."""
    if spec.test_length is None:
        return 0
    batches = len(spec.lengths) * TESTED_BY / spec.sequences
    one = seconds_of_course(replace(spec, updates=1), spec.test_length, courses(spec)[-1])
    return batches * one / 3


def looks(spec: TrainingSpec) -> int:
    """How often curves are kept in training."""
    return 0 if spec.trace is None else spec.updates // spec.trace + 1


def curve_shape(spec: TrainingSpec) -> tuple[int, int, int, int]:
    """The largest array of the file: every network, rule, length and kept lag, at every look."""
    *lead, lags = cost.curve_shape(spec)
    networks, ruled, lengths = lead
    return networks, ruled, lengths, lags * max(1, looks(spec))


def file_bytes(spec: LearnSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    networks, ruled, lengths, lags = cost.curve_shape(spec)
    curves = (3 + len(CELLS[spec.arch].parts) + looks(spec)) * lags
    losses = min(spec.updates, MOST_LOSSES)
    return HEADER + 8 * networks * ruled * lengths * (curves + losses + 16)
