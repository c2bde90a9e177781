"""The edge of chaos, and how deep two inputs stay apart, against tables of another program."""

import math

import numpy as np
import pytest

from seqlab.numbers import edge
from seqlab.numbers.activations import find_activation

# By bias variance: q and sw2.
EDGE = {
    "tanh": {0: (0, 1), 0.0025: (0.153692, 1.260094), 0.05: (0.570048, 1.760955)},
    "erf": {0: (0, math.pi / 4), 0.01: (0.253210, 1.114280), 0.3: (1.311824, 1.963071)},
    "elu": {0: (0, 1), 0.01: (0.437829, 1.383325), 0.3: (5.811580, 1.725428)},
    "silu": {0: (0, 4), 0.1: (1.551915, 2.439555), 0.3: (5.662189, 2.078706)},
    "gelu": {0: (0, 4), 0.0025: (0.075173, 3.429544), 0.3: (8.772172, 1.956159)},
    "relu": {0: (0, 2)},
    "leaky:0.5": {0: (0, 1.6)},
    # At q = 0 a leaky one of its slopes on both sides: 2/(scale^2 (1 + alpha^2)).
    "selu": {0: (0, 2 / (1.0507009873554805**2 * (1 + 1.6732632423543772**2)))},
}


@pytest.mark.tiny
@pytest.mark.parametrize("name", EDGE)
def test_the_edge_of_chaos(name: str) -> None:
    for sb2, want in EDGE[name].items():
        assert edge.critical(find_activation(name), sb2) == pytest.approx(want, abs=1e-6)


@pytest.mark.tiny
def test_where_there_is_no_edge() -> None:
    assert edge.critical(find_activation("relu"), 0.1) is None
    assert edge.critical(find_activation("softplus"), 0) is None
    sigmoid = edge.critical(find_activation("sigmoid"), 0)
    assert sigmoid == pytest.approx((45.62, 103.0), rel=2e-4)


@pytest.mark.tiny
@pytest.mark.parametrize(
    ("name", "sw2", "sb2", "want"),
    [
        ("tanh", 0.9, 0.1, (0.261091, 0.639001, 1.215, 1, 0.639001, 2.233)),
        ("tanh", 1.5, 0.05, (0.418037, 0.938636, 1.683, 1, 0.938636, 15.79)),
        ("tanh", 2, 0, (0.617965, 1.105529, 1.686, 0, 0.955011, 21.72)),
        ("tanh", 2, 0.05, (0.721762, 1.047666, 1.388, 0.744082, 0.961115, 25.21)),
        ("tanh", 4, 0.05, (2.195494, 1.342402, 0.873, 0.165065, 0.866528, 6.980)),
        ("erf", 2, 0.05, (0.965955, 1.154653, 1.073, 0.434481, 0.906482, 10.19)),
        ("gelu", 2, 0.1, (0.340830, 0.756347, 5.611, 1, 0.756347, 3.581)),
    ],
)
def test_how_deep_two_inputs_stay_apart(
    name: str, sw2: float, sb2: float, want: tuple[float, ...]
) -> None:
    have = edge.correlation_depths(find_activation(name), sw2, sb2)
    assert have is not None
    assert [have.q, have.chi, have.c, have.chi_c] == pytest.approx(
        [want[0], want[1], want[3], want[4]], abs=5.1e-7
    )
    assert [have.of_variance, have.of_correlation] == pytest.approx([want[2], want[5]], rel=6e-4)


@pytest.mark.tiny
def test_where_the_variance_comes_to() -> None:
    def rest(name: str, sw2: float, sb2: float) -> float | None:
        return edge.fixed_variance(find_activation(name), sw2, sb2)

    assert rest("tanh", 1, 0) == rest("gelu", 2, 0) == 0
    assert rest("relu", 3, 0) is rest("relu", 2, 0.1) is None
    assert rest("relu", 1, 0.1) == pytest.approx(0.2, rel=1e-12)
    assert rest("sigmoid", 1, 0) == pytest.approx(0.264687, abs=5.1e-7)
    assert edge.correlation_depths(find_activation("relu"), 3, 0) is None
    assert edge.correlation_depths(find_activation("tanh"), 0.5, 0) is None


@pytest.mark.tiny
def test_at_the_edge_itself_two_inputs_become_one_without_a_rate() -> None:
    relu = edge.correlation_depths(find_activation("relu"), 2, 0)
    assert relu is not None
    assert (relu.q, relu.c) == (2, 1)  # any q stays: that of an input of mean square one
    assert relu.of_variance == relu.of_correlation == math.inf
    phi = find_activation("tanh")
    point = edge.critical(phi, 0.05)
    assert point is not None
    for sw2 in (point.sw2 * (1 - 1e-12), point.sw2 * (1 + 1e-12)):
        near = edge.correlation_depths(phi, sw2, 0.05)
        assert near is not None
        assert near.c == 1
        assert near.of_correlation > 1e9
    # The half-stable point of gelu (Roberts, Yaida & Hanin 2022).
    gelu = find_activation("gelu")
    assert edge.variance_slope(gelu, 1.983058, 3.561553) == pytest.approx(1, abs=1e-6)


@pytest.mark.tiny
def test_inputs_of_a_relu_stack_become_one() -> None:
    c = edge.relu_correlations(100)
    want = (0, 0.318310, 0.680954, 0.854809, 0.944493, 0.987439, 0.996357)
    layers = np.array([1, 2, 5, 10, 20, 50, 100])
    assert c[layers - 1] == pytest.approx(want, abs=5.1e-7)
    dead = {
        2: (0.25, 0.3016, 0.3692, 0.4132, 0.4467, 0.4748, 0.4864),
        32: (0, 0.0055, 0.0892, 0.2016, 0.3092, 0.4079, 0.4502),
        128: (0, 0.0004, 0.0435, 0.1460, 0.2658, 0.3850, 0.4377),
    }
    for batch, shares in dead.items():
        have = [edge.dead_share(c[layer - 1], batch) for layer in layers]
        assert have == pytest.approx(shares, abs=1.1e-4)
    assert edge.dead_share(1, 8) == 0.5
