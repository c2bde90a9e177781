"""From a stack's spec to variances, against what is drawn; from there to theory and the sampler."""

import math
from types import SimpleNamespace
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Stack

from seqlab.measure.in_law import sample
from seqlab.measure.stack_law import law_of, variances, wide_of
from seqlab.numbers.stack_theory import predict


def spec(**more: Any) -> Any:
    """The fields of a stack's spec, a plain one unless told."""
    usual: dict[str, Any] = {
        "arch": "mlp",
        "steps": 20,
        "hidden": 32,
        "batch": 1,
        "tokens": None,
        "activation": "relu",
        "init": "he",
        "gain": 1.0,
        "bias_scale": None,
        "norm": None,
        "place": None,
        "order": None,
        "alpha": None,
        "readout": None,
        "params": None,
    }
    return SimpleNamespace(**usual | more)


@pytest.mark.parametrize("init", ["pytorch", "xavier", "he", "normal", "unit", "orthogonal"])
def test_variances_are_those_of_what_is_drawn(init: str) -> None:
    """Of 200 x 200 entries: 4 errors of a variance, whose relative one is at most sqrt(2/N)."""
    n, gain = 200, 1.0 if init == "pytorch" else 1.5
    (params,) = naive.draw(np.random.default_rng(0), Stack("mlp"), 1, n, init, gain)
    sw2, sb2 = variances("unit-normal" if init == "unit" else init, gain, None, n, n)
    drawn = n * np.mean(params["weight"] ** 2)
    assert abs(drawn - sw2) <= 4 * math.sqrt(2 / n**2) * sw2
    assert abs(np.mean(params["bias"] ** 2) - sb2) <= 4 * math.sqrt(2 / n) * sb2
    assert variances("he", 1.0, 0.3, n, n)[1] == pytest.approx(0.09)


@pytest.mark.tiny
def test_xavier_counts_what_a_densenet_s_block_gives() -> None:
    wide = wide_of(spec(arch="densenet", init="xavier", gain=2.0, steps=3))
    assert wide.sw2 == pytest.approx([4.0, 4 * 4 / 3, 4 * 3 / 2])  # 2 g^2 l/(l + 1)
    assert wide_of(spec(arch="densenet", steps=1)).sw2 == 2
    biases = wide_of(spec(arch="densenet", init="pytorch", gain=None, steps=2)).sb2
    assert biases == pytest.approx([1 / 96, 1 / 192])


@pytest.mark.parametrize("init", ["pytorch", "xavier"])
def test_a_transformer_s_maps(init: str) -> None:
    n = 64
    (params,) = naive.draw(np.random.default_rng(0), Stack("transformer"), 1, n, init)
    blocks = wide_of(spec(arch="transformer", hidden=n, init=init, tokens=8)).blocks

    def scale(name: str, rows: slice = slice(None)) -> float:
        weight = params[name][rows]
        return float(weight.shape[1] * np.mean(weight**2))

    values = scale("self_attn.in_proj_weight", slice(2 * n, 3 * n))
    drawn = (
        values * scale("self_attn.out_proj.weight"),
        scale("linear1.weight"),
        scale("linear2.weight"),
    )
    # Uniform entries: a variance's relative error is sqrt(4/5/N), of a product's factors together.
    assert drawn == pytest.approx(blocks[:3], rel=4 * math.sqrt(2 * 0.8 / n**2))
    for name, bias in (("linear1.bias", blocks.inner_bias), ("linear2.bias", blocks.outer_bias)):
        assert np.mean(params[name] ** 2) == pytest.approx(bias, rel=4 * math.sqrt(0.8 / n))


@pytest.mark.tiny
def test_what_scales_a_transformer() -> None:
    def made(**more: Any) -> Any:
        return wide_of(spec(arch="transformer", init="xavier", tokens=8, **more))

    assert made().logits == 1
    assert made(gain=2.0).logits == 16
    assert math.isnan(predict(made(gain=2.0)).total)
    assert made(gain=0.5).blocks[:3] == pytest.approx([1 / 16, 0.1, 0.4])
    assert made(alpha=0.5).blocks[:3] == pytest.approx([0.25, 0.4, 0.4])
    assert made(bias_scale=0.5).blocks[3:] == pytest.approx([0.5, 0.25, 0.25])
    assert made(alpha="sqrt", steps=4).blocks.attention == pytest.approx(0.25)
    assert made().rows == 8


@pytest.mark.tiny
def test_which_specs_are_sampled_in_law() -> None:
    assert law_of(spec()) is not None
    assert law_of(spec(arch="resnet", norm="layer", place="post")) is not None
    for other in (
        {"batch": 2},
        {"norm": "batch"},
        {"norm": "group:4"},
        {"arch": "densenet"},
        {"params": "weights.npz"},
    ):
        assert law_of(spec(**other)) is None
    assert wide_of(spec(params="weights.npz")).weights == "given"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"init": "pytorch", "gain": None, "activation": "tanh"},
        {"init": "orthogonal", "gain": 1.2, "activation": "tanh", "bias_scale": 0.3},
        {"arch": "resnet", "order": "inside", "alpha": "sqrt"},
        {"arch": "resnet", "order": "outside", "norm": "layer", "place": "pre"},
        {"norm": "layer", "activation": "sigmoid"},
    ],
)
def test_theory_and_the_sampler_are_of_the_same_stack(more: dict[str, Any]) -> None:
    """4 errors, and 1/2n a layer where the width is corrected for, else 2/n."""
    stack = spec(**more)
    law, have = law_of(stack), predict(wide_of(stack))
    assert law is not None
    curve = sample(law, range(500), 1, [stack.steps]).curves[0]
    totals = curve[:, -1] - curve[:, 0]
    error = totals.std() / math.sqrt(len(totals))
    each = 0.5 if "width" in have.law else 2.0
    assert abs(totals.mean() - have.total) <= 4 * error + each * stack.steps / stack.hidden
