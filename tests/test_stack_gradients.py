"""Gradients of deep stacks with given weights, beside PyTorch's and however they are computed."""

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array
from reference import stacks as reference

from seqlab.engine import tape
from seqlab.errors import InputError
from seqlab.kernels import cpu
from seqlab.layers.stack import Stack
from seqlab.measure import stack_gradients
from seqlab.measure.stack_gradients import StackGradients, backpropagate, drive_of

# Of a block: as its maps follow each other.
NAMES = ["weight", "bias"]
OF_TRANSFORMER = [
    f"{part}{sign}{kind}"
    for part, sign in (
        ("self_attn.in_proj", "_"),
        ("self_attn.out_proj", "."),
        ("linear1", "."),
        ("linear2", "."),
    )
    for kind in NAMES
]


def stack_of(name: str) -> Stack:
    """A reference stack as the lab has it."""
    own, size = reference.STACKS[name], (reference.DEPTH, reference.WIDTH, reference.ROWS)
    rest = (own.activation, own.norm, own.place, own.outside, own.alpha, own.heads, own.eps)
    return Stack(own.arch, *size, *rest)


def numbers_of(stack: Stack, layers: list[naive.Gradients]) -> Array:
    """(L, E): parameters, or gradients, in the order of the numbers."""
    names = OF_TRANSFORMER if stack.arch == "transformer" else NAMES
    numbers = np.zeros((len(layers), stack.most_numbers))
    for row, layer in zip(numbers, layers, strict=True):
        flat = np.concatenate([layer[name].ravel() for name in names])
        row[: len(flat)] = flat
    return numbers


def named(stack: Stack, numbers: Array, like: list[naive.Gradients]) -> list[naive.Gradients]:
    """The inverse, shaped as `like`."""
    names = OF_TRANSFORMER if stack.arch == "transformer" else NAMES
    found = []
    for row, layer in zip(numbers, like, strict=True):
        ends = np.cumsum([layer[name].size for name in names])
        parts = dict(zip(names, np.split(row, ends), strict=False))
        found.append({name: parts[name].reshape(layer[name].shape) for name in layer})
    return found


@pytest.mark.tiny
@pytest.mark.parametrize("name", reference.STACKS)
def test_gradients_are_pytorch_s(name: str) -> None:
    """Of the second of two stacks, the first of which is another: sums of at most 48 numbers, in
    three blocks, are rounded."""
    stack, drawn = stack_of(name), reference.draw(name)
    numbers = numbers_of(stack, drawn.layers)
    drive = drive_of(np.stack([numbers / 2, numbers]))
    pair = (np.stack([-part, part]) for part in (drawn.x, drawn.readout))
    found = backpropagate(stack, drive, *pair)
    layers = named(stack, found.layers[1], drawn.layers)
    answers = reference.flat(found.output[1], found.x[1], layers)
    assert max(reference.relative_errors(name, answers).values()) < 1e-12


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["mlp-tanh", "densenet-none", "transformer-pre-gelu"])
def test_the_curve_is_that_of_every_lag(name: str) -> None:
    stack, drawn = stack_of(name), reference.draw(name)
    drive = drive_of(numbers_of(stack, drawn.layers)[None])
    found = backpropagate(stack, drive, drawn.x[None], drawn.readout[None])
    own = reference.STACKS[name]
    path = naive.forward(drawn.x, own, drawn.layers)
    want = naive.adjoints(path, own, drawn.readout).log_norm
    assert found.log_norm[0] == pytest.approx(want, abs=1e-12)


def drawn_at_random(networks: int, depth: int = 4) -> tuple[Stack, Array, Array, Array]:
    stack, rng = Stack("mlp", depth, 6, 3, "tanh"), np.random.default_rng(1)
    numbers = rng.normal(size=(networks, depth, stack.most_numbers)) / 2
    return stack, drive_of(numbers), *rng.normal(size=(2, networks, 3, 6))


def same(one: StackGradients, other: StackGradients) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.tiny
def test_blocks_and_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn_at_random(networks=5)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    whole = backpropagate(*given)
    monkeypatch.setattr(cpu, "BLOCK_BYTES", 1)
    assert same(backpropagate(*given), whole)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert same(backpropagate(*given), whole)
    alone = backpropagate(given[0], *(array[3:4] for array in given[1:]))
    assert same(alone, StackGradients(*(array[3:4] for array in whole)))


@pytest.mark.tiny
def test_segments_change_no_bit_whether_kept_or_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = drawn_at_random(networks=2, depth=40)
    whole = backpropagate(*given)
    monkeypatch.setattr(tape, "SEGMENT_BYTES", 1)  # 16 layers, the least
    assert same(backpropagate(*given), whole)
    monkeypatch.setattr(stack_gradients, "KEPT_BYTES", 1)
    assert same(backpropagate(*given), whole)


@pytest.mark.tiny
def test_gradients_go_where_they_are_wanted() -> None:
    given = drawn_at_random(networks=2)
    room = np.full((2, 4, 42), np.nan)
    found = backpropagate(*given, into=room)
    assert found.layers is room
    assert same(found, backpropagate(*given))


def scaled_identities(scale: float, depth: int) -> StackGradients:
    """Of linear layers `scale` times the identity, with ones for inputs and readouts."""
    stack = Stack("mlp", depth, 6, 3, "identity")
    numbers = np.zeros((1, depth, 42))
    numbers[:, :, :36] = scale * np.eye(6).ravel()
    ones = np.ones((1, 3, 6))
    return backpropagate(stack, drive_of(numbers), ones, ones)


@pytest.mark.tiny
def test_large_gradients_are_whole_numbers_not_directions() -> None:
    """Powers of two are exact: dL/dW is 4^(L-1) for each of three rows, dL/db of layer l the same
    of the layers above it."""
    found = scaled_identities(4.0, depth=200)
    assert (found.layers[0, :, :36] == 3 * 4.0**199).all()
    assert (found.layers[0, :, 36:] == 3 * 4.0 ** np.arange(199, -1, -1)[:, None]).all()
    assert (found.x == 4.0**200).all()


@pytest.mark.tiny
def test_gradients_beyond_the_range_are_told_by_their_logarithm() -> None:
    """200 layers take ln 0.01 each, which leaves float64 after 160."""
    found = scaled_identities(0.01, depth=200)
    assert not found.x.any()
    assert found.log_norm[0, -1] == pytest.approx(200 * np.log(0.01) + np.log(18) / 2, abs=1e-9)


def test_a_backend_without_stacks_is_refused() -> None:
    with pytest.raises(InputError, match="backend: cuda has no deep stacks; they are on cpu"):
        backpropagate(*drawn_at_random(networks=1), backend="cuda")
