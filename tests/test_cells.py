"""Initial draws: each parameter's law, and that an option changes only what it names."""

import itertools
import math
from typing import Any

import naive
import numpy as np
import numpy.typing as npt
import pytest

from seqlab.cells import ACTIVATIONS, CELLS, INITS, SCALED, Draw, Sizes
from seqlab.cells.recurrent import biases
from seqlab.errors import InputError

Array = npt.NDArray[Any]

pytestmark = pytest.mark.tiny


# The recurrent blocks of cells that are drawn as a library draws them, and the gate that
# forget_bias moves.
BLOCKS = [
    (arch, cell.shapes(Sizes(1, 1))["weight_hh"][0])
    for arch, cell in CELLS.items()
    if "pytorch" in cell.inits
]
FORGET = {"lstm": 1, "gru": 1, "slstm": 1}


def test_every_cell_has_a_naive_reference_of_its_shapes() -> None:
    assert naive.CELLS.keys() == CELLS.keys()
    for arch, cell in CELLS.items():
        for sizes in (Sizes(1, 1, 1), Sizes(17, 3, 2)):
            assert naive.CELLS[arch].shapes(*sizes) == cell.shapes(sizes)
        chosen = ACTIVATIONS if "activation" in cell.options else ("tanh",)
        assert naive.CELLS[arch].activations == chosen


def test_what_a_row_says_of_its_steps() -> None:
    """The coefficients that theory takes means of, and the blocks that the floor counts."""
    assert FORGET.keys() == {name for name, cell in CELLS.items() if "forget_bias" in cell.options}
    for cell in CELLS.values():
        assert set(cell.theory.means if cell.theory else ()) <= set(cell.coefficients)
    for arch, cell in CELLS.items():
        if cell.cost is not None:
            assert cell.cost.blocks == cell.shapes(Sizes(1, 1))["weight_hh"][0]
        assert (cell.cost is not None) or arch not in dict(BLOCKS)
        assert bool(cell.inits) == ("init" in cell.options)
        assert set(cell.inits) <= set(INITS)


def moments(block: Array) -> tuple[float, float]:
    return float(block.mean()), float(block.var())


@pytest.mark.parametrize("init", ["pytorch", *SCALED])
@pytest.mark.parametrize(("arch", "gates"), BLOCKS)
def test_recurrent_blocks(arch: str, gates: int, init: str) -> None:
    """Each H x H block of its law; what an option does not name is drawn as it always was."""
    sizes, gain = Sizes(60, 5), 0.7
    how = Draw(init, None if init == "pytorch" else gain)
    plain = CELLS[arch].draw(np.random.default_rng(1), sizes, Draw())
    params = CELLS[arch].draw(np.random.default_rng(1), sizes, how)
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        assert np.array_equal(params[name], plain[name])
    blocks = np.split(params["weight_hh"], gates)
    variance = {"pytorch": 1 / 180, "he": 2 * gain**2 / 60}.get(init, gain**2 / 60)
    for block in blocks:
        mean, spread = moments(block)
        assert abs(mean) < 4 * math.sqrt(variance / 3600)
        assert spread == pytest.approx(variance, rel=0.12)
        if init == "orthogonal":
            assert block @ block.T == pytest.approx(gain**2 * np.eye(60), abs=1e-13)
        if init in ("pytorch", "xavier"):
            assert np.abs(block).max() <= math.sqrt(3 * variance)
        elif init in ("normal", "he"):
            assert np.abs(block).max() > math.sqrt(3 * variance)
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(blocks))


def test_orthogonal_blocks_are_from_the_haar_measure() -> None:
    """Without the sign correction of QR the diagonal of R shows: entries would lean to one side."""
    corners = [
        CELLS["rnn"].draw(np.random.default_rng(seed), Sizes(2, 1), Draw("orthogonal"))["weight_hh"]
        for seed in range(400)
    ]
    assert abs(np.mean([corner[0, 0] for corner in corners])) < 4 * math.sqrt(0.5 / 400)
    assert abs(np.mean([np.sign(np.linalg.det(corner)) for corner in corners])) < 0.2


KERAS = Draw("keras")


@pytest.mark.parametrize(("arch", "gates"), BLOCKS)
def test_keras_s_draw(arch: str, gates: int) -> None:
    """Glorot's bound with the fan-out of all gates together, one matrix of orthonormal columns, and
    no bias but LSTM's forget bias; common random numbers with PyTorch's input weights."""
    sizes = Sizes(60, 50)
    params = CELLS[arch].draw(np.random.default_rng(1), sizes, KERAS)
    bound = math.sqrt(6 / (50 + gates * 60))
    kernel = params["weight_ih"] / bound
    assert 0.99 < np.abs(kernel).max() <= 1 + 1e-15  # of 3,000 numbers or more
    # 3,000 numbers: standard errors of 0.0105 and, relative, 0.8/sqrt(3000) = 0.0146; four of them.
    assert abs(kernel.mean()) < 4 * math.sqrt(1 / 3 / kernel.size)
    assert kernel.var() == pytest.approx(1 / 3, rel=4 * math.sqrt(0.8 / kernel.size))
    plain = CELLS[arch].draw(np.random.default_rng(1), sizes, Draw())["weight_ih"]
    assert kernel == pytest.approx(plain * math.sqrt(60), abs=1e-15)
    recurrent = params["weight_hh"]
    assert recurrent.T @ recurrent == pytest.approx(np.eye(60), abs=1e-13)
    for block in np.split(recurrent, gates):
        mean, spread = moments(block)
        assert abs(mean) < 4 / math.sqrt(gates * 60 * 3600)
        assert spread == pytest.approx(1 / (gates * 60), rel=0.1)
    bias = params["bias_ih"] + params["bias_hh"]
    ones = np.arange(gates * 60) // 60 == FORGET["lstm"] if arch == "lstm" else 0
    assert np.array_equal(bias, ones * np.ones(gates * 60))


def test_keras_s_gates_are_from_the_haar_measure() -> None:
    """Of one matrix, whose entries lean to no side; see below."""
    draws = [CELLS["lstm"].draw(np.random.default_rng(n), Sizes(1, 1), KERAS) for n in range(400)]
    gates = np.stack([each["weight_hh"][:, 0] for each in draws])
    assert np.abs(gates.mean(axis=0)).max() < 4 * math.sqrt(0.25 / 400)
    assert np.square(gates).mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=4 * 0.25 / 20)


@pytest.mark.parametrize("bias", [2.5, "chrono"])
def test_a_forget_bias_takes_the_place_of_keras_s(bias: float | str) -> None:
    how = Draw("keras", forget_bias=bias, steps=9)
    params = CELLS["lstm"].draw(np.random.default_rng(1), Sizes(4, 2), how)
    kept = CELLS["lstm"].draw(np.random.default_rng(1), Sizes(4, 2), KERAS)
    bias_of = params["bias_ih"] + params["bias_hh"]
    if bias == "chrono":
        assert (bias_of[4:8] > 0).all()
        assert np.array_equal(bias_of[:4], -bias_of[4:8])
    else:
        assert (bias_of[4:8] == bias).all()
        assert not bias_of[:4].any()
    assert not bias_of[8:].any()
    for name in ("weight_ih", "weight_hh"):
        assert np.array_equal(params[name], kept[name])


def test_an_input_scale_zeroes_keras_s_forget_bias_too() -> None:
    how = Draw("keras", input_scale=0.3)
    params = CELLS["lstm"].draw(np.random.default_rng(1), Sizes(60, 50), how)
    assert not params["bias_ih"].any()
    assert not params["bias_hh"].any()
    assert params["weight_ih"].var() == pytest.approx(0.3**2 / 50, rel=0.1)
    assert params["weight_hh"].T @ params["weight_hh"] == pytest.approx(np.eye(60), abs=1e-13)


@pytest.mark.parametrize("arch", dict(BLOCKS))
def test_input_scale_replaces_input_weights_and_biases(arch: str) -> None:
    sizes = Sizes(60, 50)
    params = CELLS[arch].draw(np.random.default_rng(1), sizes, Draw(input_scale=0.3))
    assert not params["bias_ih"].any()
    assert not params["bias_hh"].any()
    assert params["weight_ih"].var() == pytest.approx(0.3**2 / 50, rel=0.1)
    silent = CELLS[arch].draw(np.random.default_rng(1), sizes, Draw(input_scale=0.0))
    assert not silent["weight_ih"].any()
    assert np.array_equal(silent["weight_hh"], params["weight_hh"])


def test_what_a_spec_may_ask_of_each_cell() -> None:
    assert [name for name, cell in CELLS.items() if cell.chrono] == ["lstm"]
    assert [name for name, cell in CELLS.items() if not cell.silent_drive] == ["ssm", "deltanet"]


@pytest.mark.parametrize(("arch", "gate"), FORGET.items())
def test_forget_bias_is_the_sum_of_the_biases(arch: str, gate: int) -> None:
    plain, params = (
        CELLS[arch].draw(np.random.default_rng(1), Sizes(4, 2), Draw(forget_bias=bias))
        for bias in (None, 2.5)
    )
    total, other = (sum(biases(each)) for each in (params, plain))
    rows = np.arange(len(total)) // 4 == gate
    assert (total[rows] == 2.5).all()
    assert np.array_equal(total[~rows], other[~rows])


def test_chrono_biases() -> None:
    """b_f = ln U(1, T - 1) and b_i = -b_f, which needs T from 3 up."""
    how = Draw(forget_bias="chrono", steps=100)
    params = CELLS["lstm"].draw(np.random.default_rng(1), Sizes(500, 1), how)
    total = params["bias_ih"] + params["bias_hh"]
    forget = total[500:1000]
    assert np.array_equal(total[:500], -forget)
    drawn = np.exp(forget)
    assert 1 <= drawn.min() < 2
    assert 98 < drawn.max() <= 99
    assert drawn.mean() == pytest.approx(50, abs=4)
    with pytest.raises(InputError, match=r"^forget_bias: chrono .* at least 3, not 2$"):
        CELLS["lstm"].draw(
            np.random.default_rng(1), Sizes(2, 1), Draw(None, None, None, "chrono", 2)
        )


def test_mamba_s_draws() -> None:
    """A_n = -n, D = 1, Delta log-uniform in [0.001, 0.1] after softplus, R = ceil(H/16)."""
    sizes = Sizes(1000, 4, 3)
    params = CELLS["ssm"].draw(np.random.default_rng(1), sizes, Draw())
    assert params["A_log"] == pytest.approx(np.tile(np.log([1, 2, 3]), (1000, 1)), abs=1e-15)
    assert (params["D"] == 1).all()
    assert params["dt_proj_weight"].shape == (1000, 63)
    assert params["x_proj_weight"].shape == (63 + 6, 1000)
    logs = np.log(np.logaddexp(0, params["dt_proj_bias"]))
    low, high = math.log(0.001), math.log(0.1)
    assert low - 1e-9 <= logs.min() < low + 0.1
    assert high - 0.1 < logs.max() <= high + 1e-9
    assert logs.mean() == pytest.approx((low + high) / 2, abs=0.15)
    for name, fan in (("in_proj_weight", 4), ("x_proj_weight", 1000), ("dt_proj_weight", 63)):
        bound = 1 / math.sqrt(fan)
        assert 0.95 * bound < params[name].max() <= bound
        assert -0.95 * bound > params[name].min() >= -bound
    scaled = CELLS["ssm"].draw(np.random.default_rng(1), sizes, Draw(input_scale=2.0))
    assert scaled["in_proj_weight"].var() == pytest.approx(1.0, rel=0.1)
    assert np.array_equal(scaled["x_proj_weight"], params["x_proj_weight"])
