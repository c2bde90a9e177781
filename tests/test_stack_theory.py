"""What theory says of a stack, against simulations by another program (means over thousands of
networks, with their errors) and against matrices drawn here."""

import math

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array, Stack

from seqlab.errors import InputError
from seqlab.numbers.activations import find_activation, kurtosis
from seqlab.numbers.depth import Blocks, he_relu_law, linear_law, plain_stack, width_shift
from seqlab.numbers.stack_theory import MOST_SHIFT, Prediction, Wide, predict

# Totals of 50 layers of 64 units by initialisation, as simulated, and their standard errors.
SIMULATED = {
    "pytorch": {
        "identity": (-27.857, 0.008),
        "tanh": (-28.531, 0.008),
        "elu": (-29.713, 0.008),
        "prelu": (-44.142, 0.012),
        "leaky": (-45.801, 0.013),
        "relu": (-45.804, 0.013),
        "gelu": (-61.957, 0.008),
        "silu": (-62.268, 0.008),
        "sigmoid": (-98.325, 0.008),
    },
    "xavier": {
        "identity": (-0.392, 0.008),
        "tanh": (-2.627, 0.009),
        "elu": (-3.326, 0.009),
        "prelu": (-16.656, 0.012),
        "relu": (-18.307, 0.013),
        "gelu": (-34.330, 0.009),
        "silu": (-34.671, 0.009),
        "sigmoid": (-72.790, 0.008),
    },
    "he": {
        "relu": (-0.978, 0.013),
        "leaky": (-0.976, 0.013),
        "prelu": (0.673, 0.012),
        "tanh": (1.401, 0.012),
        "elu": (2.051, 0.013),
        "gelu": (-13.419, 0.040),
        "silu": (-16.160, 0.015),
        "sigmoid": (-58.057, 0.009),
    },
}
VARIANCES = {"pytorch": (1 / 3, 1 / 3), "xavier": (1.0, 0.0), "he": (2.0, 0.0)}  # sb2 times n


def mlp(
    activation: str, init: str = "he", depth: int = 50, width: int = 64, **more: object
) -> Wide:
    """A plain stack of one input."""
    sw2, bias = VARIANCES[init]
    return Wide("mlp", activation, depth, width, sw2, bias / width)._replace(**more)


@pytest.mark.tiny
@pytest.mark.parametrize("init", SIMULATED)
def test_plain_stacks(init: str) -> None:
    """Corrected for the width: 4 errors and 1/2n a layer."""
    for name, (total, error) in SIMULATED[init].items():
        have = predict(mlp(name, init))
        assert abs(have.total - total) <= 4 * error + 50 * 0.5 / 64, name
        assert not have.why
        assert have.q is not None
        assert have.q.shape == (50,)


@pytest.mark.tiny
def test_the_width_is_counted_layer_by_layer() -> None:
    """kappa at the variance of each layer, of a stack whose variances differ by far."""
    phi = find_activation("tanh")
    plain = plain_stack(phi, 2, 0, 20)
    shift = sum(width_shift(kurtosis(phi, q), 64) for q in plain.q)
    assert predict(mlp("tanh", depth=20)).total == pytest.approx(plain.total + shift, rel=1e-13)
    orthogonal = predict(mlp("tanh", depth=20, weights="orthogonal"))
    assert orthogonal.total == pytest.approx(plain.total + shift + 20 * 0.5 / 64, rel=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("weights", "sw2"), [("normal", 2.0), ("normal", 0.3), ("orthogonal", 2.0)]
)
def test_relu_has_an_exact_law(weights: str, sw2: float) -> None:
    """Of every scale, which a homogeneous activation passes on."""
    have = predict(mlp("relu", width=9, weights=weights, sw2=sw2))
    law = he_relu_law(9, weights == "orthogonal")
    assert have.exact is not None
    mean = 50 * (law.mean + math.log(sw2 / 2) / 2)
    want = (mean, 50 * law.variance, 1 - (1 - 2**-9) ** 50)
    assert have.exact == pytest.approx(want, rel=1e-12)
    assert have.total == pytest.approx(mean, rel=1e-12)


@pytest.mark.tiny
def test_where_the_law_is_exact_and_where_not() -> None:
    linear = predict(mlp("identity", "pytorch", width=9, weights="normal"))
    law = linear_law(9)
    assert linear.exact is not None  # whose biases the Jacobian does not see
    assert linear.exact.mean == pytest.approx(50 * (law.mean + math.log(1 / 3) / 2), rel=1e-12)
    haar = predict(mlp("identity", weights="orthogonal", sw2=0.25))
    assert haar.exact == pytest.approx((50 * math.log(0.5), 0, 0), rel=1e-13)
    for none in (
        mlp("relu", weights="uniform"),
        mlp("relu", sb2=0.1),
        mlp("relu", rows=2),
        mlp("leaky"),
        mlp("relu", norm="layer"),
    ):
        assert predict(none).exact is None


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "width", "rate", "error"),
    [
        ("tanh", 64, 0.629, 0.001),
        ("tanh", 128, 0.831, 0.001),
        ("tanh", 256, 1.026, 0.003),
        ("tanh", 1024, 1.393, 0.002),
        ("sigmoid", 32, -0.343, 0.001),
        ("sigmoid", 64, -0.156, 0.001),
        ("sigmoid", 128, 0.024, 0.001),
        ("sigmoid", 256, 0.201, 0.002),
    ],
)
def test_weights_of_variance_one(name: str, width: int, rate: float, error: float) -> None:
    """Saturated stacks within 0.01 nat a layer, where the width's correction is small."""
    have = predict(mlp(name, depth=100, width=width, sw2=float(width)))
    assert abs(have.total / 100 - rate) <= 0.01 + 4 * error


@pytest.mark.tiny
def test_too_few_saturated_units_have_no_prediction() -> None:
    have = predict(mlp("tanh", width=32, sw2=32.0))
    assert math.isnan(have.total)
    assert "too few units" in have.why
    shift = width_shift(kurtosis(find_activation("tanh"), 26.0), 32)
    assert -shift > MOST_SHIFT  # and indeed q there is about 26


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "narrow", "wide"),
    [
        ("relu", -0.0196, -0.0012),
        ("tanh", 0.0658, 0.0809),
        ("sigmoid", -0.9473, -0.9397),
        ("elu", 0.0053, 0.0168),
        ("gelu", 0.0147, 0.0334),
        ("silu", 0.0132, 0.0308),
        ("erf", 0.0847, 0.1008),
    ],
)
def test_layer_norm(name: str, narrow: float, wide: float) -> None:
    """Of 64 and 1024 units, between two depths: 4 errors of at most 0.0005 and 1/2n a layer."""
    for width, rate in ((64, narrow), (1024, wide)):
        totals = [predict(mlp(name, norm="layer", depth=k, width=width)).total for k in (50, 100)]
        assert abs((totals[1] - totals[0]) / 50 - rate) <= 0.002 + 0.5 / width


@pytest.mark.tiny
def test_groups_are_narrower_layers() -> None:
    wide = predict(mlp("relu", norm="layer", width=256))
    assert predict(mlp("relu", norm="group:8", width=256)) == pytest.approx(wide, nan_ok=True)
    narrow = predict(mlp("relu", norm="group:64", width=256))
    assert math.isnan(narrow.total)
    assert "over 4 units" in narrow.why


@pytest.mark.tiny
@pytest.mark.parametrize("name", ["gelu", "silu", "softplus"])
def test_batch_norm_without_symmetry(name: str) -> None:
    have = predict(mlp(name, norm="batch", rows=32))
    assert math.isnan(have.total)
    assert name in have.why


@pytest.mark.tiny
def test_small_batches() -> None:
    assert math.isnan(predict(mlp("relu", norm="batch", rows=4)).total)
    assert math.isfinite(predict(mlp("relu", norm="batch", rows=5)).total)


# Of blocks with alpha = 1 of relu at He's variance, unless it says otherwise: depth, more, and
# (total, error) at 64 units and at 1024.
RESIDUAL = [
    ("relu", 2, 30, {}, (13.52, 0.03), (12.27, 0.12)),
    ("relu", 2, 100, {}, (50.54, 0.03), (49.53, 0.16)),
    ("relu", 2, 100, {"alpha": 0.1}, (2.75, 0.02), (1.47, 0.09)),
    ("relu", 2, 1000, {"alpha": 1000**-0.5}, (14.84, 0.03), (13.32, 0.25)),
    ("relu", 2, 50, {"outside": False}, (16.74, 0.02), (17.28, 0.03)),
    ("relu", 2, 50, {"outside": False, "alpha": 0.5}, (5.362, 0.015), (5.580, 0.017)),
    ("tanh", 1, 100, {}, (5.063, 0.014), (5.244, 0.017)),
    ("sigmoid", 1, 50, {}, (0.227, 0.002), (0.238, 0.003)),
    ("relu", 2, 200, {"norm": "layer"}, (3.478, 0.02), (3.539, 0.03)),
    ("relu", 2, 200, {"norm": "layer", "outside": False}, (2.604, 0.02), (2.681, 0.03)),
    ("gelu", 2, 200, {"norm": "layer", "outside": False}, (2.688, 0.02), (2.774, 0.03)),
    ("sigmoid", 1, 200, {"norm": "layer"}, (1.164, 0.01), (1.177, 0.01)),
    ("relu", 2, 50, {"norm": "layer", "place": "post"}, (3.855, 0.03), (4.341, 0.034)),
    ("tanh", 1, 50, {"norm": "layer", "place": "post"}, (0.911, 0.03), (1.194, 0.034)),
    (
        "sigmoid",
        1,
        50,
        {"norm": "layer", "place": "post", "outside": False},
        (-5.245, 0.01),
        (-5.329, 0.01),
    ),
]


@pytest.mark.tiny
@pytest.mark.parametrize(("name", "sw2", "blocks", "more", "narrow", "wide"), RESIDUAL)
def test_residual_stacks(
    name: str,
    sw2: float,
    blocks: int,
    more: dict[str, object],
    narrow: tuple[float, float],
    wide: tuple[float, float],
) -> None:
    """4 errors and 2/n a block; where the mean of h drifts, 0.7 nat more."""
    for width, (total, error) in ((64, narrow), (1024, wide)):
        have = predict(Wide("resnet", name, blocks, width, float(sw2))._replace(**more))
        drifts = "drifts" in have.law
        assert drifts == (name == "relu" and not {"outside", "norm"} & more.keys())
        assert abs(have.total - total) <= 4 * error + 2 * blocks / width + 0.7 * drifts
        assert not have.why


@pytest.mark.tiny
def test_drift_without_homogeneity_is_told() -> None:
    for name, why in (("gelu", True), ("elu", True), ("tanh", False), ("sigmoid", False)):
        have = predict(Wide("resnet", name, 50, 64))
        assert math.isfinite(have.total)
        assert bool(have.why) == why, name


@pytest.mark.tiny
def test_very_deep_stacks_do_not_overflow() -> None:
    deep = predict(Wide("resnet", "relu", 5000, 64, 2.0))
    once = predict(Wide("resnet", "relu", 2500, 64, 2.0))
    # Beyond the crossing the drift alone counts: ln(G)/2 a block.
    assert (deep.total - once.total) / 2500 == pytest.approx(0.533063, abs=1e-6)
    relu = predict(mlp("relu", depth=5000, sw2=64.0))
    assert relu.exact is not None
    assert relu.total == pytest.approx(relu.exact.mean, rel=1e-12)
    elu = predict(mlp("elu", depth=2000, sw2=64.0))
    # Far from zero elu is relu.
    assert elu.total / 2000 == pytest.approx(math.log(32) / 2 - 1.25 / 64, abs=0.01)


@pytest.mark.tiny
def test_dense_stacks() -> None:
    """He, all features: ln(L + 1)/2; Xavier's fan-out makes the variance differ by block."""
    he = Wide("densenet", "relu", 50, 64, 2.0, all_features=True)
    assert predict(he).total == pytest.approx(math.log(51) / 2, abs=1e-12)
    assert predict(he._replace(all_features=False)).total == pytest.approx(0, abs=1e-12)
    xavier = [2 * block / (block + 1) for block in range(1, 51)]
    between = predict(he._replace(sw2=xavier)).total
    assert predict(he._replace(sw2=1.0)).total < between < math.log(51) / 2
    assert math.isnan(predict(he._replace(norm="batch")).total)


@pytest.mark.tiny
def test_transformers() -> None:
    """Against PyTorch's own layers; 0.25 nat, and 0.3 and L/n where the norm comes after."""
    pytorch, xavier = Blocks(1 / 6, 1 / 3, 1 / 3), Blocks(1.0, 0.4, 1.6)
    for blocks, place, depth, tokens, total in (
        (pytorch, "pre", 12, 32, 0.282),
        (pytorch, "pre", 100, 16, 1.077),
        (pytorch, "post", 12, 32, -0.089),
        (pytorch, "post", 48, 32, -1.17),
        (xavier, "pre", 12, 32, 1.054),
        (xavier, "pre", 100, 16, 2.124),
        (xavier, "post", 12, 32, -0.782),
    ):
        stack = Wide("transformer", "relu", depth, 64, rows=tokens, place=place, blocks=blocks)
        most = 0.25 if place == "pre" else 0.3 + depth / 64
        assert abs(predict(stack).total - total) <= most
    hot = Wide("transformer", "relu", 12, 64, rows=32, blocks=xavier, logits=4.0)
    assert "not uniform" in predict(hot).why


@pytest.mark.tiny
def test_what_has_no_theory() -> None:
    for stack, word in (
        (mlp("relu", weights="given"), "given"),
        (Wide("resnet", "relu", 50, 64, 2.0, norm="batch", rows=32), "residual"),
        (mlp("relu", rows=2), "infinite width"),
    ):
        assert word in predict(stack).why
    with pytest.raises(InputError, match="activation"):
        predict(mlp("elo"))


def totals(stack: Stack, sw2: float, width: int, depth: int, networks: int, rows: int) -> Array:
    """Of networks drawn with biases of variance one, inputs normal."""
    found = []
    for m in range(networks):
        rng = np.random.default_rng([m, 17])
        layers = naive.draw(rng, stack, depth, width, "normal", math.sqrt(sw2))
        for params in layers:
            params["bias"] = rng.normal(size=width)
        path = naive.forward(rng.normal(size=(rows, width)), stack, layers)
        logs = naive.adjoints(path, stack, rng.normal(size=path.states[-1].shape)).log_norm
        found.append(logs[-1] - logs[0])
    return np.array(found)


def agrees(have: Prediction, found: Array, more: float) -> bool:
    """Within 4 errors and `more`."""
    error = found.std(ddof=1) / math.sqrt(len(found))
    return abs(float(found.mean()) - have.total) <= 4 * error + more


@pytest.mark.parametrize(
    ("stack", "wide"),
    [
        (Stack("mlp", "tanh"), {}),
        (Stack("mlp", "relu", "layer"), {"norm": "layer"}),
        (Stack("resnet", "tanh", alpha=0.5), {"alpha": 0.5}),
        (Stack("resnet", "tanh", outside=False), {"outside": False}),
        (Stack("resnet", "relu", "layer"), {"norm": "layer"}),
        (Stack("resnet", "relu", "layer", outside=False), {"norm": "layer", "outside": False}),
        (Stack("resnet", "relu", "layer", "post"), {"norm": "layer", "place": "post"}),
        (
            Stack("resnet", "tanh", "layer", "post", outside=False),
            {"norm": "layer", "place": "post", "outside": False},
        ),
        (Stack("densenet", "tanh"), {"all_features": True}),
    ],
)
def test_stacks_with_biases(stack: Stack, wide: dict[str, object]) -> None:
    """2/n a layer; of a densenet 0.05 nat."""
    width, depth = 48, 16
    found = totals(stack, 1.5, width, depth, 60, 1)
    have = predict(Wide(stack.arch, stack.activation, depth, width, 1.5, 1.0)._replace(**wide))
    assert agrees(have, found, 0.05 if stack.arch == "densenet" else 2 * depth / width)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize(("depth", "networks"), [(1, 200), (12, 10)])
def test_batch_norm_from_the_first_layer_to_the_last(name: str, depth: int, networks: int) -> None:
    """0.003 a layer: the first sees raw inputs, the last an adjoint that is not centred."""
    stack, width, rows = Stack("mlp", name, "batch"), 192, 8
    found = totals(stack, 2, width, depth, networks, rows)
    have = predict(mlp(name, depth=depth, width=width, rows=rows, norm="batch", sb2=1.0))
    assert agrees(have, found, 0.003 * depth)


@pytest.mark.parametrize("outside", [False, True])
def test_the_mean_square_behind_residual_blocks_with_biases(outside: bool) -> None:
    """4 errors and 2/n of it, since h is squared."""
    stack, width, depth, networks = Stack("resnet", "tanh", outside=outside), 48, 16, 60
    squares = []
    for m in range(networks):
        rng = np.random.default_rng([m, 19])
        layers = naive.draw(rng, stack, depth, width, "normal")
        for params in layers:
            params["bias"] = rng.normal(size=width)
        path = naive.forward(rng.normal(size=(1, width)), stack, layers)
        squares.append(np.mean(path.states[-1] ** 2))
    have = predict(Wide("resnet", "tanh", depth, width, 1.0, 1.0, outside=outside))
    assert have.q is not None
    error = np.std(squares, ddof=1) / math.sqrt(networks)
    assert abs(np.mean(squares) - have.q[-1]) <= 4 * error + 2 / width * have.q[-1]
