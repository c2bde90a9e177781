"""A whole run at tiny sizes: every draw, option and variable, checked against its definition."""

import math
from pathlib import Path
from typing import Any

import clips
import numpy as np
import numpy.typing as npt
import pytest
from adjoints import curves
from drawn import ARCHS, draw

import seqlab
from seqlab.cells import CELLS, Draw
from seqlab.errors import InputError
from seqlab.measure import measure
from seqlab.measure.cost import memory_bytes
from seqlab.measure.randomness import Purpose, stream, unit_readout
from seqlab.numbers import theory
from seqlab.numbers.fit import fit_decay, fit_lags
from seqlab.numbers.variables import Measurement, Variable
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]

THRESHOLDS = {"step-norm": 0.5, "truncate": 3, "norm": 0.01, "value": 0.01, "step-value": 0.5}
RULES = ("none", *clips.spelled(THRESHOLDS))

RING = ("r_min", "r_max", "max_phase")


def small(arch: str, **changed: Any) -> RunSpec:
    given = {"arch": arch, "steps": 12, "hidden": 3, "inputs": 2, "networks": 2, "clip": RULES}
    given |= {"lengths": [2, 6, 12]} | ({"state": 2} if "state" in CELLS[arch].options else {})
    return RunSpec.create(**given | changed)


def data(result: Measurement) -> dict[str, Array]:
    return {name: variable.data for name, variable in result.variables.items()}


def parts_of(spec: RunSpec, m: int) -> tuple[dict[str, Array], Array, Array]:
    """One network's parameters, drive and unit readout, drawn as the interface says."""
    given = {name: getattr(spec, name) for name in ("init", "gain", "input_scale", "forget_bias")}
    given |= {name: getattr(spec, name) for name in RING if getattr(spec, name) is not None}
    how = Draw(**given, steps=spec.steps)
    params = spec.cell.draw(stream(spec.seed, m, Purpose.PARAMETERS), spec.sizes, how)
    x = stream(spec.seed, m, Purpose.DRIVE).standard_normal((spec.steps, 1, spec.inputs))
    return params, x, unit_readout(spec.seed, m, spec.hidden)


def test_readouts_and_drives_are_the_streams_of_the_interface() -> None:
    """`SeedSequence(seed, spawn_key=(m, k))`: 0 parameters, 1 drive, 2 readout."""
    for purpose, k in ((Purpose.PARAMETERS, 0), (Purpose.DRIVE, 1), (Purpose.READOUT, 2)):
        want = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3, k)))
        assert np.array_equal(stream(5, 3, purpose).normal(size=4), want.normal(size=4))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_run_is_attenuation_of_its_networks(arch: str) -> None:
    """Every curve relative to the state's own lag 0, under rules that see a unit adjoint there."""
    spec = small(arch)
    have = data(measure(spec))
    assert np.array_equal(have["lag"], np.arange(13))
    assert list(have["rule"]) == list(RULES)
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        start = seqlab.attenuation(arch, params, x, spec.lengths, readout=readout).log_norm[0, :, 0]
        for rule, clip in enumerate(RULES):
            for k, length in enumerate(spec.lengths):
                # Scaled so that the state's adjoint has norm 1 at lag 0.
                att = seqlab.attenuation(
                    arch, params, x, [length], clip=clip, readout=readout * np.exp(-start[k])
                )
                assert att.log_norm[0, 0, 0] == pytest.approx(0, abs=1e-14)
                parts = [f"_{part}" for part in CELLS[arch].parts if len(CELLS[arch].parts) > 1]
                for name in ("", *parts, "_input"):
                    curve = have[f"log_norm{name}"][m, rule, k]
                    want = curves(att)[f"log_norm{name}"][0, 0]
                    assert curve[: length + 1] == pytest.approx(want, abs=1e-12, nan_ok=True)
                    assert np.isnan(curve[length + 1 :]).all()


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_what_a_run_derives_from_its_curves(arch: str) -> None:
    """Rates, horizons, zero lags and fits, by their definitions."""
    have = data(measure(small(arch)))
    longest = have["log_norm"][:, :, -1]
    assert np.array_equal(have["decay_rate"], longest[:, :, -1] / 12, equal_nan=True)
    median = np.median(longest, axis=0)
    for rule, curve in enumerate(median):
        for k, threshold in enumerate((0.1, 1e-3, 1e-6)):
            below = np.flatnonzero(curve < np.log(threshold))
            assert have["horizon"][rule, k] == (below[0] if below.size else -1)
        for dtype, bits in (("float32", 149), ("float64", 1074)):
            below = np.flatnonzero(curve < -bits * np.log(2))
            assert have[f"{dtype}_zero_lag"][rule] == (below[0] if below.size else -1)
        lags = fit_lags(12)
        fit = fit_decay(lags, curve[lags])
        if fit is None:
            assert np.isnan(have["fit_rate"][rule])
        else:
            assert have["fit_rate"][rule] == pytest.approx(fit.rate, rel=1e-12)
            assert have["fit_exponent"][rule] == pytest.approx(fit.exponent, rel=1e-12)
            assert have["fit_exponential_rms"][rule] == pytest.approx(fit.exponential_rms)
            assert have["fit_power_rms"][rule] == pytest.approx(fit.power_rms)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_what_rules_do_to_a_run(arch: str) -> None:
    """How often each fired, and the parameter gradients' norm on both sides of it."""
    spec = small(arch)
    have = data(measure(spec))
    fired = have["clipped_fraction"]
    assert (fired[:, 0] == 0).all()
    assert (fired[:, 2] == 1 / 12).all()  # cut once; then there is nothing to cut
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        start = seqlab.attenuation(arch, params, x, [12], readout=readout).log_norm[0, 0, 0]
        grad = np.zeros((12, 1, 3))
        grad[-1] = readout * math.exp(-start)
        trajectory = seqlab.forward(arch, params, x)
        for rule, clip in enumerate(RULES):
            for side, text in (("before", "none"), ("after", clip)):
                g = seqlab.backward(trajectory, grad, clip=text).params
                norm = np.linalg.norm(np.concatenate([value.ravel() for value in g.values()]))
                log = have[f"log_param_grad_norm_{side}"][m, rule]
                assert log == pytest.approx(math.log(norm), abs=1e-11)
        state = have["log_norm"][m, 1, -1]
        # A step at which step-norm fired leaves the norm at its threshold.
        held = np.abs(state[1:] - math.log(0.5)) < 1e-14
        assert fired[m, 1] == held.sum() / 12
        assert fired[m, 3] == (have["log_param_grad_norm_before"][m, 3] > math.log(0.01))


@pytest.mark.tiny
@pytest.mark.parametrize("rule", ["step-norm", "step-value"])
def test_steps_at_which_a_rule_fired_are_counted(rule: str) -> None:
    """With one unit both rules leave |a| = c where they act, and only there."""
    spec = small("rnn", hidden=1, steps=30, lengths=[7, 30], init="normal", gain=1.5, networks=6,
                 input_scale=0.5, clip=[f"{rule}:0.4"])  # fmt: skip
    have = data(measure(spec))
    held = np.abs(have["log_norm"][:, 0, -1, 1:] - math.log(0.4)) < 1e-14
    assert held.any()
    assert not held.all()
    assert np.array_equal(have["clipped_fraction"][:, 0], held.mean(axis=1))


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_progress_rises_to_the_end(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqlab.measure.progress.PAUSE", 0.0)
    seen: list[tuple[float, str]] = []
    measure(small(arch, spectrum=2), progress=lambda fraction, what: seen.append((fraction, what)))
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] == 1
    stages = list(dict.fromkeys(what.split(" ")[0] for _, what in seen))
    assert stages[-4:] == ["forward", "backward", "spectrum", "done"]


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_one_s_own_arrays(arch: str, tmp_path: Path) -> None:
    """Weights and drive from files, with an M axis or, for all networks, without one."""
    run = draw(arch, steps=8, batch=1, networks=2)
    for name, given in (("many", run), ("one", run.network(1))):
        np.savez(tmp_path / f"{name}.npz", **given.params)
        np.save(tmp_path / f"{name}.npy", given.x)
    readouts = np.stack([unit_readout(0, m, 3) for m in range(2)])[:, None]
    for params, x in (("many", "many"), ("one", "one"), ("many", "one")):
        spec = RunSpec.create(
            arch=arch, params=tmp_path / f"{params}.npz", input=tmp_path / f"{x}.npy", clip="none"
        )
        have = data(measure(spec))["log_norm"][:, 0, -1]
        for m in range(len(have)):
            own = run.network(m if params == "many" else 1)
            drive = run.network(m if x == "many" else 1).x
            att = seqlab.attenuation(arch, own.params, drive, [8], readout=readouts[m, 0])
            want = att.log_norm[0, 0] - att.log_norm[0, 0, 0]
            assert have[m] == pytest.approx(want, abs=1e-12)


@pytest.mark.tiny
def test_a_drive_of_zeros_is_silent() -> None:
    """Only biases then move the network; the ssm, which would say nothing, refuses."""
    have = data(measure(small("rnn", drive="zeros")))
    params = [parts_of(small("rnn"), m)[0] for m in range(2)]
    for m in range(2):
        att = seqlab.attenuation(
            "rnn", params[m], np.zeros((12, 1, 2)), [12], readout=unit_readout(0, m, 3)
        )
        assert have["log_norm"][m, 0, -1] == pytest.approx(att.log_norm[0, 0], abs=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
def test_predictions_of_the_vanilla_network(activation: str) -> None:
    """ln rho for a linear network, else mean field with the variances that were drawn."""
    spec = small("rnn", activation=activation, init="normal", gain=0.8)
    have = float(data(measure(spec))["theory"])
    rates = []
    for m in range(2):
        params, x, _ = parts_of(spec, m)
        weight = params["weight_hh"]
        if activation == "identity":
            rates.append(math.log(np.abs(np.linalg.eigvals(weight)).max()))
            continue
        driven = x @ params["weight_ih"].T + params["bias_ih"] + params["bias_hh"]
        field = theory.mean_field(activation, float(np.mean(weight**2)) * 3, np.mean(driven**2))
        rates.append(math.nan if field is None else field.rate)
    assert have == pytest.approx(np.mean(rates), rel=1e-12, nan_ok=True)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ["lstm", "gru"])
def test_predictions_of_the_gated_cells(arch: str) -> None:
    """ln(<f> + su <i g'> <o tanh'(c)>) and ln(<z> + su <(1 - z) n' r>), means of the very gates."""
    spec = small(arch)
    rates = []
    for m in range(2):
        params, x, _ = parts_of(spec, m)
        output = seqlab.forward(arch, params, x).output[:, 0]
        before = np.concatenate([np.zeros((1, 3)), output[:-1]])
        from_x = x[:, 0] @ params["weight_ih"].T + params["bias_ih"]
        from_h = before @ params["weight_hh"].T + params["bias_hh"]
        su = math.sqrt(3 * np.mean(params["weight_hh"][6:9] ** 2))
        gates = 1 / (1 + np.exp(-(from_x + from_h)))
        if arch == "lstm":
            i, f, o = gates[:, :3], gates[:, 3:6], gates[:, 9:]
            g = np.tanh((from_x + from_h)[:, 6:9])
            c, cells = np.zeros(3), []
            for t in range(12):
                c = f[t] * c + i[t] * g[t]
                cells.append(c)
            slope = o * (1 - np.tanh(np.stack(cells)) ** 2)
            rates.append(math.log(f.mean() + su * (i * (1 - g**2)).mean() * slope.mean()))
        else:
            r, z = gates[:, :3], gates[:, 3:6]
            n = np.tanh(from_x[:, 6:] + r * from_h[:, 6:])
            rates.append(math.log(z.mean() + su * ((1 - z) * (1 - n**2) * r).mean()))
    assert float(data(measure(spec))["theory"]) == pytest.approx(np.mean(rates), rel=1e-12)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_memory_is_estimated_from_the_spec(arch: str) -> None:
    """More of anything that takes room needs no less."""
    least = memory_bytes(small(arch))
    assert least > 0
    more = ({"steps": 120, "lengths": [2, 120]}, {"hidden": 30}, {"networks": 40}, {"spectrum": 2},
            {"inputs": 200}, {"dtype": "float64"})  # fmt: skip
    for changed in more:
        assert memory_bytes(small(arch, **changed)) >= least
    assert memory_bytes(small(arch, dtype="float32")) < least


@pytest.mark.tiny
def test_a_variable_has_a_name_for_each_axis() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        Variable(("network",), np.zeros((2, 3)), "1", "wrong")


EXTREME = {
    "input_scale": (1e308, 1e39, 1e-200, 1e-320),
    "gain": (1e308, 1e155, 1e39, 1e-39, 1e-300, 5e-324),
    "forget_bias": (1e308, -1e308, 1e39, -745.0),
    "clip": ("value:1e39", "value:1e-300", "norm:1e300", "norm:5e-324", "step-norm:1e308"),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("field", EXTREME)
@pytest.mark.parametrize("arch", CELLS)
def test_extreme_settings_are_measured_or_refused_in_one_line(arch, field, dtype):
    """Without a warning, which the tests take for an error."""
    options = CELLS[arch].options | {"input_scale", "clip"}
    for value in EXTREME[field] if field in options else ():
        for init in ("normal", "he", "xavier", "orthogonal") if field == "gain" else (None,):
            sizes = {"steps": 12, "networks": 2, "hidden": 5, "inputs": 3, "spectrum": 2}
            try:
                result = seqlab.run(arch=arch, dtype=dtype, init=init, **sizes, **{field: value})
                said = result.summary() and f"{field}: measured"
            except InputError as refused:
                said = str(refused)
            assert said.startswith(f"{field}: ")
            assert "\n" not in said
