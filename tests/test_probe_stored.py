"""What the commands make of a store that holds probed networks; no PyTorch is needed."""

import re

import numpy as np
import pandas as pd
import pytest
from studies import refusal, seqlab_, tree, write
from synthetic import made_result, probed

from seqlab.study.result import Result


@pytest.fixture
def store(here):
    """A folder with a cell, a stack, and networks probed in three ways."""
    results = [
        made_result("rnn", steps=100, hidden=8, networks=4),
        made_result("mlp", steps=30, hidden=9, networks=4),
        probed(-0.2, networks=3, name="LSTM", parts={"layer 0": -1.0, "layer 1": 0.0}).result,
        probed(-0.3, name="GRU", engine="input", lengths=(11, 101)).result,
        probed(-0.5, name="Deep", link="layer", lengths=(30,)).result,
    ]
    for result in results:
        result.write("kept")
    return here


def test_a_table_of_all_kinds_says_of_each_what_is_its_own(store):
    said = seqlab_("table", "kept").stdout
    assert max(map(len, said.splitlines())) <= 80
    title, *_ = said.split("\n\n")
    assert "log10 of |dL/d state or dL/dx| that many steps or layers" in " ".join(title.split())
    lines = said.splitlines()
    at = {line.split(":")[0]: k for k, line in enumerate(lines) if not line.startswith(" ")}
    assert {"rnn", "mlp", "probed", "probed-layers"} <= set(at)
    mine = " ".join(lines[at["probed"] : at["probed-layers"]])
    for words in ("name LSTM, steps 100, networks 3, engine autograd", "name GRU", "engine input"):
        assert words in mine
    for words in ("hidden", "seed", "activation", "drive", "None", "nan"):
        assert words not in mine
    before = " ".join(lines[: at["rnn"]])
    for words in ("seed", "drive", "activation"):  # which a probe has no word for
        assert words not in before
    cell = f"{-0.2 * 1.01 * 100 / np.log(10):.2f}"  # the middle one of three networks
    assert cell in mine


def test_a_table_of_probes_alone(here):
    probed(name="GRU", engine="input", lengths=(11, 101)).save("kept")
    title, common, grid = seqlab_("table", "kept").stdout.strip().split("\n\n")
    assert "|dL/dx|" in title
    assert common == ("steps 100, networks 1, dtype float64, name GRU, engine input, clip none")
    assert re.search(r"^probed +-1.95 +-19.54$", grid, re.MULTILINE)


def test_they_are_exported(store):
    assert seqlab_("export", "kept", "-o", "all.csv").exit_code == 0
    read = pd.read_csv("all.csv")
    found = read[read["arch"] == "probed"].groupby("name").first()
    assert found.loc["LSTM", "networks"] == 3
    assert found["hidden"].isna().all()
    assert found.loc["GRU", "engine"] == "input"


@pytest.mark.parametrize("kind", ["heatmap", "curves", "distribution", "histogram"])
def test_they_are_drawn_by_their_names(store, kind):
    result = seqlab_("plot", "kept", "-o", f"{kind}.svg", "--kind", kind)
    assert (result.exit_code, result.stderr) == (0, f"drawn: {kind}.svg, its data: {kind}.csv\n")
    table = (store / f"{kind}.csv").read_text()
    assert "LSTM" in table
    assert "rnn" in table
    assert "default" not in (store / f"{kind}.svg").read_text()


def test_none_is_measured_again(store):
    refused = "it was measured in a program of its own; there, seqlab.probe does it again"
    for arch in ("probed", "probed-layers"):
        said = refusal(seqlab_("run", "--arch", arch, "--steps", 5))
        assert said == f"arch: '{arch}' is not allowed; {refused}"
        said = refusal(seqlab_("sweep", write(store / "study.toml", {"arch": arch})))
        assert refused in said
    for path in (store / "kept").glob("*.nc"):
        if "probed" in Result.read(path).spec.arch:
            assert refused in refusal(seqlab_("run", "--from", path))


def test_a_sweep_leaves_them_as_they_are(store, made_up):
    kept = {path: data for path, data in tree(store).items() if path.suffix == ".nc"}
    study = write(store / "study.toml", {"arch": "rnn"}, {"seed": [0, 1]})
    result = seqlab_("sweep", study, "--store", "kept")
    assert result.exit_code == 0, result.stderr
    after = tree(store)
    assert all(after[path] == data for path, data in kept.items())
    assert len([path for path in after if path.suffix == ".nc"]) == len(kept) + 2
