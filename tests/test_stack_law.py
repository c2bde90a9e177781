"""From a stack's spec to variances, against what is drawn; from there to theory and the sampler."""

import math
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Stack

from seqlab.layers.draws import INITS, Draw, draw_map, moments
from seqlab.layers.parts import Linear
from seqlab.measure import stack_cost
from seqlab.measure.in_law import sample
from seqlab.measure.stack_in_law import law_of
from seqlab.measure.stack_theory import prediction, remarks, wide
from seqlab.measure.stacks import measure
from seqlab.numbers.stack_theory import predict
from seqlab.spec.stack import StackSpec


def spec(**more: Any) -> StackSpec:
    """A plain stack of one input unless told."""
    usual: dict[str, Any] = {"arch": "mlp", "steps": 20, "hidden": 32, "batch": 1, "init": "he"}
    if more.get("arch") == "transformer":
        del usual["batch"]
    return StackSpec.create(**usual | more)


@pytest.mark.parametrize("outputs", [100, 200, 400])
@pytest.mark.parametrize("init", INITS)
def test_variances_are_those_of_what_is_drawn(init: str, outputs: int) -> None:
    """4 errors of a variance, whose relative one is at most sqrt(2/N)."""
    of, gain = Linear(outputs, 200), None if init == "pytorch" else 1.5
    how = Draw(init, gain)
    weight, bias = draw_map(np.random.default_rng(0), of, how)
    known = moments(of, how)
    assert weight.shape == (outputs, 200)
    assert abs(200 * np.mean(weight**2) - known.sw2) <= 4 * math.sqrt(2 / weight.size) * known.sw2
    assert abs(np.mean(bias**2) - known.sb2) <= 4 * math.sqrt(2 / outputs) * known.sb2
    scaled = draw_map(np.random.default_rng(0), of, how._replace(bias_scale=0.3))
    assert np.array_equal(scaled[0], weight)
    assert moments(of, how._replace(bias_scale=0.3)).sb2 == pytest.approx(0.09)
    assert np.mean(scaled[1] ** 2) == pytest.approx(0.09, rel=4 * math.sqrt(2 / outputs))


@pytest.mark.tiny
def test_xavier_counts_what_a_densenet_s_block_gives() -> None:
    made = wide(spec(arch="densenet", init="xavier", gain=2.0, steps=3))
    assert made.sw2 == pytest.approx([4.0, 4 * 4 / 3, 4 * 3 / 2])  # 2 g^2 l/(l + 1)
    assert wide(spec(arch="densenet", steps=1)).sw2 == [2]
    biases = wide(spec(arch="densenet", init="pytorch", steps=2)).sb2
    assert biases == pytest.approx([1 / 96, 1 / 192])


@pytest.mark.tiny
def test_a_first_layer_sets_what_inputs_begin_with() -> None:
    """Of variance 2 behind He's weights: a relu leaves half of it, a residual stack all."""
    assert wide(spec(inputs=5)).square == pytest.approx(1.0)
    assert wide(spec(inputs=5, init="normal")).square == pytest.approx(0.5)
    assert wide(spec(inputs=5, arch="resnet")).square == pytest.approx(2.0)
    assert wide(spec(inputs=5, init="pytorch", arch="resnet")).square == pytest.approx(
        1 / 3 + 1 / 15
    )
    assert wide(spec(inputs=5, norm="layer", activation="identity")).square == pytest.approx(1.0)


@pytest.mark.parametrize("init", ["pytorch", "xavier"])
def test_a_transformer_s_maps(init: str) -> None:
    n = 64
    (params,) = naive.draw(np.random.default_rng(0), Stack("transformer"), 1, n, init)
    blocks = wide(spec(arch="transformer", hidden=n, init=init, tokens=8)).blocks

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
        return wide(
            spec(arch="transformer", **{"init": "xavier", "tokens": 8, "lengths": [20]} | more)
        )

    assert made().logits == 1
    assert made(gain=2.0).logits == 16
    assert math.isnan(predict(made(gain=2.0)).total)
    assert made(gain=0.5).blocks[:3] == pytest.approx([1 / 16, 0.1, 0.4])
    assert made(alpha=0.5).blocks[:3] == pytest.approx([0.25, 0.4, 0.4])
    assert made(alpha="sqrt", steps=4, lengths=[4]).blocks.attention == pytest.approx(0.25)
    assert made().rows == 8


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"init": "pytorch", "activation": "tanh"},
        {"init": "orthogonal", "gain": 1.2, "activation": "tanh", "bias_scale": 0.3},
        {"arch": "resnet", "order": "inside", "alpha": "sqrt"},
        {"arch": "resnet", "order": "outside", "norm": "layer", "place": "pre"},
        {"norm": "layer", "activation": "sigmoid"},
    ],
)
def test_theory_and_the_sampler_are_of_the_same_stack(more: dict[str, Any]) -> None:
    """4 errors, and 1/2n a layer where the width is corrected for, else 2/n."""
    stack = spec(in_law=True, **more)
    law, have = law_of(stack), predict(wide(stack))
    curve = sample(law, range(500), 1, [stack.steps]).curves[0]
    totals = curve[:, -1] - curve[:, 0]
    error = totals.std() / math.sqrt(len(totals))
    each = 0.5 if "width" in have.law else 2.0
    assert abs(totals.mean() - have.total) <= 4 * error + each * stack.steps / stack.hidden


@pytest.mark.tiny
def test_a_run_in_law_is_what_the_sampler_says() -> None:
    """Two networks, in blocks of their own, at the lags that a file keeps; and what it costs."""
    asked = spec(in_law=True, hidden=6, steps=12, networks=2, seed=3, lengths=[5, 12])
    found = measure(asked)
    data = {name: variable.data for name, variable in found.variables.items()}
    drawn = sample(law_of(asked), range(2), 3, [5, 12], data["lag"].tolist())
    for k, curve in enumerate(drawn.curves):
        within = data["lag"] < curve.shape[1]
        assert np.array_equal(data["log_norm"][:, 0, k, within], curve[:, data["lag"][within]])
        assert np.isnan(data["log_norm"][:, 0, k, ~within]).all()
    assert np.array_equal(data["log_weight_grad_norm"][:, 0], drawn.log_norm_weight, equal_nan=True)
    assert np.array_equal(data["log_param_grad_norm_after"][:, 0], drawn.log_norm_all)
    assert data["theory"] == pytest.approx(prediction(asked).total / 12)
    assert found.backend == "cpu"
    assert stack_cost.memory_bytes(asked) > 2 * 12 * 6 * 8
    assert stack_cost.seconds(asked, 1) > stack_cost.seconds(asked, 2) > 0
    assert stack_cost.file_bytes(asked) > data["log_norm"].nbytes


@pytest.mark.tiny
def test_what_is_said_of_the_theory() -> None:
    """The law, what is missing, and the exact law where it is known."""
    said, exact = remarks(spec(steps=50, hidden=10))
    assert said == "theory: sum of ln(chi)/2 at every layer's variance, corrected for the width"
    assert exact == (
        "exact law of the whole depth at this width: mean -7.687 nat, standard deviation 3.292; "
        "exactly zero with probability 0.0477"
    )
    (several,) = remarks(spec(batch=2))
    assert several.endswith("; of infinite width: its correction is known for one input")
    (none,) = remarks(spec(norm="batch", batch=2))
    assert none.startswith("theory: batch norm of two inputs")
