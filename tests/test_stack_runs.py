"""Whole runs of deep stacks: every number of a small one against NumPy, the range of numbers,
memory."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import naive_depth as naive
import numpy as np
import pytest
from naive_depth import Array
from naive_rules import read_rule
from stack_runs import Taken, create, joined, logs_of, measured, slopes, taken

import seqlab
from seqlab.kernels import memory
from seqlab.measure import stack_cost, stack_networks
from seqlab.measure.stack_cost import memory_bytes
from seqlab.measure.stacks import measure
from seqlab.numbers.activations import find_activation
from seqlab.spec.stack import StackSpec

NEAR = 1e-12  # of logs and cosines against NumPy, of some hundred roundings; seen: 7e-15


RULES = ["none", "norm:0.1", "value:0.01", "step-norm:0.5", "step-value:0.05", "truncate:2"]
SPECS: dict[str, dict[str, Any]] = {
    "mlp": {"batch": 3, "clip": RULES, "lengths": [2, 6]},
    "one input": {"batch": 1, "activation": "tanh", "clip": RULES, "inputs": 5},
    "batch norm": {"batch": 5, "norm": "batch", "clip": RULES, "bias_scale": 0.5, "init": "he"},
    "resnet": {"arch": "resnet", "batch": 4, "norm": "layer", "order": "inside", "alpha": "sqrt"},
    "post": {"arch": "resnet", "batch": 4, "norm": "group:4", "place": "post", "inputs": 11},
    "densenet": {"arch": "densenet", "batch": 4, "readout": "all", "clip": RULES},
    "densenet last": {"arch": "densenet", "batch": 4, "readout": "last", "lengths": [3, 6]},
    "transformer": {"arch": "transformer", "tokens": 5, "heads": 2, "clip": RULES},
    "last token": {"arch": "transformer", "tokens": 5, "heads": 2, "readout": "last"},
    "post norm": {"arch": "transformer", "tokens": 3, "heads": 4, "place": "post", "steps": 3},
}


@pytest.mark.parametrize("name", SPECS)
def test_every_number_of_a_run_is_numpy_s(name: str) -> None:
    spec = create(**SPECS[name])
    have, want = measured(spec), taken(spec)
    lags, depth = have["lag"], spec.steps
    assert lags.tolist() == list(range(depth + 1))  # all are kept of so few
    for m, network in enumerate(want.layers):
        path = naive.forward(want.x[m], want.stack, network)
        states = [h[:, -spec.hidden :] for h in path.states[::-1]]  # by lag; the newest features
        squares = [math.log(np.mean(h**2)) for h in states]
        assert have["log_mean_square"][m] == pytest.approx(squares, abs=NEAR)
        if spec.rows > 1:
            cosines = [math.nan if (h == 0).all(axis=1).any() else naive.cosine(h) for h in states]
            assert have["cosine"][m] == pytest.approx(cosines, abs=NEAR, nan_ok=True)
        else:
            assert np.isnan(have["cosine"][m]).all()
        seen = slopes(path, want.stack, network)[::-1]
        least = 0.05 * find_activation(spec.activation).steepest
        shares = {
            "zero_units": [np.mean(s == 0) for s in seen],
            "dead_units": [np.mean((s == 0).all(axis=0)) for s in seen],
            "always_on_units": [np.mean((s != 0).all(axis=0)) for s in seen],
            "saturated_units": [np.mean(np.abs(s) < least) for s in seen],
        }
        for share, values in shares.items():
            assert have[share][m, :-1] == pytest.approx(np.array(values), abs=1e-15), share
            assert math.isnan(have[share][m, -1])
        for r, rule in enumerate(spec.clip):
            assert_rule(have, want, spec, m, r, rule)


def assert_rule(
    have: dict[str, Array], want: Taken, spec: StackSpec, m: int, r: int, rule: str
) -> None:
    """Curves and gradients of one network under one rule."""
    depth = spec.steps
    for k, length in enumerate(spec.lengths):
        path = naive.forward(want.x[m], want.stack, want.layers[m][:length])
        seen = naive.adjoints(path, want.stack, want.readouts[m][k], rule)
        assert seen.log_norm[0] == pytest.approx(0, abs=NEAR)  # of a densenet's newest features
        curve = have["log_norm"][m, r, k]
        assert curve[: length + 1] == pytest.approx(seen.log_norm, abs=NEAR)
        assert np.isnan(curve[length + 1 :]).all()
        every = [logs_of(*pair) for pair in seen.gradients]
        both = [joined(parts) for parts in every]
        assert have["log_norm_input"][m, r, k, :length] == pytest.approx(both, abs=NEAR)
    for part in ("weight", "bias"):
        logs = [
            joined(logs_of(scale, {k: g for k, g in grads.items() if k.endswith(part)}))
            for scale, grads in seen.gradients
        ]
        table = have[f"log_{part}_grad_norm"][m, r]
        if part == "bias" and spec.norm == "batch":
            assert (table[:depth] < -25).all()  # what rounding leaves of zero
        else:
            assert table[:depth] == pytest.approx(logs, abs=NEAR)
        assert math.isnan(table[depth])
    whole = [log for logs in every for log in logs]
    kind, threshold = read_rule(rule)
    unclipped = naive.adjoints(path, want.stack, want.readouts[m][-1])
    free = [log for pair in unclipped.gradients for log in logs_of(*pair)]
    before, after, acted = joined(free), joined(whole), 0.0
    if kind == "norm":
        after, acted = min(before, math.log(threshold)), float(before > math.log(threshold))
    if kind == "value":
        clipped = [np.minimum(log, math.log(threshold)) for log in free]
        after, acted = joined(clipped), float(max(log.max() for log in free) > math.log(threshold))
    assert have["log_param_grad_norm_before"][m, r] == pytest.approx(before, abs=NEAR)
    assert have["log_param_grad_norm_after"][m, r] == pytest.approx(after, abs=NEAR)
    if kind in ("norm", "value", "none"):
        assert have["clipped_fraction"][m, r] == acted


def far_clips(entries: bool) -> list[str]:
    """Thresholds under all numbers, over most, and between."""
    values = ["value:1e-300", "value:1e-3", "value:1e200"] if entries else []
    return ["none", "norm:1e-3", "norm:1e250", *values]


def assert_far(spec: StackSpec, want: Taken) -> list[float]:
    """The norm of all parameters' gradients before and after each rule, to 1e-9 of a log of some
    thousand; returns ln of the norm of each layer's, from the loss back."""
    have = measured(spec)
    path = naive.forward(want.x[0], want.stack, want.layers[0])
    seen = naive.adjoints(path, want.stack, want.readouts[0][0])
    every = [logs_of(*pair) for pair in seen.gradients]
    logs = [log for pair in every for log in pair]
    before = joined(logs)
    assert have["log_param_grad_norm_before"][0] == pytest.approx(before, rel=1e-12, abs=1e-9)
    for r, rule in enumerate(spec.clip):
        kind, threshold = read_rule(rule)
        after = before
        if kind == "norm":
            after = min(before, math.log(threshold))
        if kind == "value":
            after = joined([np.minimum(log, math.log(threshold)) for log in logs])
        found = have["log_param_grad_norm_after"][0, r]
        assert found == pytest.approx(after, rel=1e-12, abs=1e-9), rule
    return [joined(pair) for pair in every]


FAR = pytest.mark.parametrize("entries", [True, False], ids=["value", "norms"])


@FAR
def test_gradients_that_vanish_beyond_the_range(entries: bool) -> None:
    """Sigmoid's, which fall by decades a layer; the states do not."""
    spec = create(
        activation="sigmoid", steps=500, hidden=4, batch=1, networks=1, lengths=[500],
        clip=far_clips(entries),
    )  # fmt: skip
    by_layer = assert_far(spec, taken(spec))
    assert by_layer[-1] < -400 * math.log(10)


@FAR
def test_gradients_that_explode_beyond_the_range(entries: bool, here: Path) -> None:
    """The states of a linear stack fall to 1e-150 and rise to 1e150: between, biases get 1e300."""
    rng = np.random.default_rng(5)
    weights = {}
    for layer in range(250):
        scale = 0.1 if layer < 150 else 1000.0
        weights[f"{layer}.weight"] = scale * np.linalg.qr(rng.normal(size=(3, 3)))[0]
    np.savez("far.npz", **weights)
    spec = create(
        activation="identity", steps=250, hidden=3, batch=1, networks=1, lengths=[250],
        clip=far_clips(entries), params="far.npz",
    )  # fmt: skip
    by_layer = assert_far(spec, taken(spec))
    assert max(by_layer) > 299 * math.log(10)


# Memory.


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "given",
    [
        {"steps": 100, "hidden": 64, "batch": 32, "networks": 6},
        {"steps": 400, "hidden": 16, "batch": 1, "networks": 4},
        {"steps": 40, "hidden": 64, "batch": 32, "norm": "batch", "spectrum": 4},
        {"steps": 60, "hidden": 64, "batch": 8, "clip": ["none", "value:1"]},
        {"arch": "densenet", "steps": 40, "hidden": 16, "batch": 8},
        {"arch": "transformer", "steps": 16, "hidden": 32, "tokens": 16},
    ],
    ids=lambda given: given.get("arch", "mlp"),
)
def test_estimates_of_memory_hold_and_are_not_idle(
    given: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least what is taken at the peak, at most three times as much; of several threads the peaks
    need not meet."""
    monkeypatch.setenv("NUMBA_NUM_THREADS", str(threads))
    measure(create(**given | {"steps": 3, "networks": 2}))  # compiles, imports, fills caches
    spec = create(**given)
    peak = peak_of(spec)
    assert peak <= memory_bytes(spec) <= 3 * threads * peak


def test_estimates_of_what_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are drawn and computed again, in ten pieces."""
    for module in (stack_networks, stack_cost):
        monkeypatch.setattr(module, "KEPT_BYTES", 0)
    monkeypatch.setattr("seqlab.engine.tape.SEGMENT_BYTES", 1 << 20)
    spec = create(steps=300, hidden=32, batch=32, networks=2)
    measure(create(steps=3, hidden=32, batch=32, networks=2))
    peak = peak_of(spec)
    assert peak <= memory_bytes(spec) <= 3 * 2 * peak
    assert memory_bytes(spec) < spec.networks * spec.steps * stack_cost._layer_bytes(spec)


def peak_of(spec: StackSpec) -> int:
    """Bytes that a run holds at its peak, from none that are kept."""
    memory.release()
    tracemalloc.start()
    try:
        measure(spec)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


TINY: list[dict[str, Any]] = [
    {"arch": "mlp", "inputs": 3, "norm": "group:2", "batch": 2, "spectrum": 2},
    {"arch": "mlp", "inputs": 1, "norm": "batch", "batch": 3, "init": "orthogonal"},
    {"arch": "mlp", "activation": "tanh", "batch": 1, "params": "own.npz"},
    {"arch": "resnet", "batch": 2, "inputs": 3},
    {"arch": "densenet", "batch": 2, "readout": "last"},
    {"arch": "transformer", "tokens": 2, "heads": 1, "readout": "last"},
    {"arch": "transformer", "tokens": 2, "heads": 2, "init": "xavier"},
]


@pytest.mark.tiny
@pytest.mark.parametrize("given", TINY, ids=lambda given: given["arch"])
def test_tiny_runs(given: dict[str, Any], here: Path) -> None:
    """The public call: as many numbers as were asked for, and no more memory than was said."""
    weights = {f"{layer}.weight": np.eye(2) for layer in range(2)}
    np.savez("own.npz", **weights, **{"0.bias": np.ones(2)})
    spec = create(**given, steps=2, hidden=2, networks=1, clip=["none", "value:1", "step-norm:1"])
    result = seqlab.run(**{k: v for k, v in spec.to_dict().items() if v is not None})
    assert result.variables["log_norm"].data.shape == (1, 3, 1, 3)
    assert not np.isnan(result.variables["log_norm"].data).any()
    assert memory_bytes(spec) > 0


@pytest.mark.tiny
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_tiny_spectrum(activation: str) -> None:
    """Whose directions may die, or may not."""
    exponents = measured(create(activation=activation, batch=1, hidden=3, spectrum=3))["lyapunov"]
    assert exponents.shape == (2, 3)
    assert (exponents[:, :-1] >= exponents[:, 1:]).all()
    assert np.isneginf(exponents).any() == (activation == "relu")
