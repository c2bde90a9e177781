"""What a run of a deep stack takes, told from its spec alone; see `seqlab.spec.kinds.Cost`."""

import math
from itertools import pairwise

import numpy as np

from seqlab import rules
from seqlab.engine.tape import segment_steps
from seqlab.kernels import backends
from seqlab.kernels.contract import StackKernels
from seqlab.measure import in_law
from seqlab.measure.cost import curve_shape
from seqlab.measure.progress import Weights
from seqlab.measure.stack_networks import KEPT_BYTES
from seqlab.spec.stack import StackSpec

__all__ = ["blocks_of", "curve_shape", "file_bytes", "memory_bytes", "require_backend", "seconds"]

# Fitted to runs of 10 to 1,000 layers of 10 to 512 units on two cores: within a factor of two.
_A_RUN = 0.01  # seconds, whatever its size
_A_DRAW = 8e-9  # seconds for a weight to be drawn, on one thread
_A_PRODUCT = 4e-11  # seconds for a multiplication and addition
_A_STATE = 60  # products that the elementwise work on one activation takes
_A_LAYER = 4e-5  # seconds that any layer takes
_A_SAMPLE = 8e-8  # seconds for one activation in law
_A_SAMPLED_LAYER = 2e-5  # and for any layer of one network, at worst


def require_backend(spec: StackSpec, backend: str, elsewhere: bool) -> None:
    """Refuse a choice of backend that cannot measure it. Raises InputError."""
    del elsewhere
    backends.resolve_stack(backend)


def _kernels(spec: StackSpec) -> tuple[StackKernels, int]:
    """A spec's kernels, and the columns of its state."""
    entries = any(rules.parse(rule).kind == "value" for rule in spec.clip)
    kernels = backends.stack_kernels(backends.STACKS[0], spec.stack, entries)
    return kernels, kernels.columns(np.dtype(spec.dtype))


def _layer_bytes(spec: StackSpec) -> int:
    """Bytes that the forward pass of one network saves of a layer."""
    kernels, columns = _kernels(spec)
    return kernels.saved_width(spec.stack.sizes(columns)) * np.dtype(spec.dtype).itemsize


def blocks_of(spec: StackSpec, backend: str) -> list[range]:
    """The networks in blocks, as the backend likes them; in law as many as there are workers."""
    if spec.in_law:
        count = min(spec.networks, backends.workers(backend))
        edges = [spec.networks * i // count for i in range(count + 1)]
        return [range(first, last) for first, last in pairwise(edges)]
    return backends.blocks(backend, spec.networks, spec.steps * _layer_bytes(spec))


def memory_bytes(spec: StackSpec) -> int:
    """Bytes that `measure` needs at its peak."""
    if spec.in_law:
        return _in_law_bytes(spec)
    stack, layer, (kernels, columns) = spec.stack, _layer_bytes(spec), _kernels(spec)
    backend, each = backends.STACKS[0], spec.steps * layer
    networks = backends.networks_at_once(backend, spec.networks, each)
    item = np.dtype(spec.dtype).itemsize
    whole = networks * layer * spec.steps
    segment = networks * layer * min(segment_steps(layer, spec.steps), spec.steps)
    emitted = segment * kernels.emitted_width(stack.sizes(columns)) * item // layer
    # Kept whole beside one that is drawn; else the one in use, the next, and what one leaves.
    held = whole + segment if whole <= KEPT_BYTES else 3 * segment
    rows = (len(spec.lengths) + (spec.spectrum or 0)) * stack.units * columns * item
    points = (sum(spec.lengths) + len(spec.lengths)) * 8 * 8
    kept = spec.networks * len(spec.clip) * (spec.steps + 1) * 8 * 5
    drawn = stack.most_numbers * 8 * 3
    starts = networks * stack.units * columns * item * math.ceil(whole / max(segment, 1))
    return held + emitted + networks * (6 * rows + points + drawn) + starts + kept


def _in_law_bytes(spec: StackSpec) -> int:
    """What the sampler keeps, and the curves of all networks."""
    curves = sum(spec.lengths) + len(spec.lengths)
    at_once = min(spec.networks, backends.workers(backends.STACKS[0]))
    return at_once * (2 * in_law.KEPT_BYTES + 32 * 8 * spec.hidden) + 4 * 8 * spec.networks * curves


def weights(spec: StackSpec) -> Weights:
    """What of a run takes how long beside its layers forward, whose weights are drawn there."""
    draw, row = _draw_and_row(spec)
    return Weights(step=0.0, row=2 * row / (draw + row))


def _draw_and_row(spec: StackSpec) -> tuple[float, float]:
    """About the seconds of one layer of one network: to draw it, and to take its state through."""
    stack = spec.stack
    numbers = stack.numbers(spec.steps // 2)
    state = stack.rows * (numbers + _A_STATE * stack.width)
    return numbers * _A_DRAW, state * _A_PRODUCT + _A_LAYER / spec.networks


def seconds(spec: StackSpec, threads: int) -> float:
    """About how long a run takes on a CPU, compilation apart."""
    if spec.in_law:
        layers = spec.networks * (spec.steps + sum(spec.lengths))
        return _A_RUN + layers * (_A_SAMPLE * spec.hidden + _A_SAMPLED_LAYER) / threads
    sweeps = 1 + sum(rules.parse(rule).in_chain for rule in spec.clip)
    rows = 1 + sweeps * 2 * sum(spec.lengths) / spec.steps + (spec.spectrum or 0)
    whole = spec.networks * spec.steps * _layer_bytes(spec)
    draws = 1 if whole <= KEPT_BYTES else 1 + sweeps
    draw, row = _draw_and_row(spec)
    each = draws * draw + rows * row
    return _A_RUN + spec.networks * spec.steps * each / min(threads, spec.networks)


def file_bytes(spec: StackSpec) -> int:
    """About the size of the result's file, and hardly ever less."""
    networks, ruled, lengths, lags = curve_shape(spec)
    return 8 * networks * lags * (ruled * (2 * lengths + 2) + 6)
