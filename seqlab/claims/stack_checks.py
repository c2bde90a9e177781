"""What `seqlab verify` checks of deep stacks: closed forms, identities, and gradients of every
architecture against differences."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from seqlab.claims.differences import error_along
from seqlab.layers.stack import ARCHS, Stack
from seqlab.measure.stack_gradients import StackGradients, backpropagate, drive_of

# Its name, the error allowed, and the error on a backend.
Row = tuple[str, float, Callable[[str], float]]
WIDTH, ROWS = 8, 5


def stack_checks() -> Iterator[Row]:
    """Every row, in the order in which `seqlab verify` has them."""
    for arch in ARCHS:
        yield f"gradients, {arch}", 1e-6, partial(_gradients, arch)
    for arch in ARCHS:
        yield f"float32 against float64, {arch}", 1e-5, partial(_single, arch)
    yield "linear stack, k ln g to lag 10,000", 1e-8, _linear
    yield "relu resnet, <g, h> of every layer", 1e-10, _euler
    yield "sigmoid stack as a tanh stack", 1e-12, _sigmoid
    yield "batch norm of two, zero below", 0.0, _batch_of_two


class _Case(NamedTuple):
    """Some stacks with what goes in and the loss, see `backpropagate`; numbers (M, L, E)."""

    stack: Stack
    numbers: NDArray
    x: NDArray
    readout: NDArray

    def run(self, backend: str) -> StackGradients:
        return backpropagate(self.stack, drive_of(self.numbers), self.x, self.readout, backend)

    def of_type(self, dtype: type) -> "_Case":
        given = (self.numbers, self.x, self.readout)
        return _Case(self.stack, *(array.astype(dtype) for array in given))


def _draw(stack: Stack, scale: float = 1.0, bias: float = 0.1) -> _Case:
    """One stack at a fixed seed: weights of variance scale^2/inputs, and biases."""
    rng = np.random.default_rng(23)
    numbers = np.zeros((1, stack.depth, stack.most_numbers))
    for layer in range(stack.depth):
        parts = []
        for of in stack.maps(layer):
            weight = rng.standard_normal(of.outputs * of.inputs)
            parts += [weight * scale / np.sqrt(of.inputs), bias * rng.standard_normal(of.outputs)]
        found = np.concatenate(parts)
        numbers[0, layer, : len(found)] = found
    x = rng.standard_normal((1, stack.rows, stack.width))
    return _Case(stack, numbers, x, rng.standard_normal((1, stack.rows, stack.units)))


def _every_part(arch: str) -> _Case:
    """Two blocks with a norm, of smooth activations: a difference knows nothing of kinks."""
    norm, heads = ("layer", 2) if arch == "transformer" else ("batch", 1)
    return _draw(Stack(arch, 2, WIDTH, ROWS, "gelu", norm, heads=heads, eps=1e-5))


def _gradients(arch: str, backend: str) -> float:
    """Largest relative error of directional derivatives against central differences."""
    case = _every_part(arch)
    found, rng = case.run(backend), np.random.default_rng(24)

    def loss(moved: _Case) -> float:
        return float(np.sum(moved.run(backend).output * case.readout))

    return max(
        error_along(lambda n: loss(case._replace(numbers=n)), case.numbers, found.layers, rng),
        error_along(lambda x: loss(case._replace(x=x)), case.x, found.x, rng),
    )


def _single(arch: str, backend: str) -> float:
    """Largest error of float32 gradients, relative to each array's norm."""
    case = _every_part(arch)
    exact, rounded = (case.of_type(dtype).run(backend) for dtype in (np.float64, np.float32))
    pairs = ((exact.layers, rounded.layers), (exact.x, rounded.x))
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(a)) for a, b in pairs)


def _linear(backend: str) -> float:
    """Layers g (1 - 2 v v'), v a unit vector of its own in each: the norm changes by g alone."""
    depth, gain = 10_000, 0.5
    stack = Stack("mlp", depth, WIDTH, 1, "identity")
    v = np.random.default_rng(25).standard_normal((depth, WIDTH, 1))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    weight = gain * (np.eye(WIDTH) - 2 * v * v.swapaxes(1, 2))
    numbers = np.zeros((1, depth, stack.most_numbers))
    numbers[0, :, : WIDTH * WIDTH] = weight.reshape(depth, -1)
    curve = _draw(Stack("mlp", 1, WIDTH, 1))._replace(stack=stack, numbers=numbers).run(backend)
    log_norm = curve.log_norm[0]
    return float(np.abs(log_norm - log_norm[0] - np.arange(depth + 1) * np.log(gain)).max())


def _euler(backend: str) -> float:
    """Without biases h_L is homogeneous in each h_l, and <dL/dh_l, h_l> is the loss (Euler)."""
    depth = 12
    case = _draw(Stack("resnet", depth, WIDTH, ROWS, alpha=0.5), np.sqrt(2), bias=0.0)
    whole = case.run(backend)
    loss, state, errors = float(np.sum(case.readout * whole.output)), case.x, []
    for layer in range(depth):
        rest, one = (
            case._replace(
                stack=Stack("resnet", len(numbers[0]), WIDTH, ROWS, alpha=0.5),
                numbers=numbers,
                x=state,
            ).run(backend)
            for numbers in (case.numbers[:, layer:], case.numbers[:, layer : layer + 1])
        )
        errors.append(abs(np.sum(rest.x * state) / loss - 1))
        state = one.output
    return float(max(errors))


def _sigmoid(backend: str) -> float:
    """sigmoid(2 z) = (1 + tanh z)/2: with W = 4 V and b = -sum_j W_ij/2 a stack of sigmoids has the
    states (1 + t)/2 of a tanh stack of weights V, and the same adjoint (nats, and relative)."""
    tanh = _draw(Stack("mlp", 20, WIDTH, ROWS, "tanh"), bias=0.0)
    size = WIDTH * WIDTH
    numbers = 4 * tanh.numbers
    numbers[..., size:] = -numbers[..., :size].reshape(1, 20, WIDTH, WIDTH).sum(axis=3) / 2
    other = tanh._replace(
        stack=Stack("mlp", 20, WIDTH, ROWS, "sigmoid"), numbers=numbers, x=(1 + tanh.x) / 2
    )
    ours, theirs = tanh.run(backend), other.run(backend)
    states = np.abs((1 + ours.output) / 2 - theirs.output).max()
    adjoint = np.abs(ours.x - theirs.x).max() / np.abs(ours.x).max()
    return float(max(states, adjoint, np.abs(ours.log_norm - theirs.log_norm).max()))


def _batch_of_two(backend: str) -> float:
    """Two numbers that are made to have mean 0 and variance 1 are 1 and -1, whatever they were:
    the count of gradients that are not zero, below the last activation."""
    found = _draw(Stack("mlp", 6, WIDTH, 2, norm="batch")).run(backend)
    curve = np.count_nonzero(found.log_norm[0, 1:] != -np.inf)
    return float(curve + np.count_nonzero(found.layers) + np.count_nonzero(found.x))
