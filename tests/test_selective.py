"""The bare selective scan against the naive one, central differences, and itself.

Tolerances are relative to the largest entry of the answer.
PARITY: float64; what the project promises of every implementation (seen: 3e-14).
float32: see `single_tolerance`.
DIFFERENCES: central differences of a step of 1e-5 lose h^2 to curvature and eps/h to rounding.
"""

import itertools
import math
from typing import Any

import naive_scan
import numpy as np
import pytest
from naive import Array

import seqlab
from seqlab import InputError
from seqlab.engine.selective import ScanGradients
from seqlab.kernels.cpu.math import exp2

PARITY = 1e-9
DIFFERENCES = 1e-6

Arguments = dict[str, Any]
OPTIONAL = ("D", "z", "delta_bias")
EVERYTHING = (*OPTIONAL, "delta_softplus")
NAMES = ("u", "delta", "A", "B", "C", *OPTIONAL)
CHOICES = [
    tuple(itertools.compress(EVERYTHING, chosen))
    for chosen in itertools.product((True, False), repeat=4)
]


def draw(
    batch: int,
    channels: int,
    states: int,
    length: int,
    given: tuple[str, ...] = EVERYTHING,
    dtype: Any = np.float64,
    seed: int = 1,
) -> tuple[Array, Arguments]:
    """A loss gradient and arguments with memories of 1 to some 100 steps."""
    rng = np.random.default_rng(seed)
    per_step = (batch, channels, length)
    softplus = "delta_softplus" in given
    step = rng.normal(-3.0, 1.0, per_step)
    drawn = {
        "u": rng.normal(size=per_step),
        "delta": step if softplus else np.exp(step),
        "A": -rng.uniform(0.2, 4.0, (channels, states)),
        "B": rng.normal(size=(batch, states, length)),
        "C": rng.normal(size=(batch, states, length)),
        "D": rng.normal(size=channels),
        "z": rng.normal(size=per_step),
        "delta_bias": 0.1 * np.abs(rng.normal(size=channels)),
    }
    grad_y = rng.normal(size=per_step).astype(dtype)
    arrays = {
        name: value.astype(dtype)
        for name, value in drawn.items()
        if name not in OPTIONAL or name in given
    }
    return grad_y, {**arrays, "delta_softplus": softplus}


def wide(arguments: Arguments) -> Arguments:
    """The same numbers as float64."""
    return {n: v.astype(np.float64) if n in NAMES else v for n, v in arguments.items()}


def agree(got: Array, want: Array, tolerance: float) -> bool:
    """Whether no entry is further off than `tolerance` times the largest entry wanted."""
    return got.shape == want.shape and bool(
        np.max(np.abs(got - want)) <= tolerance * np.max(np.abs(want))
    )


def check_against_naive(grad_y: Array, arguments: Arguments, tolerance: float) -> None:
    """Forward and backward; gradients of what was not given are None."""
    reference = wide(arguments)
    y = seqlab.selective_scan(**arguments)
    assert y.dtype == grad_y.dtype
    assert agree(y, naive_scan.selective_scan(**reference), tolerance)
    gradients = seqlab.selective_scan_backward(grad_y, **arguments)
    wanted = naive_scan.selective_scan_backward(grad_y.astype(np.float64), **reference)
    for name in NAMES:
        got, want = getattr(gradients, name), wanted[name]
        if name not in arguments:
            assert got is None
            assert want is None
        else:
            assert got.dtype == grad_y.dtype
            assert agree(got, want, tolerance), name


SIZES = [
    (1 + i % 2, channels, states, length)
    for i, ((length, states), channels) in enumerate(
        zip(
            itertools.product((1, 64, 65, 1000), (1, 4, 16, 17)),
            itertools.cycle((1, 3, 64, 65, 130)),
            strict=False,
        )
    )
]


@pytest.mark.parametrize(("size", "given"), list(zip(SIZES, CHOICES, strict=True)))
def test_float64_against_naive(size: tuple[int, ...], given: tuple[str, ...]) -> None:
    check_against_naive(*draw(*size, given), PARITY)


@pytest.mark.tiny
@pytest.mark.parametrize("given", CHOICES)
def test_every_choice_of_arguments(given: tuple[str, ...]) -> None:
    check_against_naive(*draw(1, 2, 2, 18, given), PARITY)


def single_tolerance(length: int, states: int, channels: int) -> float:
    """Roundings of float32 in a chain of sums, were they all to one side.

    One for each step of the longest sum (over steps: A, D, delta_bias; over channels and states
    within a step), and some ten within a term: exponential, softplus, gate, products.
    """
    return float(np.finfo(np.float32).eps) * (length + channels + states + 10)


@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1), (2, 3, 16, 1000), (2, 65, 17, 64), (1, 130, 4, 65), (2, 64, 16, 100)]
)
def test_float32_against_naive(size: tuple[int, ...]) -> None:
    _, channels, states, length = size
    tolerance = single_tolerance(length, states, channels)
    check_against_naive(*draw(*size, dtype=np.float32), tolerance)


@pytest.mark.tiny
def test_float32_small() -> None:
    check_against_naive(*draw(1, 2, 2, 18, dtype=np.float32), single_tolerance(18, 2, 2))


@pytest.mark.tiny
def test_gradients_are_central_differences() -> None:
    grad_y, arguments = draw(1, 2, 2, 17)
    gradients = seqlab.selective_scan_backward(grad_y, **arguments)
    rng, h = np.random.default_rng(2), 1e-5
    for name in NAMES:
        direction = rng.normal(size=arguments[name].shape)

        def loss(step: float, name: str = name, direction: Array = direction) -> float:
            moved = {**arguments, name: arguments[name] + step * direction}
            return float(np.sum(seqlab.selective_scan(**moved) * grad_y))

        slope = np.sum(getattr(gradients, name) * direction)
        assert (loss(h) - loss(-h)) / (2 * h) == pytest.approx(slope, rel=DIFFERENCES), name


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_same_bits_for_any_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, dtype: type[np.floating[Any]]
) -> None:
    grad_y, arguments = draw(3, 130, 16, 100, dtype=dtype)
    answers = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        gradients = seqlab.selective_scan_backward(grad_y, **arguments)
        answers.append(
            [seqlab.selective_scan(**arguments), *(getattr(gradients, name) for name in NAMES)]
        )
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            assert np.array_equal(one, other)


def test_sequences_do_not_know_of_each_other() -> None:
    _, arguments = draw(3, 65, 4, 40)
    y = seqlab.selective_scan(**arguments)
    shared = ("A", "D", "delta_bias", "delta_softplus")
    alone = {n: v if n in shared else v[1:2] for n, v in arguments.items()}
    assert np.array_equal(seqlab.selective_scan(**alone), y[1:2])


@pytest.mark.tiny
def test_softplus_is_exact_above_20() -> None:
    """Where mamba_ssm gives 25 itself, 5.6e-13 less."""
    one = np.ones((1, 1, 1))
    y = seqlab.selective_scan(one, 25 * one, -one[0], one, one, delta_softplus=True)
    assert y[0, 0, 0] == pytest.approx(25 + math.log1p(math.exp(-25)), rel=1e-15)


@pytest.mark.tiny
def test_any_memory_layout_goes() -> None:
    _, arguments = draw(2, 2, 2, 3)
    strided = {n: np.asfortranarray(v) if n in NAMES else v for n, v in arguments.items()}
    assert np.array_equal(seqlab.selective_scan(**strided), seqlab.selective_scan(**arguments))


@pytest.mark.tiny
def test_forgetting_at_once_and_overflow() -> None:
    """A decay below the smallest number is 0; growth beyond the largest is inf, a result."""
    u = np.ones((1, 1, 3))
    y = seqlab.selective_scan(u, u, np.array([[-1e4]]), u, u)
    assert y.tolist() == [[[1.0, 1.0, 1.0]]]
    with np.errstate(over="ignore"):  # without the JIT NumPy warns
        y = seqlab.selective_scan(u, u, np.array([[600.0]]), u, u)
    assert y[0, 0, 1] == pytest.approx(1 + math.exp(600), rel=1e-12)
    assert y[0, 0, 2] == math.inf


@pytest.mark.tiny
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_exp2(dtype: Any) -> None:
    """To 1 ulp in the normal range; 0, infinity and NaN where they belong."""
    eps, largest = np.finfo(dtype).eps, np.finfo(dtype).maxexp
    for x in np.linspace(2 - largest, largest - 1, 301).astype(dtype):
        exact = np.exp2(x.astype(np.longdouble))
        assert abs(exp2(x) / exact - 1) <= eps
    for x, value in ((-math.inf, 0), (-2000, 0), (2000, math.inf), (math.inf, math.inf), (0, 1)):
        with np.errstate(over="ignore"):
            assert exp2(dtype(x)) == value
    assert np.isnan(exp2(dtype(math.nan)))


@pytest.mark.tiny
def test_gradients_cannot_be_replaced() -> None:
    gradients = seqlab.selective_scan_backward(*_positional())
    assert isinstance(gradients, ScanGradients)
    with pytest.raises(AttributeError):
        gradients.u = gradients.delta  # type: ignore[misc]


def _positional() -> list[Array]:
    """grad_y and the arguments that must be given, in order."""
    grad_y, arguments = draw(1, 1, 1, 1, ())
    return [grad_y, *(arguments[name] for name in NAMES[:5])]


BAD = {
    "u": np.zeros((2, 3)),
    "u ": np.zeros((2, 0, 4)),
    "u  ": np.zeros((2, 3, 4), np.float16),
    "u   ": [[["x"]]],
    "delta": np.zeros((2, 3, 5)),
    "delta ": None,
    "A": np.zeros(3),
    "A ": np.zeros((3, 0)),
    "A  ": np.zeros((4, 2)),
    "B": np.zeros((2, 3, 4)),
    "C": np.zeros((2, 2, 4), np.float32),
    "D": np.zeros((3, 1)),
    "D ": np.array([0.0, math.nan, 0.0]),
    "z": np.full((2, 3, 4), math.inf),
    "delta_bias": np.zeros(2),
    "initial_state": np.zeros((2, 2, 3)),
    "grad_y": np.zeros((2, 3, 3)),
    "grad_y ": np.full((2, 3, 4), math.nan),
    "backend": "gpu",
    "backend ": "cuda",
}


@pytest.mark.tiny
@pytest.mark.parametrize("field", BAD)
def test_bad_input_is_refused_in_one_line(field: str) -> None:
    grad_y, arguments = draw(2, 3, 2, 4)
    given = {"grad_y": grad_y, **arguments, field.strip(): BAD[field]}
    with pytest.raises(InputError, match=f"^{field.strip()}: ") as caught:
        seqlab.selective_scan_backward(**given)
    assert "\n" not in str(caught.value)
    if not field.startswith("grad_y"):
        del given["grad_y"]
        with pytest.raises(InputError, match=f"^{field.strip()}: "):
            seqlab.selective_scan(**given)
