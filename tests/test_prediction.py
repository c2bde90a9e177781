"""The theory of a run beside what was measured: where it is exact, and where there is none."""

import math
from pathlib import Path
from typing import Any

import naive
import naive_spectrum
import numpy as np
import numpy.typing as npt
import pytest
from drawn import GATED, draw

from seqlab.measure import measure
from seqlab.measure.draw import Source
from seqlab.measure.randomness import unit_readout
from seqlab.numbers import theory
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]

SILENT = {"drive": "zeros", "input_scale": 0.0}
# What rests at the origin: gates may have a bias, and either the drive or its weights may be left.
RESTING = [
    {"arch": "rnn", **SILENT},
    {"arch": "rnn", "drive": "zeros", "input_scale": 1.0, "gain": 2.0},
    {"arch": "rnn", "input_scale": 0.0, "gain": 0.5},
    {"arch": "rnn", "activation": "identity", "gain": 1.5},
    {"arch": "lstm", **SILENT},
    {"arch": "lstm", "gain": 4.0, "input_scale": 0.0, "forget_bias": 1.5},
    {"arch": "lstm", **SILENT, "forget_bias": "chrono"},
    {"arch": "gru", **SILENT},
    {"arch": "gru", "gain": 4.0, "input_scale": 0.0, "forget_bias": -1.0},
]


def measured(**options: Any) -> dict[str, Array]:
    """The variables of an unclipped run."""
    spec = RunSpec.create(clip="none", **options)
    return {name: variable.data for name, variable in measure(spec).variables.items()}


def small(**options: Any) -> dict[str, Any]:
    """The options of a small run of two networks with random recurrent weights."""
    sizes = {"steps": 200, "hidden": 9, "inputs": 2, "networks": 2, "init": "normal"}
    return sizes | options


def given(folder: Path, arch: str, params: dict[str, Array], x: Array, **options: Any) -> Any:
    """The variables of one's own arrays."""
    np.savez(folder / "w.npz", **params)
    np.save(folder / "x.npy", x)
    files = {"params": folder / "w.npz", "input": folder / "x.npy"}
    return measured(arch=arch, **files, **options)


@pytest.mark.parametrize("options", RESTING, ids=str)
def test_at_the_origin_the_rate_is_the_spectral_radius(options: dict[str, Any]) -> None:
    """ln rho of the naive step's Jacobian at a zero state, to rounding.

    With J = V D V^-1, v the unit right eigenvector of rho and a the adjoint at lag 0, of norm 1:
    |v.a| rho^T <= ||a J^T|| <= cond(V) rho^T. So a measured rate is within O(1/T), both ways.
    """
    spec = RunSpec.create(**small(**options))
    have, source = measured(**small(**options)), Source(spec)
    ensemble, readouts = source.ensemble(range(2)), source.readout(range(2))
    rates = []
    for m in range(2):
        params = {name: value[m] for name, value in ensemble.params.items()}
        silent = np.zeros((1, 1, spec.inputs))
        jacobian = naive_spectrum.jacobians(
            spec.arch, params, silent, activation=spec.activation or "tanh"
        )
        values, vectors = np.linalg.eig(jacobian[0])
        most = np.abs(values).argmax()
        rates.append(math.log(abs(values[most])))
        start = np.concatenate([readouts[m], np.zeros(len(values) - 9)])
        excess = spec.steps * (have["decay_rate"][m, 0] - rates[m])
        assert excess <= math.log(np.linalg.cond(vectors)) + 1e-9
        assert excess >= math.log(abs(vectors[:, most] @ start)) - 1e-9
    assert have["theory"] == pytest.approx(np.mean(rates), abs=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("inputs", ["weights", "drive", "unused"])
@pytest.mark.parametrize(("arch", "critical"), [("rnn", 1.0), ("lstm", 2.0), ("gru", 2.0)])
def test_the_critical_gain_at_the_origin(
    arch: str, critical: float, inputs: str, tmp_path: Path
) -> None:
    """Recurrent blocks g times the identity: ln g, and ln(1/2 + g/4) of the gated cells.

    Of one's own arrays too, whether the drive is zero, its weights are, or those of the inputs
    that are ever used; over T steps the lstm's first one costs ln 2 at most.
    """
    for share in (0.8, 1.0, 1.2):
        gain = share * critical
        own = {name: np.zeros_like(value) for name, value in draw(arch).params.items()}
        own["weight_hh"] = np.tile(gain * np.eye(3), (len(own["bias_hh"]) // 3, 1))
        x = np.ones((60, 1, 2))
        if inputs == "drive":
            x[:], own["weight_ih"][:] = 0, 1
        elif inputs == "unused":
            x[..., 1], own["weight_ih"][:, 1] = 0, 1
        have = given(tmp_path, arch, own, x)
        want = math.log(gain) if arch == "rnn" else math.log(0.5 + gain / 4)
        assert have["theory"] == pytest.approx(want, abs=1e-14)
        assert have["decay_rate"] == pytest.approx(want, abs=math.log(2) / 60 + 1e-12)
        assert share == 1 or (want > 0) == (share > 1)


@pytest.mark.tiny
def test_a_relu_at_its_kink_passes_nothing() -> None:
    have = measured(**small(arch="rnn", activation="relu", steps=9, **SILENT))
    assert (have["decay_rate"] == -np.inf).all()
    assert have["theory"] == -np.inf


@pytest.mark.tiny
def test_a_sigmoid_network_without_input_is_not_at_the_origin() -> None:
    options = small(arch="rnn", activation="sigmoid", gain=3.0, steps=9, **SILENT)
    params = Source(RunSpec.create(**options)).ensemble(range(2)).params
    squares = np.mean(params["weight_hh"] ** 2, axis=(1, 2)) * 9
    rates = [theory.mean_field("sigmoid", float(sw2), 0.0).rate for sw2 in squares]
    assert measured(**options)["theory"] == pytest.approx(np.mean(rates), rel=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", GATED)
@pytest.mark.parametrize("bias", ["bias_ih", "bias_hh"])
def test_a_bias_moves_the_state_from_the_origin(arch: str, bias: str, tmp_path: Path) -> None:
    """On the units or candidates: of one's own weights nothing is known there."""
    own = draw(arch).params
    own["bias_ih"][:] = own["bias_hh"][:] = 0
    x = np.zeros((6, 1, 2))
    rest = float(given(tmp_path, arch, own, x)["theory"])
    own[bias][6 if arch != "rnn" else 0] = 1e-9  # rows r, z, n and i, f, g, o
    moved = float(given(tmp_path, arch, own, x)["theory"])
    assert math.isfinite(rest)
    assert math.isnan(moved)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", GATED)
def test_the_theory_of_random_weights_is_silent_on_one_s_own(arch: str, tmp_path: Path) -> None:
    """But a linear network's rate is ln rho whatever it is driven with."""
    mine = draw(arch, batch=1, steps=20)
    assert np.isnan(given(tmp_path, arch, mine.params, mine.x)["theory"])
    if arch == "rnn":
        have = given(tmp_path, arch, mine.params, mine.x, activation="identity")
        radius = np.abs(np.linalg.eigvals(mine.params["weight_hh"])).max()
        assert have["theory"] == pytest.approx(math.log(radius), abs=1e-14)


@pytest.mark.tiny
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 1e-6)])
@pytest.mark.parametrize("steps", [3, 100])
def test_the_scan_s_rate_is_known_from_its_mean_steps(
    steps: int, dtype: str, tolerance: float
) -> None:
    """Exactly, over any number of steps: kernels backward against the steps' means forward."""
    have = measured(**small(arch="ssm", steps=steps, init=None, dtype=dtype, state=3))
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=tolerance)


@pytest.mark.tiny
def test_the_scan_s_rate_of_one_s_own_arrays(tmp_path: Path) -> None:
    """Several sequences, each with steps and C of its own, from the naive step sizes."""
    mine = draw("ssm", hidden=5, state=4, steps=40, batch=3, networks=2)
    have = given(tmp_path, "ssm", mine.params, mine.x)
    rates = []
    for m in range(2):
        one = mine.network(m)
        saved = naive.forward("ssm", one.params, one.x)["saved"]
        carry = np.prod([step["decay"] for step in saved], axis=0)
        start = unit_readout(0, m, 5)[None, :, None] * saved[-1]["c"][:, None, :]
        rates.append(math.log(np.linalg.norm(carry * start) / np.linalg.norm(start)) / 40)
    assert have["theory"] == pytest.approx(np.mean(rates), abs=1e-12)
    assert have["decay_rate"][:, 0] == pytest.approx(rates, abs=1e-12)


def test_the_scan_s_rate_becomes_that_of_its_slowest_entry(tmp_path: Path) -> None:
    """The largest A <Delta>, within O(1/T); Delta is the same at each step."""
    own = draw("ssm", hidden=4, state=3, steps=1).params
    own["dt_proj_weight"][:] = 0
    x = np.ones((20_000, 1, 2))
    delta = np.logaddexp(0, own["dt_proj_bias"])
    slowest = -(np.exp(own["A_log"]) * delta[:, None]).min()
    have = given(tmp_path, "ssm", own, x)
    assert have["theory"] == pytest.approx(slowest, abs=10 / 20_000)
    assert have["theory"] == pytest.approx(have["decay_rate"].mean(), abs=1e-12)


@pytest.mark.tiny
def test_a_scan_that_says_nothing_has_no_rate(tmp_path: Path) -> None:
    """Without input C is zero, and so is the adjoint from the start."""
    have = given(tmp_path, "ssm", draw("ssm").params, np.zeros((6, 1, 2)))
    assert np.isnan(have["theory"])
    assert np.isnan(have["decay_rate"]).all()


@pytest.mark.parametrize("arch", GATED)
def test_keras_s_draw_has_a_theory(arch: str) -> None:
    """Blocks of one orthogonal matrix have the spread 1/sqrt(gates) and count as random ones.

    A formula for infinitely many units, here 64: off by 0.003 (rnn), 0.011 (lstm) and 0.005 (gru)
    nats a step. PyTorch's draw has other rates, by 0.32, 0.27 and 0.02.
    """
    have = measured(arch=arch, steps=300, networks=8, init="keras")
    rate, theory = have["decay_rate"][:, 0].mean(), float(have["theory"])
    assert theory == pytest.approx(rate, abs=0.015)
