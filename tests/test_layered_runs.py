"""Runs of several layers: what is drawn, measured, kept, said and shown."""

import json
import math
from pathlib import Path
from typing import Any

import naive
import naive_by_lag
import naive_layered
import numpy as np
import numpy.typing as npt
import pytest
from drawn import ARCHS
from studies import TINY_WORDS, refusal, seqlab_
from test_protocol import data, parts_of, small

import seqlab
from seqlab.cells import CELLS, part_names
from seqlab.measure import measure
from seqlab.measure.cost import file_bytes, memory_bytes, seconds
from seqlab.spec.run import RunSpec

Array = npt.NDArray[Any]

RUN = ("run", "--arch", "lstm", "--layers", "2", *TINY_WORDS, "--clip", "none")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.tiny
def test_one_layer_is_the_run_that_it_was() -> None:
    """With the hash that results from before the option have, and nothing said of it."""
    plain, one, two = (small("lstm", **given) for given in ({}, {"layers": 1}, {"layers": 2}))
    assert plain.layers == 1
    assert plain.hash == one.hash != two.hash
    fields = plain.to_dict()
    del fields["layers"]  # as such a file has it
    assert RunSpec.from_dict(fields) == plain


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_a_run_measures_what_attenuation_does(arch: str) -> None:
    """The curve and every part of it, relative to lag 0, and the parameters' gradient."""
    spec = small(arch, layers=2, clip=["none", "step-norm:0.5"])
    measured = measure(spec)
    have = data(measured)
    names = part_names(CELLS[arch].parts, 2)
    assert tuple(measured.variables["part"].data) == names
    assert math.isnan(have["theory"])
    lags = have["lag"]
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        assert {name[-3:] for name in params} == {"_l0", "_l1"}
        curve = seqlab.attenuation(arch, params, x, spec.lengths, readout=readout)
        start = curve.log_norm[0, -1, 0]
        near = pytest.approx
        got = have["log_norm"][m, 0, -1]
        assert got == near(curve.log_norm[0, -1][lags] - start, rel=0, abs=1e-12)
        for k, name in enumerate(names):
            want = curve.parts[name][0, -1][lags] - start
            assert have["log_norm_part"][m, 0, k, -1] == near(want, rel=0, abs=1e-12)
        grad = np.zeros((spec.steps, 1, 3))
        grad[-1] = readout * math.exp(-start)
        grads = seqlab.backward(seqlab.forward(arch, params, x), grad).params
        norm = np.linalg.norm(np.concatenate([value.ravel() for value in grads.values()]))
        assert have["log_param_grad_norm_before"][m, 0] == near(math.log(norm), abs=1e-10)


@pytest.mark.tiny
@pytest.mark.parametrize("arch", ARCHS)
def test_shares_of_the_gradient_by_lag(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(naive.CELLS, "two", naive_layered.stack(naive.CELLS[arch], 2))
    spec = small(arch, layers=2, truncation=0.9, clip=["truncate:4"])
    measured = measure(spec)
    have, names = data(measured), measured.variables["parameter"].data.tolist()
    for m in range(2):
        params, x, readout = parts_of(spec, m)
        shares = naive_by_lag.shares("two", params, x, readout[None], spec.activation or "tanh")
        assert set(names) == set(shares[0])
        each = [naive_by_lag.flat({name: one[name] for name in names}) for one in shares]
        sums = np.cumsum(each, axis=0)
        log = have["log_gradient_by_lag"][m, : spec.steps]
        want = np.log(np.linalg.norm(each, axis=1) / np.linalg.norm(sums[-1]))
        assert log == pytest.approx(want, rel=0, abs=1e-11)
        assert have["gradient_cosine"][m, 0] == pytest.approx(
            naive_by_lag.cosine(sums[4], sums[-1]), abs=1e-10
        )


@pytest.mark.tiny
def test_what_a_run_of_layers_takes() -> None:
    """More layers take more of everything."""
    one, three = (small("lstm", layers=layers) for layers in (1, 3))
    assert memory_bytes(three) > memory_bytes(one)
    assert seconds(three, 2) > seconds(one, 2)
    assert file_bytes(three) > file_bytes(one)


def test_the_command_says_so(here: Path) -> None:
    said = " ".join(seqlab_(*RUN).stdout.split())
    assert "seed 0, layers 2, dtype float64" in said
    document = json.loads(seqlab_(*RUN, "--json").stdout)
    assert document["spec"]["layers"] == 2
    assert "layers" not in seqlab_("run", "--arch", "lstm", *TINY_WORDS).stdout
    table = seqlab_("table", "seqlab-results").stdout
    assert "layers 2" in table
    assert "layers 1" in table  # now they differ


def test_a_file_of_parameters_tells_its_layers(here: Path) -> None:
    params, _, _ = parts_of(small("gru", layers=2), 0)
    np.savez("two.npz", **{f"encoder.{name}": value for name, value in params.items()})
    words = ("run", "--arch", "gru", "--params", "two.npz", "--steps", "9", "--clip", "none")
    spec = json.loads(seqlab_(*words, "--json").stdout)["spec"]
    assert (spec["layers"], spec["hidden"], spec["inputs"]) == (2, 3, 2)
    said = refusal(seqlab_(*words, "--layers", "3"))
    assert "layers: 3 does not match the 2 of params" in said


def test_a_profile_of_layers_is_a_map_by_part(here: Path) -> None:
    seqlab_(*RUN)
    seqlab_("plot", "seqlab-results", "-o", "layers.svg", "--kind", "profile")
    text = Path("layers.svg").read_text(encoding="utf-8")
    assert all(name in text for name in part_names(("hidden", "cell"), 2))
