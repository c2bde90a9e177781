"""Ensembles of deep stacks against what theory and other programs say of them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from stack_runs import create, measured
from test_stack_theory import SIMULATED

from seqlab.measure.stack_theory import prediction
from seqlab.numbers.depth import he_relu_law
from seqlab.spec.stack import StackSpec


class Rates(NamedTuple):
    """Of the totals over all layers: their mean, its standard error, their variance."""

    mean: float
    error: float
    variance: float


def rates(spec: StackSpec) -> Rates:
    totals = measured(spec)["decay_rate"][:, 0] * spec.steps
    assert np.isfinite(totals).all()
    return Rates(
        float(totals.mean()), float(totals.std(ddof=1)) / math.sqrt(len(totals)), totals.var(ddof=1)
    )


# What is allowed beside four standard errors, in nats, of so many layers and units: half a unit's
# share of a layer where theory has the width's correction, two where it has none; of a densenet
# what its sum leaves out.
Allowed = Callable[[int, int], float]
CORRECTED: Allowed = lambda layers, units: 0.5 * layers / units  # noqa: E731
FIRST: Allowed = lambda layers, units: 2 * layers / units  # noqa: E731
DENSE: Allowed = lambda layers, units: 0.05  # noqa: E731
RESIDUAL = {"arch": "resnet", "init": "xavier", "activation": "tanh"}
ENSEMBLES: dict[str, tuple[dict[str, Any], Allowed]] = {
    "tanh at Xavier": ({"activation": "tanh", "init": "xavier"}, CORRECTED),
    "relu by default": ({}, CORRECTED),
    "gelu at He": ({"activation": "gelu", "init": "he", "steps": 8}, CORRECTED),
    "orthogonal tanh": ({"activation": "tanh", "init": "orthogonal"}, CORRECTED),
    "layer norm": ({"activation": "tanh", "norm": "layer", "init": "xavier"}, CORRECTED),
    "biases": ({"activation": "tanh", "init": "he", "bias_scale": 0.3}, CORRECTED),
    "first layer": ({"activation": "tanh", "init": "he", "inputs": 3, "steps": 6}, CORRECTED),
    "residual": (RESIDUAL, FIRST),
    "pre": ({"arch": "resnet", "init": "he", "norm": "layer"}, FIRST),
    "post": (RESIDUAL | {"norm": "layer", "place": "post"}, FIRST),
    "inside": ({"arch": "resnet", "init": "he", "order": "inside", "alpha": "sqrt"}, FIRST),
    "dense": ({"arch": "densenet", "init": "he", "steps": 10}, DENSE),
}


@pytest.mark.parametrize("name", ENSEMBLES)
def test_small_ensembles_do_what_theory_says(name: str) -> None:
    given, allowed = ENSEMBLES[name]
    spec = create(**{"steps": 20, "hidden": 32, "batch": 1, "networks": 100} | given)
    have, want = rates(spec), prediction(spec)
    assert not want.why or allowed is not CORRECTED
    beside = allowed(spec.steps, spec.hidden)
    assert abs(have.mean - want.total) <= 4 * have.error + beside


@pytest.mark.parametrize("init", ["he", "orthogonal"])
def test_relu_of_one_input_has_an_exact_law(init: str) -> None:
    """Mean and variance of 40 layers of 9 units, and the share of networks that are dead, to four
    errors; of the totals, nearly normal, the variance has the error v sqrt(2/M)."""
    steps, width, networks = 40, 9, 800
    given = {"gain": math.sqrt(2)} if init == "orthogonal" else {}
    spec = create(
        steps=steps, hidden=width, networks=networks, batch=1, init=init, lengths=[steps], **given
    )
    totals = measured(spec)["decay_rate"][:, 0] * steps
    law, alive = he_relu_law(width, init == "orthogonal"), totals[np.isfinite(totals)]
    zero = 1 - (1 - 2.0**-width) ** steps
    assert np.isneginf(totals[~np.isfinite(totals)]).all()
    dead = 1 - len(alive) / networks
    assert abs(dead - zero) <= 4 * math.sqrt(zero / networks)
    variance = alive.var(ddof=1)
    assert abs(alive.mean() - steps * law.mean) <= 4 * math.sqrt(variance / len(alive))
    want = steps * law.variance
    assert abs(variance - want) <= 4 * want * math.sqrt(2 / len(alive)) * 1.2
    exact = prediction(spec).exact
    assert exact is not None
    assert exact == pytest.approx((steps * law.mean, want, zero), rel=1e-9)


def test_half_of_all_relu_are_zero() -> None:
    """Of a draw without biases every unit is at zero with probability 1/2, given the layer before:
    a mean over networks, which are independent."""
    spec = create(steps=10, hidden=32, networks=100, batch=4, init="he")
    shares = measured(spec)["zero_units"][:, :-1]
    error = shares.std(axis=0, ddof=1) / math.sqrt(spec.networks)
    assert (np.abs(shares.mean(axis=0) - 0.5) <= 4.5 * error).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_batch_norm_explodes_as_theory_says(activation: str) -> None:
    """Between lag 3 and the second last: the first norm sees raw data."""
    spec = create(
        steps=25, hidden=192, batch=8, networks=12, norm="batch", init="he", activation=activation
    )
    logs = measured(spec)["log_norm"][:, 0, -1]
    slopes = (logs[:, -2] - logs[:, 3]) / (logs.shape[1] - 5)
    deeper = StackSpec.create(**spec.to_dict() | {"steps": 26, "lengths": [26]})
    want = prediction(deeper).total - prediction(spec).total
    error = slopes.std(ddof=1) / math.sqrt(len(slopes))
    assert abs(slopes.mean() - want) <= 4 * error + 0.003


@pytest.mark.parametrize("place", ["pre", "post"])
def test_transformers_do_what_theory_says(place: str) -> None:
    """A quarter of a nat with the norms before the branches, 0.3 and L/n with them after."""
    spec = create(
        arch="transformer", steps=12, hidden=64, tokens=16, heads=4, networks=12, place=place
    )
    have, want = rates(spec), prediction(spec)
    allowed = 0.25 if place == "pre" else 0.3 + spec.steps / spec.hidden
    assert abs(have.mean - want.total) <= 4 * have.error + allowed


def test_identical_inputs_die_together() -> None:
    """Dead units of He relu in batches of 32 of 256 units: 0, 0.089 and 0.408 after 1, 5 and 50
    layers (the integral over pairs of inputs, whose correlation grows), to 0.03."""
    spec = create(steps=50, hidden=256, batch=32, networks=12, init="he", lengths=[50])
    dead = measured(spec)["dead_units"].mean(axis=0)
    for layer, share in (
        (1, 0.0),
        (2, 0.0055),
        (5, 0.0892),
        (10, 0.2016),
        (20, 0.3092),
        (50, 0.4079),
    ):
        assert abs(dead[50 - layer] - share) <= 0.03


@pytest.mark.slow
@pytest.mark.parametrize("init", SIMULATED)
def test_plain_stacks_are_as_simulated(init: str) -> None:
    """50 layers of 64 units by another program, to four errors of both; 0.05 for inputs of which
    the mean square is not one, but varies by a sixth."""
    for activation, (total, error) in SIMULATED[init].items():
        given = {"steps": 50, "hidden": 64, "batch": 1, "networks": 300, "lengths": [50]}
        have = rates(create(init=init, activation=activation, **given))
        assert abs(have.mean - total) <= 4 * math.hypot(have.error, error) + 0.05, activation
