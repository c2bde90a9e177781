"""How layers are drawn, what is refused, and what a first layer makes of inputs."""

import math
from typing import Any

import numpy as np
import pytest
from stack_runs import create, measured, taken

from seqlab.errors import InputError
from seqlab.layers.draws import Draw, draw_map, moments
from seqlab.layers.parts import Linear
from seqlab.measure.stacks import measure

INITS = ("pytorch", "xavier", "he", "normal", "unit-normal", "orthogonal")


@pytest.mark.parametrize("shape", [(40, 40), (20, 80), (80, 20)])
@pytest.mark.parametrize("init", INITS)
def test_variances_of_draws(init: str, shape: tuple[int, int]) -> None:
    """Of 30 maps: means to five errors of a normal law's, 1/sqrt(N), variances to five of its
    sqrt(2/N) and less."""
    outputs, inputs = shape
    gain = None if init == "pytorch" else 1.5
    how, of = Draw(init, gain, None), Linear(outputs, inputs)
    drawn = [draw_map(np.random.default_rng(seed), of, how) for seed in range(30)]
    weights = np.stack([w for w, _ in drawn])
    variance = {
        "pytorch": 1 / (3 * inputs),
        "xavier": 1.5**2 * 2 / (inputs + outputs),
        "he": 1.5**2 * 2 / inputs,
        "normal": 1.5**2 / inputs,
        "unit-normal": 1.5**2,
        "orthogonal": 1.5**2 / max(shape),
    }[init]
    assert abs(weights.mean()) <= 5 * math.sqrt(variance / weights.size)
    assert weights.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / weights.size))
    known = moments(of, how)
    assert known.sw2 == pytest.approx(inputs * variance, rel=1e-12)
    biases = np.stack([b for _, b in drawn])
    bound = 1 / math.sqrt(inputs)
    if init == "pytorch":
        assert np.abs(weights).max() <= bound
        assert np.abs(weights).max() == pytest.approx(bound, rel=1e-3)
        assert np.abs(biases).max() <= bound
        assert biases.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / biases.size))
        assert known.sb2 == pytest.approx(variance)
    else:
        assert not biases.any()
        assert known.sb2 == 0
    if init == "orthogonal":
        one = weights[0] / 1.5
        gram = one @ one.T if outputs <= inputs else one.T @ one
        assert gram == pytest.approx(np.eye(min(shape)), abs=1e-14)


def test_orthogonal_maps_are_haar_s() -> None:
    """The trace of Haar's Q has mean 0 and variance 1; a QR whose signs are not made right, a
    diagonal that leans to one side."""
    how = Draw("orthogonal")
    traces = [
        np.trace(draw_map(np.random.default_rng(seed), Linear(6, 6), how)[0]) for seed in range(600)
    ]
    assert abs(np.mean(traces)) <= 4 / math.sqrt(600)
    assert np.var(traces) == pytest.approx(1, rel=4 * math.sqrt(2 / 600))


@pytest.mark.parametrize("init", INITS)
def test_biases_that_are_asked_for(init: str) -> None:
    how = Draw(init, None, 0.25)
    biases = np.stack(
        [draw_map(np.random.default_rng(seed), Linear(50, 7), how)[1] for seed in range(40)]
    )
    assert biases.std() == pytest.approx(0.25, rel=5 / math.sqrt(2 * biases.size))
    assert np.abs(biases).max() > 0.5  # a normal law's, not a bounded one's
    assert moments(Linear(50, 7), how).sb2 == 0.0625


@pytest.mark.parametrize("init", ["pytorch", "xavier"])
def test_a_transformer_s_draws(init: str) -> None:
    """As torch.nn.TransformerEncoderLayer makes them, or all of Xavier's law."""
    given = {} if init == "pytorch" else {"gain": 0.5}
    spec = create(arch="transformer", hidden=40, steps=3, tokens=2, init=init, networks=1, **given)
    for params in taken(spec).layers[0]:
        bounds = {
            "self_attn.in_proj_weight": math.sqrt(6 / (40 + 120)),
            "self_attn.out_proj.weight": 1 / math.sqrt(40),
            "linear1.weight": 1 / math.sqrt(40),
            "linear1.bias": 1 / math.sqrt(40),
            "linear2.weight": 1 / math.sqrt(160),
            "linear2.bias": 1 / math.sqrt(160),
        }
        if init == "xavier":
            bounds = {
                "self_attn.in_proj_weight": 0.5 * math.sqrt(6 / 80),
                "self_attn.out_proj.weight": 0.5 * math.sqrt(6 / 80),
                "linear1.weight": 0.5 * math.sqrt(6 / 200),
                "linear2.weight": 0.5 * math.sqrt(6 / 200),
            }
        for name, values in params.items():
            bound = bounds.get(name, 0.0)
            assert np.abs(values).max() <= bound
            # The largest of N uniform numbers: nearer to the bound than 12/N but for e^-12.
            assert np.abs(values).max() >= bound * (1 - 12 / values.size), name


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"init": "normal", "gain": 1e39}, "gain: 1e+39 is not allowed"),
        ({"init": "normal", "bias_scale": 1e39}, "bias_scale: 1e+39 is not allowed"),
        ({"bias_scale": 1e39}, "bias_scale: 1e+39 is not allowed"),
        ({"arch": "transformer", "init": "xavier", "gain": 1e39}, "gain: 1e+39 is not allowed"),
    ],
)
def test_what_float32_cannot_hold_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        measure(create(**given, dtype="float32"))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    measure(create(**given, dtype="float64"))


@pytest.mark.parametrize(
    ("given", "square"),
    [
        ({"init": "normal", "arch": "resnet"}, 1.0),
        ({"init": "he", "arch": "resnet", "gain": 0.5}, 0.5),
        ({"init": "he"}, 1.0),  # half of a square of two: a layer of relu
        ({"arch": "resnet"}, (1 + 1 / 25) / 3),
        ({"init": "normal", "norm": "layer"}, 0.5),
    ],
)
def test_behind_a_first_layer(given: dict[str, Any], square: float) -> None:
    """The mean square of what it makes of normal inputs; and that theory begins there. To five
    errors of its mean over networks."""
    spec = create(**given, inputs=25, hidden=64, networks=80, steps=1, batch=4)
    squares = np.exp(measured(spec)["log_mean_square"][:, -1])
    error = squares.std(ddof=1) / math.sqrt(len(squares))
    assert abs(squares.mean() - square) <= 5 * error
    assert error < 0.05 * square
